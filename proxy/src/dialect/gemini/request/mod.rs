//! What is asked, in Google's words.
//!
//! - `ask`: what a request may cost, and the fields that the gateway owns
//! - `read`: a client's body as the form
//! - `conversation`: its turns and their parts
//! - `settings`: its tools, and how the answer is to be made
//! - `write`: the form as a provider's body
//! - `turns`: the turns of such a body

mod ask;
mod conversation;
mod read;
mod settings;
mod turns;
mod write;

#[cfg(test)]
pub(crate) use ask::Ask;
pub(crate) use ask::{Fields, edit, read};
pub(crate) use read::parse;
pub(crate) use write::write;
