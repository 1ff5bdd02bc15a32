//! What a terminal promises, on real shells in real sandboxes, one module a rule.
//!
//! - `work`: what people do at a terminal: Ctrl-C, Ctrl-Z, another size (T-06)
//! - `resume`: what was seen, and what comes after it
//! - `flow`: who reads slowly, or not at all (T-04)
//! - `roles`: who may do what, and who is told of it
//! - `recording`: what is kept of it (T-07)
//! - `open`: what is refused before anything runs
//! - `end`: how a session ends, and what is left of it (T-03, T-07)
//! - `place`: where a test has its sessions; `client`: who looks at them
//!
//! They need bubblewrap, and the right to make namespaces and to mount a tmpfs; where one is missing they fail.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod client;
mod end;
mod flow;
mod open;
mod place;
mod recording;
mod resume;
mod roles;
mod work;
