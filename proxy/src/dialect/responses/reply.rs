//! A whole answer, both ways.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::echo::{Echo, State};
use super::{REDACTED, items, usage};
use crate::dialect::Shown;
use crate::dialect::form::{Choice, Part, Reply, Stop};
use crate::dialect::json;

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    incomplete_details: Option<Incomplete>,
    output: Vec<Value>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Incomplete {
    #[serde(default)]
    pub(super) reason: Option<String>,
}

/// Reads an answer; `None` when it is none, or one that failed.
pub(crate) fn parse(body: &[u8]) -> Option<Reply> {
    let raw: Raw<'_> = serde_json::from_slice(body).ok()?;
    let status = raw.status.as_deref().unwrap_or("completed");
    if !matches!(status, "completed" | "incomplete") {
        return None;
    }
    let mut choice = Choice::default();
    for item in &raw.output {
        item_parts(item, &mut choice);
    }
    let why = raw.incomplete_details.and_then(|details| details.reason);
    choice.stop = Some(stop(status, why.as_deref(), &choice.parts));
    Some(Reply {
        id: raw.id.unwrap_or_default(),
        model: raw.model.unwrap_or_default(),
        choices: vec![choice],
        usage: raw.usage.and_then(|raw| usage::parse(raw.get())),
    })
}

/// Why it ended.
pub(super) fn stop(status: &str, why: Option<&str>, parts: &[Part]) -> Stop {
    match (status, why) {
        ("incomplete", Some("content_filter")) => Stop::Filter,
        ("incomplete", _) => Stop::MaxTokens,
        _ if parts.iter().any(|part| matches!(part, Part::Refusal { .. })) => Stop::Refusal,
        _ if parts.iter().any(|part| matches!(part, Part::ToolCall { .. })) => Stop::ToolUse,
        _ => Stop::End,
    }
}

fn text_of(item: &Value, name: &str) -> String {
    item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list_of<'a>(item: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    item.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn item_parts(item: &Value, choice: &mut Choice) {
    match item.get("type").and_then(Value::as_str) {
        Some("message") => {
            for part in list_of(item, "content") {
                message_part(part, choice);
            }
        }
        Some("function_call") => choice.parts.push(Part::ToolCall {
            id: text_of(item, "call_id"),
            name: text_of(item, "name"),
            arguments: text_of(item, "arguments"),
            signature: call_signature(item),
        }),
        Some("reasoning") => {
            let texts: Vec<String> = ["content", "summary"]
                .iter()
                .flat_map(|list| list_of(item, list))
                .map(|part| text_of(part, "text"))
                .collect();
            choice.parts.extend(items::thinking(&texts.join("\n\n"), encrypted(item)));
        }
        _ => {} // an item of a hosted tool, which nobody asked for
    }
}

/// What must come back unchanged.
pub(super) fn encrypted(item: &Value) -> Option<String> {
    Some(text_of(item, "encrypted_content")).filter(|data| !data.is_empty())
}

/// A call's signature, where Google puts it.
pub(super) fn call_signature(item: &Value) -> Option<String> {
    item.pointer("/extra_content/google/thought_signature").and_then(Value::as_str).map(str::to_owned)
}

fn message_part(part: &Value, choice: &mut Choice) {
    let (text, refusal) = (text_of(part, "text"), text_of(part, "refusal"));
    if !text.is_empty() {
        choice.parts.push(Part::text(text));
    } else if !refusal.is_empty() {
        choice.parts.push(Part::Refusal { text: refusal });
    }
    let logprobs: Vec<Value> = list_of(part, "logprobs").cloned().collect();
    if logprobs.is_empty() {
        return;
    }
    let known = choice.logprobs.get_or_insert_with(|| json!({"content": []}));
    if let Some(known) = known.get_mut("content").and_then(Value::as_array_mut) {
        known.extend(logprobs);
    }
}

/// The status, and why it is not complete.
pub(super) fn ending(stop: Option<&Stop>, parts: &[Part]) -> (&'static str, Option<&'static str>) {
    let declined = parts.iter().any(|part| matches!(part, Part::Refusal { .. }));
    match stop {
        Some(Stop::MaxTokens | Stop::ContextFull) => ("incomplete", Some("max_output_tokens")),
        Some(Stop::Filter) => ("incomplete", Some("content_filter")),
        Some(Stop::Refusal) if !declined => ("incomplete", Some("content_filter")),
        None | Some(Stop::End | Stop::Sequence(_) | Stop::ToolUse | Stop::Refusal | Stop::Pause) => ("completed", None),
    }
}

/// The answer as a client of this dialect reads it; `completed_at` in seconds since 1970. Its first choice alone: nobody can
/// ask for more here.
pub(crate) fn write(reply: &Reply, shown: &Shown, completed_at: i64) -> Vec<u8> {
    let nothing = Choice::default();
    let choice = reply.choices.first().unwrap_or(&nothing);
    let (status, incomplete) = ending(choice.stop.as_ref(), &choice.parts);
    let state = State {
        status,
        completed_at: incomplete.is_none().then_some(completed_at),
        error: Value::Null,
        incomplete,
        output: output(choice, &shown.id, status),
        usage: reply.usage,
    };
    json::to_bytes(&Echo::shown(shown).object(shown, state))
}

/// The items of an answer. Texts and refusals in a row are one message.
fn output(choice: &Choice, id: &str, status: &str) -> Vec<Value> {
    let mut output: Vec<Value> = Vec::new();
    let logprobs = choice.logprobs.as_ref().and_then(|all| all.get("content")).cloned();
    let mut logprobs = logprobs.unwrap_or_else(|| json!([]));
    for part in &choice.parts {
        let Some(content) = content(part, &mut logprobs) else {
            let index = output.len();
            output.extend(item(part, id, index));
            continue;
        };
        let last = output.last_mut().filter(|item| item.get("type").is_some_and(|kind| kind == "message"));
        if let Some(list) = last.and_then(|item| item.get_mut("content")).and_then(Value::as_array_mut) {
            list.push(content);
        } else {
            let id = item_id("msg", id, output.len());
            let message =
                json!({"id": id, "type": "message", "status": "completed", "role": "assistant", "content": [content]});
            output.push(message);
        }
    }
    if let Some(last) = output.last_mut() {
        set(last, "status", status.into());
    }
    output
}

/// A message's part; the log probabilities stand at the first text.
fn content(part: &Part, logprobs: &mut Value) -> Option<Value> {
    match part {
        Part::Text { text, .. } => Some(text_part(text, std::mem::replace(logprobs, json!([])))),
        Part::Refusal { text } => Some(json!({"type": "refusal", "refusal": text})),
        Part::Thinking { .. }
        | Part::RedactedThinking { .. }
        | Part::ToolCall { .. }
        | Part::ToolResult { .. }
        | Part::Image { .. }
        | Part::Document { .. }
        | Part::Audio { .. } => None,
    }
}

/// A text with every field of the schema.
pub(super) fn text_part(text: &str, logprobs: Value) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
}

fn item(part: &Part, id: &str, index: usize) -> Option<Value> {
    match part {
        Part::Thinking { text, signature } => {
            let mut item = reasoning_item(&item_id("rs", id, index), text);
            if let Some(signature) = signature {
                set(&mut item, "encrypted_content", signature.as_str().into());
            }
            Some(item)
        }
        Part::RedactedThinking { data } => {
            let mut item = reasoning_item(&item_id("rs", id, index), "");
            set(&mut item, "encrypted_content", format!("{REDACTED}{data}").into());
            Some(item)
        }
        Part::ToolCall { id: call_id, name, arguments, signature } => {
            let mut item = json!({
                "id": item_id("fc", id, index),
                "type": "function_call",
                "status": "completed",
                "call_id": call_id,
                "name": name,
                "arguments": arguments,
            });
            if let Some(signature) = signature {
                set(&mut item, "extra_content", json!({"google": {"thought_signature": signature}}));
            }
            Some(item)
        }
        Part::Text { .. }
        | Part::Refusal { .. }
        | Part::ToolResult { .. }
        | Part::Image { .. }
        | Part::Document { .. }
        | Part::Audio { .. } => None,
    }
}

pub(super) fn reasoning_item(id: &str, text: &str) -> Value {
    let summary = if text.is_empty() { json!([]) } else { json!([{"type": "summary_text", "text": text}]) };
    json!({"id": id, "type": "reasoning", "status": "completed", "summary": summary})
}

/// An item's id: the response's with the item's place.
pub(super) fn item_id(prefix: &str, id: &str, index: usize) -> String {
    format!("{prefix}_{id}{index:04}")
}

pub(super) fn set(item: &mut Value, name: &str, value: Value) {
    if let Some(item) = item.as_object_mut() {
        item.insert(name.to_owned(), value);
    }
}
