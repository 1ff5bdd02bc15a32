//! A conversation's turns and their parts, as the form.
//!
//! A call need not have an id in this dialect, and then its result has only the function's name: calls and results are linked
//! here, in order, and get ids where they have none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::members::{Field, Members};
use super::super::signature::{self, Signature};
use crate::dialect::arguments::compact;
use crate::dialect::form::{Part, Role, Source, Turn};
use crate::refusal::Refusal;

/// Addresses of files that Google keeps.
const FILES: [&str; 3] = ["files/", "gs://", "https://generativelanguage.googleapis.com/"];

/// Whether an address is that of a file which Google keeps.
pub(super) fn is_file(uri: &str) -> bool {
    FILES.iter().any(|start| uri.starts_with(start))
}

/// A call that was made.
struct Call {
    id: String,
    name: String,
    answered: bool,
}

/// Reads `systemInstruction`: text alone.
pub(super) fn system(field: &Field<'_>) -> Result<Vec<Part>, Refusal> {
    let mut content = field.object()?;
    content.take("role")?;
    let mut parts = Vec::new();
    if let Some(list) = content.take("parts")? {
        for part in list.list()? {
            let mut members = part.object()?;
            let text = members.take("text")?.ok_or_else(|| part.refuse("must be text"))?;
            parts.push(Part::text(text.string()?));
            members.end()?;
        }
    }
    content.end()?;
    Ok(parts)
}

/// Reads `contents`.
pub(super) fn turns(contents: &Field<'_>) -> Result<Vec<Turn>, Refusal> {
    let mut calls = Vec::new();
    let mut turns = Vec::new();
    for content in contents.list()? {
        let mut members = content.object()?;
        let role = match members.take("role")? {
            None => Role::User,
            Some(role) => match role.string()?.as_str() {
                "user" | "function" | "" => Role::User,
                "model" => Role::Assistant,
                _ => return Err(role.refuse("must be `user` or `model`")),
            },
        };
        let mut parts = Vec::new();
        if let Some(list) = members.take("parts")? {
            for part in list.list()? {
                read_part(&part, &mut calls, &mut parts)?;
            }
        }
        members.end()?;
        turns.push(Turn { role, parts });
    }
    if turns.is_empty() {
        return Err(contents.refuse("must hold at least one content"));
    }
    Ok(turns)
}

fn read_part(field: &Field<'_>, calls: &mut Vec<Call>, parts: &mut Vec<Part>) -> Result<(), Refusal> {
    let mut members = field.object()?;
    for (name, why) in [
        ("executableCode", "is not supported: nobody but Google runs it"),
        ("codeExecutionResult", "is not supported: nobody but Google runs code"),
        ("toolCall", "is not supported: such tools run at Google alone"),
        ("toolResponse", "is not supported: such tools run at Google alone"),
        ("videoMetadata", "is not supported for this model"),
    ] {
        members.refuse(name, why)?;
    }
    let thought = members.take("thought")?.map(|thought| thought.boolean()).transpose()?.unwrap_or(false);
    let signature = members.take("thoughtSignature")?.map(|signature| signature.string()).transpose()?;
    let signature = signature.map(|text| signature::read(&text));
    let data = Data::take(&mut members)?;
    members.end()?;
    match data {
        Data::Several => {
            return Err(field.refuse("must hold one of text, inlineData, fileData, functionCall, functionResponse"));
        }
        Data::Nothing if signature.is_none() => return Err(field.refuse("holds nothing")),
        Data::Nothing => said(String::new(), thought, signature, parts),
        Data::Text(text) => said(text.string()?, thought, signature, parts),
        Data::Inline(blob) => parts.push(inline(&blob)?),
        Data::File(file) => parts.push(elsewhere(&file)?),
        Data::Call(call) => parts.push(read_call(&call, signature, calls)?),
        Data::Response(response) => parts.push(read_result(&response, calls)?),
    }
    Ok(())
}

/// What a part holds.
enum Data<'a> {
    Text(Field<'a>),
    Inline(Field<'a>),
    File(Field<'a>),
    Call(Field<'a>),
    Response(Field<'a>),
    Nothing,
    Several,
}

impl<'a> Data<'a> {
    fn take(members: &mut Members<'a>) -> Result<Self, Refusal> {
        let found = [
            members.take("text")?.map(Self::Text),
            members.take("inlineData")?.map(Self::Inline),
            members.take("fileData")?.map(Self::File),
            members.take("functionCall")?.map(Self::Call),
            members.take("functionResponse")?.map(Self::Response),
        ];
        let mut found = found.into_iter().flatten();
        match (found.next(), found.next()) {
            (None, _) => Ok(Self::Nothing),
            (Some(data), None) => Ok(data),
            (Some(_), Some(_)) => Ok(Self::Several),
        }
    }
}

/// Text or a thought. The form has no signature on text: it follows as that of a thought which says nothing.
fn said(text: String, thought: bool, signature: Option<Signature>, parts: &mut Vec<Part>) {
    if !thought && !text.is_empty() {
        parts.push(Part::text(text));
        parts.extend(signature.map(|signature| thinking(String::new(), Some(signature))));
    } else if !thought && signature.is_none() {
        parts.push(Part::text(text));
    } else {
        parts.push(thinking(text, signature));
    }
}

fn thinking(text: String, signature: Option<Signature>) -> Part {
    match signature {
        Some(Signature::Hidden(data)) => Part::RedactedThinking { data },
        Some(Signature::Thought(signature)) => Part::Thinking { text, signature: Some(signature) },
        None => Part::Thinking { text, signature: None },
    }
}

fn inline(field: &Field<'_>) -> Result<Part, Refusal> {
    let mut members = field.object()?;
    let name = members.take("displayName")?.map(|name| name.string()).transpose()?;
    let needed = |name: &str| field.refuse(&format!("must have `{name}`"));
    let media_type = members.take("mimeType")?.ok_or_else(|| needed("mimeType"))?;
    let data = members.take("data")?.ok_or_else(|| needed("data"))?;
    members.end()?;
    let text = signature::standard(&data.string()?).ok_or_else(|| data.refuse("must be base64"))?;
    let kind = media_type.string()?;
    match kind.split('/').next() {
        Some("audio") => Ok(Part::Audio { media_type: kind, data: text }),
        Some("video") => Err(media_type.refuse("is a video, which this model can't be shown")),
        Some("image") => Ok(image(Source::Data { media_type: kind, data: text })),
        _ if kind == "text/plain" => {
            let plain = STANDARD.decode(&text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let source = plain.map_or(Source::Data { media_type: kind, data: text }, Source::Text);
            Ok(Part::Document { source, name, cache: None })
        }
        _ => Ok(Part::Document { source: Source::Data { media_type: kind, data: text }, name, cache: None }),
    }
}

fn image(source: Source) -> Part {
    Part::Image { source, detail: None, cache: None }
}

fn elsewhere(field: &Field<'_>) -> Result<Part, Refusal> {
    let mut members = field.object()?;
    let name = members.take("displayName")?.map(|name| name.string()).transpose()?;
    let media_type = members.take("mimeType")?;
    let uri = members.take("fileUri")?.ok_or_else(|| field.refuse("must have `fileUri`"))?;
    members.end()?;
    let address = uri.string()?;
    let said = media_type.as_ref().map(|kind| kind.string()).transpose()?;
    let kind = said.or_else(|| super::super::parts::media_type(&address).map(str::to_owned)).unwrap_or_default();
    let source = if is_file(&address) { Source::File(address) } else { Source::Url(address) };
    match kind.split('/').next() {
        Some("image") => Ok(image(source)),
        Some("audio" | "video") => Err(uri.refuse("is sound or video elsewhere, which this model can't be shown")),
        _ => Ok(Part::Document { source, name, cache: None }),
    }
}

fn read_call(field: &Field<'_>, signature: Option<Signature>, calls: &mut Vec<Call>) -> Result<Part, Refusal> {
    let mut members = field.object()?;
    let name = members.take("name")?.ok_or_else(|| field.refuse("must have `name`"))?.string()?;
    let id = members.take("id")?.map(|id| id.string()).transpose()?.filter(|id| !id.is_empty());
    let arguments = members.take("args")?.map(|args| args.raw_object()).transpose()?.map_or("{}".to_owned(), compact);
    members.refuse("partialArgs", "is not supported")?;
    members.refuse("willContinue", "is not supported")?;
    members.end()?;
    // The place in the conversation is the same in every later request, so that a provider's cache finds it again.
    let id = id.unwrap_or_else(|| format!("call_{}", calls.len()));
    calls.push(Call { id: id.clone(), name: name.clone(), answered: false });
    let signature = match signature {
        Some(Signature::Thought(signature)) => Some(signature),
        Some(Signature::Hidden(_)) | None => None,
    };
    Ok(Part::ToolCall { id, name, arguments, signature })
}

fn read_result(field: &Field<'_>, calls: &mut [Call]) -> Result<Part, Refusal> {
    let mut members = field.object()?;
    let name = members.take("name")?.map(|name| name.string()).transpose()?;
    let id = members.take("id")?.map(|id| id.string()).transpose()?.filter(|id| !id.is_empty());
    let response = members.take("response")?;
    let media = members.take("parts")?;
    members.refuse("willContinue", "is not supported")?;
    members.refuse("scheduling", "is not supported")?;
    members.end()?;
    let matches = |call: &&mut Call| match &id {
        Some(id) => call.id == *id,
        None => !call.answered && name.as_ref() == Some(&call.name),
    };
    let call = calls.iter_mut().find(matches).ok_or_else(|| field.refuse("answers no call of this conversation"))?;
    call.answered = true;
    let id = call.id.clone();
    let (text, is_error) = response.map(|response| returned(&response)).transpose()?.unwrap_or_default();
    let mut content = vec![Part::text(text)];
    for part in media.map(|media| media.list()).transpose()?.unwrap_or_default() {
        let mut members = part.object()?;
        match Data::take(&mut members)? {
            Data::Inline(blob) => content.push(inline(&blob)?),
            Data::File(file) => content.push(elsewhere(&file)?),
            Data::Text(_) | Data::Call(_) | Data::Response(_) | Data::Nothing | Data::Several => {
                return Err(part.refuse("must hold inlineData or fileData"));
            }
        }
        members.end()?;
    }
    Ok(Part::ToolResult { id, content, is_error, cache: None })
}

/// What a function returned, as text, and whether it failed: `output` or `error` alone, or else the whole object.
fn returned(response: &Field<'_>) -> Result<(String, bool), Refusal> {
    let whole = response.raw_object()?;
    let mut members = response.object()?;
    for (name, is_error) in [("output", false), ("error", true)] {
        if let Some(only) = members.take(name)? {
            if members.end().is_ok() {
                return Ok((only.string().unwrap_or_else(|_| compact(only.raw)), is_error));
            }
            break;
        }
    }
    Ok((compact(whole), false))
}
