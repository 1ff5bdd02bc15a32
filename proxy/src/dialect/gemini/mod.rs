//! Google's dialect: generateContent and streamGenerateContent of v1beta, as a client speaks it and as a provider does.
//!
//! - `path`: which model, and stream or not: both stand in the path
//! - `members`: a client's JSON, member by member, in either spelling
//! - `request`: what is asked
//! - `schema`: Google's own schemas as JSON Schema
//! - `parts`: parts of a prompt or an answer as they go out
//! - `signature`: signatures of thoughts, Google's and those of others
//! - `reply`: a whole answer
//! - `stream`: an answer bit by bit
//! - `logprobs`: log probabilities
//! - `usage`: what was used
//! - `trouble`: errors
//! - `watch`: what passes between a client and a provider that both speak this dialect

mod logprobs;
mod members;

mod parts;
pub(crate) mod path;
pub(crate) mod reply;
pub(crate) mod request;
mod schema;
mod signature;
pub(crate) mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod trouble;
mod usage;
pub(crate) mod watch;
