//! The web terminal: a shell in a tenant's own sandbox, for one authorised person at a time.
//!
//! To be built with its own issue. What it will be: a pseudo-terminal whose other end runs in the
//! tenant's sandbox, a framed protocol over a WebSocket, and a recording of what was shown.
//!
//! # Invariants of absence
//!
//! - Must never start a shell outside a sandbox: where isolation cannot be set up it answers with
//!   the reason, and nothing runs.
//! - Must never decide who may connect: it is handed a caller that the edge has authenticated, and
//!   ends within a second of that caller's token being revoked.
//! - Must never run unrecorded where recording is demanded: if the recording cannot be written, the
//!   terminal ends.
//! - Knows nothing of AI routes, prices or SQL, and opens a tenant's paths only through
//!   `openclawmu_sandbox::Root`.
