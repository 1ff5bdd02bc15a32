//! Usage and text of an answer that passes through, whole or in events.

use std::borrow::Cow;

use openclawmu_store::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::usage;

/// What a whole answer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whole {
    /// The provider's usage.
    pub(crate) usage: Option<Usage>,
    /// Bytes of what the model produced, when the usage is missing.
    pub(crate) text_bytes: usize,
}

/// What the events of a stream have said, up to and in the latest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Everything known of the usage so far.
    pub(crate) usage: Option<Usage>,
    /// Bytes of model text in this event.
    pub(crate) text_bytes: usize,
    /// Tool calls that begin in this event.
    pub(crate) tool_calls: u32,
    /// The answer ends in it.
    pub(crate) finished: bool,
    /// It is an error.
    pub(crate) error: bool,
    /// It is the last one.
    pub(crate) done: bool,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    delta: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    item: Option<Item<'a>>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
}

/// Reads a whole answer; `None` when it is no response.
pub(crate) fn whole(body: &[u8]) -> Option<Whole> {
    let response: Response<'_> = serde_json::from_slice(body).ok()?;
    let usage = used(&response);
    // Without a usage, what the model said is bounded by the size of its items.
    let text_bytes = if usage.is_none() { response.output.map_or(0, |output| output.get().len()) } else { 0 };
    Some(Whole { usage, text_bytes })
}

/// The usage of a response, with the calls that its items make.
fn used(response: &Response<'_>) -> Option<Usage> {
    let mut usage = usage::parse(response.usage?.get())?;
    let items: Vec<Item<'_>> =
        response.output.and_then(|output| serde_json::from_str(output.get()).ok()).unwrap_or_default();
    let calls = items.iter().filter(|item| item.kind == "function_call").count();
    usage.tool_calls = u32::try_from(calls).unwrap_or(u32::MAX);
    Some(usage)
}

/// Watches a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch {
    usage: Option<Usage>,
}

/// How a delta begins when its type is its first member, as in the streams of `OpenAI` and of this gateway.
const DELTA: &[u8] = b"{\"type\":\"response.output_text.delta\",";

impl Watch {
    /// Reads the data of one event; what can't be read says nothing, but that its size bounds the text in it.
    pub(crate) fn event(&mut self, _event: Option<&str>, data: &[u8]) -> Said {
        if let Some(text_bytes) = plain_delta(data) {
            return Said { usage: self.usage, text_bytes, ..Said::default() };
        }
        if data == b"[DONE]" {
            return Said { usage: self.usage, done: true, ..Said::default() };
        }
        let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else {
            return Said { usage: self.usage, text_bytes: data.len(), ..Said::default() };
        };
        let mut said = Said::default();
        match event.kind.as_ref() {
            "response.completed" | "response.incomplete" => (said.finished, said.done) = (true, true),
            "response.failed" | "error" => said.error = true,
            "response.output_item.added" => {
                said.tool_calls = u32::from(event.item.is_some_and(|item| item.kind == "function_call"));
            }
            kind if kind.ends_with(".delta") => said.text_bytes = event.delta.map_or(0, |delta| delta.len()),
            _ => {}
        }
        let response = event.response.and_then(|raw| serde_json::from_str::<Response<'_>>(raw.get()).ok());
        self.usage = response.as_ref().and_then(used).or(self.usage);
        Said { usage: self.usage, ..said }
    }
}

/// The bytes of text of a delta that can be told without a parser: its type comes first, and its text needs no unescaping. An
/// unescaped quote can't stand inside a JSON string, so what is found is the member itself.
fn plain_delta(data: &[u8]) -> Option<usize> {
    let rest = data.strip_prefix(DELTA)?;
    let key = b"\"delta\":\"";
    let start = memchr::memmem::find(rest, key)? + key.len();
    let text = rest.get(start..)?;
    let end = memchr::memchr2(b'"', b'\\', text)?;
    let after = text.get(end..)?;
    // Another `delta` or `type` further on could count for some parser; then it is for ours to say.
    let again = memchr::memmem::find(after, b"\"delta\"").is_some()
        || memchr::memmem::find(rest, b"\"type\"").is_some()
        || memchr::memmem::find(rest, b"\"response\"").is_some();
    (after.first() == Some(&b'"') && !again && after.ends_with(b"}")).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_plain_delta_is_what_the_parser_reads(text in "[a-zA-Zé \"\\\\\n{}]{0,20}", more in "[a-z]{0,5}") {
            let delta = serde_json::Value::from(text.as_str());
            let data = format!(
                "{{\"type\":\"response.output_text.delta\",\"sequence_number\":4,\"item_id\":\"{more}\",\"output_index\":0,\"content_index\":0,\"delta\":{delta},\"logprobs\":[]}}"
            );
            prop_assert_eq!(Watch::default().event(None, data.as_bytes()).text_bytes, text.len());
            let plain = plain_delta(data.as_bytes());
            prop_assert!(plain.is_none_or(|bytes| bytes == text.len()));
        }

        #[test]
        fn nothing_panics(data in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = whole(&data);
            let _ = Watch::default().event(None, &data);
            let _ = plain_delta(&[DELTA, &data].concat());
        }
    }

    #[test]
    fn a_stream_says_its_usage_at_its_end() {
        let mut watch = Watch::default();
        let call = br#"{"type":"response.output_item.added","item":{"type":"function_call"}}"#;
        assert_eq!(watch.event(None, call).tool_calls, 1);
        let end = br#"{"type":"response.completed","response":{"output":[{"type":"function_call"}],"usage":{"input_tokens":9,"output_tokens":5}}}"#;
        let said = watch.event(Some("response.completed"), end);
        let usage = Usage { input: 9, output: 5, tool_calls: 1, ..Usage::default() };
        assert_eq!((said.usage, said.finished, said.done), (Some(usage), true, true));
        assert!(watch.event(None, br#"{"type":"error","message":"x"}"#).error);
    }
}
