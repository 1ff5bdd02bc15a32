//! The operator's commands: clients of the admin API, with tables for people and JSON for programs.
//!
//! No command reads the data directory's files or the database: whatever it says, the API said. The one exception is
//! `audit verify` where no gateway runs.
//!
//! - `command`: the commands and how one is run
//! - `tenant`, `overlay`, `token`, `client_secret`, `provider_key`, `billing`, `rate`, `archive`, `alert`, `audit`, `backup`, `config`,
//!   `key`, `sandbox`, `terminal`, `channel`: one noun each; `rate_import`: the difference that a price list makes
//! - of `billing`: `usage`, `request`, `credit`, `hold`, `reconcile`, `push`
//! - `client`: the way to the API
//! - `value`, `duration`: how flags are read; `answer`, `table`: how answers are shown, `failure`: how errors are as JSON

mod alert;
mod answer;
mod archive;
mod audit;
mod backup;
mod billing;
mod channel;
mod client;
mod client_secret;
mod command;
mod config;
mod credit;
mod duration;
mod failure;
mod hold;
mod key;
mod overlay;
mod provider_key;
mod push;
mod rate;
mod rate_import;
mod reconcile;
mod request;
mod sandbox;
mod table;
mod tenant;
mod terminal;
mod token;
mod usage;
mod value;

#[cfg(test)]
mod tests;

pub use alert::AlertCommand;
pub use archive::ArchiveCommand;
pub use audit::{AuditCommand, TailFlags, VerifyFlags};
pub use backup::{BackupCommand, RestoreFlags, WholeRestoreFlags, bar, show};
pub use billing::BillingCommand;
pub use channel::{ChannelCommand, PolicyFlag};
pub use client_secret::ClientSecretFlags;
pub use command::{AdminCommand, AuditPlace, Connection, run};
pub use config::reload;
pub use failure::{failure, told};
pub use hold::ResolveFlags;
pub use key::{KeyCommand, KeyKind};
pub use overlay::{OverlayCommand, OverlayFlags};
pub use provider_key::ProviderKeyCommand;
pub use push::{PushCommand, StripeFlags};
pub use rate::RateCommand;
pub use rate_import::ImportFlags;
pub use request::RequestFlags;
pub use sandbox::{ExecFlags, SandboxCommand, run as run_sandbox};
pub use tenant::{QuotaFlags, TenantCommand, TenantFlags};
pub use terminal::{AttachFlags, RoleFlag, TerminalCommand, Ticket, ticket as terminal_ticket};
pub use token::{TokenCommand, TokenFlags};
pub use usage::{ReportFlags, RollupFlags, RollupFormat};
