//! A whole chat answer, both ways.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::dialect::Shown;
use crate::dialect::form::{Choice, Part, Reply, Stop};
use crate::dialect::json::{Json, member, object};
use crate::dialect::openai::{reply, usage};

#[derive(Deserialize)]
struct RawReply<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    choices: Vec<RawChoice>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawChoice {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    message: Said,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Value>,
}

/// What a message or a delta says.
#[derive(Deserialize, Default)]
pub(super) struct Said {
    #[serde(default)]
    pub(super) content: Option<Value>,
    #[serde(default)]
    pub(super) refusal: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    pub(super) thinking_blocks: Option<Vec<Block>>,
    #[serde(default)]
    pub(super) tool_calls: Option<Vec<Call>>,
}

/// A block of thinking, as `LiteLLM` says it.
#[derive(Deserialize, Default)]
pub(super) struct Block {
    #[serde(default)]
    pub(super) thinking: Option<String>,
    #[serde(default)]
    pub(super) signature: Option<String>,
    #[serde(default)]
    pub(super) data: Option<String>,
}

/// A call, or a part of one.
#[derive(Deserialize, Default)]
pub(super) struct Call {
    #[serde(default)]
    pub(super) index: Option<u32>,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) function: Option<Function>,
    #[serde(default)]
    extra_content: Option<Value>,
    #[serde(default)]
    provider_specific_fields: Option<Value>,
}

/// Its function.
#[derive(Deserialize, Default)]
pub(super) struct Function {
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) arguments: Option<Value>,
}

impl Said {
    /// The text of it: a string, or (Mistral, some proxies) a list of text parts.
    pub(super) fn text(&self) -> String {
        match &self.content {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => {
                parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
            }
            _ => String::new(),
        }
    }

    /// The thoughts, by either name; a server that sends both sends the same.
    pub(super) fn thought(&self) -> &str {
        let said = [&self.reasoning_content, &self.reasoning].into_iter().flatten().find(|text| !text.is_empty());
        said.map_or("", String::as_str)
    }
}

impl Block {
    pub(super) fn signed(&self) -> Option<&str> {
        self.signature.as_deref().filter(|signature| !signature.is_empty())
    }
}

impl Call {
    pub(super) fn name(&self) -> String {
        self.function.as_ref().and_then(|function| function.name.clone()).unwrap_or_default()
    }

    /// The arguments' text; Ollama has sent them as an object.
    pub(super) fn arguments(&self) -> String {
        match self.function.as_ref().and_then(|function| function.arguments.as_ref()) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    pub(super) fn signature(&self) -> Option<String> {
        let google = self.extra_content.as_ref().and_then(|extra| extra.pointer("/google/thought_signature"));
        let litellm = self.provider_specific_fields.as_ref().and_then(|fields| fields.get("thought_signature"));
        google.or(litellm).and_then(Value::as_str).map(str::to_owned)
    }
}

/// Reads an answer; `None` when it is none.
pub(crate) fn parse(body: &[u8]) -> Option<Reply> {
    let raw: RawReply<'_> = serde_json::from_slice(body).ok()?;
    let mut choices = raw.choices;
    choices.sort_by_key(|choice| choice.index);
    Some(Reply {
        id: raw.id.unwrap_or_default(),
        model: raw.model.unwrap_or_default(),
        choices: choices.into_iter().map(choice).collect(),
        usage: raw.usage.and_then(|usage| reply::usage(usage.get())),
    })
}

fn choice(raw: RawChoice) -> Choice {
    let parts = parts(&raw.message);
    let stop = raw.finish_reason.map(|reason| stop(&reason, &parts));
    Choice { parts, stop, logprobs: raw.logprobs.filter(|logprobs| !logprobs.is_null()) }
}

fn parts(said: &Said) -> Vec<Part> {
    let mut parts = Vec::new();
    let blocks = said.thinking_blocks.as_deref().unwrap_or_default();
    for block in blocks {
        parts.push(match &block.data {
            Some(data) => Part::RedactedThinking { data: data.clone() },
            None => Part::Thinking {
                text: block.thinking.clone().unwrap_or_default(),
                signature: block.signed().map(str::to_owned),
            },
        });
    }
    if !parts.iter().any(|part| matches!(part, Part::Thinking { .. })) && !said.thought().is_empty() {
        parts.insert(0, Part::Thinking { text: said.thought().to_owned(), signature: None });
    }
    let text = said.text();
    if !text.is_empty() {
        parts.push(Part::text(text));
    }
    let refusal = said.refusal.clone().filter(|text| !text.is_empty());
    parts.extend(refusal.map(|text| Part::Refusal { text }));
    for call in said.tool_calls.iter().flatten() {
        parts.push(Part::ToolCall {
            id: call.id.clone().unwrap_or_default(),
            name: call.name(),
            arguments: call.arguments(),
            signature: call.signature(),
        });
    }
    parts
}

/// Why an answer ended. Forced calls, and every call of some servers, end with `stop`.
pub(super) fn stop(reason: &str, parts: &[Part]) -> Stop {
    match reason {
        "length" => Stop::MaxTokens,
        "tool_calls" | "function_call" => Stop::ToolUse,
        "content_filter" => Stop::Filter,
        _ if parts.iter().any(|part| matches!(part, Part::Refusal { .. })) => Stop::Refusal,
        _ if parts.iter().any(|part| matches!(part, Part::ToolCall { .. })) => Stop::ToolUse,
        _ => Stop::End,
    }
}

/// The word for it. A refusal that came with words is told by them.
pub(super) fn finish_reason(stop: &Stop, refused_in_words: bool) -> &'static str {
    match stop {
        Stop::MaxTokens | Stop::ContextFull => "length",
        Stop::ToolUse => "tool_calls",
        Stop::Filter => "content_filter",
        Stop::Refusal if !refused_in_words => "content_filter",
        Stop::Refusal | Stop::End | Stop::Sequence(_) | Stop::Pause => "stop",
    }
}

/// The answer as a client of this dialect reads it.
pub(crate) fn write(reply: &Reply, shown: &Shown) -> Vec<u8> {
    let choices: Vec<Json<'_>> = (0_u32..).zip(&reply.choices).map(|(index, choice)| written(index, choice)).collect();
    let mut body = vec![
        member("id", format!("chatcmpl-{}", shown.id)),
        member("object", "chat.completion"),
        member("created", shown.created),
        member("model", &shown.model),
        member("choices", choices),
    ];
    body.extend(reply.usage.as_ref().map(|used| member("usage", usage::write(used))));
    Json::Object(body).to_bytes()
}

fn written(index: u32, choice: &Choice) -> Json<'_> {
    let (mut text, mut refusal, mut thought) = (None::<Cow<'_, str>>, None::<Cow<'_, str>>, None::<Cow<'_, str>>);
    let (mut blocks, mut calls, mut must_return) = (Vec::new(), Vec::new(), false);
    for part in &choice.parts {
        match part {
            Part::Text { text: more, .. } => append(&mut text, more),
            Part::Refusal { text: more } => append(&mut refusal, more),
            Part::Thinking { text: more, signature } => {
                append(&mut thought, more);
                must_return |= signature.is_some();
                blocks.push(thinking_block(more, signature.as_deref()).into());
            }
            Part::RedactedThinking { data } => {
                must_return = true;
                blocks.push(object! {"type": "redacted_thinking", "data": data});
            }
            Part::ToolCall { id, name, arguments, signature } => {
                let function = object! {"name": name, "arguments": arguments};
                let mut call = vec![member("id", id), member("type", "function"), member("function", function)];
                let signature = signature.as_ref().map(|signature| object! {"thought_signature": signature});
                call.extend(signature.map(|signature| member("extra_content", object! {"google": signature})));
                calls.push(Json::Object(call));
            }
            // No model answers with these in this dialect.
            Part::Image { .. } | Part::Document { .. } | Part::Audio { .. } | Part::ToolResult { .. } => {}
        }
    }
    let refused_in_words = refusal.is_some();
    let mut message = vec![member("role", "assistant"), member("content", text), member("refusal", refusal)];
    let thought = thought.filter(|thought| !thought.is_empty());
    message.extend(thought.map(|thought| member("reasoning_content", thought)));
    message.extend(must_return.then(|| member("thinking_blocks", blocks)));
    message.extend((!calls.is_empty()).then(|| member("tool_calls", calls)));
    let reason = choice.stop.as_ref().map_or("stop", |stop| finish_reason(stop, refused_in_words));
    let message = Json::Object(message);
    object! {"index": index, "message": message, "logprobs": choice.logprobs.as_ref(), "finish_reason": reason}
}

/// Adds to a text; one that is whole at once is not copied.
fn append<'a>(text: &mut Option<Cow<'a, str>>, more: &'a str) {
    match text {
        Some(text) => text.to_mut().push_str(more),
        None => *text = Some(Cow::Borrowed(more)),
    }
}

pub(super) fn thinking_block(text: &str, signature: Option<&str>) -> Value {
    json!({"type": "thinking", "thinking": text, "signature": signature})
}

pub(super) fn sign(call: &mut Value, signature: Option<&str>) {
    if let (Some(signature), Some(call)) = (signature, call.as_object_mut()) {
        call.insert("extra_content".into(), json!({"google": {"thought_signature": signature}}));
    }
}
