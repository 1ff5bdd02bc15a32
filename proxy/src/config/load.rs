//! From a file, the environment and the command line to a checked configuration.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openclawmu_store::{ModelPrice, is_origin};
use serde::Deserialize;
use std::collections::BTreeMap;
use tracing_subscriber::EnvFilter;

use super::checked::{AdminConfig, Config, EdgeConfig, ResponsesConfig};
use super::outbound::Allowed;
use super::raw::{RawConfig, RawEdge, RawLog};
use super::upstream::{check_alias, upstreams};
use super::{alerts, audit, backup, channels, sandbox, stripe, terminal, tls, traces};

/// The rate card that ships with the program.
const BUILT_IN_RATES: &str = include_str!("../../../conf/rates.json");
/// The file that is read when none is named.
const DEFAULT_FILE: &str = "./openclawmu.toml";
/// The most tenants that metrics can name.
const MAX_METRIC_TENANTS: usize = 10_000;

/// Why a configuration can't be used, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {source}; name another with --config FILE, or leave it out to run on the defaults", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and key.
        message: String,
    },
    /// A value can't be used.
    #[error("{key}: {message}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong and what to do.
        message: String,
    },
}

/// What the command line sets over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--edge`
    pub edge: Option<SocketAddr>,
    /// `--admin`
    pub admin: Option<SocketAddr>,
}

/// The file to read: the named one, else `./openclawmu.toml` if it is there.
#[must_use]
pub fn find(named: Option<&Path>) -> Option<PathBuf> {
    named.map(Path::to_owned).or_else(|| Path::new(DEFAULT_FILE).exists().then(|| DEFAULT_FILE.into()))
}

/// Reads the file's raw form, or the defaults when there is none, and applies `overrides`.
///
/// # Errors
/// [`ConfigError`] with the line and key at fault.
pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<RawConfig, ConfigError> {
    let mut raw = match file {
        None => RawConfig::default(),
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            toml::from_str(&text)
                .map_err(|err| ConfigError::Parse { path: path.to_owned(), message: located(&text, &err) })?
        }
    };
    if let Some(dir) = &overrides.data {
        raw.data.dir.clone_from(dir);
    }
    raw.edge.listen = overrides.edge.unwrap_or(raw.edge.listen);
    raw.admin.listen = overrides.admin.unwrap_or(raw.admin.listen);
    Ok(raw)
}

/// The parser's words with the line. Not the line itself, as the parser would show it: a secret may stand there by mistake.
fn located(text: &str, err: &toml::de::Error) -> String {
    let Some(before) = err.span().and_then(|span| text.get(..span.start)) else { return err.message().to_owned() };
    let number = before.matches('\n').count();
    // The name before the `=` is no secret.
    let key = text.lines().nth(number).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
    let is_name =
        |key: &&str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    match key.filter(is_name) {
        Some(key) => format!("line {}: `{key}`: {}", number + 1, err.message()),
        None => format!("line {}: {}", number + 1, err.message()),
    }
}

/// Proves every value usable. Secrets are read here, so a missing one refuses to start.
///
/// # Errors
/// [`ConfigError::Value`] for the first value that can't be used.
pub fn check(raw: RawConfig) -> Result<Config, ConfigError> {
    let keys = raw
        .admin
        .keys
        .iter()
        .map(|key| key.read().map_err(|message| value("admin.keys", message)))
        .collect::<Result<Vec<_>, _>>()?;
    for (key, address) in [("admin.listen", raw.admin.listen), ("edge.listen", raw.edge.listen)] {
        if keys.is_empty() && !address.ip().is_loopback() {
            let message = format!(
                "{address} is reachable from other machines, so an admin key must be configured: [admin] keys = [\"env:OPENCLAWMU_ADMIN_KEY\"]"
            );
            return Err(value(key, message));
        }
    }
    check_log(&raw.log)?;
    if raw.metrics.tenants > MAX_METRIC_TENANTS {
        let message = format!("must be at most {MAX_METRIC_TENANTS}: each tenant is seven series");
        return Err(value("metrics.tenants", message));
    }
    let allowed = Allowed::of(&raw.outbound)?;
    let traces = traces::check(raw.traces, &allowed)?;
    let upstreams = upstreams(raw.upstreams, &allowed)?;
    let (alerts, stripe) = (alerts::check(raw.alerts)?, stripe::check(raw.stripe)?);
    let webhook = alerts.webhook.as_ref().map(|(url, _)| ("alerts.webhook_url", url));
    let stripe_url = stripe.as_ref().map(|stripe| ("stripe.base_url", &stripe.base_url));
    for (key, url) in webhook.into_iter().chain(stripe_url) {
        allowed.check(key, url.address())?;
    }
    let aliases = raw.models.into_iter().map(|alias| check_alias(alias, &upstreams)).collect::<Result<Vec<_>, _>>()?;
    Ok(Config {
        data_dir: raw.data.dir,
        durability: raw.data.durability,
        channels: channels::check(raw.channels, &allowed, &raw.edge)?,
        edge: check_edge(raw.edge)?,
        admin: AdminConfig { listen: raw.admin.listen, keys },
        first_rates: first_rates(raw.rates.file.as_deref())?,
        detail_months: (raw.retention.detail_months > 0).then_some(raw.retention.detail_months),
        responses: ResponsesConfig {
            ttl_days: raw.responses.ttl_days,
            max_per_tenant: raw.responses.max_per_tenant.max(1),
        },
        batch_poll: match raw.batches.poll_seconds {
            0 => return Err(value("batches.poll_seconds", "must be at least 1")),
            seconds => Duration::from_secs(seconds),
        },
        upstreams,
        aliases,
        audit: audit::check(raw.audit)?,
        sandbox: sandbox::check(raw.sandbox)?,
        terminal: terminal::check(raw.terminal)?,
        agents_bytes: agents_bytes(raw.agents.max_mb_per_tenant)?,
        alerts,
        stripe,
        backup: backup::check(raw.backup, &allowed)?,
        log_format: raw.log.format,
        log_level: raw.log.level,
        access_log: raw.log.access,
        metrics_tenants: raw.metrics.tenants,
        traces,
    })
}

/// What a tenant's agents may keep together, in bytes.
fn agents_bytes(mb: u64) -> Result<u64, ConfigError> {
    if (1..=1 << 32).contains(&mb) {
        return Ok(mb << 20);
    }
    Err(value("agents.max_mb_per_tenant", "must be at least 1, and no more than anybody could mean"))
}

fn check_log(raw: &RawLog) -> Result<(), ConfigError> {
    if let Err(err) = EnvFilter::try_new(&raw.level) {
        return Err(value("log.level", format!("`{}` is no level and no filter: {err}", raw.level)));
    }
    if raw.access.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        return Err(value("log.access", "is empty: name a file, or \"stdout\", or leave it out"));
    }
    Ok(())
}

pub(super) fn value(key: impl Into<String>, message: impl Into<String>) -> ConfigError {
    ConfigError::Value { key: key.into(), message: message.into() }
}

fn check_edge(raw: RawEdge) -> Result<EdgeConfig, ConfigError> {
    let counts = [
        ("edge.max_body_bytes", raw.max_body_bytes),
        ("edge.max_connections", raw.max_connections),
        ("edge.max_connections_per_ip", raw.max_connections_per_ip),
    ];
    if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
        return Err(value(*key, "must be at least 1"));
    }
    let at_least_one = [
        ("edge.header_timeout_seconds", raw.header_timeout_seconds),
        ("edge.body_timeout_seconds", raw.body_timeout_seconds),
        ("edge.write_timeout_seconds", raw.write_timeout_seconds),
        ("edge.websocket_idle_seconds", raw.websocket_idle_seconds),
        ("edge.keepalive_seconds", raw.keepalive_seconds),
        ("edge.keepalive_requests", raw.keepalive_requests.into()),
    ];
    if let Some((key, _)) = at_least_one.iter().find(|(_, number)| *number == 0) {
        return Err(value(*key, "must be at least 1"));
    }
    if let Some(other) = raw.cors_origins.iter().find(|origin| !is_origin(origin)) {
        let message = format!("`{other}` is no origin as browsers send it, such as https://app.example.com");
        return Err(value("edge.cors_origins", message));
    }
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Ok(EdgeConfig {
        listen: raw.listen,
        threads: if raw.threads == 0 { cores } else { raw.threads },
        max_body_bytes: raw.max_body_bytes,
        header_timeout: Duration::from_secs(raw.header_timeout_seconds),
        body_timeout: Duration::from_secs(raw.body_timeout_seconds),
        write_timeout: Duration::from_secs(raw.write_timeout_seconds),
        websocket_idle: Duration::from_secs(raw.websocket_idle_seconds),
        keepalive_seconds: raw.keepalive_seconds,
        keepalive_requests: raw.keepalive_requests,
        max_connections: raw.max_connections,
        max_connections_per_ip: raw.max_connections_per_ip,
        drain: Duration::from_secs(raw.drain_seconds),
        cors_origins: raw.cors_origins,
        tls: raw.tls.map(tls::check).transpose()?,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RatesFile {
    #[serde(rename = "effective_from", default)]
    _effective_from: Option<String>,
    models: BTreeMap<String, Option<ModelPrice>>,
}

fn first_rates(file: Option<&Path>) -> Result<BTreeMap<String, Option<ModelPrice>>, ConfigError> {
    let (path, text) = match file {
        None => (PathBuf::from("built-in rates"), BUILT_IN_RATES.to_owned()),
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            (path.to_owned(), text)
        }
    };
    let file: RatesFile =
        serde_json::from_str(&text).map_err(|err| ConfigError::Parse { path, message: err.to_string() })?;
    for (model, price) in &file.models {
        if let Some(Err(message)) = price.as_ref().map(ModelPrice::check) {
            return Err(value(format!("rates.{model}"), message));
        }
    }
    Ok(file.models)
}
