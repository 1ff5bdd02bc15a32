//! An answer in events, to form and back.
//!
//! - `raw`: an event of this dialect as it is on the wire
//! - `reader`: the provider's events to form
//! - `writer`: form to events for a client

pub(super) mod raw;
mod reader;
mod writer;

pub(crate) use reader::Reader;
pub(crate) use writer::Writer;
