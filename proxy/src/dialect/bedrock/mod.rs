//! Amazon's Converse and `ConverseStream`, as a provider speaks them. No client does: their SDKs sign what they send.
//!
//! - `request`: what is asked
//! - `reply`: a whole answer
//! - `frames`: messages of an event stream, cut out of any stream of bytes
//! - `stream`: an answer bit by bit
//! - `usage`: what was used
//! - `trouble`: errors
//! - `sign`: the signature of a request

pub(crate) mod frames;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod sign;
pub(crate) mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod trouble;
mod usage;
