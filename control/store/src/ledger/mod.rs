//! Money: reservations before an attempt is sent, rows after it ends.
//!
//! - `alert`: thresholds of budgets, told once
//! - `row`: what is written, once
//! - `by_tenant`: its place in its tenant's time
//! - `rollup`: the sums of rows by day, kept beside them
//! - `slot`: a row's bytes while it is in flight; `slot_file`: how they get into the file
//! - `inflight`: the table of slots, which survives a killed process
//! - `journal`: settled rows that are synced and wait to be committed with many others
//! - `label_file`: labels of what is in flight, until they are stored
//! - `syncer`: makes the table survive a power loss, where that is asked for
//! - `sums`: what a calendar window holds, and which is the current one
//! - `bucket`, `budget`: a tenant's rates and windows in memory; all or none; `cap`: its client secrets' caps among them
//! - `admission`: from a demand to a ticket; `refused`: or to the reason why there is none
//! - `ticket`: one admitted attempt, and its end
//! - `batch`: attempts that take a day: held until they end
//! - `recovery`: what dead and departing owners left in flight
//! - `standing`: what a tenant has used and has left, for the quota routes
//! - `report`: sums of rows; `request`: the rows themselves
//! - `archive`: months of rows, moved to compressed files
//! - `adjustment`: compensating rows; `credit`, `hold`: the two kinds
//! - `reconcile`: whether all of that agrees
//! - `state`: the parts together

mod adjustment;
pub(crate) mod admission;
pub(crate) mod alert;
mod archive;
mod batch;
pub(crate) mod bucket;
pub(crate) mod budget;
pub(crate) mod by_tenant;
mod cap;
mod credit;
mod hold;
pub(crate) mod inflight;
pub(crate) mod journal;
pub(crate) mod label_file;
mod reconcile;
pub(crate) mod recovery;
pub(crate) mod refused;
mod report;
mod request;
pub(crate) mod rollup;
pub(crate) mod row;
pub(crate) mod slot;
mod slot_file;
pub(crate) mod standing;
mod state;
pub(crate) mod sums;
pub(crate) mod syncer;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod ticket;

pub use admission::Demand;
pub use alert::Alerts;
pub use archive::Archive;
pub(crate) use archive::COLUMNS as ROW_COLUMNS;
pub use batch::{Batch, BatchEnd, NewBatch};
pub use bucket::RateStanding;
pub use credit::{Credit, NewCredit};
pub use hold::{Hold, HoldAction, NewResolution, Resolution};
pub use reconcile::{Difference, Reconciled};
pub use refused::{BudgetKind, RateKind, Refused, SecretLimit, Standing};
pub use report::{
    CsvColumns, UsageKey, UsageLine, UsageQuery, UsageRange, UsageReport, UsageRow, UsageSpan, UsageSums, UsageTotal,
};
pub use request::{RequestCursor, RequestQuery, RequestRow, RequestUsage};
pub use row::{LedgerRow, Outcome, Reservation, SANDBOX, Settlement};
pub use standing::QuotaStatus;
pub(crate) use state::Ledger;
pub use ticket::{End, Settled, Ticket};
