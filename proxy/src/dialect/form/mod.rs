//! One form for every chat-like call, whatever dialect it came in and whatever dialect goes out.
//!
//! A dialect turns its own bytes into these types and back; no dialect knows another. The form holds what at least two
//! dialects can say. What only one can say never comes here: where client and upstream speak the same dialect, the bytes
//! pass, and where they don't, a field without a place here is refused by name, unless the provider's own SDK would drop it.
//! Numbers that a client wrote stay as written (`serde_json::Number`): nothing here is a float.
//!
//! - `request`: what is asked
//! - `reply`: what is answered, whole
//! - `event`: what is answered, bit by bit
//! - `shorten`: what is asked, without its beginning
//! - `assemble`: events put together again
//! - `arbitrary`: answers and events for the dialects' properties, in tests

#[cfg(test)]
pub(crate) mod arbitrary;
mod assemble;
mod event;
mod reply;
mod request;
mod shorten;

pub(crate) use assemble::Assembler;
pub(crate) use event::{Delta, Event, Opening, Trouble, TroubleKind};
pub(crate) use reply::{Choice, Reply, Stop};
pub(crate) use request::{
    Cache, Effort, OutputForm, Part, Reasoning, Request, Role, Sampling, Source, Tool, ToolChoice, Turn,
};
pub(crate) use shorten::shorten;
