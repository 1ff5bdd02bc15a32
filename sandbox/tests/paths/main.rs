//! The path rules of `Root`, one module a rule, each test named after the attack it tries and each
//! refusal beside the same program succeeding where it is allowed.
//!
//! `OPENCLAWMU_RACE_SECONDS` sets how long the race of P-03 runs; 5 if it is unset.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod archive;
mod file_kind;
mod hostile_name;
mod identity;
mod ordinary;
mod place;
mod race;
mod sibling;
mod symlink;
mod tree;
