//! Open Responses (openresponses.org; `OpenAI`'s Responses API), as a client's dialect and as a provider's.
//!
//! - `request`: a client's request to the form
//! - `items`: its input
//! - `write`: the form to a provider's request
//! - `echo`: what a response object repeats of its request; every field, null where the schema allows it
//! - `reply`: a whole answer, both ways
//! - `reader`: a provider's stream to events
//! - `writer`: events to a client's stream
//! - `trouble`: errors
//! - `state`: what is kept of a response, and what is answered from it
//! - `usage`: usage, both ways
//!
//! What was stored of earlier responses is put in place before anything here is called: this module knows no store.

mod echo;
mod items;
mod reader;
mod reply;
mod request;
pub(crate) mod state;
pub(crate) mod trouble;
mod usage;
mod write;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use echo::Echo;
pub(crate) use items::Earlier;
pub(crate) use reader::Reader;
pub(crate) use reply::{parse as parse_reply, write as write_reply};
pub(crate) use request::{Asked, parse, previous};
pub(crate) use write::write;
pub(crate) use writer::Writer;

/// Marks thoughts that are hidden altogether in the one field that a reasoning item has for what must come back unchanged;
/// no base64 holds a colon.
const REDACTED: &str = "redacted:";
