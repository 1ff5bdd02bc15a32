//! What a client may send, and what of it is edited. What is not known here goes no further: it might begin what nobody has
//! reserved.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::session::Rules;
use crate::dialect::scan;
use crate::refusal::Refusal;

/// Events that go on as they are: none of them makes a model work.
const HARMLESS: [&str; 9] = [
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "output_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.retrieve",
    "conversation.item.truncate",
    "conversation.item.delete",
    "response.cancel",
];

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// This event goes on as it is; how much of it is audio, in bytes of base64.
    Pass {
        /// Bytes of audio.
        audio_bytes: usize,
    },
    /// The session is to change: the event as it goes on.
    Session {
        /// The event.
        event: Map<String, Value>,
        /// Whether turns are to be answered unasked, where it says so.
        answers: Option<bool>,
    },
    /// A response is to begin: the event as it goes on.
    Response(Map<String, Value>),
}

/// Reads a client's event: what it wants, with its id for the answer to what is wrong with it.
///
/// # Errors
/// Why it goes no further.
pub(super) fn read(text: &str, rules: &Rules) -> (Option<String>, Result<Wanted, Refusal>) {
    let (mut kind, mut id, mut audio_bytes) = (None, None, 0);
    let (mut seen, mut twice) = (HashSet::new(), None);
    let scanned = scan::members(text, |key, range| {
        let raw = text.get(range).unwrap_or_default();
        match key.as_ref() {
            "type" => kind = serde_json::from_str::<String>(raw).ok(),
            "event_id" => id = serde_json::from_str::<String>(raw).ok(),
            "audio" => audio_bytes = raw.len(),
            _ => {}
        }
        if !seen.insert(key.clone()) {
            twice = Some(key.into_owned());
        }
    });
    let wanted = match (scanned, twice) {
        (Err(err), _) => Err(Refusal::bad("event", format!("The event {err}."))),
        (Ok(_), Some(key)) => Err(Refusal::bad(key, "The event states this field twice.")),
        (Ok(_), None) => wanted(text, kind.as_deref().unwrap_or_default(), audio_bytes, rules),
    };
    (id, wanted)
}

fn wanted(text: &str, kind: &str, audio_bytes: usize, rules: &Rules) -> Result<Wanted, Refusal> {
    if HARMLESS.contains(&kind) {
        return Ok(Wanted::Pass { audio_bytes });
    }
    let unreadable = |err: serde_json::Error| Refusal::bad("event", format!("The event is not JSON: {err}."));
    match kind {
        "session.update" => {
            let mut event: Map<String, Value> = serde_json::from_str(text).map_err(unreadable)?;
            let session = event.get_mut("session").and_then(Value::as_object_mut);
            let session = session.ok_or_else(|| Refusal::bad("session", "`session` must be an object."))?;
            let answers = rules.session(session)?;
            Ok(Wanted::Session { event, answers })
        }
        "response.create" => {
            let mut event: Map<String, Value> = serde_json::from_str(text).map_err(unreadable)?;
            match event.get_mut("response") {
                None | Some(Value::Null) => {}
                Some(Value::Object(response)) => rules.response(response)?,
                Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                    return Err(Refusal::bad("response", "`response` must be an object."));
                }
            }
            Ok(Wanted::Response(event))
        }
        _ => {
            let kind: String = kind.chars().take(80).collect();
            Err(Refusal::bad("type", format!("Events of type `{kind}` cannot be sent through this gateway.")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wants(text: &str) -> Result<Wanted, String> {
        let rules = Rules { cap: 100, asked: "voice".to_owned(), model: "gpt-realtime".to_owned() };
        read(text, &rules).1.map_err(|refusal| refusal.told().param.unwrap_or_default().into_owned())
    }

    #[test]
    fn what_starts_no_response_goes_on_as_it_is() {
        for kind in HARMLESS {
            let event = json!({"type": kind, "event_id": "e1", "item": {"unknown": 1}}).to_string();
            assert_eq!(wants(&event), Ok(Wanted::Pass { audio_bytes: 0 }), "{kind}");
        }
        let append = r#"{"audio":"AAAA","type":"input_audio_buffer.append"}"#;
        assert_eq!(wants(append), Ok(Wanted::Pass { audio_bytes: 6 }));
    }

    #[test]
    fn a_response_is_capped_and_read_as_the_provider_reads_it() {
        let Ok(Wanted::Response(event)) =
            wants(r#"{"type":"response.create","response":{"max_output_tokens":"inf","instructions":"Go."}}"#)
        else {
            panic!("a response")
        };
        assert_eq!(event["response"], json!({"max_output_tokens": 100, "instructions": "Go."}));
        assert!(matches!(wants(r#"{"type":"response.create"}"#), Ok(Wanted::Response(_))));
        assert_eq!(wants(r#"{"type":"response.create","response":[]}"#), Err("response".to_owned()));
    }

    #[test]
    fn nothing_is_disguised_as_something_harmless() {
        for (event, param) in [
            (r#"{"type":"input_audio_buffer.commit","type":"response.create"}"#, "type"),
            (r#"{"type":"input_audio_buffer.commit","\u0074ype":"response.create"}"#, "type"),
            (r#"{"type":"session.update","session":{},"session":{"tools":[{"type":"mcp"}]}}"#, "session"),
            (r#"{"type":"transcription_session.update"}"#, "type"),
            (r#"{"type":["response.create"]}"#, "type"),
            (r#"{}"#, "type"),
            (r#"{"type":"input_audio_buffer.commit"} {"type":"response.create"}"#, "event"),
            (r#"[{"type":"response.create"}]"#, "event"),
            ("not json", "event"),
        ] {
            assert_eq!(wants(event), Err(param.to_owned()), "{event}");
        }
    }
}
