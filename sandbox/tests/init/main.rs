//! What the first process of a sandbox promises, on the real program in a real PID namespace (bubblewrap makes it), one module
//! a rule.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod egress;
mod end;
mod orphan;
mod run;
mod signal;
mod terminal;
mod wall;
