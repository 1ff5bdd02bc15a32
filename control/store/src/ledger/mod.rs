//! Money: reservations before an attempt is sent, rows after it ends.
//!
//! - `row`: what is written, once
//! - `slot`: a row's bytes while it is in flight
//! - `inflight`: the table of slots, which survives a killed process
//! - `budget`: a tenant's windows, rates and concurrency in memory; all or none
//! - `ticket`: one admitted attempt
//! - `admission`: from a demand to a ticket
//! - `recovery`: what dead and departing owners left in flight
//! - `report`: sums of rows

pub(crate) mod row;

pub use row::{LedgerRow, Outcome, Reservation, Settlement};
