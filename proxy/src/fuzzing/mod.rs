//! What must hold whatever the bytes: one function for each parser and translator that reads what strangers write. Compiled for
//! tests and, by the feature `fuzzing`, for `proxy/fuzz`; never into the gateway.
//!
//! Each takes bytes and panics where a property does not hold. Choices are never taken from the bytes (which dialect, where a
//! stream is cut): all of them are tried, or they are derived from a checksum, so that the golden files are seeds as they are.
//!
//! - `targets`: their list
//! - `connection`: requests of HTTP/1.1, wherever they are cut
//! - `sse`, `frames`: streams of events, wherever they are cut
//! - `scan`: the members of a JSON object, with `serde_json` as the judge
//! - `ask`: what a request may cost, and the edits of what the gateway owns
//! - `request`, `reply`, `stream`: translation
//! - `usage`, `trouble`: what an answer costs, and what went wrong
//! - `cut`, `json`: bytes in pieces, JSON with its repeated members
//! - `tests`: the same on the golden files and on what is known to be hard

#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a fuzzer is told")]

mod ask;
mod connection;
mod cut;
mod frames;
mod json;
mod reply;
mod request;
mod scan;
mod sse;
mod stream;
mod targets;
#[cfg(test)]
mod tests;
mod trouble;
mod usage;

pub use targets::{TARGETS, Target};
