//! What is told of requests once they have ended: names, counts and times, never content.
//!
//! - `notes`: what is noted of a request on its way
//! - `observer`: hands finished requests over to a thread of its own
//! - `access`: the access log: one JSON line a request
//!
//! A request never waits for any of it: what can't be taken is dropped and counted.

mod access;
mod notes;
mod observer;

pub(crate) use access::AccessLog;
pub(crate) use notes::{Fate, Finished, Notes};
pub(crate) use observer::Observer;
