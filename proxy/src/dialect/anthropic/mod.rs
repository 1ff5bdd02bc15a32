//! The Anthropic dialect: `POST /v1/messages` and `/v1/messages/count_tokens`, as a client speaks it and as the provider does.
//!
//! - `request`: what is asked: facts for admission, body to form, form to body
//! - `reply`: a whole answer, to form and back
//! - `stream`: an answer in events, to form and back
//! - `trouble`: errors, whole and in a stream
//! - `usage`: the provider's counts and our buckets
//! - `stop`: why an answer ended, in each other's words
//! - `watch`: an answer that passes as it is, watched for what it costs
//! - `fixtures`, `properties`: the golden files, and what must hold for anything, in tests

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod properties;
pub(crate) mod reply;
pub(crate) mod request;
mod stop;
pub(crate) mod stream;
pub(crate) mod trouble;
mod usage;
pub(crate) mod watch;
