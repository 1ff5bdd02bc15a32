//! What a backup takes out of the store and what a restore puts back.
//!
//! A snapshot is of one moment and never stops the writer. A tenant leaves as rows that name everything by its text, never by
//! the store's own keys, so that another gateway can take them in. Nothing here knows of files, archives or buckets.
//!
//! - `snapshot`: reading the store as it was at one moment
//! - `table`: which tables a tenant's rows lie in, and rows as JSON
//! - `line`: ledger rows as JSON, and back
//! - `restore`: putting a tenant back; `adder`: its ledger rows; `report`: what that did not bring back
//! - `note`: backups on record
//! - `feed`: ledger rows that no backup has yet
//! - `offline`: a restored database before its first start

mod adder;
pub(crate) mod feed;
mod line;
mod note;
mod offline;
mod report;
mod restore;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;

pub use offline::{Offline, Replayed};
pub use report::{RestoreReport, Restored, UsageSince};
pub use restore::{Restore, RestorePlan};
pub use snapshot::{Snapshot, SnapshotFacts, pepper_fingerprints};
pub(crate) use table::forget;
pub use table::{RowObject, TenantRows};
