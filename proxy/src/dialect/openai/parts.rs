//! What a prompt holds besides text, since its bytes say nothing of what that costs.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::dialect::scan::Nested;

/// Parts of a prompt that are not text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Images, by address or in place.
    pub(crate) images: u32,
    /// Files and whatever else has no known size: only the context window bounds them.
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
    Parts(Vec<Part>),
    #[default]
    Missing,
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type", default)]
    kind: String,
}

/// Counts the parts of a raw `messages` array; `nested` is what its body's members were seen to hold.
///
/// # Errors
/// The parser's words when it is not an array of messages.
pub(crate) fn count(messages: &str, nested: Nested) -> Result<Parts, String> {
    // Every part that is not text names its type; a prompt of strings alone has no such key.
    if !nested.may_have_types {
        return Ok(Parts::default());
    }
    let messages: Vec<Message> = serde_json::from_str(messages).map_err(|err| err.to_string())?;
    let mut parts = Parts::default();
    for message in messages {
        let Content::Parts(list) = message.content else {
            continue;
        };
        for part in list {
            match part.kind.as_str() {
                "text" | "refusal" | "input_audio" => {} // audio in place is longer than its tokens
                "image_url" => parts.images = parts.images.saturating_add(1),
                _ => parts.unbounded = parts.unbounded.saturating_add(1),
            }
        }
    }
    Ok(parts)
}

/// Counts the parts of a raw `input` of a moderation: a string, or a list of strings or of parts.
///
/// # Errors
/// The parser's words when it is neither.
pub(crate) fn of_input(input: &str) -> Result<Parts, String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Item {
        Text(#[expect(dead_code, reason = "its bytes bound it")] String),
        Part(Part),
    }
    if !input.starts_with('[') {
        return Ok(Parts::default());
    }
    let items: Vec<Item> = serde_json::from_str(input).map_err(|err| err.to_string())?;
    let mut parts = Parts::default();
    for item in items {
        match item {
            Item::Part(part) if part.kind == "image_url" => parts.images = parts.images.saturating_add(1),
            Item::Part(part) if part.kind != "text" => parts.unbounded = parts.unbounded.saturating_add(1),
            Item::Part(_) | Item::Text(_) => {}
        }
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
    fn images_and_files_are_counted_however_they_are_spelled() {
        let text =
            r#"[{"role":"user","content":"a type of image_url"},{"role":"assistant","content":null},{"role":"user"}]"#;
        assert_eq!(count(text), Ok(Parts::default()));
        let mixed = r#"[{"role":"user","content":[{"type":"text","text":"x"},{"\u0074ype":"image\u005furl","image_url":{"url":"http://x"}},
            {"type":"file","file":{"file_id":"f"}},{"type":"input_audio","input_audio":{}},{"x":1}]}]"#;
        assert_eq!(count(mixed), Ok(Parts { images: 1, unbounded: 2 }));
        assert!(count(r#"{"type":1}"#).is_err());
    }
}
