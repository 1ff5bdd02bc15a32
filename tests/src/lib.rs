//! What the end-to-end tests stand on: the real `openclawmu` process, an upstream whose every byte is scripted,
//! and clients that speak the public contract.
//!
//! Knows the gateway only from outside: its listeners, its command line, its files. It never links a crate of
//! the gateway, so a test can't pass by agreeing with the code instead of the contract.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a harness fails loudly: a broken expectation is a failed test"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "no request path here: tasks end with the test's runtime, and the clock is the machine's"
)]

pub mod admin;
pub mod amazon;
pub mod audit;
pub mod bucket;
pub mod canned;
pub mod cli;
pub mod client;
pub mod clock;
pub mod dice;
pub mod disk;
pub mod form;
pub mod gateway;
pub mod h2;
pub mod ledger;
mod listening;
pub mod messenger;
pub mod money;
pub mod raw;
pub mod receiver;
pub mod refusal;
pub mod scene;
pub mod sdk;
pub mod setup;
pub mod socket;
pub mod sse;
pub mod stripe;
pub mod terminal;
pub mod tls;
pub mod token;
pub mod upload;
pub mod upstream;
pub mod wait;

pub use admin::{Admin, Budget, Tenant};
pub use bucket::{Bucket, BucketFault};
pub use client::{Client, Reply};
pub use form::Form;
pub use gateway::Gateway;
pub use scene::Scene;
pub use setup::Setup;
pub use upstream::{BatchEnd, Behaviour, Bill, Fault, Gate, Pace, Upstream};

/// True when `OPENCLAWMU_SOAK=1`: the counts of the checks in full, else the ones that fit a short run.
#[must_use]
pub fn soak() -> bool {
    std::env::var("OPENCLAWMU_SOAK").is_ok_and(|value| value == "1")
}

/// The count of a long check: `full` in a soak run, else `short`.
#[must_use]
pub fn times(short: usize, full: usize) -> usize {
    if soak() { full } else { short }
}
