//! A whole answer. It names neither itself nor its model.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::usage::Counts;
use crate::dialect::arguments::compact;
use crate::dialect::form::{Choice, Part, Reply, Stop};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    output: Output<'a>,
    stop_reason: String,
    #[serde(default)]
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    message: Message<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Vec<Block<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Block<'a> {
    text: Option<String>,
    #[serde(borrow)]
    tool_use: Option<ToolUse<'a>>,
    reasoning_content: Option<Reasoning>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse<'a> {
    tool_use_id: String,
    name: String,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Reasoning {
    reasoning_text: Option<ReasoningText>,
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
struct ReasoningText {
    text: String,
    #[serde(default)]
    signature: Option<String>,
}

/// Reads a whole answer; `None` when it is not one.
pub(crate) fn parse(body: &[u8]) -> Option<Reply> {
    let body: Body<'_> = serde_json::from_slice(body).ok()?;
    let parts = body.output.message.content.into_iter().filter_map(part).collect();
    let choice = Choice { parts, stop: Some(stop(&body.stop_reason)), logprobs: None };
    let usage = body.usage.and_then(|counts| counts.disjoint());
    Some(Reply { choices: vec![choice], usage, ..Reply::default() })
}

/// A block as a part; `None` for what no other dialect knows, such as citations.
fn part(block: Block<'_>) -> Option<Part> {
    if let Some(text) = block.text {
        return Some(Part::text(text));
    }
    if let Some(call) = block.tool_use {
        let arguments = call.input.map_or_else(|| "{}".to_owned(), |input| compact(input.get()));
        return Some(Part::ToolCall { id: call.tool_use_id, name: call.name, arguments, signature: None });
    }
    let reasoning = block.reasoning_content?;
    if let Some(data) = reasoning.redacted_content {
        return Some(Part::RedactedThinking { data });
    }
    reasoning.reasoning_text.map(|thought| Part::Thinking { text: thought.text, signature: thought.signature })
}

/// Why an answer ended. What a model wrote so badly that it can't be read is an end like any other.
pub(super) fn stop(reason: &str) -> Stop {
    match reason {
        "max_tokens" => Stop::MaxTokens,
        "stop_sequence" => Stop::Sequence(None),
        "tool_use" => Stop::ToolUse,
        "guardrail_intervened" | "content_filtered" => Stop::Filter,
        "model_context_window_exceeded" => Stop::ContextFull,
        "refusal" => Stop::Refusal,
        "pause_turn" => Stop::Pause,
        _ => Stop::End,
    }
}
