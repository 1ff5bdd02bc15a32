//! What is told of requests once they have ended: names, counts and times, never content.
//!
//! - `notes`: what is noted of a request on its way
//! - `observer`: hands finished requests over to a thread of its own
//! - `access`: the access log: one JSON line a request
//! - `trace`: one request's trace, as it is noted; `spans`: what becomes of it, under the names in `semantic`; `export`: to a collector
//!
//! A request never waits for any of it: what can't be taken is dropped and counted.

mod access;
mod export;
mod notes;
mod observer;
pub(crate) mod semantic;
mod spans;
mod trace;

pub(crate) use access::AccessLog;
pub(crate) use export::Tracer;
pub(crate) use notes::{Fate, Finished, Notes};
pub(crate) use observer::{Observer, Sink};
pub(crate) use trace::{Sampling, Stage, TRACEPARENT, Trace};
