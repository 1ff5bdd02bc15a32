//! SQLite: the only place that knows SQL's engine. Everything here is private to the crate.
//!
//! - `open`: connections and the version check
//! - `lock`: one process owns a data directory's ledger
//! - `migrate`: numbered migrations, each in one transaction
//! - `reader`: per-thread read-only connections
//! - `writer`: the one thread that writes, with group commit; `queue`: what waits for it; `defer`: what waits longer; `commit`:
//!   one commit; `manner`: how its connection is set; `pace`: how fast it is
//! - `checkpoint`: moves the WAL into the database, off the writer's back
//! - `checkup`: how a database is, seen from outside
//! - `wal`: what becomes of the WAL after a failed sync

pub(crate) mod checkpoint;
pub(crate) mod checkup;
mod commit;
mod defer;
pub(crate) mod lock;
mod manner;
pub(crate) mod migrate;
pub(crate) mod open;
pub(crate) mod pace;
mod queue;
pub(crate) mod reader;
pub(crate) mod wal;
pub(crate) mod writer;
