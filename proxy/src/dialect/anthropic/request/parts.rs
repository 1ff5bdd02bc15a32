//! What a prompt holds besides text, since its bytes say nothing of what that costs.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::dialect::scan::Nested;

/// Parts of a prompt that are not text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Images, by address, by id or in place.
    pub(crate) images: u32,
    /// Documents whose pages are not counted here, and whatever else has no known size: only the context window bounds them.
    pub(crate) unbounded: u32,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Content,
}

#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Content {
    Blocks(Vec<Block>),
    #[default]
    Missing,
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    source: Option<Source>,
    #[serde(default)]
    content: Content,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Source {
    Known {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        content: Content,
    },
    Other(IgnoredAny),
}

impl Parts {
    fn image(&mut self) {
        self.images = self.images.saturating_add(1);
    }

    fn unbounded(&mut self) {
        self.unbounded = self.unbounded.saturating_add(1);
    }

    /// Nesting is bounded by the parser.
    fn add(&mut self, content: &Content) {
        let Content::Blocks(blocks) = content else { return };
        for block in blocks {
            match block.kind.as_str() {
                "text" | "thinking" | "redacted_thinking" | "tool_use" | "server_tool_use" => {}
                "tool_result" | "search_result" => self.add(&block.content),
                "image" => self.image(),
                "document" => match &block.source {
                    Some(Source::Known { kind, .. }) if kind == "text" => {}
                    Some(Source::Known { kind, content }) if kind == "content" => self.add(content),
                    Some(Source::Known { .. } | Source::Other(_)) | None => self.unbounded(),
                },
                _ => self.unbounded(),
            }
        }
    }
}

/// Counts the parts of a raw `messages` array; `nested` is what its body's members were seen to hold.
///
/// # Errors
/// The parser's words when it is not an array of messages.
pub(crate) fn count(messages: &str, nested: Nested) -> Result<Parts, String> {
    // Every block that is not text names its type; a prompt of strings alone has no such key.
    if !nested.may_have_types {
        return Ok(Parts::default());
    }
    let messages: Vec<Message> = serde_json::from_str(messages).map_err(|err| err.to_string())?;
    let mut parts = Parts::default();
    for message in &messages {
        parts.add(&message.content);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::scan;

    fn count(messages: &str) -> Result<Parts, String> {
        let body = format!("{{\"messages\":{messages}}}");
        super::count(messages, scan::members(&body, |_, _| ()).unwrap())
    }

    #[test]
    fn images_and_documents_are_counted_wherever_they_stand() {
        assert_eq!(count(r#"[{"role":"user","content":"a type of image"}]"#), Ok(Parts::default()));
        let mixed = r#"[{"role":"user","content":[{"type":"text","text":"x"},{"\u0074ype":"im\u0061ge","source":{"type":"url","url":"u"}},
            {"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JV"}},
            {"type":"document","source":{"type":"text","media_type":"text/plain","data":"t"}},
            {"type":"document","source":{"type":"content","content":[{"type":"image"},{"type":"text","text":"x"}]}},
            {"type":"document"},{"type":"container_upload","file_id":"f"}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"image"},{"type":"text","text":"x"}]},
            {"type":"tool_result","tool_use_id":"t","content":"plain"},{"type":"tool_result","tool_use_id":"t"}]}]"#;
        assert_eq!(count(mixed), Ok(Parts { images: 3, unbounded: 3 }));
        assert!(count(r#"{"type":1}"#).is_err());
    }
}
