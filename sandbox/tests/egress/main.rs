//! What a run's way out lets through, over real sockets and real TLS: each refusal beside the same client succeeding where it may.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod address;
mod bound;
mod request;
mod scene;
mod socket;
mod tls;
