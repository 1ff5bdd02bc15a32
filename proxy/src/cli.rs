//! The command line: what runs here and what is passed on to the admin API.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use openclawmu_control::cli::{self as admin, AdminCommand, AuditCommand, AuditPlace, Connection};

use crate::config::{self, Overrides};
use crate::doctor::{self, State};
use crate::routes;
use crate::serve::{self, ServeOptions};

/// A self-hosted, multi-tenant AI gateway
#[derive(Debug, Parser)]
#[command(name = "openclawmu", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
    /// The configuration file [default: ./openclawmu.toml, where it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve {
        /// Listen here for tenants
        #[arg(long, value_name = "ADDR")]
        edge: Option<SocketAddr>,
        /// Listen here for the operator
        #[arg(long, value_name = "ADDR")]
        admin: Option<SocketAddr>,
        /// Take over from the gateway that runs on this data directory, once it gets SIGQUIT
        #[arg(long)]
        upgrade: bool,
    },
    /// Check whether this machine and configuration can serve
    Doctor,
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List what the edge answers, who may ask, and what may reach an upstream
    Routes,
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    #[command(flatten)]
    Admin(AdminCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether it can be used
    Check,
    /// Print it with every default; secrets are references and stay so
    Show,
}

impl Cli {
    /// Runs the command; prints what it found or what went wrong.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.execute() {
            Ok(code) => code,
            Err(err) => {
                // Nobody is left to tell when this fails.
                let _ = writeln!(std::io::stderr(), "error: {err:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn execute(self) -> anyhow::Result<ExitCode> {
        let Self { command, connection, config: file } = self;
        let overrides = Overrides { data: connection.data.clone(), ..Overrides::default() };
        match command {
            Command::Serve { edge, admin, upgrade } => {
                let overrides = Overrides { edge, admin, ..overrides };
                serve::serve(&ServeOptions { file, overrides, upgrade })?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Doctor => examine(file, &overrides, connection.json),
            Command::Config(command) => show_config(&command, file, &overrides, connection.json),
            Command::Routes => list_routes(connection.json).map(|()| ExitCode::SUCCESS),
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "openclawmu", &mut std::io::stdout());
                Ok(ExitCode::SUCCESS)
            }
            Command::Admin(command) => {
                // The data directory that the configuration names, unless the command line names one.
                let raw = config::load(config::find(file.as_deref()).as_deref(), &overrides)?;
                let is_verify = matches!(command, AdminCommand::Audit(AuditCommand::Verify(_)));
                let audit = if is_verify { audit_place(&raw) } else { AuditPlace::default() };
                let connection = Connection { data: Some(raw.data.dir), audit, ..connection };
                runtime()?.block_on(admin::run(command, connection))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Where the audit log is.
fn audit_place(raw: &config::RawConfig) -> AuditPlace {
    AuditPlace { folder: raw.audit.dir.clone(), key: raw.audit.key.as_ref().map(config::SecretRef::read) }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn examine(file: Option<PathBuf>, overrides: &Overrides, json: bool) -> anyhow::Result<ExitCode> {
    let findings = runtime()?.block_on(doctor::examine(file.as_deref(), overrides));
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?;
    } else {
        for finding in &findings {
            let mark = match finding.state {
                State::Ok => "ok  ",
                State::Warn => "warn",
                State::Fail => "FAIL",
            };
            writeln!(out, "{mark}  {:<20} {}", finding.check, finding.message)?;
        }
    }
    let failed = findings.iter().any(|finding| finding.state == State::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn list_routes(json: bool) -> anyhow::Result<()> {
    let (routes, mut out) = (routes::listed(), std::io::stdout().lock());
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&routes)?)?;
        return Ok(());
    }
    writeln!(out, "{:<7} {:<28} {:<10} {:<10} UPSTREAM", "METHOD", "PATH", "ACCESS", "DIALECT")?;
    for route in routes {
        let upstream = if route.upstream { "yes" } else { "-" };
        let (method, path, access, dialect) = (route.method, route.path, route.access, route.dialect.name());
        writeln!(out, "{method:<7} {path:<28} {access:<10} {dialect:<10} {upstream}")?;
    }
    Ok(())
}

fn show_config(
    command: &ConfigCommand,
    file: Option<PathBuf>,
    overrides: &Overrides,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let file = config::find(file.as_deref());
    let raw = config::load(file.as_deref(), overrides)?;
    let mut out = std::io::stdout().lock();
    match command {
        ConfigCommand::Check => {
            config::check(raw)?;
            let name = file.map_or_else(|| "the built-in defaults".to_owned(), |file| file.display().to_string());
            if json {
                writeln!(out, "{}", serde_json::json!({"ok": true, "config": name}))?
            } else {
                writeln!(out, "ok: {name}")?
            }
        }
        ConfigCommand::Show if json => writeln!(out, "{}", serde_json::to_string_pretty(&raw)?)?,
        ConfigCommand::Show => write!(out, "{}", toml::to_string_pretty(&raw)?)?,
    }
    Ok(ExitCode::SUCCESS)
}
