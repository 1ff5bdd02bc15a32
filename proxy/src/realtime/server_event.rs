//! What a provider's events say, as far as the gateway must know it. The events themselves go on as they are.

use openclawmu_store::Usage;
use serde_json::{Map, Value};

use super::usage::usage;
use crate::dialect::scan;

/// What one event says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    /// How a session stands.
    Session {
        /// It has just begun.
        created: bool,
        /// Its settings.
        session: Map<String, Value>,
    },
    /// A response begins.
    Began,
    /// Bytes of text that a model produced.
    Text(usize),
    /// Bytes of audio, in base64.
    Audio(usize),
    /// A response has ended.
    Done(Done),
    /// A turn of the client's has ended.
    TurnEnded,
    /// What was heard has become a part of the conversation.
    Committed,
    /// Something went wrong, perhaps with the client's event of this id.
    Error(Option<String>),
    /// Nothing that matters.
    Other,
}

/// How a response ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// What it used, where that is stated, with the calls that it made.
    pub(super) usage: Option<Usage>,
    /// The provider failed.
    pub(super) failed: bool,
}

/// Reads an event; `None` when it is none.
pub(super) fn read(text: &str) -> Option<Said> {
    let (mut kind, mut delta) = (None, 0);
    scan::members(text, |key, range| match key.as_ref() {
        "type" => kind = text.get(range).and_then(|raw| serde_json::from_str::<String>(raw).ok()),
        "delta" => delta = range.len().saturating_sub(2),
        _ => {}
    })
    .ok()?;
    Some(match kind?.as_str() {
        "session.created" => Said::Session { created: true, session: object(text, "session")? },
        "session.updated" => Said::Session { created: false, session: object(text, "session")? },
        "response.created" => Said::Began,
        "response.done" => Said::Done(done(&object(text, "response")?)),
        "input_audio_buffer.speech_stopped" => Said::TurnEnded,
        "input_audio_buffer.committed" => Said::Committed,
        "error" => {
            let error = object(text, "error").unwrap_or_default();
            Said::Error(error.get("event_id").and_then(Value::as_str).map(str::to_owned))
        }
        "response.output_audio.delta" | "response.audio.delta" => Said::Audio(delta),
        kind if kind.starts_with("response.") && kind.ends_with(".delta") => Said::Text(delta),
        _ => Said::Other,
    })
}

fn object(text: &str, key: &str) -> Option<Map<String, Value>> {
    let mut event: Map<String, Value> = serde_json::from_str(text).ok()?;
    let Some(Value::Object(map)) = event.remove(key) else { return None };
    Some(map)
}

fn done(response: &Map<String, Value>) -> Done {
    let output = response.get("output").and_then(Value::as_array);
    let calls =
        output.into_iter().flatten().filter(|item| item.get("type").is_some_and(|kind| kind == "function_call"));
    let tool_calls = u32::try_from(calls.count()).unwrap_or(u32::MAX);
    let usage = response.get("usage").and_then(usage).map(|usage| Usage { tool_calls, ..usage });
    Done { usage, failed: response.get("status").is_some_and(|status| status == "failed") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_audio_and_turns_are_told_apart_in_both_shapes() {
        for (event, said) in [
            (r#"{"type":"response.created","response":{"id":"resp_1"}}"#, Said::Began),
            (r#"{"type":"response.output_text.delta","delta":"abc"}"#, Said::Text(3)),
            (r#"{"type":"response.text.delta","delta":"abc"}"#, Said::Text(3)),
            (r#"{"type":"response.output_audio_transcript.delta","delta":"ab"}"#, Said::Text(2)),
            (r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#, Said::Text(1)),
            (r#"{"type":"response.output_audio.delta","delta":"AAAA"}"#, Said::Audio(4)),
            (r#"{"type":"response.audio.delta","delta":"AAAA"}"#, Said::Audio(4)),
            (r#"{"type":"input_audio_buffer.speech_stopped"}"#, Said::TurnEnded),
            (r#"{"type":"input_audio_buffer.committed"}"#, Said::Committed),
            (r#"{"type":"error","error":{"event_id":"e1"}}"#, Said::Error(Some("e1".to_owned()))),
            (r#"{"type":"error"}"#, Said::Error(None)),
            (r#"{"type":"rate_limits.updated"}"#, Said::Other),
        ] {
            assert_eq!(read(event), Some(said), "{event}");
        }
        assert_eq!(read("[]"), None);
        assert_eq!(read(r#"{"type":"response.done"}"#), None, "a response that says nothing of itself is no event");
    }

    #[test]
    fn the_end_of_a_response_states_what_it_used() {
        let event = r#"{"type":"response.done","response":{"status":"completed","output":[{"type":"function_call"},{"type":"message"}],
            "usage":{"input_tokens":5,"output_tokens":7}}}"#;
        let usage = Usage { input: 5, output: 7, tool_calls: 1, ..Usage::default() };
        assert_eq!(read(event), Some(Said::Done(Done { usage: Some(usage), failed: false })));
        let event = r#"{"type":"response.done","response":{"status":"failed","output":[],"usage":null}}"#;
        assert_eq!(read(event), Some(Said::Done(Done { usage: None, failed: true })));
    }
}
