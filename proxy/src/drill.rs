//! `openclawmu drill`: is the newest backup of any use? It is restored into a scratch directory, a gateway is started there,
//! and a request is answered through it. What it prints is what a real loss of this machine would cost: the data (RPO) and
//! the time (RTO).
//!
//! The scratch gateway reads no configuration of this one: it calls no provider, sends no webhook and ships no backup.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use openclawmu_store::{Clock, SystemClock};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::config::Config;
use crate::rebuild;

/// The longest that the scratch gateway may take to start.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The longest time of one request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where the scratch gateway finds the audit key, where this one's is configured.
const AUDIT_KEY_VARIABLE: &str = "OPENCLAWMU_DRILL_AUDIT_KEY";

/// What to practise with.
#[derive(Debug, Args)]
pub(crate) struct DrillFlags {
    /// The backup, or its place for the newest [default: backup.to]
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Where pepper.key, master.key and audit.key are, which no backup holds [default: the data directory]
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Restore into a new directory in this one, which must have room [default: the system's own for such files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

/// What a drill found.
#[derive(Debug, Serialize)]
struct Drill {
    backup: String,
    tenants: usize,
    ledger_rows: u64,
    /// What was newest in the backup, before now.
    rpo_seconds: i64,
    /// From the beginning to the first answer.
    rto_seconds: String,
    answered: String,
}

/// Runs the drill and prints what it found.
pub(crate) async fn run(flags: &DrillFlags, config: &Config, json: bool) -> anyhow::Result<()> {
    let (begun, now) = (Instant::now(), SystemClock.now());
    let source = rebuild::source(flags.from.as_deref(), config)?;
    let scratch = Scratch::new(flags.scratch.as_deref())?;
    let data = scratch.0.join("data");
    let keys = flags.keys.as_deref().unwrap_or(&config.data_dir);
    let restored = rebuild::restore(&source, (&data, keys), (&config.audit, None), json).await?;
    let gateway = Gateway::start(&scratch.0, &data, config.audit.key.as_ref()).await?;
    // Those that were deleted after the backup are deleted again.
    let tenants = restored.tenants.saturating_sub(restored.replayed.tenants_deleted.len());
    let answered = gateway.answer(tenants).await;
    let took = begun.elapsed();
    gateway.end().await?;
    let drill = Drill {
        answered: answered?,
        backup: restored.backup,
        tenants: restored.tenants,
        ledger_rows: restored.ledger_rows,
        rpo_seconds: now.0.saturating_sub(restored.newest.0).max(0) / 1_000,
        rto_seconds: format!("{}.{:03}", took.as_secs(), took.subsec_millis()),
    };
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&drill)?)?;
    } else {
        writeln!(out, "backup {} was restored and answered: {}", drill.backup, drill.answered)?;
        writeln!(out, "tenants      {}", drill.tenants)?;
        writeln!(out, "ledger rows  {}", drill.ledger_rows)?;
        writeln!(out, "RPO          {} s: what happened in that time would be lost", drill.rpo_seconds)?;
        writeln!(out, "RTO          {} s: from the beginning to the first answer", drill.rto_seconds)?;
    }
    Ok(())
}

/// A directory that is gone with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: Option<&Path>) -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let dir = parent.join(format!("openclawmu-drill-{:016x}", crate::lifecycle::random_u64()?));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("{} can't be made; name another place with --scratch", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(err) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%err, dir = %self.0.display(), "a scratch directory is left");
        }
    }
}

/// The scratch gateway.
struct Gateway {
    child: Child,
    edge: SocketAddr,
    http: reqwest::Client,
    admin: reqwest::Client,
}

impl Gateway {
    async fn start(scratch: &Path, data: &Path, audit_key: Option<&SecretString>) -> anyhow::Result<Self> {
        let config = scratch.join("drill.toml");
        let mut text = "[edge]\nthreads = 1\n".to_owned();
        if audit_key.is_some() {
            text.push_str(&format!("[audit]\nkey = \"env:{AUDIT_KEY_VARIABLE}\"\n"));
        }
        File::create(&config)?.write_all(text.as_bytes())?;
        let log = File::create(scratch.join("log"))?;
        let (edge, admin) = (free_address()?, free_address()?);
        let mut command = Command::new(std::env::current_exe().context("this program's own file")?);
        // No provider's key, no proxy: what it needs is in the directory.
        command.env_clear();
        if let Some(key) = audit_key {
            command.env(AUDIT_KEY_VARIABLE, key.expose_secret());
        }
        command.current_dir(scratch).kill_on_drop(true).stdin(std::process::Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        command.arg("serve").arg("--config").arg(&config).arg("--data").arg(data);
        let child = command.arg("--edge").arg(edge.to_string()).arg("--admin").arg(admin.to_string()).spawn()?;
        let client = || reqwest::Client::builder().no_proxy().timeout(TIMEOUT);
        let (http, admin) = (client().build()?, client().unix_socket(data.join("admin.sock").as_path()).build()?);
        let mut gateway = Self { child, edge, http, admin };
        gateway.ready(scratch).await?;
        Ok(gateway)
    }

    async fn ready(&mut self, scratch: &Path) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        let url = format!("http://{}/readyz", self.edge);
        // The listeners come up one after the other.
        let ready = async |client: &reqwest::Client, url: &str| {
            client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
        };
        loop {
            if ready(&self.http, &url).await && ready(&self.admin, "http://localhost/readyz").await {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(scratch.join("log")).unwrap_or_default();
                bail!("the restored gateway does not start ({status}):\n{}", log.trim());
            }
            if Instant::now() > end {
                bail!("the restored gateway was not ready within {} s", PATIENCE.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// One request by a tenant that is made for it; what was answered.
    async fn answer(&self, tenants: usize) -> anyhow::Result<String> {
        let found = self.tenants().await?;
        if found < tenants {
            bail!("the restored gateway has {found} tenants, and the backup {tenants}");
        }
        // The operator's own price list may have none for the built-in model.
        let model = json!({"input": "1.00", "output": "2.00", "context_tokens": 128_000, "max_output_tokens": 16_384});
        let price = json!({"models": {"echo": model}});
        let priced = self.admin.put("http://localhost/v1/rates").json(&price).send().await?;
        priced.error_for_status().context("the restored gateway takes no price")?;
        let id = format!("drill-{:016x}", crate::lifecycle::random_u64()?);
        let made = self.admin.post("http://localhost/v1/tenants").json(&json!({"id": id})).send().await?;
        let made: Value = made.error_for_status().context("the restored gateway makes no tenant")?.json().await?;
        let token = made.pointer("/token/value").and_then(Value::as_str).context("a token")?;
        let body = json!({"model": "echo", "messages": [{"role": "user", "content": "The drill is over."}]});
        let url = format!("http://{}/v1/chat/completions", self.edge);
        let answer = self.http.post(url).bearer_auth(token).json(&body).send().await?;
        let answer: Value =
            answer.error_for_status().context("the restored gateway answers no request")?.json().await?;
        let text = answer.pointer("/choices/0/message/content").and_then(Value::as_str);
        Ok(text.context("an answer without a message")?.to_owned())
    }

    async fn tenants(&self) -> anyhow::Result<usize> {
        let (mut count, mut after) = (0, String::new());
        loop {
            let url = format!("http://localhost/v1/tenants?limit=1000{after}");
            let page: Value = self.admin.get(url).send().await?.error_for_status()?.json().await?;
            count += page.get("data").and_then(Value::as_array).map_or(0, Vec::len);
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(count),
            }
        }
    }

    async fn end(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("the restored gateway can't be ended")
    }
}

/// An address that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr())?)
}
