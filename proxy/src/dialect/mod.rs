//! What requests and answers mean, in each format. Pure: bytes in, facts and bytes out.
//!
//! - `scan`: the top level of a JSON object, without parsing what lies below it
//! - `form`: the one form that every dialect is turned into and made from
//! - `object`: a request's JSON taken apart, each refusal with the field's whole path
//! - `anthropic`: the Anthropic Messages dialect
//! - `openai`: the `OpenAI` dialect
//! - `gemini`: Google's dialect
//! - `bedrock`: Amazon's Converse, as a provider speaks it
//! - `golden`: golden files, in tests
//!
//! A dialect's folder has the same files as every other's, as far as it has a use for them:
//! - `request`: `read` (what a request may cost), `parse` (bytes to form), `write` (form to bytes)
//! - `reply`: `parse` and `write` of a whole answer
//! - `stream`: `Reader` (events to form) and `Writer` (form to events)
//! - `trouble`: `parse` and `write` of errors, whole and in a stream

#[cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "the stages call it when routes lead to more than one dialect")
)]
pub(crate) mod anthropic;
pub(crate) mod bedrock;
pub(crate) mod form;
pub(crate) mod gemini;
#[cfg(test)]
pub(crate) mod golden;
pub(crate) mod object;
pub(crate) mod openai;
pub(crate) mod scan;

/// What an answer shows of the gateway's side, whatever the upstream said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The answer's id without its dialect's prefix: 32 hex digits.
    pub(crate) id: String,
    /// The model, as the client named it.
    pub(crate) model: String,
    /// When the request came, in seconds since 1970.
    pub(crate) created: i64,
    /// Whether the client asked for the usage in a stream, in dialects where that is a choice.
    pub(crate) wants_usage: bool,
}
