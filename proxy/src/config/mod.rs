//! Configuration: read once, checked once, fail closed.
//!
//! - `raw`: the file's shape, every key with its default; unknown keys are refused
//! - `secret`: `env:NAME` and `file:PATH`
//! - `checked`: what the program runs on, every value proved usable
//! - `upstream`: upstreams and aliases, checked
//! - `alerts`, `stripe`, `backup`: what goes outside, in both forms; `audit`: the audit log
//! - `traces`: where spans are sent; `tls`: the edge's certificate and its key
//! - `network`: what tenants' code may reach
//! - `sandbox`: what isolates tenants' code, and what a run may use
//! - `terminal`: shells in tenants' sandboxes
//! - `channels`: messengers, by which people reach tenants' agents
//! - `outbound`: which hosts may be called
//! - `load`: from a file, the environment and the command line

mod alerts;
mod audit;
mod backup;
mod channels;
mod checked;
mod load;
mod network;
mod outbound;
mod raw;
mod sandbox;
mod secret;
mod stripe;
mod terminal;
mod tls;
mod traces;
mod upstream;

pub use alerts::{AlertsConfig, RawAlerts};
pub use audit::{AuditConfig, RawAudit};
pub use backup::RawBackup;
pub use channels::RawChannels;
pub use checked::{
    AdminConfig, AliasConfig, BedrockConfig, Config, EdgeConfig, ResponsesConfig, TargetConfig, TlsConfig,
    UpstreamConfig, UpstreamKind,
};
pub use load::{ConfigError, Overrides, check, find, load};
pub use network::{NetworkConfig, RawNetwork};
pub use outbound::RawOutbound;
pub use raw::{LogFormat, RawConfig};
pub use sandbox::{
    BackendConfig, BubblewrapConfig, DiskHold, DockerConfig, RawBackend, RawDocker, RawSandbox, SandboxConfig,
};
pub use secret::SecretRef;
pub use stripe::{RawMeter, RawStripe, StripeConfig};
pub use terminal::{RawTerminal, TerminalConfig};
pub use traces::{RawTraces, TracesConfig};
