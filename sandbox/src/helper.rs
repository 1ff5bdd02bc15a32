//! The first process in a sandbox, as a file: built from `sandbox/init` with this crate, which carries it, so that the gateway
//! stays one program. There is none outside Linux: nothing but Linux has namespaces to be the first process of.

/// A static program for the system that this was built for; `sandbox/init/src/main.rs` says what it takes and does.
pub static HELPER: &[u8] = include_bytes!(env!("OPENCLAWMU_INIT"));
