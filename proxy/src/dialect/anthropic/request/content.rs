//! Parts to the provider's content blocks.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::dialect::form::{Cache, Part, Role, Source, Turn};
use crate::refusal::Refusal;

/// The system prompt; `None` when it says nothing.
pub(super) fn system(parts: &[Part]) -> Result<Option<Value>, Refusal> {
    let blocks = blocks(parts, "system")?;
    Ok((!blocks.is_empty()).then(|| compact(blocks)))
}

/// The conversation. Neighbours of the same role are joined, and what functions returned stands first, as the provider
/// demands; an instruction in its midst is said by the user, since not every model takes one from elsewhere.
pub(super) fn messages(turns: &[Turn]) -> Result<Vec<Value>, Refusal> {
    let mut joined: Vec<(&'static str, Vec<Value>)> = Vec::new();
    for (at, turn) in turns.iter().enumerate() {
        let role = match turn.role {
            Role::User | Role::System => "user",
            Role::Assistant => "assistant",
        };
        let blocks = blocks(&turn.parts, &format!("messages[{at}]"))?;
        if blocks.is_empty() {
            continue;
        }
        match joined.last_mut() {
            Some((last, all)) if *last == role => all.extend(blocks),
            _ => joined.push((role, blocks)),
        }
    }
    let message = |(role, mut blocks): (&str, Vec<Value>)| {
        blocks.sort_by_key(|block| block.get("type").and_then(Value::as_str) != Some("tool_result"));
        json!({"role": role, "content": compact(blocks)})
    };
    Ok(joined.into_iter().map(message).collect())
}

/// One plain text is a string.
fn compact(mut blocks: Vec<Value>) -> Value {
    if let [Value::Object(only)] = blocks.as_mut_slice()
        && only.len() == 2
        && let Some(text @ Value::String(_)) = only.get_mut("text")
    {
        return text.take();
    }
    blocks.into()
}

/// Sets where the cache may end.
pub(super) fn mark(object: &mut Map<String, Value>, cache: Option<Cache>) {
    let control = match cache {
        None => return,
        Some(Cache::Short) => json!({"type": "ephemeral"}),
        Some(Cache::Long) => json!({"type": "ephemeral", "ttl": "1h"}),
    };
    object.insert("cache_control".to_owned(), control);
}

fn blocks(parts: &[Part], path: &str) -> Result<Vec<Value>, Refusal> {
    let mut blocks = Vec::with_capacity(parts.len());
    for (at, part) in parts.iter().enumerate() {
        let path = format!("{path}.content[{at}]");
        let cache = match part {
            Part::Text { cache, .. }
            | Part::Image { cache, .. }
            | Part::Document { cache, .. }
            | Part::ToolResult { cache, .. } => *cache,
            Part::Audio { .. }
            | Part::Thinking { .. }
            | Part::RedactedThinking { .. }
            | Part::ToolCall { .. }
            | Part::Refusal { .. } => None,
        };
        let Some(mut block) = block(part, &path)? else { continue };
        if let Some(block) = block.as_object_mut() {
            mark(block, cache);
        }
        blocks.push(block);
    }
    Ok(blocks)
}

/// A part as a block. `None` for what the provider would not take and has no use for: empty texts, and thoughts that it
/// did not sign itself. How closely to look at an image is no question here: always as closely as the model can.
fn block(part: &Part, path: &str) -> Result<Option<Value>, Refusal> {
    Ok(Some(match part {
        Part::Text { text, .. } | Part::Refusal { text } if text.is_empty() => return Ok(None),
        Part::Text { text, .. } | Part::Refusal { text } => json!({"type": "text", "text": text}),
        Part::Image { source, .. } => json!({"type": "image", "source": image(source, path)?}),
        Part::Document { source, name, .. } => {
            let mut block = json!({"type": "document", "source": document(source, path)?});
            if let (Some(name), Some(block)) = (name, block.as_object_mut()) {
                block.insert("title".to_owned(), name.as_str().into());
            }
            block
        }
        Part::Audio { .. } => {
            return Err(Refusal::bad(path.to_owned(), "The provider of this model takes no audio."));
        }
        Part::Thinking { signature: None, .. } => return Ok(None),
        Part::Thinking { text, signature } => json!({"type": "thinking", "thinking": text, "signature": signature}),
        Part::RedactedThinking { data } => json!({"type": "redacted_thinking", "data": data}),
        Part::ToolCall { id, name, arguments, .. } => {
            json!({"type": "tool_use", "id": call_id(id), "name": name, "input": input(arguments, path)?})
        }
        Part::ToolResult { id, content, is_error, .. } => {
            let mut block = json!({"type": "tool_result", "tool_use_id": call_id(id)});
            if let Some(block) = block.as_object_mut() {
                let content = blocks(content, path)?;
                if !content.is_empty() {
                    block.insert("content".to_owned(), compact(content));
                }
                if *is_error {
                    block.insert("is_error".to_owned(), true.into());
                }
            }
            block
        }
    }))
}

/// The object of a call's arguments; a call without arguments may have been said without any text.
fn input(arguments: &str, path: &str) -> Result<Value, Refusal> {
    if arguments.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    match serde_json::from_str(arguments) {
        Ok(Value::Object(input)) => Ok(Value::Object(input)),
        _ => Err(Refusal::bad(path.to_owned(), "The arguments of a call must be the text of a JSON object.")),
    }
}

/// An id with the letters that the provider takes, the same for a call and its result.
fn call_id(id: &str) -> Cow<'_, str> {
    let fine = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    if !id.is_empty() && id.chars().all(fine) {
        return Cow::Borrowed(id);
    }
    let letters = id.chars().map(|letter| if fine(letter) { letter } else { '_' });
    Cow::Owned(std::iter::once('_').filter(|_| id.is_empty()).chain(letters).collect())
}

fn image(source: &Source, path: &str) -> Result<Value, Refusal> {
    Ok(match source {
        Source::Data { media_type, data } => json!({"type": "base64", "media_type": media_type, "data": data}),
        Source::Url(url) => json!({"type": "url", "url": url}),
        Source::File(id) => json!({"type": "file", "file_id": id}),
        Source::Text(_) => return Err(Refusal::bad(path.to_owned(), "An image can't be text.")),
    })
}

fn document(source: &Source, path: &str) -> Result<Value, Refusal> {
    Ok(match source {
        Source::Data { media_type, data } if media_type == "application/pdf" => {
            json!({"type": "base64", "media_type": media_type, "data": data})
        }
        Source::Data { media_type, data } if media_type.starts_with("text/") => {
            let text = STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or_else(|| Refusal::bad(path.to_owned(), "The document is not text in base64."))?;
            json!({"type": "text", "media_type": "text/plain", "data": text})
        }
        Source::Data { media_type, .. } => {
            let message = format!("The provider of this model takes PDF and text, not `{media_type}`.");
            return Err(Refusal::bad(path.to_owned(), message));
        }
        Source::Url(url) => json!({"type": "url", "url": url}),
        Source::File(id) => json!({"type": "file", "file_id": id}),
        Source::Text(text) => json!({"type": "text", "media_type": "text/plain", "data": text}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined_and_results_stand_first() {
        let result = |id: &str| Part::ToolResult {
            id: id.into(),
            content: vec![Part::text("ok")],
            is_error: false,
            cache: None,
        };
        let turns = [
            Turn { role: Role::User, parts: vec![Part::text("a")] },
            Turn { role: Role::System, parts: vec![Part::text("b")] },
            Turn { role: Role::User, parts: vec![result("call.1")] },
            Turn { role: Role::Assistant, parts: vec![Part::text("")] },
        ];
        let written = Value::from(messages(&turns).unwrap()).to_string();
        assert_eq!(
            written,
            r#"[{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_1","content":"ok"},{"type":"text","text":"a"},{"type":"text","text":"b"}]}]"#
        );
    }

    #[test]
    fn what_another_provider_thought_is_left_out_and_sound_is_refused() {
        let thought = Part::Thinking { text: "hm".into(), signature: None };
        assert_eq!(block(&thought, "x").unwrap(), None);
        let sound = Part::Audio { media_type: "audio/wav".into(), data: String::new() };
        assert_eq!(block(&sound, "x").unwrap_err().told().param.as_deref(), Some("x"));
        let call = Part::ToolCall { id: "a".into(), name: "f".into(), arguments: "[1]".into(), signature: None };
        assert!(block(&call, "x").is_err());
    }

    #[test]
    fn a_text_file_is_told_as_text() {
        let source = Source::Data { media_type: "text/csv".into(), data: "YSxi".into() };
        assert_eq!(document(&source, "x").unwrap()["data"], "a,b");
        let broken = Source::Data { media_type: "text/csv".into(), data: "/w==".into() };
        assert!(document(&broken, "x").is_err());
        let other = Source::Data { media_type: "application/zip".into(), data: String::new() };
        assert!(document(&other, "x").is_err());
    }
}
