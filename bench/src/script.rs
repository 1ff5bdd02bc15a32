//! What the scripted upstream says and the load generator therefore expects: one place, so that every answer
//! can be compared byte by byte. Never random, never dependent on time.

use clap::ValueEnum;

use crate::anthropic;

/// The model that is asked for; the gateway's default rate card prices it.
pub(crate) const MODEL: &str = "gpt-4o-mini";
/// Stands in a script for a character that the gateway alone can know: of its answer's id and time. No JSON holds one.
pub(crate) const OPEN: &str = "\0";
/// Chunks that differ in a stream; longer streams repeat them.
pub(crate) const DISTINCT_CHUNKS: usize = 1_000;
const LARGE_REQUEST_BYTES: usize = 32 * 1024;

/// The size of a request body and of the answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
pub(crate) enum BodySize {
    /// 1 KiB.
    #[value(name = "1k")]
    #[serde(rename = "1k")]
    Kib1,
    /// 64 KiB.
    #[value(name = "64k")]
    #[serde(rename = "64k")]
    Kib64,
}

impl BodySize {
    /// Bytes of the body, exactly.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Kib1 => 1024,
            Self::Kib64 => 64 * 1024,
        }
    }

    /// The size of the answer to a request body of that many bytes. A proxy may add a field to a request, so
    /// the classes are wide.
    pub(crate) fn of_request(bytes: usize) -> Self {
        if bytes < LARGE_REQUEST_BYTES { Self::Kib1 } else { Self::Kib64 }
    }

    /// Tokens that an answer of this size reports; a request asks for at most as many.
    pub(crate) fn completion_tokens(self) -> usize {
        self.bytes() / 4
    }
}

/// What the upstream of a load speaks. Clients always speak `OpenAI`'s dialect; the model that they ask for leads there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Provider {
    /// The same.
    Openai,
    /// Anthropic's, so that the gateway has to translate. The floor can't: it passes the same requests on to the other.
    Anthropic,
}

impl Provider {
    /// The model that leads to it.
    pub(crate) fn model(self) -> &'static str {
        match self {
            Self::Openai => MODEL,
            Self::Anthropic => anthropic::MODEL,
        }
    }
}

/// What a client asks of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamAsk {
    /// The size of the request.
    pub(crate) size: BodySize,
    /// Chunks with a choice in them; sent as `max_tokens`, which the upstream takes as the number to send.
    pub(crate) chunks: usize,
    /// Whether `stream_options.include_usage` is set.
    pub(crate) include_usage: bool,
}

/// Whether what was told is what the script says.
pub(crate) fn is_said(script: &[u8], told: &[u8]) -> bool {
    let open = OPEN.as_bytes();
    script == told
        || (script.len() == told.len() && script.iter().zip(told).all(|(said, told)| said == told || open == [*said]))
}

/// The body of a chat request of exactly that size.
pub(crate) fn chat_request(provider: Provider, size: BodySize, stream: Option<StreamAsk>) -> Vec<u8> {
    let model = provider.model();
    let max_tokens = stream.map_or(size.completion_tokens(), |ask| ask.chunks);
    let mode = match stream {
        None => "",
        Some(StreamAsk { include_usage: false, .. }) => r#""stream":true,"#,
        Some(StreamAsk { include_usage: true, .. }) => r#""stream":true,"stream_options":{"include_usage":true},"#,
    };
    let before = format!(
        r#"{{"model":"{model}",{mode}"max_tokens":{max_tokens},"temperature":0.7,"messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":""#
    );
    padded(&before, r#""}]}"#, size.bytes())
}

/// The body of a whole `chat.completion` of exactly that size.
pub(crate) fn completion(size: BodySize) -> Vec<u8> {
    let tokens = size.completion_tokens();
    let before = format!(
        r#"{{"id":"chatcmpl-bench0000000000000000000000000","object":"chat.completion","created":1767225600,"model":"{MODEL}","choices":[{{"index":0,"message":{{"role":"assistant","content":""#
    );
    let after = format!(
        r#"","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{usage},"service_tier":"default","system_fingerprint":"fp_bench00000"}}"#,
        usage = usage(tokens, tokens)
    );
    padded(&before, &after, size.bytes())
}

fn usage(prompt: usize, completion: usize) -> String {
    format!(
        r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total},"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0}}}}"#,
        total = prompt + completion
    )
}

/// `before`, as much prose (with line ends, as in real answers) as fits, `after`: `bytes` in all.
pub(crate) fn padded(before: &str, after: &str, bytes: usize) -> Vec<u8> {
    const PROSE: &str = r"The quick brown fox jumps over the lazy dog, and nobody is surprised any more.\n";
    let room = bytes.saturating_sub(before.len() + after.len());
    let mut body = Vec::with_capacity(bytes);
    body.extend_from_slice(before.as_bytes());
    body.extend_from_slice(PROSE.repeat(room / PROSE.len()).as_bytes());
    body.resize(before.len() + room, b'.');
    body.extend_from_slice(after.as_bytes());
    body
}

/// The events of a stream, built once.
#[derive(Debug)]
pub(crate) struct EventScript {
    first: Vec<u8>,
    middle: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl EventScript {
    /// The event that ends every stream.
    pub(crate) const DONE: &'static [u8] = b"data: [DONE]\n\n";

    /// Builds the events.
    pub(crate) fn new() -> Self {
        let middle = (0..DISTINCT_CHUNKS).map(|index| chunk(&format!(r#"{{"content":" word{index:03}"}}"#), "null"));
        Self {
            first: chunk(r#"{"role":"assistant","content":"","refusal":null}"#, "null"),
            middle: middle.collect(),
            last: chunk("{}", r#""stop""#),
        }
    }

    /// The event at `index` of a stream of `chunks` events, which opens with the role and closes with the
    /// finish reason.
    pub(crate) fn event(&self, index: usize, chunks: usize) -> &[u8] {
        if index + 1 == chunks {
            &self.last
        } else if index == 0 {
            &self.first
        } else {
            self.middle.get(index % DISTINCT_CHUNKS).unwrap_or(&self.first)
        }
    }

    /// The usage event of a stream of `chunks` events.
    pub(crate) fn usage_event(chunks: usize) -> Vec<u8> {
        event_of("", &format!(r#","usage":{}"#, usage(BodySize::Kib1.completion_tokens(), chunks)))
    }
}

fn chunk(delta: &str, finish_reason: &str) -> Vec<u8> {
    let choice = format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish_reason}}}"#);
    event_of(&choice, "")
}

fn event_of(choice: &str, rest: &str) -> Vec<u8> {
    format!(
        "data: {{\"id\":\"chatcmpl-bench0000000000000000000000000\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"{MODEL}\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_bench00000\",\"choices\":[{choice}]{rest}}}\n\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn event_json(event: &[u8]) -> Value {
        let data = event.strip_prefix(b"data: ").unwrap().strip_suffix(b"\n\n").unwrap();
        serde_json::from_slice(data).unwrap()
    }

    #[test]
    fn bodies_are_valid_json_of_exactly_their_size() {
        for size in [BodySize::Kib1, BodySize::Kib64] {
            let ask = StreamAsk { size, chunks: 200, include_usage: true };
            let request = |provider, stream| chat_request(provider, size, stream);
            let requests = [request(Provider::Openai, None), request(Provider::Anthropic, Some(ask))];
            for body in requests.into_iter().chain([completion(size)]) {
                assert_eq!(body.len(), size.bytes());
                serde_json::from_slice::<Value>(&body).unwrap();
            }
        }
    }

    #[test]
    fn an_answer_never_reports_more_output_than_was_asked_for() {
        for size in [BodySize::Kib1, BodySize::Kib64] {
            let request: Value = serde_json::from_slice(&chat_request(Provider::Openai, size, None)).unwrap();
            let answer: Value = serde_json::from_slice(&completion(size)).unwrap();
            let reported = answer["usage"]["completion_tokens"].as_u64().unwrap();
            assert!(reported > 0 && reported <= request["max_tokens"].as_u64().unwrap());
        }
    }

    #[test]
    fn only_what_is_open_may_differ() {
        assert!(is_said(b"a\0c", b"abc") && is_said(b"abc", b"abc"));
        assert!(!is_said(b"a\0c", b"abd") && !is_said(b"a\0c", b"abbc") && !is_said(b"abc", b"a\0c"));
    }

    #[test]
    fn a_request_that_a_proxy_made_a_little_longer_gets_an_answer_of_the_same_size() {
        for size in [BodySize::Kib1, BodySize::Kib64] {
            for added in [0, 40, 400] {
                assert_eq!(BodySize::of_request(size.bytes() + added), size);
            }
        }
    }

    #[test]
    fn a_stream_opens_with_the_role_and_closes_with_the_finish_reason() {
        let script = EventScript::new();
        let delta = |index| event_json(script.event(index, 3))["choices"][0].clone();
        assert_eq!(delta(0)["delta"]["role"], "assistant");
        assert_eq!(delta(1)["delta"]["content"], " word001");
        assert_eq!(delta(2)["finish_reason"], "stop");
        assert_eq!(delta(1)["finish_reason"], Value::Null);
    }

    #[test]
    fn the_usage_event_has_no_choice_and_counts_the_chunks() {
        let event = event_json(&EventScript::usage_event(200));
        assert_eq!(event["choices"], serde_json::json!([]));
        assert_eq!(event["usage"]["completion_tokens"], 200);
    }
}
