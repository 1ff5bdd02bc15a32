//! `audit tail|verify`.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use http::Method;
use openclawmu_store::{TenantId, audit_anchor};
use serde_json::{Value, json};

use crate::audit;
use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client, Unreachable};
use crate::cli::command::Connection;
use crate::cli::table::Table;
use crate::key::AuditKey;

/// Pause between two looks for new lines.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Lines asked for at once; the most that the API gives.
const PAGE: &str = "1000";

/// What the operator can do with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Print the newest lines
    Tail(TailFlags),
    /// Say whether every line is as it was written; exits with 1 where one is not. Works without a running gateway, too
    Verify(VerifyFlags),
}

/// Which lines to print.
#[derive(Debug, Args)]
pub struct TailFlags {
    /// Go on as lines are written
    #[arg(short, long)]
    pub follow: bool,
    /// About this tenant
    #[arg(long)]
    pub tenant: Option<TenantId>,
    /// Of this action, such as tenant.update
    #[arg(long)]
    pub action: Option<String>,
    /// How many to begin with
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub lines: u32,
}

/// What to verify.
#[derive(Debug, Args)]
pub struct VerifyFlags {
    /// Begin with the line of this number, where older files were moved elsewhere
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    pub from: u64,
}

/// The log is not as it was written: told in full on standard output, and an exit code of 1.
#[derive(Debug, thiserror::Error)]
#[error("the audit log is not as it was written: line {seq} {what}")]
pub(crate) struct LogBroken {
    /// What is to be printed.
    pub(crate) said: String,
    seq: u64,
    what: String,
}

pub(crate) async fn execute(command: &AuditCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        AuditCommand::Tail(flags) => {
            let lines = newest(flags, client).await?;
            Ok(if json { objects(&lines) } else { table(&lines) })
        }
        AuditCommand::Verify(flags) => told(&by_api(flags, client).await?, json),
    }
}

/// The newest lines, oldest of them first.
async fn newest(flags: &TailFlags, client: &Client) -> anyhow::Result<Vec<Value>> {
    let count = flags.lines.to_string();
    let mut lines = page(flags, client, &[("order", "desc"), ("limit", &count)]).await?;
    lines.reverse();
    Ok(lines)
}

async fn page(flags: &TailFlags, client: &Client, query: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
    let mut query = query.to_vec();
    query.extend(flags.tenant.as_ref().map(|tenant| ("tenant", tenant.as_str())));
    query.extend(flags.action.as_deref().map(|action| ("action", action)));
    let mut page = client.json(Call::get(&["audit"], &query)).await?;
    match page.get_mut("data").map(Value::take) {
        Some(Value::Array(lines)) => Ok(lines),
        Some(_) | None => Ok(Vec::new()),
    }
}

/// Prints the newest lines and then each new one, until nobody reads them any more.
pub(crate) async fn follow(flags: &TailFlags, client: &Client, json: bool, to: &mut dyn Write) -> anyhow::Result<()> {
    let mut lines = newest(flags, client).await?;
    let mut last = lines.last().map_or(0, seq);
    loop {
        for line in &lines {
            let text = if json { format!("{line}\n") } else { row(line) };
            to.write_all(text.as_bytes())?;
        }
        to.flush()?;
        let is_full = lines.len() >= 1000;
        if !is_full {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let after = last.to_string();
        lines = page(flags, client, &[("after", &after), ("limit", PAGE)]).await?;
        last = lines.last().map_or(last, seq);
    }
}

fn seq(line: &Value) -> u64 {
    field(line, "seq").as_u64().unwrap_or(0)
}

fn objects(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

const HEADINGS: [&str; 8] = [">SEQ", "AT", "ACTOR", "IP", "ACTION", "TENANT", "OUTCOME", "DETAIL"];

fn cells(line: &Value) -> [String; 8] {
    let cell = |name: &str| shown(field(line, name));
    let actor = field(line, "actor");
    let who = format!("{} {}", shown(field(actor, "kind")), shown(field(actor, "id")));
    let target = cell("target");
    let detail = field(line, "detail").to_string();
    let detail = if target.is_empty() { detail } else { format!("{target} {detail}") };
    let number = seq(line).to_string();
    [number, cell("at"), who.trim().to_owned(), cell("ip"), cell("action"), cell("tenant"), cell("outcome"), detail]
}

fn table(lines: &[Value]) -> String {
    let mut table = Table::new(&HEADINGS);
    for line in lines {
        table.row(cells(line));
    }
    table.render("no lines yet")
}

/// One line without a heading, for when there is no end to them.
fn row(line: &Value) -> String {
    let given: Vec<String> = cells(line).into_iter().filter(|cell| !cell.is_empty()).collect();
    let mut table = Table::new(&[""]);
    table.row([given.join("  ")]);
    let rendered = table.render("");
    rendered.lines().skip(1).map(|line| format!("{line}\n")).collect()
}

/// Verifies by the gateway where one runs, else by the files of the data directory.
pub(crate) async fn verify(flags: &VerifyFlags, client: &Client, connection: &Connection) -> anyhow::Result<String> {
    let verdict = match by_api(flags, client).await {
        Err(err) if err.is::<Unreachable>() && connection.url.is_none() => by_files(flags, connection)?,
        answered => answered?,
    };
    told(&verdict, connection.json)
}

async fn by_api(flags: &VerifyFlags, client: &Client) -> anyhow::Result<Value> {
    let body = json!({"from_seq": flags.from});
    let answer = client.long_text(Call::send(Method::POST, &["audit", "verify"], body)).await?;
    Ok(serde_json::from_str(&answer)?)
}

fn by_files(flags: &VerifyFlags, connection: &Connection) -> anyhow::Result<Value> {
    let data = connection.data_dir();
    let folder = connection.audit.folder.clone().unwrap_or_else(|| data.join("audit"));
    let anchor = audit_anchor(&data)?;
    let configured = connection.audit.key.clone().transpose().map_err(|err| anyhow::anyhow!("audit.key: {err}"))?;
    let key = AuditKey::load(&data, configured.as_ref())?;
    let verdict = audit::verify(&folder, &key, anchor.as_ref(), flags.from);
    Ok(json!(verdict.with_context(|| format!("{} can't be read", folder.display()))?))
}

fn told(verdict: &Value, json: bool) -> anyhow::Result<String> {
    let (count, problem) = (shown(field(verdict, "lines")), field(verdict, "problem"));
    let text = match (json, problem) {
        (true, _) => format!("{verdict}\n"),
        (false, Value::Null) if field(verdict, "anchor_seq").is_null() => {
            format!("{count} lines are as they were written; no database says whether some are missing at the end\n")
        }
        (false, Value::Null) => format!("{count} lines are as they were written, and none is missing\n"),
        (false, _) => {
            let place = match (field(problem, "file").as_str(), field(problem, "line").as_u64()) {
                (Some(file), Some(line)) => format!(" ({file}, line {line})"),
                (Some(_) | None, Some(_) | None) => String::new(),
            };
            let (seq, kind) = (shown(field(problem, "seq")), shown(field(problem, "kind")));
            format!("line {seq}: {kind}{place}: {}\n", shown(field(problem, "message")))
        }
    };
    if field(verdict, "ok").as_bool() == Some(true) {
        return Ok(text);
    }
    let (seq, what) = (field(problem, "seq").as_u64().unwrap_or(0), shown(field(problem, "kind")));
    Err(LogBroken { said: text, seq, what: format!("was {what}") }.into())
}
