//! What passes between a client and a provider that both speak this dialect: looked at, never changed.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use openclawmu_store::Usage;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::usage::Metadata;

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usageMetadata\""));
static TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"text\""));
static REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finishReason\""));

/// How chunks of nothing but text begin, as Google writes them and as others do.
const OPENINGS: [&[u8]; 2] =
    [br#"{"candidates": [{"content": {"parts": [{"text": ""#, br#"{"candidates":[{"content":{"parts":[{"text":""#];
/// How they go on after the text: nothing else is said in the part, and there is no other part.
const ENDINGS: [&[u8]; 4] = [br#""}],"role": "model"}"#, br#""}],"role":"model"}"#, br#""}]},"#, br#""}]}}"#];

/// What a whole answer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whole {
    /// The provider's usage.
    pub(crate) usage: Option<Usage>,
    /// Bytes of what the model produced.
    pub(crate) text_bytes: usize,
}

/// What one chunk of a stream says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// What the provider has stated so far, everything together.
    pub(crate) usage: Option<Usage>,
    /// Bytes of model text in it; never of an error.
    pub(crate) text_bytes: usize,
    /// Calls in it.
    pub(crate) tool_calls: u32,
    /// A candidate ends in it.
    pub(crate) finished: bool,
    /// It is an error.
    pub(crate) error: bool,
    /// Never: nothing announces the end of a stream in this dialect.
    pub(crate) done: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Chunk<'a> {
    #[serde(borrow)]
    candidates: Option<Vec<Candidate<'a>>>,
    prompt_feedback: Option<Feedback>,
    usage_metadata: Option<Metadata>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Feedback {
    block_reason: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Candidate<'a> {
    #[serde(borrow)]
    content: Option<Content<'a>>,
    finish_reason: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Option<Vec<Part<'a>>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow)]
    executable_code: Option<&'a RawValue>,
    inline_data: Option<Blob>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Blob {
    mime_type: String,
}

/// Reads an object; an array would be read as its members in their order.
fn read(data: &[u8]) -> Option<Chunk<'_>> {
    data.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(data).ok()).flatten()
}

/// Bytes of text, calls and images that were delivered, and whether a candidate ended.
#[derive(Default)]
struct Delivered {
    text_bytes: usize,
    tool_calls: u32,
    images: u32,
    finished: bool,
}

fn delivered(chunk: &Chunk<'_>) -> Delivered {
    let blocked = chunk.prompt_feedback.as_ref().is_some_and(|feedback| feedback.block_reason.is_some());
    let mut sum = Delivered { finished: blocked, ..Delivered::default() };
    for candidate in chunk.candidates.iter().flatten() {
        sum.finished |= candidate.finish_reason.is_some();
        for part in candidate.content.iter().filter_map(|content| content.parts.as_ref()).flatten() {
            let raw = |value: Option<&RawValue>| value.map_or(0, |value| value.get().len());
            sum.text_bytes += part.text.as_ref().map_or(0, |text| text.len());
            sum.text_bytes += raw(part.function_call) + raw(part.executable_code);
            sum.tool_calls += u32::from(part.function_call.is_some());
            let image = part.inline_data.as_ref().is_some_and(|blob| blob.mime_type.starts_with("image/"));
            sum.images += u32::from(image);
        }
    }
    sum
}

/// Reads a whole answer; `None` when it is not one.
pub(crate) fn whole(body: &[u8]) -> Option<Whole> {
    let chunk = read(body)?;
    if chunk.candidates.is_none() && chunk.prompt_feedback.is_none() && chunk.usage_metadata.is_none() {
        return None;
    }
    let sum = delivered(&chunk);
    let mut usage = chunk.usage_metadata.and_then(|usage| usage.disjoint());
    if let Some(usage) = &mut usage {
        usage.tool_calls = sum.tool_calls;
        usage.output_images = sum.images;
    }
    Some(Whole { usage, text_bytes: sum.text_bytes })
}

/// Watches a stream.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    usage: Option<Usage>,
    images: u32,
}

impl Watch {
    /// Looks at one chunk; what can't be read says nothing, but that its size bounds the text in it.
    pub(crate) fn event(&mut self, _event: Option<&str>, data: &[u8]) -> Said {
        if let Some((text_bytes, usage)) = plain_text(data) {
            self.learn(usage);
            return Said { usage: self.usage, text_bytes, ..Said::default() };
        }
        let Some(chunk) = read(data) else {
            return Said { usage: self.usage, text_bytes: data.len(), ..Said::default() };
        };
        let sum = delivered(&chunk);
        self.images += sum.images;
        self.learn(chunk.usage_metadata.and_then(|usage| usage.disjoint()));
        if chunk.error.is_some() {
            return Said { usage: self.usage, error: true, ..Said::default() };
        }
        Said {
            usage: self.usage,
            text_bytes: sum.text_bytes,
            tool_calls: sum.tool_calls,
            finished: sum.finished,
            ..Said::default()
        }
    }

    /// Every statement of a provider is of everything so far.
    fn learn(&mut self, usage: Option<Usage>) {
        self.usage = usage.or(self.usage);
        if let Some(usage) = &mut self.usage {
            usage.output_images = self.images;
        }
    }
}

/// The bytes of text of a chunk that says nothing else but its usage: one candidate with one part, unfinished, of plain text
/// that needs no unescaping. `None` for every chunk that may say more. Nearly every chunk of a stream is such a one.
///
/// An unescaped quote can't stand inside a JSON string, so a key's name in quotes is only ever found where it is a key or a
/// whole string; the latter only makes this give up.
fn plain_text(data: &[u8]) -> Option<(usize, Option<Usage>)> {
    let rest = OPENINGS.iter().find_map(|opening| data.strip_prefix(*opening))?;
    let end = memchr::memchr2(b'"', b'\\', rest)?;
    let after = rest.get(end..)?;
    let after = ENDINGS.iter().find_map(|ending| after.strip_prefix(*ending))?;
    let (before, usage) = match USAGE.find(after) {
        Some(at) => (after.get(..at)?, after.get(at + USAGE.needle().len()..)?),
        None => (after, [].as_slice()),
    };
    let says_more = |part: &[u8]| {
        [&*TEXT, &*REASON].iter().any(|key| key.find(part).is_some())
            || [&b"Data\""[..], b"\"error\"", b"Call\"", b"Feedback\"", b"Code\"", b"\\"]
                .iter()
                .any(|key| memchr::memmem::find(part, key).is_some())
    };
    if says_more(before) || says_more(usage) || !after.ends_with(b"}") || USAGE.find(usage).is_some() {
        return None;
    }
    let Some(start) = memchr::memchr(b'{', usage) else { return usage.is_empty().then_some((end, None)) };
    let json = usage.get(start..)?;
    let mut values = serde_json::Deserializer::from_slice(json).into_iter::<Metadata>();
    let usage = values.next()?.ok()?.disjoint();
    Some((end, usage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: &[u8] = br#"{"candidates": [{"content": {"parts": [{"text": "Hello there"}],"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 4,"candidatesTokenCount": 2,"totalTokenCount": 6,"promptTokensDetails": [{"modality": "TEXT","tokenCount": 4}]},"modelVersion": "gemini-2.5-flash","responseId": "x"}"#;

    #[test]
    fn a_plain_chunk_is_read_without_a_parser() {
        let usage = Usage { input: 4, output: 2, ..Usage::default() };
        assert_eq!(plain_text(PLAIN), Some((11, Some(usage))));
        assert_eq!(plain_text(br#"{"candidates":[{"content":{"parts":[{"text":"hi"}],"role":"model"},"index":0}],"modelVersion":"m"}"#), Some((2, None)));
        for more in [
            &br#"{"candidates":[{"content":{"parts":[{"text":"a\nb"}],"role":"model"}}]}"#[..],
            br#"{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"},"finishReason":"STOP"}]}"#,
            br#"{"candidates":[{"content":{"parts":[{"text":"a"},{"functionCall":{"name":"f"}}],"role":"model"}}]}"#,
            br#"{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"}},{"content":{"parts":[{"text":"b"}]}}]}"#,
            br#"{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"}}],"error":{}}"#,
        ] {
            assert_eq!(plain_text(more), None, "{}", String::from_utf8_lossy(more));
        }
    }

    #[test]
    fn m_04_an_error_is_not_billed_as_output() {
        let mut watch = Watch::default();
        watch.event(None, PLAIN);
        let said =
            watch.event(None, br#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#);
        assert!(said.error && said.text_bytes == 0 && said.usage.is_some());
    }

    #[test]
    fn m_06_an_answer_without_usage_is_measured_by_its_text() {
        let body = br#"{"candidates":[{"content":{"parts":[{"text":"hello"}]},"finishReason":"STOP"}]}"#;
        assert_eq!(whole(body), Some(Whole { usage: None, text_bytes: 5 }));
        assert_eq!(whole(b"{}"), None);
        assert_eq!(whole(b"not json"), None);
    }

    #[test]
    fn calls_and_images_are_counted() {
        let body = br#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}},{"inlineData":{"mimeType":"image/png","data":"AA=="}}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2}}"#;
        let usage = whole(body).unwrap().usage.unwrap();
        assert_eq!((usage.tool_calls, usage.output_images), (1, 1));
        let said = Watch::default().event(None, body);
        assert!(said.finished && said.tool_calls == 1);
    }

    proptest! {
        #[test]
        fn the_short_way_says_what_the_parser_says(
            text in ".{0,20}", reason in proptest::option::of("[A-Z\"\\\\]{0,4}"), other in proptest::option::of(".{0,6}"),
            counts in proptest::option::of((0..9_u32, 0..9_u32)), role: bool, spaced: bool, error: bool, extra in "[a-zA-Z\"]{0,8}",
        ) {
            let mut candidate = serde_json::json!({"content": {"parts": [{"text": text}]}});
            if role { candidate["content"]["role"] = "model".into(); }
            if let Some(other) = other { candidate["content"]["parts"].as_array_mut().unwrap().push(serde_json::json!({"text": other})); }
            if let Some(reason) = reason { candidate["finishReason"] = reason.into(); }
            let mut chunk = serde_json::json!({"candidates": [candidate]});
            if let Some((prompt, candidates)) = counts {
                chunk["usageMetadata"] = serde_json::json!({"promptTokenCount": prompt, "candidatesTokenCount": candidates});
            }
            if error { chunk["error"] = serde_json::json!({}); }
            chunk["modelVersion"] = extra.into();
            let mut json = chunk.to_string();
            if spaced {
                json = json.replacen(r#"{"candidates":[{"content":{"parts":[{"text":""#, r#"{"candidates": [{"content": {"parts": [{"text": ""#, 1);
            }
            if let Some((bytes, usage)) = plain_text(json.as_bytes()) {
                let parsed: Chunk<'_> = serde_json::from_str(&json).unwrap();
                let sum = delivered(&parsed);
                prop_assert_eq!(bytes, sum.text_bytes);
                prop_assert_eq!(usage, parsed.usage_metadata.and_then(|usage| usage.disjoint()));
                prop_assert!(!sum.finished && sum.tool_calls == 0 && parsed.error.is_none());
            }
        }

        #[test]
        fn nothing_panics_on_arbitrary_bytes(data: Vec<u8>) {
            Watch::default().event(None, &data);
            whole(&data);
        }
    }
}
