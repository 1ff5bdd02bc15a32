//! The gateway's own keys. None of them is ever in the database, a backup, a log or an answer.
//!
//! - `admin`: who may administer; `master`: what seals stored secrets; `rotate`: another in its place; `audit`: what signs
//!   the audit log
//! - `file`: a secret in a file of its own

mod admin;
mod audit;
mod file;
mod master;
pub(crate) mod rotate;

pub(crate) use admin::MIN_ADMIN_KEY_CHARS;
pub use admin::{AdminKeys, KeySource};
pub use audit::AuditKey;
pub use master::MasterKey;
pub(crate) use master::channel_place;
