//! What requests and answers mean, in each format. Pure: bytes in, facts and bytes out.
//!
//! - `scan`: the top level of a JSON object, without parsing what lies below it
//! - `form`: the one form that every dialect is turned into and made from
//! - `json`: JSON itself, as it is taken apart and written
//! - `object`: a request's JSON taken apart, each refusal with the field's whole path
//! - `anthropic`: the Anthropic Messages dialect
//! - `ask`: what a request asks for, in whatever dialect
//! - `translate`: which dialect's functions do what
//! - `arguments`: those of a call, as JSON and as text
//! - `openai`: the `OpenAI` dialect
//! - `gemini`: Google's dialect
//! - `bedrock`: Amazon's Converse, as a provider speaks it
//! - `responses`: Open Responses, `OpenAI`'s other dialect
//! - `golden`: golden files, in tests
//!
//! A dialect's folder has the same files as every other's, as far as it has a use for them:
//! - `request`: `read` (what a request may cost), `parse` (bytes to form), `write` (form to bytes)
//! - `reply`: `parse` and `write` of a whole answer
//! - `stream`: `Reader` (events to form) and `Writer` (form to events)
//! - `trouble`: `parse` and `write` of errors, whole and in a stream

pub(crate) mod anthropic;
pub(crate) mod arguments;
pub(crate) mod ask;
pub(crate) mod bedrock;
pub(crate) mod form;
pub(crate) mod gemini;
#[cfg(test)]
pub(crate) mod golden;
pub(crate) mod json;
pub(crate) mod object;
pub(crate) mod openai;
pub(crate) mod responses;
pub(crate) mod scan;
pub(crate) mod translate;

use std::sync::Arc;

use openclawmu_store::RequestId;

use crate::refusal::Told;

/// What a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dialect {
    /// `OpenAI`'s.
    #[default]
    Openai,
    /// Anthropic's.
    Anthropic,
    /// Google's.
    Gemini,
    /// `OpenAI`'s other one.
    Responses,
}

impl Dialect {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Responses => "responses",
        }
    }

    /// A refusal's body.
    pub(crate) fn refusal_body(self, told: &Told, request_id: RequestId) -> Vec<u8> {
        match self {
            Self::Openai | Self::Responses => told.openai_body(),
            Self::Anthropic | Self::Gemini => translate::write_trouble(self, &told.trouble(), &request_id.to_string()),
        }
    }

    /// A refusal as the last event of a stream that has begun.
    pub(crate) fn refusal_event(self, told: &Told, request_id: RequestId) -> Vec<u8> {
        match self {
            Self::Openai => told.openai_event(),
            Self::Responses => responses::trouble::event(&told.trouble(), 0),
            Self::Anthropic => anthropic::trouble::event(&told.trouble(), &request_id.to_string()),
            Self::Gemini => gemini::trouble::event(&told.trouble(), &request_id.to_string()),
        }
    }
}

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
    /// What a response repeats of its request, in the one dialect that does so.
    pub(crate) echo: Option<Arc<responses::Echo>>,
}
