//! A client's content blocks to parts.

use std::fmt::Write as _;

use super::parse::cache;
use crate::dialect::form::{Part, Source};
use crate::dialect::json::Json;
use crate::dialect::object::{self, Object};
use crate::refusal::Refusal;

/// Content: a string, or blocks.
pub(super) fn parts(content: Json<'_>, path: &str) -> Result<Vec<Part>, Refusal> {
    match content {
        Json::Text(text) => Ok(vec![Part::text(text.into_owned())]),
        Json::List(_) => {
            object::list(content, path)?.into_iter().map(|(path, value)| part(Object::of(value, path)?)).collect()
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) | Json::Known(_) => {
            Err(object::must_be(path.to_owned(), "a string or a list of content blocks"))
        }
    }
}

/// Content that is text alone.
pub(super) fn texts(content: Json<'_>, path: &str) -> Result<Vec<Part>, Refusal> {
    let parts = parts(content, path)?;
    match parts.iter().position(|part| !matches!(part, Part::Text { .. })) {
        None => Ok(parts),
        Some(at) => Err(Refusal::bad(format!("{path}[{at}].type"), "Only text may stand here.")),
    }
}

fn part(mut block: Object<'_>) -> Result<Part, Refusal> {
    let kind = block.need_string("type")?;
    let part = match kind.as_str() {
        "text" => {
            // What an earlier answer quoted; the next one does not depend on it.
            block.ignore(&["citations"]);
            Part::Text { text: block.need_string("text")?, cache: cache(&mut block)? }
        }
        "image" => image(&mut block)?,
        "document" => document(&mut block)?,
        "thinking" => {
            let signature = block.string("signature")?.filter(|signature| !signature.is_empty());
            Part::Thinking { text: block.need_string("thinking")?, signature }
        }
        "redacted_thinking" => Part::RedactedThinking { data: block.need_string("data")? },
        "tool_use" => tool_use(&mut block)?,
        "tool_result" => tool_result(&mut block)?,
        _ => {
            let message = format!("A block of the type `{kind}` can't be told to the provider of this model.");
            return Err(block.refuse("type", message));
        }
    };
    block.finish()?;
    Ok(part)
}

fn image(block: &mut Object<'_>) -> Result<Part, Refusal> {
    if let Some(mut transformations) = block.object("transformations")? {
        // `downsize` is the default, and what other providers do.
        transformations.word("oversized_image", &["downsize"])?;
        transformations.finish()?;
    }
    let mut source = block.need_object("source")?;
    let kind = source.need_string("type")?;
    let parsed = match kind.as_str() {
        "base64" => data(&mut source)?,
        "url" => Source::Url(source.need_string("url")?),
        "file" => Source::File(source.need_string("file_id")?),
        _ => return Err(source.refuse("type", "An image's source must be `base64`, `url` or `file`.")),
    };
    source.finish()?;
    Ok(Part::Image { source: parsed, detail: None, cache: cache(block)? })
}

fn document(block: &mut Object<'_>) -> Result<Part, Refusal> {
    if let Some(mut citations) = block.object("citations")? {
        if citations.boolean("enabled")? == Some(true) {
            return Err(citations.refuse("enabled", "The provider of this model can't cite documents; leave it out."));
        }
        citations.finish()?;
    }
    let mut source = block.need_object("source")?;
    let kind = source.need_string("type")?;
    let parsed = match kind.as_str() {
        "base64" => data(&mut source)?,
        "url" => Source::Url(source.need_string("url")?),
        "file" => Source::File(source.need_string("file_id")?),
        "text" => {
            source.word("media_type", &["text/plain"])?;
            Source::Text(source.need_string("data")?)
        }
        "content" => {
            let content = source.value("content").ok_or_else(|| source.missing("content"))?;
            joined(&texts(content, &source.name("content"))?)
        }
        _ => {
            let message = "A document's source must be `base64`, `url`, `file`, `text` or `content`.";
            return Err(source.refuse("type", message));
        }
    };
    source.finish()?;
    Ok(Part::Document { source: parsed, name: block.string("title")?, cache: cache(block)? })
}

/// The blocks of a document, which only citations tell apart.
fn joined(blocks: &[Part]) -> Source {
    let mut all = String::new();
    for part in blocks {
        if let Part::Text { text, .. } = part {
            let gap = if all.is_empty() { "" } else { "\n" };
            // Writing to a string can't fail.
            let _ = write!(all, "{gap}{text}");
        }
    }
    Source::Text(all)
}

fn data(source: &mut Object<'_>) -> Result<Source, Refusal> {
    Ok(Source::Data { media_type: source.need_string("media_type")?, data: source.need_string("data")? })
}

fn tool_use(block: &mut Object<'_>) -> Result<Part, Refusal> {
    // A mark on a call only says where a cache may end.
    block.ignore(&["cache_control"]);
    if let Some(mut caller) = block.object("caller")? {
        caller.word("type", &["direct"])?;
        caller.finish()?;
    }
    let input = block.object_text("input")?.ok_or_else(|| block.missing("input"))?;
    Ok(Part::ToolCall {
        id: block.need_string("id")?,
        name: block.need_string("name")?,
        arguments: input,
        // Not of the dialect: how the gateway hands on what another provider signed.
        signature: block.string("signature")?,
    })
}

fn tool_result(block: &mut Object<'_>) -> Result<Part, Refusal> {
    let path = block.name("content");
    let content = match block.value("content") {
        Some(content) => parts(content, &path)?,
        None => Vec::new(),
    };
    let fits = |part: &Part| matches!(part, Part::Text { .. } | Part::Image { .. } | Part::Document { .. });
    if let Some(at) = content.iter().position(|part| !fits(part)) {
        let message = "A tool's result holds text, images and documents.";
        return Err(Refusal::bad(format!("{path}[{at}].type"), message));
    }
    Ok(Part::ToolResult {
        id: block.need_string("tool_use_id")?,
        content,
        is_error: block.boolean("is_error")?.unwrap_or(false),
        cache: cache(block)?,
    })
}
