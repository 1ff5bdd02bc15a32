//! Parts to the provider's content blocks.

use std::borrow::Cow;

use crate::dialect::form::{Cache, Part, Role, Source, Turn};
use crate::dialect::json::{Json, Members, member, object};
use crate::refusal::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The system prompt; `None` when it says nothing.
pub(super) fn system(parts: &[Part]) -> Result<Option<Json<'_>>, Refusal> {
    let blocks = blocks(parts, "system")?;
    Ok((!blocks.is_empty()).then(|| compact(blocks)))
}

/// The conversation. Neighbours of the same role are joined, and what functions returned stands first, as the provider
/// demands; an instruction in its midst is said by the user, since not every model takes one from elsewhere.
pub(super) fn messages<'a>(turns: &'a [Turn]) -> Result<Vec<Json<'a>>, Refusal> {
    let mut joined: Vec<(&'static str, Vec<Members<'a>>)> = Vec::new();
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
    let message = |(role, mut blocks): (&'static str, Vec<Members<'a>>)| {
        blocks.sort_by_key(|block| block.first() != Some(&member("type", "tool_result")));
        object! {"role": role, "content": compact(blocks)}
    };
    Ok(joined.into_iter().map(message).collect())
}

/// One plain text is a string.
fn compact(mut blocks: Vec<Members<'_>>) -> Json<'_> {
    if let [only] = blocks.as_mut_slice()
        && let [_, (key, text)] = only.as_mut_slice()
        && key == "text"
    {
        return std::mem::replace(text, Json::Null);
    }
    blocks.into_iter().map(Json::Object).collect::<Vec<_>>().into()
}

/// Sets where the cache may end.
pub(super) fn mark(object: &mut Members<'_>, cache: Option<Cache>) {
    let control = match cache {
        None => return,
        Some(Cache::Short) => object! {"type": "ephemeral"},
        Some(Cache::Long) => object! {"type": "ephemeral", "ttl": "1h"},
    };
    object.push(member("cache_control", control));
}

fn blocks<'a>(parts: &'a [Part], path: &str) -> Result<Vec<Members<'a>>, Refusal> {
    let mut blocks = Vec::with_capacity(parts.len());
    for (at, part) in parts.iter().enumerate() {
        let path = || format!("{path}.content[{at}]");
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
        mark(&mut block, cache);
        blocks.push(block);
    }
    Ok(blocks)
}

/// A part as a block. `None` for what the provider would not take and has no use for: empty texts, and thoughts that it
/// did not sign itself. How closely to look at an image is no question here: always as closely as the model can.
fn block<'a>(part: &'a Part, path: &dyn Fn() -> String) -> Result<Option<Members<'a>>, Refusal> {
    let of = |kind: &'static str, members: Members<'a>| {
        let mut block = Vec::with_capacity(members.len() + 2);
        block.push(member("type", kind));
        block.extend(members);
        Ok(Some(block))
    };
    match part {
        Part::Text { text, .. } | Part::Refusal { text } if text.is_empty() => Ok(None),
        Part::Text { text, .. } | Part::Refusal { text } => of("text", vec![member("text", text)]),
        Part::Image { source, .. } => of("image", vec![member("source", image(source, path)?)]),
        Part::Document { source, name, .. } => {
            let mut members = vec![member("source", document(source, path)?)];
            members.extend(name.as_ref().map(|name| member("title", name)));
            of("document", members)
        }
        Part::Audio { .. } => Err(Refusal::bad(path(), "The provider of this model takes no audio.")),
        Part::Thinking { signature: None, .. } => Ok(None),
        Part::Thinking { text, signature } => {
            of("thinking", vec![member("thinking", text), member("signature", signature.as_ref())])
        }
        Part::RedactedThinking { data } => of("redacted_thinking", vec![member("data", data)]),
        Part::ToolCall { id, name, arguments, .. } => {
            let input = input(arguments, path)?;
            of("tool_use", vec![member("id", call_id(id)), member("name", name), member("input", input)])
        }
        Part::ToolResult { id, content, is_error, .. } => {
            let mut members = vec![member("tool_use_id", call_id(id))];
            let content = blocks(content, &path())?;
            if !content.is_empty() {
                members.push(member("content", compact(content)));
            }
            members.extend(is_error.then(|| member("is_error", true)));
            of("tool_result", members)
        }
    }
}

/// The object of a call's arguments; a call without arguments may have been said without any text.
fn input<'a>(arguments: &'a str, path: &dyn Fn() -> String) -> Result<Json<'a>, Refusal> {
    if arguments.trim().is_empty() {
        return Ok(Json::Object(Vec::new()));
    }
    match Json::parse(arguments) {
        Ok(Json::Object(input)) => Ok(Json::Object(input)),
        _ => Err(Refusal::bad(path(), "The arguments of a call must be the text of a JSON object.")),
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

fn image<'a>(source: &'a Source, path: &dyn Fn() -> String) -> Result<Json<'a>, Refusal> {
    Ok(match source {
        Source::Data { media_type, data } => object! {"type": "base64", "media_type": media_type, "data": data},
        Source::Url(url) => object! {"type": "url", "url": url},
        Source::File(id) => object! {"type": "file", "file_id": id},
        Source::Text(_) => return Err(Refusal::bad(path(), "An image can't be text.")),
    })
}

fn document<'a>(source: &'a Source, path: &dyn Fn() -> String) -> Result<Json<'a>, Refusal> {
    Ok(match source {
        Source::Data { media_type, data } if media_type == "application/pdf" => {
            object! {"type": "base64", "media_type": media_type, "data": data}
        }
        Source::Data { media_type, data } if media_type.starts_with("text/") => {
            let text = STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or_else(|| Refusal::bad(path(), "The document is not text in base64."))?;
            object! {"type": "text", "media_type": "text/plain", "data": text}
        }
        Source::Data { media_type, .. } => {
            let message = format!("The provider of this model takes PDF and text, not `{media_type}`.");
            return Err(Refusal::bad(path(), message));
        }
        Source::Url(url) => object! {"type": "url", "url": url},
        Source::File(id) => object! {"type": "file", "file_id": id},
        Source::Text(text) => object! {"type": "text", "media_type": "text/plain", "data": text},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> String {
        "x".to_owned()
    }

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
        let written = Json::from(messages(&turns).unwrap()).to_string();
        assert_eq!(
            written,
            r#"[{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_1","content":"ok"},{"type":"text","text":"a"},{"type":"text","text":"b"}]}]"#
        );
    }

    #[test]
    fn what_another_provider_thought_is_left_out_and_sound_is_refused() {
        let thought = Part::Thinking { text: "hm".into(), signature: None };
        assert_eq!(block(&thought, &path).unwrap(), None);
        let sound = Part::Audio { media_type: "audio/wav".into(), data: String::new() };
        assert_eq!(block(&sound, &path).unwrap_err().told().param.as_deref(), Some("x"));
        let call = Part::ToolCall { id: "a".into(), name: "f".into(), arguments: "[1]".into(), signature: None };
        assert!(block(&call, &path).is_err());
    }

    #[test]
    fn a_text_file_is_told_as_text() {
        let source = Source::Data { media_type: "text/csv".into(), data: "YSxi".into() };
        let text = r#"{"type":"text","media_type":"text/plain","data":"a,b"}"#;
        assert_eq!(document(&source, &path).unwrap().to_string(), text);
        let broken = Source::Data { media_type: "text/csv".into(), data: "/w==".into() };
        assert!(document(&broken, &path).is_err());
        let other = Source::Data { media_type: "application/zip".into(), data: String::new() };
        assert!(document(&other, &path).is_err());
    }
}
