//! The command line: what runs here and what is passed on to the admin API.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use openclawmu_control::cli::{
    self as admin, AdminCommand, AttachFlags, AuditCommand, AuditPlace, BackupCommand, Connection, SandboxCommand,
};

use crate::config::{self, Overrides};
use crate::doctor::{self, State};
use crate::drill::{self, DrillFlags};
use crate::rebuild;
use crate::routes;
use crate::serve::{self, ServeOptions};
use crate::terminal;

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
    /// Restore the newest backup into a scratch gateway, answer a request through it, and say how long that took
    Drill(DrillFlags),
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page: `openclawmu man tenants create | man -l -`
    Man {
        /// The command that it is of; this program's own when none is named
        command: Vec<String>,
        /// Write the pages of all commands into this directory instead
        #[arg(long, value_name = "DIR", conflicts_with = "command")]
        dir: Option<PathBuf>,
    },
    /// Print the OpenAPI document of the admin API
    Openapi,
    /// Run something where a tenant's code runs
    #[command(subcommand)]
    Sandbox(SandboxCommand),
    /// Attach to a terminal in a tenant's sandbox; exits with the shell's own code
    Terminal(AttachFlags),
    #[command(flatten)]
    Admin(AdminCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether it can be used
    Check,
    /// Print it with every default; secrets are references and stay so
    Show,
    /// Have the running gateway read it again, as SIGHUP does; a mistake changes nothing
    Reload,
}

impl Cli {
    /// Reads the command line and runs what it says.
    #[must_use]
    pub fn start() -> ExitCode {
        match Self::try_parse() {
            Ok(cli) => cli.run(),
            Err(err) => {
                let text = err.render().to_string();
                let is_json = err.use_stderr() && std::env::args_os().any(|word| word == "--json");
                // Nobody is left to tell when this fails.
                let _ = if is_json {
                    let message = text.split("\n\n").next().unwrap_or_default();
                    say(&admin::told("usage", message.trim_start_matches("error: ")))
                } else {
                    err.print()
                };
                ExitCode::from(u8::try_from(err.exit_code()).unwrap_or(2))
            }
        }
    }

    /// Runs the command; prints what it found or what went wrong.
    fn run(self) -> ExitCode {
        let is_json = self.connection.json;
        match self.execute() {
            Ok(code) => code,
            // A reader such as `head` has seen enough.
            Err(err) if is_broken_pipe(&err) => ExitCode::SUCCESS,
            Err(err) => {
                // Nobody is left to tell when this fails.
                let _ =
                    if is_json { say(&admin::failure(&err)) } else { writeln!(std::io::stderr(), "error: {err:#}") };
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
            Command::Config(ConfigCommand::Reload) => {
                // A file that can't be read names no directory: only where one is named can the gateway be asked.
                let data = match config::load(config::find(file.as_deref()).as_deref(), &overrides) {
                    Ok(raw) => raw.data.dir,
                    Err(_) if connection.data.is_some() || connection.url.is_some() => connection.data_dir(),
                    Err(err) => return Err(err.into()),
                };
                runtime()?.block_on(admin::reload(Connection { data: Some(data), ..connection }))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Config(command) => show_config(&command, file, &overrides, connection.json),
            Command::Routes => list_routes(connection.json).map(|()| ExitCode::SUCCESS),
            Command::Completions { shell } => {
                // By way of memory: what writes scripts panics where nobody reads them to the end.
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "openclawmu", &mut script);
                std::io::stdout().lock().write_all(&script)?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Man { command, dir } => manual(&command, dir.as_deref()).map(|()| ExitCode::SUCCESS),
            Command::Openapi => {
                std::io::stdout().lock().write_all(&openclawmu_control::admin::openapi())?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Drill(flags) => {
                let config = config::check(config::load(config::find(file.as_deref()).as_deref(), &overrides)?)?;
                runtime()?.block_on(drill::run(&flags, &config, connection.json))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Admin(AdminCommand::Backups(BackupCommand::Restore(flags))) => {
                let config = config::check(config::load(config::find(file.as_deref()).as_deref(), &overrides)?)?;
                runtime()?.block_on(rebuild::run(&flags, &config, connection.json))?;
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
            Command::Sandbox(command) => {
                let raw = config::load(config::find(file.as_deref()).as_deref(), &overrides)?;
                let connection = Connection { data: Some(raw.data.dir), ..connection };
                runtime()?.block_on(admin::run_sandbox(&command, &connection))
            }
            Command::Terminal(flags) => {
                let raw = config::load(config::find(file.as_deref()).as_deref(), &overrides)?;
                let connection = Connection { data: Some(raw.data.dir), ..connection };
                runtime()?.block_on(terminal::attach(&flags, &connection))
            }
        }
    }
}

/// An error as JSON, on standard error.
fn say(error: &serde_json::Value) -> std::io::Result<()> {
    writeln!(std::io::stderr(), "{error}")
}

/// Where the audit log is.
fn audit_place(raw: &config::RawConfig) -> AuditPlace {
    AuditPlace { folder: raw.audit.dir.clone(), key: raw.audit.key.as_ref().map(config::SecretRef::read) }
}

fn is_broken_pipe(err: &anyhow::Error) -> bool {
    err.downcast_ref::<std::io::Error>().is_some_and(|err| err.kind() == ErrorKind::BrokenPipe)
}

/// The manual page of the command that `path` names, or those of all commands into `dir`.
fn manual(path: &[String], dir: Option<&Path>) -> anyhow::Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir)?;
        return Ok(clap_mangen::generate_to(command, dir)?);
    }
    // Only a built command knows the whole name of each below it.
    command.build();
    let mut named = &command;
    for word in path {
        named =
            named.find_subcommand(word).ok_or_else(|| anyhow::anyhow!("there is no command `{}`", path.join(" ")))?;
    }
    let name = named.get_display_name().unwrap_or_else(|| named.get_name()).to_owned();
    clap_mangen::Man::new(named.clone()).title(name).render(&mut std::io::stdout().lock())?;
    Ok(())
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
            if let Some(hint) = &finding.hint {
                writeln!(out, "      {:<20} -> {hint}", "")?;
            }
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
        // Asked of the running gateway, before this.
        ConfigCommand::Reload => {}
        ConfigCommand::Show if json => writeln!(out, "{}", serde_json::to_string_pretty(&raw)?)?,
        ConfigCommand::Show => write!(out, "{}", toml::to_string_pretty(&raw)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program's users were promised, word for word but for values.
    const PROMISED: &str = "
        serve
        serve --data DIR --edge 127.0.0.1:1 --admin 127.0.0.1:2 --config FILE
        serve --upgrade
        doctor
        doctor --json
        config check
        config check --config FILE --json
        config show
        config show --json
        completions bash
        completions zsh
        man
        man tenants create
        man --dir DIR
        openapi
        routes --json
        tenants create acme --name Acme --quota.usd-per-day 50 --quota.tokens-per-day 5_000_000
        tenants list
        tenants info acme
        tenants update acme --quota.usd-per-day 80
        tenants delete acme --confirm
        tenants token list acme
        tenants token create acme
        tenants token rotate acme
        tenants token rotate acme 0123456789AB --grace 24h
        tenants token revoke acme 0123456789AB
        billing summary
        billing reconcile
        billing resolve
        billing report acme --period 2026-11 --csv
        billing rollup --tenant acme --from 2026-11-01 --to 2026-12-01 --format json
        config reload
        sandbox exec --tenant acme -- python3 -c print(1)
        terminal acme
        terminal acme --role observer --reason why --session term_0 --json
        terminals list --tenant acme
        terminals end term_0
        terminals recordings acme --json
        terminals fetch acme term_0 --to FILE
        keys list
        keys rotate
        keys rotate pepper --json
        tenants config show acme
        tenants config set acme --default-model fast --alias own=fast --response-ttl-days 7 --on-tight-budget clamp
        tenants config clear acme
        rates list
        rates import FILE
        rates show gpt-4o --at 2026-11-01T00:00:00Z
        --json --url http://127.0.0.1:8081 tenants list
        tenants list --url http://127.0.0.1:8081 --json
    ";

    #[test]
    fn every_promised_command_is_one() {
        for line in PROMISED.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words = std::iter::once("openclawmu").chain(line.split_whitespace());
            if let Err(err) = Cli::try_parse_from(words) {
                panic!("{line}: {err}");
            }
        }
        for wrong in ["", "serv", "config", "man --dir", "man --dir DIR tenants", "completions", "rates show"] {
            assert!(
                Cli::try_parse_from(std::iter::once("openclawmu").chain(wrong.split_whitespace())).is_err(),
                "{wrong}"
            );
        }
    }

    /// The names of all commands that have none below them.
    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        let below: Vec<&clap::Command> = command.get_subcommands().filter(|one| one.get_name() != "help").collect();
        if below.is_empty() {
            found.push((path.to_owned(), command.clone()));
        }
        for one in below {
            leaves(one, &format!("{path} {}", one.get_name()), found);
        }
    }

    #[test]
    fn every_command_takes_json_says_what_it_does_and_has_a_manual_page() {
        let mut command = Cli::command();
        command.build();
        let mut found = Vec::new();
        leaves(&command, "openclawmu", &mut found);
        assert!(found.len() > 35, "{}", found.len());
        for (path, command) in found {
            for flag in ["json", "url", "data"] {
                assert!(command.get_arguments().any(|argument| argument.get_id() == flag), "{path} --{flag}");
            }
            assert!(command.get_about().is_some(), "{path} has no word on what it does");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{path}: {} has no help", argument.get_id());
            }
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page).unwrap();
            assert!(String::from_utf8(page).unwrap().contains(".SH SYNOPSIS"), "{path}");
        }
    }

    #[test]
    fn a_reload_by_a_broken_file_says_what_is_wrong_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("broken.toml");
        std::fs::write(&file, "[edge]\nnonsense = 1\n").unwrap();
        let file = file.to_str().unwrap();
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let reload = |more: &[&str]| {
            let words = ["openclawmu", "config", "reload", "--config", file].into_iter().chain(more.iter().copied());
            Cli::try_parse_from(words).unwrap().execute().unwrap_err().to_string()
        };
        let wrong = reload(&[]);
        assert!(wrong.contains("nonsense") && wrong.contains(file), "{wrong}");
        // A gateway that is named is asked all the same: it may read another file.
        let asked = reload(&["--data", dir.path().to_str().unwrap()]);
        assert!(asked.contains("admin.sock") && !asked.contains("nonsense"), "{asked}");
    }

    #[test]
    fn the_manual_is_of_one_command_or_of_all() {
        let dir = tempfile::tempdir().unwrap();
        manual(&[], Some(dir.path())).unwrap();
        for page in ["openclawmu.1", "openclawmu-serve.1", "openclawmu-tenants-token-rotate.1"] {
            assert!(dir.path().join(page).is_file(), "{page}");
        }
        let unknown = manual(&["tenants".to_owned(), "sell".to_owned()], None).unwrap_err().to_string();
        assert!(unknown.contains("tenants sell"), "{unknown}");
    }
}
