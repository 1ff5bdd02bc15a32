//! An answer bit by bit: chunks, each of the shape of a whole answer. There is no last word: a stream is complete when every
//! candidate has a `finishReason`.
//!
//! - `reader`: chunks to events
//! - `writer`: events to chunks, as server-sent events or in an array
//! - `array`: the framing of a stream without `alt=sse`

mod array;
mod reader;
mod writer;

pub(crate) use array::Array;
pub(crate) use reader::Reader;
pub(crate) use writer::Writer;
