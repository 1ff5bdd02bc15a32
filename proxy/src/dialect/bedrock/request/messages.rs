//! The messages of a body. Roles must take turns, so neighbours of the same role become one message. Bytes go in place: this
//! provider fetches nothing but from its own S3.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::model::Maker;
use crate::dialect::arguments::object;
use crate::dialect::form::{Cache, Part, Request, Role, Source};
use crate::refusal::Refusal;

/// One message.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

/// One block of content.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Block<'a> {
    Text(&'a str),
    Image(Media<'a>),
    Document(Named<'a>),
    Audio(Media<'a>),
    #[serde(rename_all = "camelCase")]
    ToolUse {
        tool_use_id: &'a str,
        name: &'a str,
        input: &'a RawValue,
    },
    #[serde(rename_all = "camelCase")]
    ToolResult {
        tool_use_id: &'a str,
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'static str>,
    },
    ReasoningContent(Value),
    CachePoint(Value),
}

/// An image or sound.
#[derive(Debug, Serialize)]
pub(super) struct Media<'a> {
    format: &'static str,
    source: Bytes<'a>,
}

/// A document.
#[derive(Debug, Serialize)]
pub(super) struct Named<'a> {
    format: &'static str,
    name: String,
    source: Bytes<'a>,
}

/// Where bytes are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Bytes<'a> {
    /// Base64.
    Bytes(Cow<'a, str>),
    S3Location {
        uri: &'a str,
    },
}

/// The mark that everything before it is to be cached.
pub(super) fn cache_point(cache: Cache) -> Value {
    match cache {
        Cache::Short => json!({"type": "default"}),
        Cache::Long => json!({"type": "default", "ttl": "1h"}),
    }
}

/// The system prompt.
pub(super) fn system(request: &Request) -> Result<Vec<Block<'_>>, Refusal> {
    let mut blocks = Vec::new();
    for part in &request.system {
        let Part::Text { text, cache } = part else {
            return Err(Refusal::bad("system", "The system prompt must be text."));
        };
        if !text.is_empty() {
            blocks.push(Block::Text(text));
            blocks.extend(cache.map(|cache| Block::CachePoint(cache_point(cache))));
        }
    }
    Ok(blocks)
}

/// The conversation.
pub(super) fn messages(request: &Request, maker: Maker) -> Result<Vec<Message<'_>>, Refusal> {
    let mut messages: Vec<Message<'_>> = Vec::new();
    let mut writer = Writer { maker, at: 0, names: Vec::new() };
    for (at, turn) in request.turns.iter().enumerate() {
        let role = match turn.role {
            Role::Assistant => "assistant",
            Role::User | Role::System => "user",
        };
        writer.at = at;
        let mut content = Vec::new();
        for part in &turn.parts {
            writer.part(part, &mut content)?;
        }
        match messages.last_mut() {
            Some(last) if last.role == role => last.content.append(&mut content),
            _ if content.is_empty() => {}
            _ => messages.push(Message { role, content }),
        }
    }
    Ok(messages)
}

struct Writer {
    maker: Maker,
    /// The turn's place.
    at: usize,
    /// The names of documents: no two may be the same.
    names: Vec<String>,
}

impl Writer {
    fn refuse(&self, why: impl Into<String>) -> Refusal {
        Refusal::bad(format!("messages[{}].content", self.at), why)
    }

    fn part<'a>(&mut self, part: &'a Part, out: &mut Vec<Block<'a>>) -> Result<(), Refusal> {
        let (block, cache) = match part {
            // The provider refuses a text without letters.
            Part::Text { text, .. } | Part::Refusal { text } if text.trim().is_empty() => return Ok(()),
            Part::Text { text, cache } => (Block::Text(text), *cache),
            Part::Refusal { text } => (Block::Text(text), None),
            Part::Image { source, cache, .. } => (self.image(source)?, *cache),
            Part::Document { source, name, cache } => (self.document(source, name.as_deref())?, *cache),
            Part::Audio { media_type, data } => {
                let format = sound(media_type).ok_or_else(|| {
                    self.refuse(format!("{media_type:?} is no sound that this model's provider takes."))
                })?;
                (Block::Audio(Media { format, source: Bytes::Bytes(data.into()) }), None)
            }
            // Claude refuses a thought that is not signed.
            Part::Thinking { signature: None, .. } if matches!(self.maker, Maker::Anthropic(..)) => return Ok(()),
            Part::Thinking { text, signature } => {
                let thought = match signature {
                    Some(signature) => json!({"text": text, "signature": signature}),
                    None => json!({ "text": text }),
                };
                (Block::ReasoningContent(json!({ "reasoningText": thought })), None)
            }
            Part::RedactedThinking { data } => (Block::ReasoningContent(json!({ "redactedContent": data })), None),
            Part::ToolCall { id, name, arguments, .. } => {
                let input = object(arguments)
                    .ok_or_else(|| self.refuse(format!("The arguments of the call {id:?} are not a JSON object.")))?;
                (Block::ToolUse { tool_use_id: self.id(id)?, name, input }, None)
            }
            Part::ToolResult { id, content, is_error, cache } => {
                let mut blocks = Vec::new();
                for part in content {
                    match part {
                        Part::Text { .. } | Part::Image { .. } | Part::Document { .. } => {
                            self.part(part, &mut blocks)?
                        }
                        Part::Audio { .. }
                        | Part::Thinking { .. }
                        | Part::RedactedThinking { .. }
                        | Part::ToolCall { .. }
                        | Part::ToolResult { .. }
                        | Part::Refusal { .. } => {
                            return Err(self.refuse("A tool's result must hold text, images or documents."));
                        }
                    }
                }
                let status = is_error.then_some("error");
                (Block::ToolResult { tool_use_id: self.id(id)?, content: blocks, status }, *cache)
            }
        };
        out.push(block);
        out.extend(cache.map(|cache| Block::CachePoint(cache_point(cache))));
        Ok(())
    }

    fn id<'a>(&self, id: &'a str) -> Result<&'a str, Refusal> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-');
        if (1..=64).contains(&id.len()) && id.bytes().all(fine) {
            return Ok(id);
        }
        Err(self.refuse(format!("{id:?} is no id of a call that this model's provider takes.")))
    }

    fn elsewhere<'a>(&self, source: &'a Source) -> Result<Bytes<'a>, Refusal> {
        match source {
            Source::Url(uri) if uri.starts_with("s3://") => Ok(Bytes::S3Location { uri }),
            Source::Url(_) => Err(self.refuse("The provider of this model fetches nothing; send the data in place.")),
            Source::File(_) => Err(self.refuse("The provider of this model keeps no files; send the data in place.")),
            Source::Data { data, .. } => Ok(Bytes::Bytes(data.into())),
            Source::Text(text) => Ok(Bytes::Bytes(STANDARD.encode(text).into())),
        }
    }

    fn image<'a>(&self, source: &'a Source) -> Result<Block<'a>, Refusal> {
        let format = match source {
            Source::Data { media_type, .. } => picture(media_type),
            Source::Url(uri) | Source::File(uri) => extension(uri).and_then(|name| picture(&format!("image/{name}"))),
            Source::Text(_) => None,
        };
        let placed = self.elsewhere(source)?;
        let format = format.ok_or_else(|| self.refuse("An image must be a PNG, JPEG, GIF or WebP."))?;
        Ok(Block::Image(Media { format, source: placed }))
    }

    fn document<'a>(&mut self, source: &'a Source, name: Option<&str>) -> Result<Block<'a>, Refusal> {
        let format = match source {
            Source::Data { media_type, .. } => {
                text_format(media_type).or_else(|| name.and_then(extension).and_then(named_format))
            }
            Source::Url(uri) | Source::File(uri) => extension(uri).and_then(named_format),
            Source::Text(_) => Some("txt"),
        };
        let placed = self.elsewhere(source)?;
        let format = format
            .ok_or_else(|| self.refuse("This kind of document is none that the provider of this model reads."))?;
        Ok(Block::Document(Named { format, name: self.name(name), source: placed }))
    }

    /// A name of the letters that are allowed, and of no other document here.
    fn name(&mut self, name: Option<&str>) -> String {
        let fine = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '(' | ')' | '[' | ']');
        let cleaned: String =
            name.unwrap_or_default().chars().map(|letter| if fine(letter) { letter } else { ' ' }).collect();
        let mut words = cleaned.split_whitespace().collect::<Vec<_>>().join(" ");
        words.truncate(150);
        if words.is_empty() {
            words.push_str("document");
        }
        let mut unique = words.clone();
        let mut count = 2;
        while self.names.contains(&unique) {
            unique = format!("{words} ({count})");
            count += 1;
        }
        self.names.push(unique.clone());
        unique
    }
}

fn extension(name: &str) -> Option<&str> {
    let name = name.rsplit('/').next()?;
    name.rsplit_once('.').map(|(_, extension)| extension)
}

fn picture(media_type: &str) -> Option<&'static str> {
    Some(match media_type {
        "image/png" => "png",
        "image/jpeg" | "image/jpg" => "jpeg",
        "image/gif" => "gif",
        "image/webp" => "webp",
        _ => return None,
    })
}

fn sound(media_type: &str) -> Option<&'static str> {
    Some(match media_type {
        "audio/mp3" | "audio/mpeg" => "mp3",
        "audio/wav" | "audio/x-wav" => "wav",
        "audio/flac" => "flac",
        "audio/aac" => "aac",
        "audio/ogg" => "ogg",
        "audio/opus" => "opus",
        "audio/webm" => "webm",
        "audio/mp4" => "mp4",
        _ => return None,
    })
}

fn text_format(media_type: &str) -> Option<&'static str> {
    Some(match media_type {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "text/html" => "html",
        "text/plain" => "txt",
        "text/markdown" => "md",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        _ => return None,
    })
}

fn named_format(extension: &str) -> Option<&'static str> {
    ["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"]
        .into_iter()
        .find(|format| extension.eq_ignore_ascii_case(format))
}
