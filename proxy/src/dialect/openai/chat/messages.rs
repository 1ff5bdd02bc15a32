//! The messages of a chat request as the form's turns.

use super::parse::cache;
use crate::dialect::form::{Part, Role, Source, Turn};
use crate::dialect::json::Json;
use crate::dialect::object::{Object, list, must_be};
use crate::refusal::Refusal;

/// What answers carry for their reader alone, and clients send back; and a speaker's name, which the form has no place for.
const HINTS: [&str; 8] = [
    "name",
    "annotations",
    "provider_specific_fields",
    "reasoning_details",
    "phase",
    "id",
    "parsed",
    "parsed_arguments",
];

/// The system prompt and the turns.
pub(super) fn parse(messages: Vec<Object<'_>>) -> Result<(Vec<Part>, Vec<Turn>), Refusal> {
    if messages.is_empty() {
        return Err(Refusal::bad("messages", "`messages` must hold at least one message."));
    }
    let (mut system, mut turns) = (Vec::new(), Vec::new());
    for mut message in messages {
        let role = message.need_text("role")?;
        let turn = match role.as_ref() {
            "system" | "developer" => Turn { role: Role::System, parts: content(&mut message, &role)? },
            "user" => Turn { role: Role::User, parts: content(&mut message, &role)? },
            "assistant" => Turn { role: Role::Assistant, parts: assistant(&mut message)? },
            "tool" => Turn { role: Role::User, parts: vec![result(&mut message)?] },
            "function" => {
                let message = message.refuse("role", "The role `function` is the old form of `tool`; use `tools`.");
                return Err(message);
            }
            _ => {
                let words = "one of system, developer, user, assistant, tool";
                return Err(must_be(message.name("role"), words));
            }
        };
        message.ignore(&HINTS);
        message.finish()?;
        if turn.role == Role::System && turns.is_empty() { system.extend(turn.parts) } else { turns.push(turn) }
    }
    Ok((system, turns))
}

/// A message's content; it must be there.
fn content(message: &mut Object<'_>, role: &str) -> Result<Vec<Part>, Refusal> {
    let name = message.name("content");
    let value = message.value("content").ok_or_else(|| message.missing("content"))?;
    parts(value, &name, role)
}

fn parts(value: Json<'_>, name: &str, role: &str) -> Result<Vec<Part>, Refusal> {
    match value {
        Json::Text(text) => Ok(vec![Part::text(text.into_owned())]),
        Json::List(_) => {
            list(value, name)?.into_iter().map(|(path, value)| part(Object::of(value, path)?, role)).collect()
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) | Json::Known(_) => {
            Err(must_be(name.to_owned(), "a string or a list of parts"))
        }
    }
}

fn part(mut raw: Object<'_>, role: &str) -> Result<Part, Refusal> {
    let kind = raw.need_text("type")?;
    let text = kind == "text" || (kind == "refusal" && role == "assistant");
    if !text && !matches!(role, "user" | "tool") {
        let message = format!("A message of the role `{role}` can't hold a part of type `{kind}`.");
        return Err(raw.refuse("type", message));
    }
    let cache = cache(&mut raw)?;
    let found = match kind.as_ref() {
        "text" => Part::Text { text: raw.need_string("text")?, cache },
        "refusal" => Part::Refusal { text: raw.need_string("refusal")? },
        "image_url" => {
            let (url, detail) = image(&mut raw)?;
            Part::Image { source: source(url), detail, cache }
        }
        "input_audio" => {
            let mut audio = raw.need_object("input_audio")?;
            let format = audio.need_string("format")?;
            let media_type = if format == "mp3" { "audio/mpeg".to_owned() } else { format!("audio/{format}") };
            Part::Audio { media_type, data: audio.need_string("data")? }
        }
        "file" => {
            let (source, name) = file(raw.need_object("file")?)?;
            Part::Document { source, name, cache }
        }
        _ => return Err(raw.refuse("type", format!("A message's part can't be of type `{kind}`."))),
    };
    raw.finish()?;
    Ok(found)
}

/// The address and the detail; some clients give the address alone.
fn image(raw: &mut Object<'_>) -> Result<(String, Option<String>), Refusal> {
    let name = raw.name("image_url");
    let value = raw.value("image_url").ok_or_else(|| raw.missing("image_url"))?;
    if let Json::Text(url) = value {
        return Ok((url.into_owned(), None));
    }
    let mut image = Object::of(value, name)?;
    let url = image.need_string("url")?;
    let detail = image.word("detail", &["auto", "low", "high", "original"])?;
    image.finish()?;
    Ok((url, detail))
}

fn file(mut file: Object<'_>) -> Result<(Source, Option<String>), Refusal> {
    let (data, id) = (file.string("file_data")?, file.string("file_id")?);
    let found = match (data, id) {
        (Some(data), None) => match source(data) {
            Source::Url(data) if !data.contains("://") => {
                Source::Data { media_type: "application/pdf".to_owned(), data }
            }
            source @ (Source::Data { .. } | Source::Url(_) | Source::File(_) | Source::Text(_)) => source,
        },
        (None, Some(id)) => Source::File(id),
        _ => return Err(file.refuse("file_data", "Give either `file_data` or `file_id`.")),
    };
    let name = file.string("filename")?;
    file.finish()?;
    Ok((found, name))
}

/// An address, or the data that it holds (RFC 2397, base64).
pub(crate) fn source(url: String) -> Source {
    let held = url.strip_prefix("data:").and_then(|rest| rest.split_once(','));
    match held.and_then(|(head, data)| Some((head.strip_suffix(";base64")?, data))) {
        Some((media_type, data)) => Source::Data { media_type: media_type.to_owned(), data: data.to_owned() },
        None => Source::Url(url),
    }
}

fn result(message: &mut Object<'_>) -> Result<Part, Refusal> {
    let cache = cache(message)?;
    let id = message.need_string("tool_call_id")?;
    Ok(Part::ToolResult { id, content: content(message, "tool")?, is_error: false, cache })
}

fn assistant(message: &mut Object<'_>) -> Result<Vec<Part>, Refusal> {
    message.forbid(&[
        ("function_call", "`function_call` is the old form of `tool_calls`; use `tool_calls`."),
        ("audio", "This model's provider knows no earlier audio answers; give their text."),
    ])?;
    let mut found = thinking(message)?;
    let name = message.name("content");
    if let Some(value) = message.value("content") {
        // Beside calls, some servers send an empty text where others send null.
        let said = parts(value, &name, "assistant")?;
        found.extend(said.into_iter().filter(|part| !matches!(part, Part::Text { text, .. } if text.is_empty())));
    }
    found.extend(message.string("refusal")?.map(|text| Part::Refusal { text }));
    for call in message.objects("tool_calls")?.unwrap_or_default() {
        found.push(tool_call(call)?);
    }
    Ok(found)
}

fn thinking(message: &mut Object<'_>) -> Result<Vec<Part>, Refusal> {
    let (one, other) = (message.string("reasoning_content")?, message.string("reasoning")?);
    let blocks = message.objects("thinking_blocks")?.unwrap_or_default();
    if blocks.is_empty() {
        let text = one.or(other).filter(|text| !text.is_empty());
        return Ok(text.map(|text| Part::Thinking { text, signature: None }).into_iter().collect());
    }
    blocks.into_iter().map(thinking_block).collect()
}

fn thinking_block(mut block: Object<'_>) -> Result<Part, Refusal> {
    let kind = block.need_string("type")?;
    let found = match kind.as_str() {
        "thinking" => Part::Thinking {
            text: block.string("thinking")?.unwrap_or_default(),
            signature: block.string("signature")?.filter(|signature| !signature.is_empty()),
        },
        "redacted_thinking" => Part::RedactedThinking { data: block.need_string("data")? },
        _ => return Err(must_be(block.name("type"), "thinking or redacted_thinking")),
    };
    block.ignore(&["cache_control", "index"]);
    block.finish()?;
    Ok(found)
}

fn tool_call(mut call: Object<'_>) -> Result<Part, Refusal> {
    let kind = call.string("type")?.unwrap_or_else(|| "function".to_owned());
    if kind != "function" {
        return Err(call.refuse("type", format!("Calls of type `{kind}` can't be told this model's provider.")));
    }
    let mut function = call.need_object("function")?;
    let arguments = match function.value("arguments") {
        None => String::new(),
        Some(Json::Text(text)) => text.into_owned(),
        Some(_) => return Err(must_be(function.name("arguments"), "a string of JSON")),
    };
    let found = Part::ToolCall {
        id: call.need_string("id")?,
        name: function.need_string("name")?,
        arguments,
        signature: call_signature(&mut call)?,
    };
    function.ignore(&HINTS);
    function.finish()?;
    call.ignore(&["index"]);
    call.finish()?;
    Ok(found)
}

/// Google's place for a call's signature; and `LiteLLM`'s.
fn call_signature(call: &mut Object<'_>) -> Result<Option<String>, Refusal> {
    let google = match call.object("extra_content")? {
        Some(mut extra) => extra.object("google")?,
        None => None,
    };
    let litellm = call.object("provider_specific_fields")?;
    for place in [google, litellm].into_iter().flatten() {
        let mut place = place;
        if let Some(signature) = place.string("thought_signature")? {
            return Ok(Some(signature));
        }
    }
    Ok(None)
}
