//! The input of a request as the form's turns.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::REDACTED;
use crate::dialect::form::{Part, Role, Source, Turn};
use crate::dialect::json::Json;
use crate::dialect::object::{self, Object, must_be};
use crate::dialect::openai::chat;
use crate::refusal::Refusal;

/// What stored responses hold that a request continues or refers to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Earlier {
    /// Input and output of the responses that are continued, oldest first.
    pub(crate) items: Vec<Value>,
    /// Items that are referred to, by their ids.
    pub(crate) named: HashMap<String, Value>,
    /// What compactions say, by what they were sealed as.
    pub(crate) opened: HashMap<String, String>,
}

impl Earlier {
    /// An item as it is read: a compaction that can be opened is what it says.
    pub(crate) fn opened(&self, item: &Value) -> Value {
        match sealed(item).and_then(|sealed| self.opened.get(sealed)) {
            Some(text) => {
                let text = format!("Summary of the conversation so far:\n{text}");
                json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
            }
            None => item.clone(),
        }
    }

    /// What a compaction leaves as it is, of what came earlier and of this input: what the user and the developer said.
    pub(super) fn retained(&self, input: &[(String, Value)]) -> Vec<Value> {
        let every = self.items.iter().chain(input.iter().map(|(_, item)| item));
        let meant = every.map(|item| reference(item).and_then(|id| self.named.get(id)).unwrap_or(item));
        let is_said = |item: &&Value| {
            let role = item.get("role").and_then(Value::as_str);
            matches!(role, Some("user" | "developer" | "system"))
        };
        meant.filter(is_said).cloned().collect()
    }
}

/// What answers carry for their reader alone, and clients send back.
const HINTS: [&str; 8] = ["id", "status", "annotations", "logprobs", "phase", "caller", "parsed", "parsed_arguments"];

/// The input as items with their names; a string is the user's message.
pub(super) fn list(raw: &mut Object<'_>) -> Result<Vec<(String, Value)>, Refusal> {
    match raw.value("input") {
        None => Err(raw.missing("input")),
        Some(Json::Text(text)) => {
            let content = json!([{"type": "input_text", "text": text}]);
            Ok(vec![("input".to_owned(), json!({"type": "message", "role": "user", "content": content}))])
        }
        Some(value) => Ok(object::list(value, "input")?.into_iter().map(|(path, item)| (path, item.into())).collect()),
    }
}

/// The system prompt and the turns, of what came earlier and of this input. What the model said in a row is one turn.
pub(super) fn parse(input: &[(String, Value)], earlier: &Earlier) -> Result<(Vec<Part>, Vec<Turn>), Refusal> {
    let (mut system, mut turns) = (Vec::new(), Vec::<Turn>::new());
    let known = earlier.items.iter().map(|item| ("previous_response_id".to_owned(), item));
    for (path, item) in known.chain(input.iter().map(|(path, item)| (path.clone(), item))) {
        let item = match reference(item) {
            None => item,
            Some(id) => earlier.named.get(id).ok_or_else(|| {
                Refusal::bad(path.clone(), format!("There is no stored item `{id}`; send the item itself."))
            })?,
        };
        let mut raw = Object::of(earlier.opened(item).into(), path)?;
        let turn = turn(&mut raw)?;
        raw.ignore(&HINTS);
        raw.finish()?;
        match turns.last_mut() {
            _ if turn.parts.is_empty() => {}
            None if turn.role == Role::System => system.extend(turn.parts),
            Some(last) if last.role == Role::Assistant && turn.role == Role::Assistant => last.parts.extend(turn.parts),
            _ => turns.push(turn),
        }
    }
    if turns.is_empty() && system.is_empty() {
        return Err(Refusal::bad("input", "`input` must hold at least one item."));
    }
    Ok((system, turns))
}

/// The id of an item that stands for another; the type may be left out.
pub(super) fn reference(item: &Value) -> Option<&str> {
    let item = item.as_object()?;
    match item.get("type").and_then(Value::as_str) {
        Some("item_reference") => {}
        None if !item.contains_key("role") => {}
        _ => return None,
    }
    item.get("id").and_then(Value::as_str)
}

/// What a compaction holds for its reader; `None` for any other item.
pub(super) fn sealed(item: &Value) -> Option<&str> {
    let kind = item.get("type").and_then(Value::as_str);
    if matches!(kind, Some("compaction" | "compaction_summary")) {
        item.get("encrypted_content")?.as_str()
    } else {
        None
    }
}

fn turn(raw: &mut Object<'_>) -> Result<Turn, Refusal> {
    let kind = raw.string("type")?.unwrap_or_else(|| "message".to_owned());
    match kind.as_str() {
        "message" => message(raw),
        "function_call" => {
            let arguments = raw.string("arguments")?.unwrap_or_default();
            let (id, name) = (raw.need_string("call_id")?, raw.need_string("name")?);
            let signature = match raw.object("extra_content")? {
                Some(mut extra) => {
                    extra.object("google")?.and_then(|mut google| google.string("thought_signature").ok()?)
                }
                None => None,
            };
            raw.ignore(&["namespace"]);
            Ok(Turn { role: Role::Assistant, parts: vec![Part::ToolCall { id, name, arguments, signature }] })
        }
        "function_call_output" => {
            let id = raw.need_string("call_id")?;
            let name = raw.name("output");
            let value = raw.value("output").ok_or_else(|| raw.missing("output"))?;
            let content = content(value, &name, "user")?;
            raw.ignore(&["namespace", "name"]);
            let result = Part::ToolResult { id, content, is_error: false, cache: None };
            Ok(Turn { role: Role::User, parts: vec![result] })
        }
        "reasoning" => Ok(Turn { role: Role::Assistant, parts: reasoning(raw)?.into_iter().collect() }),
        "compaction" | "compaction_summary" => {
            let message =
                "This compaction was not made here for this account, or was altered; send the conversation itself.";
            Err(raw.refuse("encrypted_content", message))
        }
        _ => {
            let message = format!("Items of type `{kind}` can't be told this model's provider.");
            Err(raw.refuse("type", message))
        }
    }
}

fn message(raw: &mut Object<'_>) -> Result<Turn, Refusal> {
    let role = raw.need_string("role")?;
    let turn_role = match role.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        _ => return Err(must_be(raw.name("role"), "one of user, assistant, system, developer")),
    };
    let name = raw.name("content");
    let value = raw.value("content").ok_or_else(|| raw.missing("content"))?;
    Ok(Turn { role: turn_role, parts: content(value, &name, &role)? })
}

fn content(value: Json<'_>, name: &str, role: &str) -> Result<Vec<Part>, Refusal> {
    match value {
        Json::Text(text) => Ok(vec![Part::text(text.into_owned())]),
        Json::List(_) => {
            object::list(value, name)?.into_iter().map(|(path, value)| part(Object::of(value, path)?, role)).collect()
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) | Json::Known(_) => {
            Err(must_be(name.to_owned(), "a string or a list of parts"))
        }
    }
}

fn part(mut raw: Object<'_>, role: &str) -> Result<Part, Refusal> {
    let kind = raw.need_string("type")?;
    let allowed = match kind.as_str() {
        "input_text" | "text" | "output_text" => true,
        "refusal" => role == "assistant",
        _ => role == "user",
    };
    if !allowed {
        let message = format!("A message of the role `{role}` can't hold a part of type `{kind}`.");
        return Err(raw.refuse("type", message));
    }
    let cache = chat::cache(&mut raw)?;
    let found = match kind.as_str() {
        "input_text" | "text" | "output_text" => Part::Text { text: raw.need_string("text")?, cache },
        "refusal" => Part::Refusal { text: raw.need_string("refusal")? },
        "input_image" => {
            let detail = raw.word("detail", &["auto", "low", "high", "original"])?.filter(|detail| detail != "auto");
            let source = match (raw.string("image_url")?, raw.string("file_id")?) {
                (Some(url), None) => chat::source(url),
                (None, Some(id)) => Source::File(id),
                _ => return Err(raw.refuse("image_url", "Give either `image_url` or `file_id`.")),
            };
            Part::Image { source, detail, cache }
        }
        "input_file" => {
            let source = file(&mut raw)?;
            raw.ignore(&["detail"]);
            Part::Document { source, name: raw.string("filename")?, cache }
        }
        "input_audio" => {
            let mut audio = raw.need_object("input_audio")?;
            let format = audio.need_string("format")?;
            let media_type = if format == "mp3" { "audio/mpeg".to_owned() } else { format!("audio/{format}") };
            Part::Audio { media_type, data: audio.need_string("data")? }
        }
        _ => return Err(raw.refuse("type", format!("A message's part can't be of type `{kind}`."))),
    };
    raw.ignore(&HINTS);
    raw.finish()?;
    Ok(found)
}

fn file(raw: &mut Object<'_>) -> Result<Source, Refusal> {
    match (raw.string("file_data")?, raw.string("file_id")?, raw.string("file_url")?) {
        (Some(data), None, None) => Ok(match chat::source(data) {
            Source::Url(data) => Source::Data { media_type: "application/pdf".to_owned(), data },
            source @ (Source::Data { .. } | Source::File(_) | Source::Text(_)) => source,
        }),
        (None, Some(id), None) => Ok(Source::File(id)),
        (None, None, Some(url)) => Ok(Source::Url(url)),
        _ => Err(raw.refuse("file_data", "Give one of `file_data`, `file_id` and `file_url`.")),
    }
}

/// What a reasoning item holds; nothing where it is only a provider's bookmark.
fn reasoning(raw: &mut Object<'_>) -> Result<Option<Part>, Refusal> {
    let mut texts = Vec::new();
    for list in ["content", "summary"] {
        for mut part in raw.objects(list)?.unwrap_or_default() {
            texts.push(part.need_string("text")?);
        }
    }
    let encrypted = raw.string("encrypted_content")?.filter(|data| !data.is_empty());
    Ok(thinking(&texts.join("\n\n"), encrypted))
}

/// A thought from its text and from what must come back unchanged.
pub(super) fn thinking(text: &str, encrypted: Option<String>) -> Option<Part> {
    match encrypted.as_deref().and_then(|data| data.strip_prefix(REDACTED)) {
        Some(data) => Some(Part::RedactedThinking { data: data.to_owned() }),
        None if text.is_empty() && encrypted.is_none() => None,
        None => Some(Part::Thinking { text: text.to_owned(), signature: encrypted }),
    }
}
