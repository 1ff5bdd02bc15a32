//! An answer that passes as it is, watched for what it costs.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use openclawmu_store::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::reply;
use super::stream::raw::{Raw, RawDelta, Words};
use super::usage::Counts;
use crate::dialect::json::Json;
use crate::dialect::scan;

static TOOL_USE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"tool_use\""));

/// What a whole answer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whole {
    /// The provider's usage, with the calls that the model made.
    pub(crate) usage: Option<Usage>,
    /// Bytes of what the model produced, when the usage is missing.
    pub(crate) text_bytes: usize,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Words<'a>>,
    #[serde(borrow, default)]
    text: Option<Words<'a>>,
    #[serde(borrow, default)]
    thinking: Option<Words<'a>>,
    #[serde(borrow, default)]
    name: Option<Words<'a>>,
    #[serde(default)]
    input: Option<Length>,
}

/// The length of a value in JSON.
struct Length(usize);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_json::Value::deserialize(deserializer).map(|value| Self(value.to_string().len()))
    }
}

/// Reads a whole answer; `None` when it is not a JSON object.
pub(crate) fn whole(body: &[u8]) -> Option<Whole> {
    let body = simdutf8::basic::from_utf8(body).ok()?;
    let (mut found, mut content) = (Whole::default(), None);
    scan::members(body, |key, range| match key.as_ref() {
        "usage" => {
            let counts: Option<Counts> = body.get(range).and_then(|raw| serde_json::from_str(raw).ok());
            found.usage = counts.and_then(|counts| counts.usage());
        }
        "content" => content = body.get(range),
        _ => {}
    })
    .ok()?;
    let content = content.unwrap_or_default();
    match &mut found.usage {
        Some(usage) if TOOL_USE.find(content.as_bytes()).is_some() => usage.tool_calls = delivered(content).1,
        Some(_) => {}
        None => found.text_bytes = delivered(content).0,
    }
    Some(found)
}

/// Bytes of model text, and tool calls; content of a shape that we don't know is bounded by its size.
fn delivered(content: &str) -> (usize, u32) {
    let Ok(blocks) = serde_json::from_str::<Vec<Block<'_>>>(content) else { return (content.len(), 0) };
    let len = |words: &Option<Words<'_>>| words.as_ref().map_or(0, |Words(words)| words.len());
    blocks.iter().fold((0, 0), |(bytes, calls), block| {
        let input = block.input.as_ref().map_or(0, |Length(length)| *length);
        let call = block.kind.as_ref().is_some_and(|Words(kind)| kind == "tool_use");
        (bytes + len(&block.text) + len(&block.thinking) + len(&block.name) + input, calls + u32::from(call))
    })
}

/// What one event of a stream says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Everything known of the usage so far, where this event adds to it.
    pub(crate) usage: Option<Usage>,
    /// Bytes of model text in it; never of an error.
    pub(crate) text_bytes: usize,
    /// Tool calls that begin in it.
    pub(crate) tool_calls: u32,
    /// The answer has its stop reason.
    pub(crate) finished: bool,
    /// It is an error.
    pub(crate) error: bool,
    /// It is the last event.
    pub(crate) done: bool,
}

/// Watches a stream.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    counts: Counts,
}

impl Watch {
    /// Takes one event: its `event:` name and its data. What can't be read says nothing, but that its size bounds the text in it.
    pub(crate) fn event(&mut self, event: Option<&str>, data: &[u8]) -> Said {
        if let Some(text_bytes) = plain_text(data) {
            return Said { text_bytes, ..Said::default() };
        }
        let Some(raw) = Raw::parse(data) else {
            return Said { text_bytes: data.len(), error: event == Some("error"), ..Said::default() };
        };
        match raw.name(event) {
            "content_block_delta" => Said { text_bytes: raw.delta.as_ref().map_or(0, text_bytes), ..Said::default() },
            "content_block_start" => raw.content_block.map_or_else(Said::default, opened),
            "message_start" => {
                Said { usage: raw.message.and_then(|message| self.count(message.usage)), ..Said::default() }
            }
            "message_delta" => {
                let finished = raw.delta.is_some_and(|delta| delta.stop_reason.is_some());
                Said { usage: self.count(raw.usage), finished, ..Said::default() }
            }
            "message_stop" => Said { done: true, ..Said::default() },
            "error" => Said { error: true, ..Said::default() },
            _ => Said::default(),
        }
    }

    fn count(&mut self, later: Option<Counts>) -> Option<Usage> {
        self.counts.absorb(later?);
        self.counts.usage()
    }
}

fn text_bytes(delta: &RawDelta<'_>) -> usize {
    let len = |words: &Option<Words<'_>>| words.as_ref().map_or(0, |Words(words)| words.len());
    len(&delta.text) + len(&delta.thinking) + len(&delta.partial_json)
}

/// What a block says when it begins; one that can't be read is bounded by its size.
fn opened(block: &RawValue) -> Said {
    let mut members = match Json::parse(block.get()) {
        Ok(Json::Object(members)) => members,
        _ => return Said { text_bytes: block.get().len(), ..Said::default() },
    };
    let mut block = reply::Block(&mut members);
    let mut length = |key: &str| block.text(key).map_or(0, |text| text.len());
    let (text, name) = (length("text") + length("thinking"), length("name"));
    let call = block.text("type").is_some_and(|kind| kind == "tool_use");
    Said { text_bytes: text + if call { name } else { 0 }, tool_calls: u32::from(call), ..Said::default() }
}

/// The bytes of text of an event that is one `text_delta` just as the provider writes it. `None` for every other event, and
/// for one whose text needs unescaping. Nearly every event of a stream is such a one, and a parser takes several times as
/// long to find that out.
fn plain_text(data: &[u8]) -> Option<usize> {
    let rest = data.strip_prefix(b"{\"type\":\"content_block_delta\",\"index\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = rest.get(digits..).filter(|_| (1..=9).contains(&digits))?;
    let rest = rest.strip_prefix(b",\"delta\":{\"type\":\"text_delta\",\"text\":\"")?;
    let end = memchr::memchr2(b'"', b'\\', rest)?;
    let after = rest.get(end..)?.strip_prefix(b"\"}")?;
    // The provider pads its events with spaces, so that their size tells less.
    (after.trim_ascii() == b"}").then_some(end)
}
