//! The audit log: one JSON object a line in `<data>/audit/audit.jsonl`, each line signed together with the one before it.
//!
//! `mac` is HMAC-SHA256, under the bytes of the key's text, of `prev` followed by the line as it stands without
//! `,"mac":"..."`; `prev` is the `mac` of the line before, 64 zeros in the first. So nobody without the key can change, move or
//! remove a line unseen, and who knows the newest line sees whether lines are missing at the end: the database does, and each
//! backup.
//!
//! The order of things, which the store's `audit::desk` keeps: the lines of a transaction are written and synced, then it is
//! committed, then its caller is answered.
//! - A line that can't be written: the transaction's changes are undone. What a failed write left behind the last good line is
//!   moved to a file of its own before the next append.
//! - A line that is written, and whose transaction is then not committed (the disk is full, the process is killed): it stands
//!   behind the newest line that the database knows of. The next append finds it there and says so (`audit.uncommitted`).
//! - A row without a line (a budget's threshold while the log could not be written): it waits in the database.
//!
//! Map:
//! - `file`: the log as the store writes to it; `current`: the file that is appended to
//! - `line`: one line, made and read; `folder`: which files there are; `tail`: where a file's last whole line ends
//! - `verify`: whether anybody has touched it
//! - `service`: what goes on beside
//! - `denial`: attempts that were refused, counted so that they can't fill the disk

mod current;
mod denial;
mod error;
mod file;
mod folder;
mod line;
mod service;
mod tail;
#[cfg(test)]
mod tests;
mod verify;

pub use denial::{Denial, Denials};
pub use error::AuditError;
pub use file::{AuditFile, AuditOptions, Reopen, Rotation};
#[cfg(test)]
pub(crate) use service::look;
pub use service::run;
pub use verify::{Problem, ProblemKind, Verdict, verify};
