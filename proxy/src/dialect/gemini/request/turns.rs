//! The turns of a provider's body. Neighbours of the same role become one turn: the results of calls that were made together
//! must stand together.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use serde_json::value::RawValue;

use super::super::parts::{Blob, Call, Content, File, Outgoing, Response, media_type};
use super::super::signature;
use super::conversation::is_file;
use super::write::generation;
use crate::dialect::arguments::object;
use crate::dialect::form::{Part, Request, Role, Source};
use crate::refusal::Refusal;

/// Stands for the signature of a call that this provider did not make, as its documentation has it; without one, models since
/// the third generation refuse the whole conversation.
const NOT_SIGNED: &str = "skip_thought_signature_validator";

/// The system prompt.
pub(super) fn system(request: &Request) -> Result<Option<Content<'_>>, Refusal> {
    let mut parts = Vec::new();
    for part in &request.system {
        let Part::Text { text, .. } = part else {
            return Err(Refusal::bad("system", "The system prompt must be text."));
        };
        if !text.is_empty() {
            parts.push(Outgoing::text(text));
        }
    }
    Ok((!parts.is_empty()).then_some(Content { role: None, parts }))
}

/// The conversation.
pub(super) fn contents(request: &Request) -> Result<Vec<Content<'_>>, Refusal> {
    let mut contents: Vec<Content<'_>> = Vec::new();
    let mut names: Vec<(&str, &str)> = Vec::new();
    for (at, turn) in request.turns.iter().enumerate() {
        let role = match turn.role {
            Role::Assistant => "model",
            Role::User | Role::System => "user",
        };
        let mut parts = Vec::new();
        for part in &turn.parts {
            if let Part::ToolCall { id, name, .. } = part {
                names.push((id, name));
            }
            parts.extend(write_part(part, &names, at)?);
        }
        match contents.last_mut() {
            Some(last) if last.role == Some(role) => last.parts.append(&mut parts),
            _ if parts.is_empty() => {}
            _ => contents.push(Content { role: Some(role), parts }),
        }
    }
    if generation(&request.model) >= 3 {
        contents.iter_mut().for_each(sign_first_call);
    }
    Ok(contents)
}

/// Of calls that were made together only the first is signed.
fn sign_first_call(content: &mut Content<'_>) {
    let mut calls = content.parts.iter_mut().filter(|part| part.function_call.is_some());
    if let Some(first) = calls.next()
        && first.thought_signature.is_none()
        && calls.all(|call| call.thought_signature.is_none())
    {
        first.thought_signature = Some(NOT_SIGNED.to_owned());
    }
}

/// One part; `None` for what is left out. `at` is its turn's place.
fn write_part<'a>(part: &'a Part, names: &[(&'a str, &'a str)], at: usize) -> Result<Option<Outgoing<'a>>, Refusal> {
    let refuse = |why: String| Refusal::bad(format!("messages[{at}].content"), why);
    Ok(Some(match part {
        // Nothing is said, and the provider refuses a text without letters.
        Part::Text { text, .. } if text.is_empty() => return Ok(None),
        Part::Text { text, .. } | Part::Refusal { text } => Outgoing::text(text),
        Part::Image { source, .. } | Part::Document { source, .. } => placed(source, at)?,
        Part::Audio { media_type, data } => blob(media_type, data),
        // A signature that Google can't have written would be refused.
        Part::Thinking { text, signature } => {
            let own = signature.as_deref().filter(|signature| signature::is_googles(signature));
            if text.is_empty() && own.is_none() {
                return Ok(None);
            }
            Outgoing::thought(text, own)
        }
        Part::RedactedThinking { .. } => return Ok(None),
        Part::ToolCall { id, name, arguments, signature } => {
            let args = object(arguments)
                .ok_or_else(|| refuse(format!("The arguments of the call {id:?} are not a JSON object.")))?;
            let own = signature.clone().filter(|signature| signature::is_googles(signature));
            Outgoing { function_call: Some(Call { id, name, args }), thought_signature: own, ..Outgoing::default() }
        }
        Part::ToolResult { id, content, is_error, .. } => {
            let name = names.iter().rev().find(|(call, _)| call == id);
            let (_, name) = name.ok_or_else(|| refuse(format!("{id:?} is the id of no call of this conversation.")))?;
            let (response, parts) = result(content, *is_error, at)?;
            Outgoing { function_response: Some(Response { id, name, response, parts }), ..Outgoing::default() }
        }
    }))
}

fn blob<'a>(media_type: &'a str, data: impl Into<Cow<'a, str>>) -> Outgoing<'a> {
    Outgoing { inline_data: Some(Blob { mime_type: media_type.into(), data: data.into() }), ..Outgoing::default() }
}

/// An image or a document.
fn placed(source: &Source, at: usize) -> Result<Outgoing<'_>, Refusal> {
    let elsewhere = |file_uri| Outgoing {
        file_data: Some(File { mime_type: media_type(file_uri), file_uri }),
        ..Outgoing::default()
    };
    match source {
        Source::Data { media_type, data } => Ok(blob(media_type, data)),
        Source::Text(text) => Ok(blob("text/plain", STANDARD.encode(text))),
        Source::Url(url) => Ok(elsewhere(url)),
        Source::File(id) if is_file(id) => Ok(elsewhere(id)),
        Source::File(id) => {
            let field = format!("messages[{at}].content");
            Err(Refusal::bad(
                field,
                format!("{id:?} is no file that this model's provider keeps; send its data instead."),
            ))
        }
    }
}

/// What a function returned: an object as it is, any other text as `output` or `error`; media beside it.
fn result(content: &[Part], is_error: bool, at: usize) -> Result<(Box<RawValue>, Vec<Outgoing<'_>>), Refusal> {
    let (mut texts, mut media) = (Vec::new(), Vec::new());
    for part in content {
        match part {
            Part::Text { text, .. } | Part::Refusal { text } => texts.push(text.as_str()),
            Part::Image { source, .. } | Part::Document { source, .. } => media.push(placed(source, at)?),
            Part::Audio { .. }
            | Part::Thinking { .. }
            | Part::RedactedThinking { .. }
            | Part::ToolCall { .. }
            | Part::ToolResult { .. } => {
                let field = format!("messages[{at}].content");
                return Err(Refusal::bad(field, "A tool's result must hold text, images or documents."));
            }
        }
    }
    let text = texts.join("\n");
    let whole = object(&text).filter(|_| !is_error && !text.trim().is_empty() && !is_taken(&text));
    let response = match whole {
        Some(whole) => whole.to_owned(),
        None => {
            let wrapped = if is_error { json!({"error": text}) } else { json!({"output": text}) };
            serde_json::value::to_raw_value(&wrapped).map_err(|err| Refusal::bad("messages", err.to_string()))?
        }
    };
    Ok((response, media))
}

/// Whether the object's only member would be taken for the wrapping.
fn is_taken(text: &str) -> bool {
    let mut keys = Vec::new();
    let read = crate::dialect::scan::members(text, |key, _| keys.push(key));
    read.is_err() || matches!(keys.as_slice(), [only] if only == "output" || only == "error")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::form::Turn;
    use crate::dialect::gemini::request::write;
    use serde_json::Value;

    fn body(model: &str, turns: Vec<(Role, Vec<Part>)>) -> Result<Value, Refusal> {
        let turns = turns.into_iter().map(|(role, parts)| Turn { role, parts }).collect();
        let request = Request { model: model.to_owned(), turns, ..Request::default() };
        write(&request).map(|body| serde_json::from_slice(&body).unwrap())
    }

    fn call(id: &str, arguments: &str) -> Part {
        Part::ToolCall { id: id.to_owned(), name: "f".to_owned(), arguments: arguments.to_owned(), signature: None }
    }

    fn result(id: &str, text: &str) -> Part {
        Part::ToolResult { id: id.to_owned(), content: vec![Part::text(text)], is_error: false, cache: None }
    }

    #[test]
    fn a_result_gets_the_name_of_its_call_or_is_refused() {
        let turns = vec![
            (Role::User, vec![Part::text("go")]),
            (Role::Assistant, vec![call("a", ""), call("b", "{}")]),
            (Role::User, vec![result("a", "1")]),
            (Role::User, vec![result("b", "{\"output\":1}")]),
        ];
        let written = body("gemini-2.5-pro", turns).unwrap();
        let parts = &written["contents"][2]["parts"];
        assert_eq!(written["contents"].as_array().unwrap().len(), 3, "results of calls made together stand together");
        assert_eq!(parts[0]["functionResponse"], json!({"id": "a", "name": "f", "response": {"output": "1"}}));
        assert_eq!(parts[1]["functionResponse"]["response"], json!({"output": "{\"output\":1}"}));
        let unknown = body("gemini-2.5-pro", vec![(Role::User, vec![result("x", "1")])]).unwrap_err().told();
        assert_eq!((unknown.status, unknown.param.as_deref()), (400, Some("messages[0].content")));
        assert!(body("gemini-2.5-pro", vec![(Role::Assistant, vec![call("a", "[1]")])]).is_err());
    }

    #[test]
    fn the_first_call_of_another_provider_is_marked_for_models_that_ask_for_signatures() {
        let turns = || vec![(Role::Assistant, vec![call("a", "{}"), call("b", "{}")])];
        let signatures = |model: &str| {
            let written = body(model, turns()).unwrap();
            let parts = written["contents"][0]["parts"].as_array().unwrap().clone();
            parts.iter().map(|part| part.get("thoughtSignature").is_some()).collect::<Vec<_>>()
        };
        assert_eq!(signatures("gemini-3-pro"), [true, false]);
        assert_eq!(signatures("gemini-2.5-pro"), [false, false]);
    }

    #[test]
    fn thoughts_of_other_providers_lose_what_google_would_refuse() {
        let parts = vec![
            Part::RedactedThinking { data: "x".to_owned() },
            Part::Thinking { text: "hm".to_owned(), signature: Some("not base64!".to_owned()) },
            Part::text("yes"),
        ];
        let written = body("gemini-3-pro", vec![(Role::Assistant, parts)]).unwrap();
        assert_eq!(written["contents"][0]["parts"], json!([{"text": "hm", "thought": true}, {"text": "yes"}]));
    }

    #[test]
    fn a_file_that_google_does_not_keep_is_refused() {
        let file = |id: &str| Part::Document { source: Source::File(id.to_owned()), name: None, cache: None };
        assert!(body("gemini-3-pro", vec![(Role::User, vec![file("file-abc")])]).is_err());
        assert!(body("gemini-3-pro", vec![(Role::User, vec![file("files/abc")])]).is_ok());
    }
}
