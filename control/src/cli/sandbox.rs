//! `sandbox exec`: runs something in a tenant's sandbox, writes what it writes as it comes, and ends as it did.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use http::Method;
use openclawmu_store::TenantId;
use serde_json::{Map, Value, json};

use crate::cli::answer::field;
use crate::cli::client::{Call, Client};
use crate::cli::command::Connection;

/// What an answer takes beyond the run itself: the wait for a turn, and clearing away.
const SPARE: Duration = Duration::from_secs(120);
/// The longest that any run may take: the gateway's own limit is in its configuration.
const LONGEST: Duration = Duration::from_secs(86_400);

/// What the operator can do in a tenant's sandbox.
#[derive(Debug, Subcommand)]
pub enum SandboxCommand {
    /// Run a command on a tenant's files, within its limits; exits with the command's own code
    Exec(ExecFlags),
}

/// What is run.
#[derive(Debug, Args)]
pub struct ExecFlags {
    /// In whose sandbox, and on whose quota
    #[arg(long, value_name = "ID")]
    pub tenant: TenantId,
    /// Kill it after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Let it have so much memory
    #[arg(long, value_name = "MB")]
    pub memory_mb: Option<u64>,
    /// Let it have so many processes
    #[arg(long, value_name = "COUNT")]
    pub processes: Option<u32>,
    /// Let it reach this host, such as pypi.org:443; what the operator's list lacks is refused
    #[arg(long = "allow", value_name = "HOST:PORT")]
    pub allow: Vec<String>,
    /// Set a variable of its environment
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Run it by bubblewrap or docker, where the configuration has both
    #[arg(long)]
    pub backend: Option<String>,
    /// Hand this command's standard input on
    #[arg(long)]
    pub stdin: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

impl ExecFlags {
    fn body(&self, stdin: Option<&[u8]>) -> anyhow::Result<Value> {
        let mut body = Map::new();
        let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
        set("command", json!(self.command));
        if let Some(seconds) = self.timeout {
            set("timeout_seconds", json!(seconds));
        }
        let limits = [("memory_mb", self.memory_mb), ("processes", self.processes.map(u64::from))];
        let limits: Map<String, Value> =
            limits.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))).collect();
        set("limits", Value::Object(limits));
        if !self.allow.is_empty() {
            set("network", json!({ "allow": self.allow }));
        }
        let mut env = Map::new();
        for pair in &self.env {
            let Some((name, value)) = pair.split_once('=') else { bail!("--env {pair} is not NAME=VALUE") };
            env.insert(name.to_owned(), json!(value));
        }
        set("env", Value::Object(env));
        if let Some(backend) = &self.backend {
            set("backend", json!(backend));
        }
        if let Some(bytes) = stdin {
            set("stdin", json!({ "base64": STANDARD.encode(bytes) }));
        }
        Ok(Value::Object(body))
    }
}

/// Runs one command, writes what that wrote, and ends as it did. The caller has installed rustls' default provider.
///
/// # Errors
/// The API's refusal with its hint, or why the API could not be reached: nothing was run.
pub async fn run(command: &SandboxCommand, connection: &Connection) -> anyhow::Result<ExitCode> {
    let SandboxCommand::Exec(flags) = command;
    exec(flags, &Client::new(connection)?, connection.json).await
}

async fn exec(flags: &ExecFlags, client: &Client, is_json: bool) -> anyhow::Result<ExitCode> {
    let mut input = Vec::new();
    if flags.stdin {
        std::io::stdin().lock().read_to_end(&mut input).context("standard input can't be read")?;
    }
    let body = flags.body(flags.stdin.then_some(input.as_slice()))?;
    let path = ["tenants", flags.tenant.as_str(), "sandbox", "exec"];
    let patience = flags.timeout.map_or(LONGEST, Duration::from_secs) + SPARE;
    let call = Call::send(Method::POST, &path, body);
    if is_json {
        let text = client.text_within(patience, call).await?;
        let answer: Value = serde_json::from_str(&text).context("the gateway did not answer in JSON")?;
        let code = exit_code(&answer)?;
        writeln!(std::io::stdout().lock(), "{text}")?;
        return Ok(ExitCode::from(code));
    }
    let answer = client.events(patience, call, &mut told).await?;
    let ended = field(&answer, "outcome").as_str().unwrap_or_default().to_owned();
    if ended != "exited" {
        writeln!(std::io::stderr().lock(), "openclawmu: the run ended by {ended}")?;
    }
    Ok(ExitCode::from(exit_code(&answer)?))
}

/// Passes on what an event tells; the last one is what came of the run.
fn told(name: &str, data: Value) -> anyhow::Result<Option<Value>> {
    match name {
        "stdout" => {
            let mut out = std::io::stdout().lock();
            out.write_all(&written(&data)?)?;
            out.flush()?;
        }
        "stderr" => std::io::stderr().lock().write_all(&written(&data)?)?,
        "result" => return Ok(Some(data)),
        "error" => bail!(data.pointer("/error/message").and_then(Value::as_str).unwrap_or("the run failed").to_owned()),
        // Whatever else a newer gateway tells.
        _ => {}
    }
    Ok(None)
}

fn exit_code(answer: &Value) -> anyhow::Result<u8> {
    let code = field(answer, "exit_code").as_u64().and_then(|code| u8::try_from(code).ok());
    code.context("the gateway's answer has no exit code")
}

/// A piece of what a run wrote, byte by byte.
fn written(piece: &Value) -> anyhow::Result<Vec<u8>> {
    match field(piece, "base64").as_str() {
        Some(encoded) => STANDARD.decode(encoded).context("the gateway's answer can't be read"),
        None => Ok(field(piece, "text").as_str().unwrap_or_default().as_bytes().to_vec()),
    }
}
