//! What is asked.
//!
//! - `facts`: what a request may cost, and the fields that the gateway owns, without a full parse
//! - `parts`: what a prompt holds besides text
//! - `parse`, `blocks`: a client's body to form
//! - `write`, `content`: form to the provider's body
//! - `thinking`: thinking and effort, both ways, and which model takes which

mod blocks;
mod content;
pub(crate) mod facts;
mod parse;
pub(crate) mod parts;
mod thinking;
mod write;

pub(crate) use parse::parse;
#[cfg(test)]
pub(crate) use parse::parse_count;
pub(crate) use write::write;
