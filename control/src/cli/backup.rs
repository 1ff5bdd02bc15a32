//! `backups create|list|verify|restore`, and `tenants backup|backups|restore`, with a bar where somebody watches.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use openclawmu_store::TenantId;
use serde_json::{Map, Value, json};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::table::{Table, fields};

/// Pause between two looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What the operator can do with backups of the whole gateway.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Back the whole gateway up now
    Create {
        /// Where to: s3://BUCKET/PREFIX or a directory [default: backup.to]
        #[arg(long, value_name = "PLACE")]
        to: Option<String>,
    },
    /// List the backups of the whole gateway, newest first
    List {
        /// Where they are [default: backup.to]
        #[arg(long, value_name = "PLACE")]
        from: Option<String>,
    },
    /// Read a backup from end to end: is everything there, and unaltered?
    Verify {
        /// The backup, or its place for the newest [default: backup.to]
        #[arg(long, value_name = "URL")]
        from: Option<String>,
    },
    /// Make a gateway of a backup, in an empty data directory, while none runs on it
    Restore(WholeRestoreFlags),
}

/// What a gateway is made of.
#[derive(Clone, Debug, Args)]
pub struct WholeRestoreFlags {
    /// The backup, or its place for the newest [default: backup.to]
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// Where pepper.key, master.key and audit.key are, which no backup holds [default: the data directory]
    #[arg(long, value_name = "DIR")]
    pub keys: Option<PathBuf>,
}

/// What a tenant is put back from.
#[derive(Debug, Args)]
pub struct RestoreFlags {
    /// The backup, such as s3://bucket/prefix/tenants/acme/backups/000001; without the number the newest
    #[arg(long, value_name = "URL")]
    from: String,
    /// Which tenant of a backup of the whole gateway
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Make a copy under this id, with fresh tokens and no usage
    #[arg(long = "as", value_name = "ID")]
    copy_as: Option<TenantId>,
    /// Replace the tenant of that id
    #[arg(long)]
    force: bool,
}

pub(crate) async fn execute(command: &BackupCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        BackupCommand::Create { to } => create(&["backups"], to.as_deref(), client, json).await,
        BackupCommand::List { from } => list(&["backups"], from.as_deref(), client, json).await,
        BackupCommand::Verify { from } => {
            let body = from.as_deref().map(place).transpose()?.map_or_else(|| json!({}), |from| json!({"from": from}));
            let answer = watched(client, json, Call::send(Method::POST, &["backups", "verify"], body)).await?;
            if json {
                return Ok(format!("{answer}\n"));
            }
            let answer: Value = serde_json::from_str(&answer)?;
            let found = field(&answer, "verified");
            let cell = |name: &str| shown(field(found, name));
            Ok(format!(
                "backup {} of {} is whole: {} objects, {} bytes, {} tenants\n",
                cell("id"),
                cell("created_at"),
                cell("objects"),
                cell("bytes"),
                cell("tenants")
            ))
        }
        BackupCommand::Restore(_) => {
            anyhow::bail!("a whole gateway is restored on its own machine, without --url, while none runs there")
        }
    }
}

/// `tenants backup`, and the same of the whole gateway.
pub(crate) async fn create(path: &[&str], to: Option<&str>, client: &Client, json: bool) -> anyhow::Result<String> {
    let body = to.map(place).transpose()?.map_or_else(|| json!({}), |to| json!({"to": to}));
    let answer = watched(client, json, Call::send(Method::POST, path, body)).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let answer: Value = serde_json::from_str(&answer)?;
    let made = field(&answer, "backup");
    let cell = |name: &str| Some(shown(field(made, name)));
    let skipped = field(made, "skipped").as_u64().unwrap_or_default();
    let note = (skipped > 0).then(|| format!("{skipped} links, pipes, devices or files with several names: not in it"));
    Ok(fields(&[
        ("backup", cell("url")),
        ("created", cell("created_at")),
        ("bytes", cell("bytes")),
        ("sent", cell("sent_bytes")),
        ("left out", note),
    ]))
}

/// `tenants backups`, and the same of the whole gateway.
pub(crate) async fn list(path: &[&str], from: Option<&str>, client: &Client, json: bool) -> anyhow::Result<String> {
    let from = from.map(place).transpose()?;
    let query: Vec<(&str, &str)> = from.as_deref().map(|from| ("from", from)).into_iter().collect();
    let answer = client.text(Call::get(path, &query)).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let answer: Value = serde_json::from_str(&answer)?;
    let mut table = Table::new(&["CREATED", ">BYTES", ">TENANTS", "SEALED", "BACKUP"]);
    for set in field(&answer, "data").as_array().into_iter().flatten() {
        let cell = |name: &str| shown(field(set, name));
        let sealed = if field(set, "encrypted").as_bool() == Some(true) { "yes" } else { "no" };
        table.row([cell("created_at"), cell("bytes"), cell("tenants"), sealed.to_owned(), cell("url")]);
    }
    Ok(table.render("there is no backup yet"))
}

/// `tenants restore`.
pub(crate) async fn restore(flags: &RestoreFlags, client: &Client, json: bool) -> anyhow::Result<String> {
    let mut body = Map::new();
    body.insert("from".to_owned(), place(&flags.from)?.into());
    if let Some(tenant) = &flags.tenant {
        body.insert("tenant".to_owned(), tenant.as_str().into());
    }
    if let Some(copy_as) = &flags.copy_as {
        body.insert("as".to_owned(), copy_as.as_str().into());
    }
    if flags.force {
        body.insert("force".to_owned(), true.into());
    }
    let answer = watched(client, json, Call::send(Method::POST, &["restore"], Value::Object(body))).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let answer: Value = serde_json::from_str(&answer)?;
    let (report, token) = (field(&answer, "report"), field(&answer, "token"));
    let some = |name: &str| Some(shown(field(report, name))).filter(|text| !text.is_empty());
    let since = field(report, "usage_since");
    let spent = (field(since, "rows").as_u64() != Some(0)).then(|| {
        format!("{} USD in {} rows: it stays spent", shown(field(since, "cost_usd")), shown(field(since, "rows")))
    });
    Ok(fields(&[
        ("tenant", Some(shown(field(field(&answer, "tenant"), "id")))),
        ("token", token.get("value").map(|value| format!("{}  (shown once)", shown(value)))),
        ("usage added", some("ledger_rows_added").map(|rows| format!("{rows} rows"))),
        ("used since", spent),
        ("still revoked", some("tokens_still_revoked")),
        ("not usable here", some("tokens_not_usable")),
        ("made since", some("tokens_made_since")),
        ("provider keys", some("provider_keys")),
    ]))
}

/// A directory as the gateway needs it: from the root on. It may run in another one than this command.
fn place(text: &str) -> anyhow::Result<String> {
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    let path = std::path::absolute(text)?;
    Ok(path.to_str().ok_or_else(|| anyhow::anyhow!("{} is not UTF-8", path.display()))?.to_owned())
}

/// The answer of a call that takes long, with a bar meanwhile where somebody watches.
async fn watched(client: &Client, json: bool, call: Call<'_>) -> anyhow::Result<String> {
    if json || !std::io::stderr().is_terminal() {
        return client.long_text(call).await;
    }
    let bar = bar();
    let answer = tokio::select! {
        answer = client.long_text(call) => answer,
        never = follow(client, &bar) => match never {},
    };
    bar.finish_and_clear();
    answer
}

async fn follow(client: &Client, bar: &ProgressBar) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // How far it is is nice to know: whoever can't tell says nothing.
        let Ok(answer) = client.json(Call::get(&["backups", "progress"], &[])).await else { continue };
        let now = field(&answer, "progress");
        let count = |name: &str| field(now, name).as_u64().unwrap_or(0);
        show(bar, shown(field(now, "phase")), (count("done_bytes"), count("total_bytes")));
    }
}

/// A bar on standard error.
#[must_use]
pub fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {msg:32} {bytes:>12} {wide_bar} {bytes_per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Moves a bar.
pub fn show(bar: &ProgressBar, phase: String, (done, total): (u64, u64)) {
    bar.set_message(phase);
    bar.set_length(total.max(done));
    bar.set_position(done);
    bar.tick();
}
