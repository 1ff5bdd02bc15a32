//! What the program runs on. Made only by [`check`](super::check), so every value here is usable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use openclawmu_control::backup::BackupConfig;
use openclawmu_control::channel::ChannelConfig;
use openclawmu_store::{Durability, ModelPrice};
use secrecy::SecretString;
use std::collections::BTreeMap;

use super::alerts::AlertsConfig;
use super::audit::AuditConfig;
use super::raw::LogFormat;
use super::sandbox::SandboxConfig;
use super::stripe::StripeConfig;
use super::terminal::TerminalConfig;
use super::traces::TracesConfig;

/// The checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The data directory.
    pub data_dir: PathBuf,
    /// What an admission survives.
    pub durability: Durability,
    /// The tenants' listener.
    pub edge: EdgeConfig,
    /// The operator's listener.
    pub admin: AdminConfig,
    /// The first rate card's models.
    pub first_rates: BTreeMap<String, Option<ModelPrice>>,
    /// Months whose request detail stays in the database; `None` is all.
    pub detail_months: Option<u32>,
    /// Responses that are kept to be continued.
    pub responses: ResponsesConfig,
    /// Pause between two looks at batches that run.
    pub batch_poll: Duration,
    /// Where requests can go.
    pub upstreams: Vec<UpstreamConfig>,
    /// Aliases.
    pub aliases: Vec<AliasConfig>,
    /// The audit log.
    pub audit: AuditConfig,
    /// What isolates tenants' code, and what a run may use.
    pub sandbox: SandboxConfig,
    /// Shells in tenants' sandboxes.
    pub terminal: TerminalConfig,
    /// What a tenant's agents may keep together, in bytes.
    pub agents_bytes: u64,
    /// Messengers, by which people reach tenants' agents.
    pub channels: ChannelConfig,
    /// What is told when budgets are being spent.
    pub alerts: AlertsConfig,
    /// Where usage is pushed to.
    pub stripe: Option<StripeConfig>,
    /// Where backups go, and when.
    pub backup: BackupConfig,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// The log filter.
    pub log_level: String,
    /// Where the access log goes, if anywhere.
    pub access_log: Option<PathBuf>,
    /// Tenants that get series of their own in the metrics.
    pub metrics_tenants: usize,
    /// What is traced, if anything.
    pub traces: Option<TracesConfig>,
}

/// The tenants' listener.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// Worker threads, at least one.
    pub threads: usize,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Longest time for a request's head.
    pub header_timeout: Duration,
    /// Longest pause within a request's body.
    pub body_timeout: Duration,
    /// Longest time for one write to a client.
    pub write_timeout: Duration,
    /// Longest time without an event on a WebSocket.
    pub websocket_idle: Duration,
    /// Life of an idle connection, in seconds.
    pub keepalive_seconds: u64,
    /// Requests of one connection.
    pub keepalive_requests: u32,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_connections_per_ip: usize,
    /// How long running requests may go on after SIGTERM.
    pub drain: Duration,
    /// Origins whose pages may always ask, and read answers.
    pub cors_origins: Vec<String>,
    /// Certificate and key.
    pub tls: Option<TlsConfig>,
}

/// Certificate and key, PEM.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// The operator's listener.
#[derive(Debug)]
pub struct AdminConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// Configured keys; empty: the data directory's.
    pub keys: Vec<SecretString>,
}

/// What an upstream speaks, and how its key is sent.
#[derive(Clone, Debug)]
pub enum UpstreamKind {
    /// The `OpenAI` dialect, by `OpenAI` or any compatible server.
    Openai {
        /// Whether it has `/responses` itself.
        responses: bool,
    },
    /// `OpenAI`'s models at Azure: deployments are the models.
    Azure {
        /// Such as `2024-10-21`.
        api_version: String,
    },
    /// Anthropic's Messages.
    Anthropic {
        /// Such as `2023-06-01`.
        version: String,
    },
    /// Google's generateContent.
    Gemini {
        /// Whether the key goes as `Authorization: Bearer`, as Vertex wants it, and not as `x-goog-api-key`.
        bearer: bool,
    },
    /// Amazon's Converse.
    Bedrock(BedrockConfig),
    /// Built in: answers with the last user message.
    Echo,
}

/// How requests to Bedrock are signed.
#[derive(Clone, Debug)]
pub struct BedrockConfig {
    /// Such as `eu-central-1`.
    pub region: String,
    /// The public part of the access key.
    pub access_key_id: SecretString,
    /// Its secret part.
    pub secret_access_key: SecretString,
    /// Present where the key is temporary.
    pub session_token: Option<SecretString>,
}

/// How long responses are kept, and how many.
#[derive(Clone, Copy, Debug)]
pub struct ResponsesConfig {
    /// Days; 0: not at all.
    pub ttl_days: u32,
    /// Of one tenant.
    pub max_per_tenant: usize,
}

/// One upstream.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub kind: UpstreamKind,
    /// Its base URL; absent only for [`UpstreamKind::Echo`].
    pub base_url: Option<http::Uri>,
    /// Its key.
    pub api_key: Option<SecretString>,
    /// Names and patterns that it serves without a prefix.
    pub models: Vec<String>,
    /// Whether tenants' files and batches are kept there; true for one at most.
    pub files: bool,
    /// Whether it is told which trace a request belongs to.
    pub traceparent: bool,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Longest time to the first byte of an answer.
    pub first_byte_timeout: Duration,
    /// Longest pause within an answer.
    pub idle_timeout: Duration,
}

/// One alias.
#[derive(Clone, Debug)]
pub struct AliasConfig {
    /// The name that tenants use.
    pub name: String,
    /// One of these serves a request, by weight.
    pub targets: Vec<TargetConfig>,
    /// Tried in order after it.
    pub fallbacks: Vec<TargetConfig>,
}

/// A model at an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetConfig {
    /// The upstream's place in [`Config::upstreams`].
    pub upstream: usize,
    /// The model's name there.
    pub model: String,
    /// Its share.
    pub weight: u32,
}
