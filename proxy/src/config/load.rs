//! From a file, the environment and the command line to a checked configuration.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openclawmu_store::ModelPrice;
use serde::Deserialize;
use std::collections::BTreeMap;

use super::checked::{AdminConfig, AliasConfig, Config, EdgeConfig, TargetConfig, TlsConfig, UpstreamConfig, UpstreamKind};
use super::raw::{RawAlias, RawConfig, RawEdge, RawTarget, RawUpstream};
use super::secret::SecretRef;

/// The rate card that ships with the program.
const BUILT_IN_RATES: &str = include_str!("../../../conf/rates.json");
/// The file that is read when none is named.
const DEFAULT_FILE: &str = "./openclawmu.toml";

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
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            toml::from_str(&text).map_err(|err| ConfigError::Parse { path: path.to_owned(), message: err.to_string() })?
        }
    };
    if let Some(dir) = &overrides.data {
        raw.data.dir.clone_from(dir);
    }
    raw.edge.listen = overrides.edge.unwrap_or(raw.edge.listen);
    raw.admin.listen = overrides.admin.unwrap_or(raw.admin.listen);
    Ok(raw)
}

/// Proves every value usable. Secrets are read here, so a missing one refuses to start.
///
/// # Errors
/// [`ConfigError::Value`] for the first value that can't be used.
pub fn check(raw: RawConfig) -> Result<Config, ConfigError> {
    let keys = raw.admin.keys.iter().map(|key| key.read().map_err(|message| value("admin.keys", message))).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() && !raw.admin.listen.ip().is_loopback() {
        let message = format!("{} is reachable from other machines, so an admin key must be configured: [admin] keys = [\"env:OPENCLAWMU_ADMIN_KEY\"]", raw.admin.listen);
        return Err(value("admin.listen", message));
    }
    if keys.is_empty() && !raw.edge.listen.ip().is_loopback() {
        let message = format!("{} is reachable from other machines, so an admin key must be configured: [admin] keys = [\"env:OPENCLAWMU_ADMIN_KEY\"]", raw.edge.listen);
        return Err(value("edge.listen", message));
    }
    let upstreams = upstreams(raw.upstreams)?;
    let aliases = raw.models.into_iter().map(|alias| check_alias(alias, &upstreams)).collect::<Result<Vec<_>, _>>()?;
    Ok(Config {
        data_dir: raw.data.dir,
        durability: raw.data.durability,
        edge: check_edge(raw.edge)?,
        admin: AdminConfig { listen: raw.admin.listen, keys },
        first_rates: first_rates(raw.rates.file.as_deref())?,
        upstreams,
        aliases,
        log_format: raw.log.format,
        log_level: raw.log.level,
    })
}

fn value(key: impl Into<String>, message: impl Into<String>) -> ConfigError {
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
    if raw.header_timeout_seconds == 0 || raw.body_timeout_seconds == 0 {
        return Err(value("edge.header_timeout_seconds, edge.body_timeout_seconds", "must be at least 1"));
    }
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Ok(EdgeConfig {
        listen: raw.listen,
        threads: if raw.threads == 0 { cores } else { raw.threads },
        max_body_bytes: raw.max_body_bytes,
        header_timeout: Duration::from_secs(raw.header_timeout_seconds),
        body_timeout: Duration::from_secs(raw.body_timeout_seconds),
        keepalive_seconds: raw.keepalive_seconds,
        keepalive_requests: raw.keepalive_requests,
        max_connections: raw.max_connections,
        max_connections_per_ip: raw.max_connections_per_ip,
        drain: Duration::from_secs(raw.drain_seconds),
        tls: raw.tls.map(|tls| TlsConfig { cert: tls.cert, key: tls.key }),
    })
}

/// The configured upstreams, the built-in echo, and one for each provider key that the environment holds.
fn upstreams(configured: Vec<RawUpstream>) -> Result<Vec<UpstreamConfig>, ConfigError> {
    let named = |name: &str| configured.iter().any(|upstream| upstream.name == name);
    let mut all = Vec::new();
    if !named("openai") && std::env::var_os("OPENAI_API_KEY").is_some() {
        all.push(from_environment("openai", "https://api.openai.com/v1", "OPENAI_API_KEY", &["gpt-*", "chatgpt-*", "o1*", "o3*", "o4*", "text-embedding-*"]));
    }
    if !configured.iter().any(|upstream| upstream.kind == "echo") && !named("echo") {
        all.push(RawUpstream { models: vec!["echo".to_owned()], ..bare("echo", "echo") });
    }
    let mut checked: Vec<UpstreamConfig> = Vec::new();
    for raw in configured.into_iter().chain(all) {
        let upstream = check_upstream(raw)?;
        if checked.iter().any(|other| other.name == upstream.name) {
            return Err(value(format!("upstream.{}", upstream.name), "two upstreams have this name"));
        }
        checked.push(upstream);
    }
    Ok(checked)
}

fn bare(name: &str, kind: &str) -> RawUpstream {
    RawUpstream {
        name: name.to_owned(),
        kind: kind.to_owned(),
        base_url: None,
        api_key: None,
        models: Vec::new(),
        connect_timeout_ms: 5_000,
        first_byte_timeout_ms: 600_000,
        idle_timeout_ms: 120_000,
    }
}

fn from_environment(name: &str, base_url: &str, key: &str, models: &[&str]) -> RawUpstream {
    RawUpstream {
        base_url: Some(base_url.to_owned()),
        api_key: Some(SecretRef::Env(key.to_owned())),
        models: models.iter().map(|&model| model.to_owned()).collect(),
        ..bare(name, "openai")
    }
}

fn check_upstream(raw: RawUpstream) -> Result<UpstreamConfig, ConfigError> {
    let key = |field: &str| format!("upstream.{}.{field}", raw.name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'.';
    if raw.name.is_empty() || raw.name.len() > 64 || !raw.name.bytes().all(plain) {
        return Err(value("upstream.name", format!("`{}` is not 1 to 64 letters, digits, `-`, `_` or `.`", raw.name)));
    }
    let kind = match raw.kind.as_str() {
        "openai" => UpstreamKind::Openai,
        "echo" => UpstreamKind::Echo,
        "anthropic" | "gemini" | "azure" | "bedrock" => {
            return Err(value(key("kind"), format!("`{}` is not supported by this version; use an OpenAI-compatible endpoint of that provider with kind = \"openai\"", raw.kind)));
        }
        other => return Err(value(key("kind"), format!("`{other}` is not one of openai, echo"))),
    };
    let base_url = match (&raw.base_url, kind) {
        (Some(url), UpstreamKind::Openai) => Some(check_url(url).map_err(|message| value(key("base_url"), message))?),
        (None, UpstreamKind::Openai) => return Err(value(key("base_url"), "is missing; for OpenAI it is \"https://api.openai.com/v1\"")),
        (_, UpstreamKind::Echo) => None,
    };
    let api_key = raw.api_key.as_ref().map(|secret| secret.read().map_err(|message| value(key("api_key"), message))).transpose()?;
    for (field, timeout) in [("connect_timeout_ms", raw.connect_timeout_ms), ("first_byte_timeout_ms", raw.first_byte_timeout_ms), ("idle_timeout_ms", raw.idle_timeout_ms)] {
        if timeout == 0 {
            return Err(value(key(field), "must be at least 1"));
        }
    }
    Ok(UpstreamConfig {
        kind,
        base_url,
        api_key,
        models: raw.models,
        connect_timeout: Duration::from_millis(raw.connect_timeout_ms),
        first_byte_timeout: Duration::from_millis(raw.first_byte_timeout_ms),
        idle_timeout: Duration::from_millis(raw.idle_timeout_ms),
        name: raw.name,
    })
}

fn check_url(text: &str) -> Result<http::Uri, String> {
    let uri: http::Uri = text.trim_end_matches('/').parse().map_err(|err| format!("`{text}` is not a URL: {err}"))?;
    let scheme_fits = matches!(uri.scheme_str(), Some("http" | "https"));
    let plain = uri.query().is_none() && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if scheme_fits && uri.host().is_some() && plain { Ok(uri) } else { Err(format!("`{text}` must be http://HOST… or https://HOST…, without user or query")) }
}

fn check_alias(raw: RawAlias, upstreams: &[UpstreamConfig]) -> Result<AliasConfig, ConfigError> {
    let key = format!("model.{}", raw.name);
    if raw.name.is_empty() || raw.name.len() > 200 {
        return Err(value("model.name", "must have 1 to 200 characters"));
    }
    if raw.targets.is_empty() {
        return Err(value(key, "needs at least one target: targets = [{ upstream = \"openai\", model = \"gpt-4o-mini\" }]"));
    }
    let target = |raw: RawTarget| {
        let at = upstreams.iter().position(|upstream| upstream.name == raw.upstream);
        let upstream = at.ok_or_else(|| value(format!("{key}.upstream"), format!("there is no upstream `{}`", raw.upstream)))?;
        Ok(TargetConfig { upstream, model: raw.model, weight: raw.weight })
    };
    let targets = raw.targets.into_iter().map(target).collect::<Result<Vec<_>, ConfigError>>()?;
    let fallbacks = raw.fallbacks.into_iter().map(target).collect::<Result<Vec<_>, ConfigError>>()?;
    if targets.iter().all(|target| target.weight == 0) {
        return Err(value(key, "every target has weight 0"));
    }
    Ok(AliasConfig { name: raw.name, targets, fallbacks })
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
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            (path.to_owned(), text)
        }
    };
    let file: RatesFile = serde_json::from_str(&text).map_err(|err| ConfigError::Parse { path, message: err.to_string() })?;
    for (model, price) in &file.models {
        if let Some(Err(message)) = price.as_ref().map(ModelPrice::check) {
            return Err(value(format!("rates.{model}"), message));
        }
    }
    Ok(file.models)
}
