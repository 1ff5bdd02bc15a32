//! The ledger as a whole, each rule by its name. Files, threads and processes are real; only the clock is not.
//!
//! - `world`: a store with one tenant, and the books as any SQLite client reads them
//! - `admission`: caps, rates, windows, zones
//! - `cap`: caps of client secrets, among their tenant's buckets
//! - `alert`: thresholds, each told once
//! - `batch`: attempts that take a day
//! - `ending`: settlements, each exactly once
//! - `model`: random histories beside a model that is too simple to be wrong
//! - `history`: the same with deaths, hand-overs and replays in it
//! - `sandbox`: seconds of the sandbox
//! - `adjustment`: credits and the ends of holds; `request`: the log; `reconcile`: whether the books agree
//! - `crash`: what a process leaves when it dies, whole or torn
//! - `kill`: real processes, really killed
//! - `handover`: two owners at once
//! - `disk`: no space left

mod adjustment;
mod admission;
mod alert;
mod batch;
mod cap;
mod crash;
mod disk;
mod ending;
mod handover;
mod history;
mod kill;
mod model;
mod reconcile;
mod request;
mod sandbox;
pub(crate) mod world;
