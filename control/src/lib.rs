//! Administration: the admin API and the command line that talks to it.
//!
//! Everything here goes through the store's public functions; this crate holds no SQL and never calls a provider. A secret
//! leaves it once, in the answer that made it, and enters no log.
//!
//! Map:
//! - `agent`: a turn of a tenant's agent, as channels ask for it
//! - `admin`: the HTTP API on the admin listener and on `admin.sock`; `admin::console`: its pages for people
//! - `channel`: messengers, by which people reach a tenant's agents
//! - `cli`: the commands, which are clients of that API
//! - `audit`: the audit log's files, and whether anybody has touched them
//! - `client_secret`: client secrets as they are handed out; `once`: calls that happen once
//! - `key`: the master key, the admin keys and the audit key, and the files that hold them
//! - `backup`: backups on demand and on schedule
//! - `rate_import`: price lists from outside
//! - `reload`: the configuration, read again
//! - `run`: a run in the sandbox, as it is asked for and answered
//! - `removal`: the files of deleted tenants
//! - `retention`: old request detail, moved to files
//! - `terminal`: a terminal in a tenant's sandbox, as it is asked for and shown
//! - `stripe`: usage to Stripe, as meter events
//! - `overlay_file`: a copy of what a tenant prefers, for people
//! - `outbound`: calls to URLs that somebody names, and which may be called
//! - `pause`: how long a receiver that failed is left alone
//! - `webhook`: telling the operator's own systems, signed
//! - `error`: what can go wrong with those

pub mod admin;
pub mod agent;
pub mod audit;
pub mod backup;
pub mod channel;
pub mod cli;
pub mod client_secret;
mod error;
mod key;
mod once;
pub mod outbound;
pub mod overlay_file;
mod pause;
mod rate_import;
pub mod reload;
pub mod removal;
pub mod retention;
pub mod run;
pub mod stripe;
pub mod terminal;
pub mod webhook;

pub use error::KeyError;
pub use key::{AdminKeys, AuditKey, KeySource, MasterKey};
pub use outbound::OutboundUrl;
