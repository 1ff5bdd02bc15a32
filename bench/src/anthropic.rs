//! The scripted upstream's other dialect: what it says as Anthropic does, and what a client of `OpenAI`'s dialect is to get of it.
//! Bytes as on the wire, never random. Only what the gateway alone can know is left open: see [`OPEN`].

use crate::script::{BodySize, DISTINCT_CHUNKS, EventScript, OPEN, padded};

/// The model that leads to this upstream; the gateway's default rate card prices it.
pub(crate) const MODEL: &str = "claude-haiku-4-5";
/// The name that the provider has for it.
const DATED: &str = "claude-haiku-4-5-20251001";
const ID: &str = "msg_01Bench00000000000000000";

/// The body of a whole message of exactly that size.
pub(crate) fn message(size: BodySize) -> Vec<u8> {
    let (before, after) = around(size);
    padded(&before, &after, size.bytes())
}

fn around(size: BodySize) -> (String, String) {
    let tokens = size.completion_tokens();
    let before = format!(
        r#"{{"model":"{DATED}","id":"{ID}","type":"message","role":"assistant","content":[{{"type":"text","text":""#
    );
    let after = format!(
        r#""}}],"stop_reason":"end_turn","stop_sequence":null,"stop_details":null,"usage":{}}}"#,
        usage(tokens, tokens)
    );
    (before, after)
}

fn usage(input: usize, output: usize) -> String {
    format!(
        r#"{{"input_tokens":{input},"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}},"output_tokens":{output},"service_tier":"standard","inference_geo":"not_available"}}"#
    )
}

/// What a client of `OpenAI`'s dialect gets of [`message`].
pub(crate) fn translated(size: BodySize) -> Vec<u8> {
    let tokens = size.completion_tokens();
    let (before, after) = around(size);
    let head = head("chat.completion");
    let choice = r#"{"index":0,"message":{"role":"assistant","content":""#;
    let end = format!(
        r#"","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{tokens},"completion_tokens":{tokens},"total_tokens":{total},"prompt_tokens_details":{{"cached_tokens":0,"cache_write_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}}}"#,
        total = tokens * 2
    );
    // The text is as long as the provider's.
    let text = size.bytes() - before.len() - after.len();
    padded(&format!("{head}{choice}"), &end, head.len() + choice.len() + text + end.len())
}

/// How an answer begins in `OpenAI`'s dialect.
fn head(object: &str) -> String {
    let (id, created) = (OPEN.repeat(32), OPEN.repeat(10));
    format!(r#"{{"id":"chatcmpl-{id}","object":"{object}","created":{created},"model":"{MODEL}","choices":["#)
}

/// Everything that the provider sends for a stream of `chunks` events that a client sees, each with whether it waits for its turn.
pub(crate) fn events(chunks: usize) -> Vec<(bool, Vec<u8>)> {
    let start = format!(
        r#"{{"type":"message_start","message":{{"model":"{DATED}","id":"{ID}","type":"message","role":"assistant","content":[],"stop_reason":null,"stop_sequence":null,"usage":{}}}}}"#,
        usage(BodySize::Kib1.completion_tokens(), 1)
    );
    let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let mut all = vec![
        (true, event("message_start", &start)),
        (false, event("content_block_start", block)),
        (false, event("ping", r#"{"type": "ping"}"#)),
    ];
    all.extend((1..chunks.saturating_sub(1)).map(|index| {
        let word = word(index);
        // Padded, as the provider does it.
        let delta = format!(
            r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{word}"}}}}{:1$}"#,
            "",
            index % 4
        );
        (true, event("content_block_delta", &delta))
    }));
    let end = format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{"input_tokens":{input},"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":{chunks}}}}}"#,
        input = BodySize::Kib1.completion_tokens()
    );
    all.extend([
        (true, event("content_block_stop", r#"{"type":"content_block_stop","index":0}"#)),
        (false, event("message_delta", &end)),
        (false, event("message_stop", r#"{"type":"message_stop"}"#)),
    ]);
    all
}

fn word(index: usize) -> String {
    format!(" word{:03}", index % DISTINCT_CHUNKS)
}

fn event(name: &str, data: &str) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

/// What a client of `OpenAI`'s dialect gets of [`events`].
pub(crate) fn translated_events(chunks: usize) -> Vec<Vec<u8>> {
    let chunk = |delta: &str, reason: &str| {
        let choice = format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}"#);
        format!("data: {}{choice}]}}\n\n", head("chat.completion.chunk")).into_bytes()
    };
    let mut all = vec![chunk(r#"{"role":"assistant","content":"","refusal":null}"#, "null"), b": ping\n\n".to_vec()];
    let words =
        (1..chunks.saturating_sub(1)).map(|index| chunk(&format!(r#"{{"content":"{}"}}"#, word(index)), "null"));
    all.extend(words);
    all.extend([chunk("{}", r#""stop""#), EventScript::DONE.to_vec()]);
    all
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn messages_are_valid_json_of_exactly_their_size() {
        for size in [BodySize::Kib1, BodySize::Kib64] {
            assert_eq!(message(size).len(), size.bytes());
            let told: Value = serde_json::from_slice(&message(size)).unwrap();
            let open = String::from_utf8(translated(size)).unwrap().replace(OPEN, "1");
            let translated: Value = serde_json::from_str(&open).unwrap();
            assert_eq!(translated["choices"][0]["message"]["content"], told["content"][0]["text"]);
            assert_eq!(translated["usage"]["completion_tokens"], told["usage"]["output_tokens"]);
        }
    }

    #[test]
    fn a_client_sees_as_many_chunks_as_it_asked_for() {
        let seen = translated_events(9);
        assert_eq!(seen.iter().filter(|event| event.starts_with(b"data: {")).count(), 9);
        let deltas = events(9).into_iter().filter(|(_, event)| event.starts_with(b"event: content_block_delta"));
        assert_eq!(deltas.count(), 7);
        for (_, event) in events(3) {
            let data = event.split(|byte| *byte == b'\n').nth(1).unwrap();
            serde_json::from_slice::<Value>(data.strip_prefix(b"data: ").unwrap()).unwrap();
        }
    }
}
