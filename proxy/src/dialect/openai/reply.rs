//! Usage and text of an `OpenAI` answer, whole or in events.
//!
//! In this dialect `prompt_tokens` includes the cached and the audio part, `completion_tokens` the reasoning and the audio
//! part; the buckets of [`Usage`] are disjoint.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use openclawmu_store::{ServiceTier, Usage};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::service;
use crate::dialect::scan;
use crate::sse;

/// What stands around the data of nearly every event.
const BEGIN: &[u8] = b"data: ";
const END: &[u8] = b"\n\n";

static TOOL_CALLS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"tool_calls\""));

static ONLY_CONTENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"delta\":{\"content\":\""));
static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"delta\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
static FINISH_REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));

#[derive(Deserialize, Default)]
struct RawUsage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    total_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize, Default)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    cache_write_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
}

/// Reads a raw `usage` object; `None` when it is null, unreadable or states nothing.
pub(super) fn usage(raw: &str) -> Option<Usage> {
    serde_json::from_str::<Option<RawUsage>>(raw).ok().flatten().and_then(disjoint)
}

/// The provider's counts as disjoint buckets; `None` when it states none.
fn disjoint(raw: RawUsage) -> Option<Usage> {
    if raw.prompt_tokens.is_none() && raw.completion_tokens.is_none() {
        return None;
    }
    let part = |count: Option<u64>, whole: u64| count.unwrap_or(0).min(whole);
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let prompt = raw.prompt_tokens.unwrap_or(0);
    let completion = raw.completion_tokens.unwrap_or_else(|| raw.total_tokens.unwrap_or(prompt).saturating_sub(prompt));
    let inner = raw.prompt_tokens_details.unwrap_or_default();
    let cache_read = part(inner.cached_tokens, prompt);
    let cache_write = part(inner.cache_write_tokens, prompt - cache_read);
    let input_audio = part(inner.audio_tokens, prompt - cache_read - cache_write);
    let outer = raw.completion_tokens_details.unwrap_or_default();
    let reasoning = part(outer.reasoning_tokens, completion);
    let output_audio = part(outer.audio_tokens, completion - reasoning);
    Some(Usage {
        input: small(prompt - cache_read - cache_write - input_audio),
        cache_read: small(cache_read),
        cache_write: small(cache_write),
        output: small(completion - reasoning - output_audio),
        reasoning: small(reasoning),
        input_audio: small(input_audio),
        output_audio: small(output_audio),
        ..Usage::default()
    })
}

/// What a whole answer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whole {
    /// The provider's usage.
    pub(crate) usage: Option<Usage>,
    /// Bytes of what the model produced, when the usage is missing.
    pub(crate) text_bytes: usize,
    /// The service tier that it was served at, where it says so.
    pub(crate) service_tier: Option<ServiceTier>,
}

/// Reads a whole answer; `None` when it is not a JSON object.
pub(crate) fn whole(body: &[u8]) -> Option<Whole> {
    let body = simdutf8::basic::from_utf8(body).ok()?;
    let (mut found, mut choices) = (Whole::default(), None);
    scan::members(body, |key, range| match key.as_ref() {
        "usage" => found.usage = body.get(range).and_then(usage),
        "choices" => choices = body.get(range),
        "service_tier" => {
            let name = body.get(range).and_then(|raw| serde_json::from_str::<Cow<'_, str>>(raw).ok());
            found.service_tier = name.and_then(|name| service::served(&name));
        }
        _ => {}
    })
    .ok()?;
    let choices = choices.unwrap_or_default();
    if let Some(usage) = &mut found.usage
        && TOOL_CALLS.find(choices.as_bytes()).is_some()
    {
        usage.tool_calls = delivered_raw(choices).1;
    }
    if found.usage.is_none() {
        found.text_bytes = if choices.is_empty() { 0 } else { delivered_raw(choices).0 };
    }
    Some(found)
}

/// What one event of a stream says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// The provider's usage, where this event states it.
    pub(crate) usage: Option<Usage>,
    /// Bytes of model text in it; never of an error.
    pub(crate) text_bytes: usize,
    /// Tool calls that begin in it.
    pub(crate) tool_calls: u32,
    /// It exists only to state the usage: no choices.
    pub(crate) usage_only: bool,
    /// A choice ends in it.
    pub(crate) finished: bool,
    /// It is an error.
    pub(crate) error: bool,
    /// It is `[DONE]`.
    pub(crate) done: bool,
    /// The service tier, where the event says more than text: providers repeat it on every one, so it is read only from
    /// those, of which a stream has its first and its last.
    pub(crate) service_tier: Option<ServiceTier>,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<RawUsage>,
    #[serde(default)]
    error: Option<IgnoredAny>,
    #[serde(borrow, default)]
    service_tier: Option<Cow<'a, str>>,
}

/// The bytes of text of an event that says nothing else: one choice whose delta is one `content`, unfinished, without usage
/// or error. `None` for every event that may say more, or whose text needs unescaping. Nearly every event of a stream is
/// such a one, and a parser takes five times as long to find that out.
///
/// An unescaped quote can't stand inside a JSON string, so a key's name in quotes is only ever found where it is a key or a
/// whole string; the latter only makes this give up.
fn plain_text(data: &[u8]) -> Option<Range<usize>> {
    let start = ONLY_CONTENT.find(data)? + ONLY_CONTENT.needle().len();
    let (before, rest) = data.split_at_checked(start)?;
    let end = memchr::memchr2(b'"', b'\\', rest)?;
    let after = rest.get(end..)?.strip_prefix(b"\"}")?;
    let unsaid = |key: &Finder<'_>| {
        let value = |at: usize| after.get(at + key.needle().len()..);
        key.find(before).is_none()
            && key.find(after).is_none_or(|at| value(at).is_some_and(|v| v.starts_with(b":null")))
    };
    let says_more = ERROR.find(before).or_else(|| ERROR.find(after)).is_some() || DELTA.find(after).is_some();
    let is_plain = !says_more && unsaid(&USAGE) && unsaid(&FINISH_REASON) && after.ends_with(b"}");
    is_plain.then(|| start..start + end)
}

/// Hears the events of one stream. Most of them differ in their text alone: such a one is known by the bytes around it, which say
/// what they said the last time.
#[derive(Debug, Default)]
pub(crate) struct Hearing {
    /// What stood before and behind the text of the last event that [`plain_text`] knew.
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Hearing {
    /// Reads one server-sent event with its blank line; what can't be read says nothing, but that its size bounds the text in it.
    pub(crate) fn event(&mut self, event: &[u8]) -> Event {
        if let Some(text_bytes) = self.known(event) {
            return Event { text_bytes, ..Event::default() };
        }
        let Some(data) = sse::data(event) else { return Event::default() };
        let Some(text) = plain_text(&data) else { return said(&data) };
        if event.strip_prefix(BEGIN).and_then(|line| line.strip_suffix(END)) == Some(&data) {
            let (start, end) = (BEGIN.len() + text.start, BEGIN.len() + text.end);
            self.before.clear();
            self.before.extend_from_slice(event.get(..start).unwrap_or_default());
            self.after.clear();
            self.after.extend_from_slice(event.get(end..).unwrap_or_default());
        }
        Event { text_bytes: text.len(), ..Event::default() }
    }

    /// The bytes of text of an event that is the last one but for them: one whole event of one line, as the last was.
    pub(crate) fn known(&self, event: &[u8]) -> Option<usize> {
        let before = Some(self.before.as_slice()).filter(|before| !before.is_empty())?;
        let text = event.strip_prefix(before)?.strip_suffix(self.after.as_slice())?;
        let is_plain = |byte: &u8| *byte >= b' ' && *byte != b'"' && *byte != b'\\';
        text.iter().all(is_plain).then_some(text.len())
    }
}

/// Reads the data of an event that may say anything.
fn said(data: &[u8]) -> Event {
    if data == b"[DONE]" {
        return Event { done: true, ..Event::default() };
    }
    let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
        return Event { text_bytes: data.len(), ..Event::default() };
    };
    let usage = chunk.usage.and_then(disjoint);
    if chunk.error.is_some() {
        return Event { usage, error: true, ..Event::default() };
    }
    let choices = chunk.choices.unwrap_or_default();
    let (text_bytes, tool_calls, finished) = delivered(&choices);
    let usage_only = choices.is_empty() && usage.is_some();
    let service_tier = chunk.service_tier.as_deref().and_then(service::served);
    Event { usage, text_bytes, tool_calls, usage_only, finished, service_tier, ..Event::default() }
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<Said<'a>>,
    #[serde(borrow, default)]
    message: Option<Said<'a>>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
struct Said<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    refusal: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<Call<'a>>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    /// Present on the event that begins a call.
    #[serde(default)]
    id: Option<IgnoredAny>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<Cow<'a, str>>,
}

/// Bytes of model text, tool calls that begin, and whether a choice ended.
fn delivered(choices: &[Choice<'_>]) -> (usize, u32, bool) {
    let (mut bytes, mut calls, mut finished) = (0, 0, false);
    let len = |text: &Option<Cow<'_, str>>| text.as_ref().map_or(0, |text| text.len());
    for choice in choices {
        bytes += len(&choice.text);
        // Some servers have an empty word where others have none.
        finished |= choice.finish_reason.as_ref().is_some_and(|reason| !reason.is_empty());
        for said in [&choice.delta, &choice.message].into_iter().flatten() {
            bytes += len(&said.content) + len(&said.refusal) + len(&said.reasoning_content).max(len(&said.reasoning));
            for call in said.tool_calls.iter().flatten() {
                calls += u32::from(call.id.is_some());
                bytes += call.function.as_ref().map_or(0, |function| len(&function.name) + len(&function.arguments));
            }
        }
    }
    (bytes, calls, finished)
}

/// The same of a raw list of choices; one of a shape that we don't know is bounded by its size.
fn delivered_raw(choices: &str) -> (usize, u32) {
    let parsed = serde_json::from_str::<Vec<Choice<'_>>>(choices);
    parsed.map_or((choices.len(), 0), |choices| {
        let (bytes, calls, _) = delivered(&choices);
        (bytes, calls)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an event says that comes first.
    fn event(data: &[u8]) -> Event {
        Hearing::default().event(&[BEGIN, data, END].concat())
    }

    #[test]
    fn m_11_the_parts_of_a_usage_are_made_disjoint() {
        let body = br#"{"id":"x","choices":[{"message":{"content":"hi","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]}}],
            "usage":{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
            "prompt_tokens_details":{"cached_tokens":60,"audio_tokens":10},"completion_tokens_details":{"reasoning_tokens":30,"audio_tokens":5}}}"#;
        let expected = Usage {
            input: 30,
            cache_read: 60,
            input_audio: 10,
            output: 15,
            reasoning: 30,
            output_audio: 5,
            tool_calls: 1,
            ..Usage::default()
        };
        assert_eq!(whole(body).unwrap().usage, Some(expected));
    }

    #[test]
    fn m_06_an_answer_without_usage_is_measured_by_its_text() {
        let body = br#"{"choices":[{"message":{"role":"assistant","content":"hello"}}]}"#;
        assert_eq!(whole(body), Some(Whole { usage: None, text_bytes: 5, service_tier: None }));
        assert_eq!(whole(b"not json"), None);
        assert_eq!(whole(br#"{"usage":null,"choices":[]}"#).unwrap().usage, None);
    }

    #[test]
    fn details_that_contradict_the_total_never_underflow() {
        let body = br#"{"usage":{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":9},"completion_tokens_details":{"reasoning_tokens":7}}}"#;
        assert_eq!(whole(body).unwrap().usage, Some(Usage { cache_read: 5, reasoning: 1, ..Usage::default() }));
        let body = br#"{"usage":{"prompt_tokens":99999999999,"total_tokens":5}}"#;
        assert_eq!(whole(body).unwrap().usage.unwrap().input, u32::MAX);
    }

    #[test]
    fn events_say_what_they_carry() {
        let text =
            event(br#"{"choices":[{"index":0,"delta":{"content":"caf\u00e9"},"finish_reason":null}],"usage":null}"#);
        assert_eq!((text.text_bytes, text.usage, text.finished, text.usage_only), (5, None, false, false));
        let end = event(br#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#);
        assert!(end.finished && end.text_bytes == 0);
        let usage = event(br#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#);
        assert!(usage.usage_only && usage.usage.is_some());
        assert!(!event(br#"{"choices":[{"delta":{"content":"a"},"finish_reason":""}]}"#).finished);
        let call = event(
            br#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}}]}"#,
        );
        assert_eq!((call.tool_calls, call.text_bytes), (1, 1));
        assert!(event(b"[DONE]").done);
        assert!(event(br#"{"choices":[{"text":"abc","finish_reason":"length"}]}"#).finished);
        assert_eq!(event(b"{oops"), Event { text_bytes: 5, ..Event::default() });
    }

    #[test]
    fn the_service_tier_is_read_from_a_whole_answer_and_from_a_streams_first_and_last_event() {
        let tier = |body: &[u8]| whole(body).unwrap().service_tier;
        assert_eq!(tier(br#"{"choices":[],"service_tier":"priority"}"#), Some(ServiceTier::Priority));
        assert_eq!(tier(br#"{"choices":[],"service_tier":"default"}"#), Some(ServiceTier::Standard));
        assert_eq!((tier(br#"{"service_tier":null}"#), tier(br#"{"service_tier":"scale"}"#)), (None, None));
        let first = br#"{"service_tier":"flex","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#;
        let plain = br#"{"service_tier":"flex","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}],"usage":null}"#;
        let last = br#"{"service_tier":"flex","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
        assert_eq!(plain_text(plain).map(|text| text.len()), Some(2), "the short way is still taken");
        assert_eq!(
            [&first[..], plain, last].map(|data| event(data).service_tier),
            [Some(ServiceTier::Flex), None, Some(ServiceTier::Flex)]
        );
    }

    proptest::proptest! {
        /// The short way finds what the parser finds, or gives up.
        #[test]
        fn plain_text_is_what_the_parser_reads(
            text in ".{0,20}|usage|error|\"usage\":\\{\\}",
            role: bool, finished: bool, second: bool, error: bool, usage in 0..4_u8, spaced: bool, usage_first: bool,
        ) {
            use serde_json::{Value, json};
            let mut delta = json!({"content": text});
            if role {
                delta["role"] = "assistant".into();
            }
            let choice = json!({"index": 0, "delta": delta, "finish_reason": if finished { "stop".into() } else { Value::Null }});
            let mut chunk = serde_json::Map::new();
            let usage = match usage {
                0 => None,
                1 => Some(Value::Null),
                _ => Some(json!({"prompt_tokens": 1, "completion_tokens": 2})),
            };
            if let (Some(usage), true) = (&usage, usage_first) {
                chunk.insert("usage".to_owned(), usage.clone());
            }
            chunk.insert("choices".to_owned(), if second { json!([choice, choice]) } else { json!([choice]) });
            if let (Some(usage), false) = (usage, usage_first) {
                chunk.insert("usage".to_owned(), usage);
            }
            if error {
                chunk.insert("error".to_owned(), json!({"message": "x"}));
            }
            let chunk = Value::Object(chunk);
            let data = if spaced { serde_json::to_string_pretty(&chunk) } else { serde_json::to_string(&chunk) }.unwrap();
            let slow: Chunk<'_> = serde_json::from_str(&data).unwrap();
            let says_more = slow.error.is_some() || slow.usage.is_some() || finished;
            // Whatever was heard before it.
            let other = data.replace(&text, "other").replace("null", "{}");
            for before in [data.as_str(), &data.replace(&text, "other"), &other] {
                let mut hearing = Hearing::default();
                hearing.event(&[BEGIN, before.as_bytes(), END].concat());
                for (begin, end) in [(BEGIN, END), (b"data:", END), (BEGIN, b"\r\n\r\n"), (b"event: x\ndata: ", END)] {
                    let framed = [begin, data.as_bytes(), end].concat();
                    if hearing.known(&framed).is_some() {
                        proptest::prop_assert!(sse::Splitter::default().is_event(&framed));
                    }
                    proptest::prop_assert_eq!(hearing.event(&framed), Hearing::default().event(&framed));
                }
            }
            match plain_text(data.as_bytes()) {
                Some(plain) => {
                    proptest::prop_assert!(!says_more);
                    proptest::prop_assert_eq!(plain.len(), delivered(&slow.choices.unwrap()).0);
                }
                None => proptest::prop_assert!(says_more || role || second || spaced || text.contains(|c: char| c.is_control() || "\"\\".contains(c)) || usage_first),
            }
        }
    }

    #[test]
    fn m_04_the_text_of_an_error_is_not_model_text() {
        let error = event(br#"{"error":{"message":"a long sentence about what went wrong","type":"server_error"}}"#);
        assert!(error.error && error.text_bytes == 0);
    }
}
