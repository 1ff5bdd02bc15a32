//! The configuration file's shape. `conf/openclawmu.toml` shows every key with its default.

use std::net::SocketAddr;
use std::path::PathBuf;

use openclawmu_store::Durability;
use serde::{Deserialize, Serialize};

use super::alerts::RawAlerts;
use super::audit::RawAudit;
use super::backup::RawBackup;
use super::channels::RawChannels;
use super::outbound::RawOutbound;
use super::sandbox::RawSandbox;
use super::secret::SecretRef;
use super::stripe::RawStripe;
use super::terminal::RawTerminal;
use super::traces::RawTraces;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// Where things are kept.
    pub data: RawData,
    /// The tenants' listener.
    pub edge: RawEdge,
    /// The operator's listener.
    pub admin: RawAdmin,
    /// The first rate card.
    pub rates: RawRates,
    /// What stays in the database, and how long.
    pub retention: RawRetention,
    /// The audit log.
    pub audit: RawAudit,
    /// What is told when budgets are being spent.
    pub alerts: RawAlerts,
    /// Where usage is pushed to.
    pub stripe: RawStripe,
    /// Where backups go, and when.
    pub backup: RawBackup,
    /// Which hosts may be called.
    pub outbound: RawOutbound,
    /// Responses that are kept to be continued.
    pub responses: RawResponses,
    /// Batches at providers.
    pub batches: RawBatches,
    /// What isolates tenants' code, and what a run may use.
    pub sandbox: RawSandbox,
    /// Shells in tenants' sandboxes.
    pub terminal: RawTerminal,
    /// Tenants' own agents.
    pub agents: RawAgents,
    /// Messengers, by which people reach tenants' agents.
    pub channels: RawChannels,
    /// Logging.
    pub log: RawLog,
    /// Metrics.
    pub metrics: RawMetrics,
    /// Traces.
    pub traces: RawTraces,
    /// Where requests can go.
    #[serde(rename = "upstream", skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<RawUpstream>,
    /// Aliases.
    #[serde(rename = "model", skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<RawAlias>,
}

/// `[agents]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAgents {
    /// What a tenant's agents may keep together.
    pub max_mb_per_tenant: u64,
}

impl Default for RawAgents {
    fn default() -> Self {
        Self { max_mb_per_tenant: 256 }
    }
}

/// `[data]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawData {
    /// The data directory.
    pub dir: PathBuf,
    /// What an admission survives: `process` or `power`.
    pub durability: Durability,
}

impl Default for RawData {
    fn default() -> Self {
        Self { dir: PathBuf::from("./openclawmu-data"), durability: Durability::default() }
    }
}

/// `[edge]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawEdge {
    /// Address and port.
    pub listen: SocketAddr,
    /// Worker threads; 0: one per core.
    pub threads: usize,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Longest time a client may take to send a request's head, in seconds.
    pub header_timeout_seconds: u64,
    /// Longest pause while a client sends a body, in seconds.
    pub body_timeout_seconds: u64,
    /// Longest time that a client may take to read what is written to it, in seconds.
    pub write_timeout_seconds: u64,
    /// Longest time without an event on a WebSocket, in seconds.
    pub websocket_idle_seconds: u64,
    /// How long an idle keep-alive connection is kept, in seconds.
    pub keepalive_seconds: u64,
    /// Requests after which a connection is closed.
    pub keepalive_requests: u32,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_connections_per_ip: usize,
    /// How long running requests may go on after SIGTERM, in seconds.
    pub drain_seconds: u64,
    /// Origins whose pages may always ask, and read answers.
    pub cors_origins: Vec<String>,
    /// PEM files; absent: plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<RawTls>,
}

impl Default for RawEdge {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            threads: 0,
            max_body_bytes: 32 << 20,
            header_timeout_seconds: 10,
            body_timeout_seconds: 10,
            write_timeout_seconds: 15,
            websocket_idle_seconds: 900,
            keepalive_seconds: 60,
            keepalive_requests: 1000,
            max_connections: 20_000,
            max_connections_per_ip: 4_096,
            drain_seconds: 30,
            cors_origins: Vec::new(),
            tls: None,
        }
    }
}

/// `[edge.tls]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawTls {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAdmin {
    /// Address and port.
    pub listen: SocketAddr,
    /// Admin keys; none: one is made in the data directory.
    pub keys: Vec<SecretRef>,
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8081)), keys: Vec::new() }
    }
}

/// `[rates]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRates {
    /// Imported as the first rate card if the store has none; absent: the built-in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// `[retention]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRetention {
    /// Months whose request detail stays in the database, the present one included; 0: all.
    pub detail_months: u32,
}

impl Default for RawRetention {
    fn default() -> Self {
        Self { detail_months: 13 }
    }
}

/// `[responses]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawResponses {
    /// Days that a response is kept; 0: none is.
    pub ttl_days: u32,
    /// Responses that are kept of one tenant; past it the oldest go.
    pub max_per_tenant: usize,
}

impl Default for RawResponses {
    fn default() -> Self {
        Self { ttl_days: 30, max_per_tenant: 10_000 }
    }
}

/// `[batches]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawBatches {
    /// Seconds between two looks at batches that run.
    pub poll_seconds: u64,
}

impl Default for RawBatches {
    fn default() -> Self {
        Self { poll_seconds: 60 }
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLog {
    /// `text` or `json`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,openclawmu_proxy=debug`.
    pub level: String,
    /// One JSON line for each request of the edge: a file, or `stdout`; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<PathBuf>,
}

impl Default for RawLog {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned(), access: None }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawMetrics {
    /// Tenants that get series of their own; the others are counted together. 0: no series names a tenant.
    pub tenants: usize,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[[upstream]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawUpstream {
    /// Its name, in `<upstream>/<model>` and in reports.
    pub name: String,
    /// What it speaks.
    pub kind: String,
    /// The base of its routes; absent only where the kind has a default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Its key; absent: none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretRef>,
    /// The names it serves without a prefix; a trailing `*` matches any rest.
    #[serde(default)]
    pub models: Vec<String>,
    /// Whether it has `/responses` itself; absent: where it is OpenAI's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub responses: Option<bool>,
    /// Whether tenants' files and batches are kept there; absent: at `OpenAI` itself or Azure, else at the first of kind `openai`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<bool>,
    /// Whether it is told which trace a request belongs to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub traceparent: bool,
    /// The version of its API that is spoken: `azure` and `anthropic` have versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// How the key is sent to `gemini`: `api_key` or `bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// The region of `bedrock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The access key of `bedrock`, and its parts that are secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<SecretRef>,
    /// See `access_key_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretRef>,
    /// See `access_key_id`; only where the key is temporary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretRef>,
    /// Longest time to connect, TLS included, in milliseconds.
    #[serde(default = "connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// Longest time to the first byte of an answer, in milliseconds.
    #[serde(default = "first_byte_timeout_ms")]
    pub first_byte_timeout_ms: u64,
    /// Longest pause within an answer, in milliseconds.
    #[serde(default = "idle_timeout_ms")]
    pub idle_timeout_ms: u64,
}

impl RawUpstream {
    /// An upstream of which nothing but its name and kind is said.
    pub(super) fn bare(name: &str, kind: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            base_url: None,
            api_key: None,
            models: Vec::new(),
            responses: None,
            files: None,
            traceparent: false,
            api_version: None,
            auth: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            connect_timeout_ms: connect_timeout_ms(),
            first_byte_timeout_ms: first_byte_timeout_ms(),
            idle_timeout_ms: idle_timeout_ms(),
        }
    }
}

fn connect_timeout_ms() -> u64 {
    5_000
}

fn first_byte_timeout_ms() -> u64 {
    600_000
}

fn idle_timeout_ms() -> u64 {
    120_000
}

/// `[[model]]`: an alias.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawAlias {
    /// The name that tenants use.
    pub name: String,
    /// One of these serves a request, by weight.
    pub targets: Vec<RawTarget>,
    /// Tried in order when the chosen target is down or out of capacity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<RawTarget>,
}

/// A model at an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawTarget {
    /// The upstream's name.
    pub upstream: String,
    /// The model's name there.
    pub model: String,
    /// Its share among the targets.
    #[serde(default = "weight")]
    pub weight: u32,
}

fn weight() -> u32 {
    1
}
