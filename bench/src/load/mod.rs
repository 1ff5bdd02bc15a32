//! The load generator: plans, and the threads that carry them out. Every answer is compared with the script
//! byte by byte, and the first one that differs fails the run.
//!
//! Knows nothing of what it drives: the gateway, the floor and the bare upstream look the same to it.

mod closed;
mod fleet;
mod open;
mod plan;
mod streams;

pub(crate) use fleet::{expect_ok, expect_refusal};
pub(crate) use plan::{Outcome, Plan, Target, drive, drive_each};
pub(crate) use streams::expected_events;

#[cfg(test)]
mod tests;
