//! A whole answer, to form and back.

use openclawmu_store::Usage;
#[cfg(test)]
use serde::Deserialize;
use serde_json::json;

use super::stop::{self, Calls};
use super::usage::{self, Counts};
use crate::dialect::Shown;
use crate::dialect::form::{Choice, Part, Reply};
use crate::dialect::json::{self, Json, Members, member, object};

/// The key under which Anthropic's guide tells to hand on the text of arguments that are no JSON object.
const INVALID_JSON: &str = "INVALID_JSON";

/// Reads a whole answer; `None` when it is none. Blocks that the form has no place for were never asked for and are left out.
pub(crate) fn parse(body: &[u8]) -> Option<Reply> {
    let Json::Object(mut members) = Json::parse(simdutf8::basic::from_utf8(body).ok()?).ok()? else { return None };
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
pub(super) struct Block<'m, 'a>(pub(super) &'m mut Members<'a>);

impl<'a> Block<'_, 'a> {
    /// A member; the last one of its name counts.
    pub(super) fn take(&mut self, key: &str) -> Option<Json<'a>> {
        let (_, value) = self.0.iter_mut().rfind(|(name, _)| name == key)?;
        Some(std::mem::replace(value, Json::Null))
    }

    /// A member that is a text.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
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
    let nothing = Choice::default();
    let choice = reply.choices.first().unwrap_or(&nothing);
    let (reason, sequence) = stop::write(choice.stop.as_ref(), Calls::of(&choice.parts));
    let content = choice.parts.iter().filter_map(block).collect();
    message(shown, &reply.usage.unwrap_or_default(), content, reason.into(), sequence.into()).to_bytes()
}

/// A message that says nothing yet: how a stream begins.
pub(super) fn silent<'a>(shown: &'a Shown, usage: &Usage) -> Json<'a> {
    message(shown, usage, Vec::new(), Json::Null, Json::Null)
}

fn message<'a>(
    shown: &'a Shown,
    usage: &Usage,
    content: Vec<Json<'a>>,
    reason: Json<'a>,
    sequence: Json<'a>,
) -> Json<'a> {
    object! {
        "id": format!("msg_{}", shown.id),
        "type": "message",
        "role": "assistant",
        "model": &shown.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage::write(usage),
    }
}

/// A part as a block; a refusal is text here, and its stop reason says the rest.
fn block(part: &Part) -> Option<Json<'_>> {
    Some(match part {
        Part::Text { text, .. } | Part::Refusal { text } => object! {"type": "text", "text": text},
        Part::Thinking { text, signature } => {
            object! {"type": "thinking", "thinking": text, "signature": signature.as_deref().unwrap_or_default()}
        }
        Part::RedactedThinking { data } => object! {"type": "redacted_thinking", "data": data},
        Part::ToolCall { id, name, arguments, signature } => {
            let mut members = vec![
                member("type", "tool_use"),
                member("id", id),
                member("name", name),
                member("input", input(arguments)),
            ];
            // Not of the dialect: the official SDKs keep it, and what comes back with it can be proved to its provider.
            members.extend(signature.as_ref().map(|signature| member("signature", signature)));
            Json::Object(members)
        }
        Part::Image { .. } | Part::Document { .. } | Part::Audio { .. } | Part::ToolResult { .. } => return None,
    })
}

/// Arguments as the object that this dialect wants; what is none, such as arguments that were cut off, is wrapped.
fn input(arguments: &str) -> Json<'_> {
    if arguments.trim().is_empty() {
        return Json::Object(Vec::new());
    }
    match Json::parse(arguments) {
        Ok(input @ Json::Object(_)) => input,
        _ => Json::Object(vec![member(INVALID_JSON, arguments)]),
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
