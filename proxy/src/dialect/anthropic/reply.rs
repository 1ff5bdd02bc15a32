//! A whole answer, to form and back.

use openclawmu_store::Usage;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::stop::{self, Calls};
use super::usage::{self, Counts};
use crate::dialect::Shown;
use crate::dialect::form::{Choice, Part, Reply};
use crate::dialect::json::{self, Json};

/// The key under which Anthropic's guide tells to hand on the text of arguments that are no JSON object.
const INVALID_JSON: &str = "INVALID_JSON";

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    id: String,
    #[serde(default)]
    model: String,
    #[serde(borrow)]
    content: Vec<Json<'a>>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    stop_sequence: Option<String>,
    #[serde(default)]
    usage: Option<Counts>,
}

/// Reads a whole answer; `None` when it is none. Blocks that the form has no place for were never asked for and are left out.
pub(crate) fn parse(body: &[u8]) -> Option<Reply> {
    let message: Message<'_> = serde_json::from_slice(body).ok()?;
    if message.kind.is_some_and(|kind| kind != "message") {
        return None;
    }
    let parts = message.content.into_iter().filter_map(part).collect();
    let sequence = message.stop_sequence;
    let stop = message.stop_reason.map(|reason| stop::parse(&reason, sequence));
    Some(Reply {
        id: message.id,
        model: message.model,
        choices: vec![Choice { parts, stop, logprobs: None }],
        usage: message.usage.and_then(|counts| counts.usage()),
    })
}

/// A block of an answer.
fn part(block: Json<'_>) -> Option<Part> {
    let Json::Object(mut members) = block else { return None };
    let mut take = |key: &str| {
        let (_, value) = members.iter_mut().rfind(|(name, _)| name == key)?;
        Some(std::mem::replace(value, Json::Null))
    };
    let mut text = |key: &str| match take(key) {
        Some(Json::Text(text)) => Some(text.into_owned()),
        _ => None,
    };
    match text("type")?.as_str() {
        "text" => Some(Part::text(text("text")?)),
        "thinking" => {
            let signature = text("signature").filter(|signature| !signature.is_empty());
            Some(Part::Thinking { text: text("thinking").unwrap_or_default(), signature })
        }
        "redacted_thinking" => Some(Part::RedactedThinking { data: text("data")? }),
        "tool_use" => {
            let (id, name, signature) = (text("id")?, text("name")?, text("signature"));
            let input = take("input").filter(|input| matches!(input, Json::Object(_)));
            let arguments = input.map_or_else(|| "{}".to_owned(), |input| input.to_string());
            Some(Part::ToolCall { id, name, arguments, signature })
        }
        _ => None,
    }
}

/// The whole answer for a client of this dialect.
pub(crate) fn write(reply: &Reply, shown: &Shown) -> Vec<u8> {
    let choice = reply.choices.first().cloned().unwrap_or_default();
    let (reason, sequence) = stop::write(choice.stop.as_ref(), Calls::of(&choice.parts));
    let content: Vec<Value> = choice.parts.iter().filter_map(block).collect();
    let mut message = message(shown, &reply.usage.unwrap_or_default());
    message.insert("content".to_owned(), content.into());
    message.insert("stop_reason".to_owned(), reason.into());
    message.insert("stop_sequence".to_owned(), sequence);
    json::to_bytes(&Value::Object(message))
}

/// A message that says nothing yet: how a stream begins.
pub(super) fn message(shown: &Shown, usage: &Usage) -> Map<String, Value> {
    let mut message = Map::new();
    message.insert("id".to_owned(), format!("msg_{}", shown.id).into());
    message.insert("type".to_owned(), "message".into());
    message.insert("role".to_owned(), "assistant".into());
    message.insert("model".to_owned(), shown.model.as_str().into());
    message.insert("content".to_owned(), Value::Array(Vec::new()));
    message.insert("stop_reason".to_owned(), Value::Null);
    message.insert("stop_sequence".to_owned(), Value::Null);
    message.insert("usage".to_owned(), usage::write(usage));
    message
}

/// A part as a block; a refusal is text here, and its stop reason says the rest.
fn block(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text { text, .. } | Part::Refusal { text } => json!({"type": "text", "text": text}),
        Part::Thinking { text, signature } => {
            json!({"type": "thinking", "thinking": text, "signature": signature.as_deref().unwrap_or_default()})
        }
        Part::RedactedThinking { data } => json!({"type": "redacted_thinking", "data": data}),
        Part::ToolCall { id, name, arguments, signature } => {
            let mut block = json!({"type": "tool_use", "id": id, "name": name, "input": input(arguments)});
            // Not of the dialect: the official SDKs keep it, and what comes back with it can be proved to its provider.
            if let (Some(signature), Some(block)) = (signature, block.as_object_mut()) {
                block.insert("signature".to_owned(), signature.as_str().into());
            }
            block
        }
        Part::Image { .. } | Part::Document { .. } | Part::Audio { .. } | Part::ToolResult { .. } => return None,
    })
}

/// Arguments as the object that this dialect wants; what is none, such as arguments that were cut off, is wrapped.
fn input(arguments: &str) -> Value {
    if arguments.trim().is_empty() {
        return Value::Object(Map::new());
    }
    match serde_json::from_str(arguments) {
        Ok(Value::Object(object)) => Value::Object(object),
        _ => json!({INVALID_JSON: arguments}),
    }
}

/// The answer to `count_tokens`.
pub(crate) fn count(input_tokens: u64) -> Vec<u8> {
    json::to_bytes(&json!({"input_tokens": input_tokens}))
}

/// What the provider answers to `count_tokens`.
#[cfg(test)]
pub(crate) fn parse_count(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Count {
        input_tokens: u64,
    }
    serde_json::from_slice::<Count>(body).ok().map(|count| count.input_tokens)
}
