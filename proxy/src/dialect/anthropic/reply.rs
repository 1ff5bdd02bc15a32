//! A whole answer, to form and back.

use openclawmu_store::Usage;
#[cfg(test)]
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::stop::{self, Calls};
use super::usage::{self, Counts};
use crate::dialect::Shown;
use crate::dialect::form::{Choice, Part, Reply};
use crate::dialect::json::{self, Json, Members};

/// The key under which Anthropic's guide tells to hand on the text of arguments that are no JSON object.
const INVALID_JSON: &str = "INVALID_JSON";

/// Reads a whole answer; `None` when it is none. Blocks that the form has no place for were never asked for and are left out.
pub(crate) fn parse(body: &[u8]) -> Option<Reply> {
    let Json::Object(mut members) = Json::parse(std::str::from_utf8(body).ok()?).ok()? else { return None };
    let mut message = Block(&mut members);
    if message.text("type").is_some_and(|kind| kind != "message") {
        return None;
    }
    let (Some(Json::List(content)), usage) = (message.take("content"), message.take("usage")) else { return None };
    let parts = content.into_iter().filter_map(part).collect();
    let (reason, sequence) = (message.text("stop_reason"), message.text("stop_sequence"));
    let counts = match usage {
        Some(usage) => Some(Counts::of(&usage)?),
        None => None,
    };
    Some(Reply {
        id: message.text("id").unwrap_or_default(),
        model: message.text("model").unwrap_or_default(),
        choices: vec![Choice { parts, stop: reason.map(|reason| stop::parse(&reason, sequence)), logprobs: None }],
        usage: counts.and_then(|counts| counts.usage()),
    })
}

/// An object of an answer: what it says is taken out, the rest is left.
struct Block<'m, 'a>(&'m mut Members<'a>);

impl<'a> Block<'_, 'a> {
    fn take(&mut self, key: &str) -> Option<Json<'a>> {
        let (_, value) = self.0.iter_mut().rfind(|(name, _)| name == key)?;
        Some(std::mem::replace(value, Json::Null))
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.take(key) {
            Some(Json::Text(text)) => Some(text.into_owned()),
            _ => None,
        }
    }
}

/// A block of an answer.
fn part(block: Json<'_>) -> Option<Part> {
    let Json::Object(mut members) = block else { return None };
    let mut block = Block(&mut members);
    let mut text = |key: &str| block.text(key);
    match text("type")?.as_str() {
        "text" => Some(Part::text(text("text")?)),
        "thinking" => {
            let signature = text("signature").filter(|signature| !signature.is_empty());
            Some(Part::Thinking { text: text("thinking").unwrap_or_default(), signature })
        }
        "redacted_thinking" => Some(Part::RedactedThinking { data: text("data")? }),
        "tool_use" => {
            let (id, name, signature) = (text("id")?, text("name")?, text("signature"));
            let input = block.take("input").filter(|input| matches!(input, Json::Object(_)));
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
