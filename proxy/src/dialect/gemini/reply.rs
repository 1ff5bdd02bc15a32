//! A whole answer. It has the shape of a stream's only chunk, and so it is read as one; then a stream put together again can
//! only be what the whole answer would have been.

use serde::Serialize;
use serde_json::Value;

use super::logprobs;
use super::parts::{Call, Content, Outgoing};
use super::signature;
use super::stream::Reader;
use super::usage::Metadata;
use crate::dialect::Shown;
use crate::dialect::arguments::object;
use crate::dialect::form::{Assembler, Choice, Event, Part, Reply, Stop};

/// An answer or a chunk of one, as it goes out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outbound<'a> {
    pub(super) candidates: Vec<Candidate<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage_metadata: Option<Metadata>,
    pub(super) model_version: &'a str,
    pub(super) response_id: &'a str,
}

/// One of its answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    pub(super) content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) finish_reason: Option<&'static str>,
    pub(super) index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs_result: Option<logprobs::Result>,
}

/// Reads a whole answer; `None` when it is not one.
pub(crate) fn parse(body: &[u8]) -> Option<Reply> {
    let mut reader = Reader::default();
    let mut events = Vec::new();
    reader.read(None, body, &mut events);
    reader.end(&mut events);
    let mut assembler = Assembler::default();
    for event in &events {
        if matches!(event, Event::Error(_)) {
            return None;
        }
        assembler.add(event);
    }
    reader.has_answered().then(|| assembler.reply().clone())
}

/// Writes a whole answer.
pub(crate) fn write(reply: &Reply, shown: &Shown) -> Vec<u8> {
    let candidates = reply.choices.iter().zip(0..).map(|(choice, index)| candidate(choice, index)).collect();
    let body = Outbound {
        candidates,
        usage_metadata: reply.usage.as_ref().map(Metadata::of),
        model_version: &shown.model,
        response_id: &shown.id,
    };
    // Texts and numbers: nothing in it can fail.
    serde_json::to_vec(&body).unwrap_or_default()
}

fn candidate(choice: &Choice, index: u32) -> Candidate<'_> {
    let mut torn = false;
    let mut parts = Vec::new();
    for part in &choice.parts {
        match outgoing(part) {
            Some(part) => parts.push(part),
            None => torn |= matches!(part, Part::ToolCall { .. }),
        }
    }
    let finish_reason = if torn { Some(TORN) } else { choice.stop.as_ref().map(finish_reason) };
    let logprobs_result = choice.logprobs.as_ref().map(|logprobs: &Value| logprobs::Result::of(logprobs));
    Candidate { content: Content { role: Some("model"), parts }, finish_reason, index, logprobs_result }
}

/// How Google ends an answer whose call it could not finish; it never shows half a call.
pub(super) const TORN: &str = "MALFORMED_FUNCTION_CALL";

/// A part of an answer; `None` for a call without proper arguments, and for what no model says.
pub(super) fn outgoing(part: &Part) -> Option<Outgoing<'_>> {
    Some(match part {
        Part::Text { text, .. } | Part::Refusal { text } => Outgoing::text(text),
        Part::Thinking { text, signature } => Outgoing::thought(text, signature.as_deref()),
        Part::RedactedThinking { data } => hidden(data),
        Part::ToolCall { id, name, arguments, signature } => Outgoing {
            function_call: Some(Call { id, name, args: object(arguments)? }),
            thought_signature: signature.as_deref().map(signature::thought),
            ..Outgoing::default()
        },
        Part::Image { .. } | Part::Document { .. } | Part::Audio { .. } | Part::ToolResult { .. } => return None,
    })
}

/// Hidden thoughts: a thought that says nothing, and is signed.
pub(super) fn hidden<'a>(data: &str) -> Outgoing<'a> {
    Outgoing { thought: Some(true), thought_signature: Some(signature::hidden(data)), ..Outgoing::text("") }
}

/// Why an answer ended, in Google's words.
pub(super) fn finish_reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::End | Stop::ToolUse | Stop::Sequence(_) => "STOP",
        Stop::MaxTokens | Stop::ContextFull => "MAX_TOKENS",
        Stop::Filter | Stop::Refusal => "SAFETY",
        Stop::Pause => "OTHER",
    }
}
