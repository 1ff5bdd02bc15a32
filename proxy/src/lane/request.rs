//! What a client's event asks for: the body that the same request would have over HTTP.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::dialect::scan;
use crate::refusal::Refusal;

/// The longest name of a stream.
const MAX_STREAM: usize = 256;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Its body.
    pub(super) body: Bytes,
    /// The response that it continues.
    pub(super) previous: Option<String>,
    /// A model is to answer; else the request is only remembered, for those that continue it.
    pub(super) generate: bool,
}

/// Reads an event: the stream that it names, for its answer, and what it asks for.
///
/// # Errors
/// Why it asks for nothing.
pub(super) fn read(text: &str) -> (Option<String>, Result<Turn, Refusal>) {
    let mut event: Map<String, Value> = match serde_json::from_str(text) {
        Ok(event) => event,
        Err(err) => return (None, Err(bad("event", &format!("The event is not a JSON object: {err}.")))),
    };
    let stream = match event.remove("stream_id") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) if is_name(&name) => Some(name),
        Some(_) => {
            let message = "`stream_id` must be 1 to 256 letters, digits, underscores, hyphens or periods.";
            return (None, Err(coded("stream_id", "invalid_stream_id", message)));
        }
    };
    let turn = turn(event, text);
    (stream, turn)
}

fn turn(mut event: Map<String, Value>, text: &str) -> Result<Turn, Refusal> {
    if event.remove("type").is_none_or(|kind| kind != "response.create") {
        return Err(bad("type", "The only event that can be sent is `response.create`."));
    }
    if event.remove("background").is_some_and(|background| background == true) {
        return Err(bad("background", "A response in the background is asked for over HTTP."));
    }
    let generate = match event.remove("generate") {
        None | Some(Value::Null | Value::Bool(true)) => true,
        Some(Value::Bool(false)) => false,
        Some(Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            return Err(bad("generate", "`generate` must be true or false."));
        }
    };
    // No member may be there twice: parsed, the last one would count, and nobody would know.
    if let Ok(Some(key)) = scan::repeated(text) {
        return Err(Refusal::bad(key, "The event states this field twice."));
    }
    event.insert("stream".to_owned(), Value::Bool(true));
    let previous = event.get("previous_response_id").and_then(Value::as_str).map(str::to_owned);
    Ok(Turn { body: Value::Object(event).to_string().into(), previous, generate })
}

fn is_name(name: &str) -> bool {
    (1..=MAX_STREAM).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

fn bad(param: &'static str, message: &str) -> Refusal {
    Refusal::bad(param, message)
}

fn coded(param: &'static str, code: &'static str, message: &str) -> Refusal {
    Refusal::Bad { status: 400, param: Some(param.into()), code: Some(code), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(event: &Value) -> (Option<String>, String) {
        let (stream, turn) = read(&event.to_string());
        (stream, turn.unwrap_err().told().param.unwrap_or_default().into_owned())
    }

    #[test]
    fn an_event_is_a_request_with_its_transport_taken_off() {
        let event = json!({
            "type": "response.create", "stream_id": "a.B-1_", "model": "m", "store": false, "stream": false,
            "background": false, "previous_response_id": "resp_1", "input": "hello", "later": {"unknown": 1}
        });
        let (stream, turn) = read(&event.to_string());
        let turn = turn.unwrap();
        assert_eq!(
            (stream.as_deref(), turn.previous.as_deref(), turn.generate),
            (Some("a.B-1_"), Some("resp_1"), true)
        );
        let body: Value = serde_json::from_slice(&turn.body).unwrap();
        let expected = json!({
            "model": "m", "store": false, "stream": true, "previous_response_id": "resp_1", "input": "hello",
            "later": {"unknown": 1}
        });
        assert_eq!(body, expected);
        assert!(!read(r#"{"type":"response.create","generate":false}"#).1.unwrap().generate);
    }

    #[test]
    fn what_is_no_request_is_refused_by_name() {
        for (event, param) in [
            (json!({"type": "response.steer"}), "type"),
            (json!({"model": "m"}), "type"),
            (json!({"type": "response.create", "background": true}), "background"),
            (json!({"type": "response.create", "generate": 1}), "generate"),
            (json!([]), "event"),
        ] {
            assert_eq!(refused(&event), (None, param.to_owned()), "{event}");
        }
        for name in [json!(""), json!("a b"), json!("é"), json!(1), json!("x".repeat(257))] {
            assert_eq!(refused(&json!({"type": "response.create", "stream_id": name})).1, "stream_id", "{name}");
        }
        let twice = r#"{"type":"response.create","model":"a","model":"b","stream_id":"s"}"#;
        let (stream, turn) = read(twice);
        assert_eq!((stream.as_deref(), turn.unwrap_err().told().param.as_deref()), (Some("s"), Some("model")));
    }
}
