//! An answer's pieces as messages, and what is remembered of it.

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};

use crate::client::Piped;
use crate::dialect::Shown;
use crate::dialect::form::{Event, Stop};
use crate::dialect::responses::{Writer, state};
use crate::refusal::Told;
use crate::sse::{self, Splitter};

/// The most bytes of a whole answer; one is only ever an error.
const MAX_WHOLE_BYTES: usize = 1 << 20;

/// One answer.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    stream: Option<String>,
    status: u16,
    splitter: Splitter,
    whole: BytesMut,
    events: bool,
    /// The response, once it is complete.
    pub(crate) response: Option<Value>,
    /// Why it has failed, as a response tells it.
    pub(crate) error: Option<Value>,
    /// It has failed.
    pub(crate) failed: bool,
    /// Its last message has been made.
    pub(crate) ended: bool,
}

impl Outcome {
    /// The answer to a request of this stream.
    pub(super) fn new(stream: Option<String>) -> Self {
        Self { stream, ..Self::default() }
    }

    /// The stream that it belongs to.
    pub(super) fn stream(&self) -> Option<&str> {
        self.stream.as_deref()
    }

    /// Takes what came out of the pipe; the messages that it makes.
    pub(crate) fn take(&mut self, piped: Piped) -> Vec<String> {
        match piped {
            Piped::Head(head) => {
                self.status = head.status().as_u16();
                let kind = head.get(&http::header::CONTENT_TYPE);
                self.events = kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"));
                Vec::new()
            }
            Piped::Piece(piece) if self.events => self.events(&piece),
            Piped::Piece(piece) => {
                let room = MAX_WHOLE_BYTES.saturating_sub(self.whole.len());
                self.whole.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
                Vec::new()
            }
            Piped::End => self.end(),
        }
    }

    fn events(&mut self, piece: &[u8]) -> Vec<String> {
        let mut messages = Vec::new();
        if self.splitter.push(piece).is_err() {
            return messages;
        }
        while let Some(event) = self.splitter.next() {
            messages.extend(self.event(&event));
        }
        messages
    }

    /// The message of one event; none for what only ends a stream.
    fn event(&mut self, event: &Bytes) -> Option<String> {
        if self.ended {
            // One message ends an answer here, so that what follows is the next answer's.
            return None;
        }
        let data = sse::data(event)?;
        let text = std::str::from_utf8(&data).ok().filter(|text| text.starts_with('{'))?;
        if let Some(kind) = sse::name(event) {
            match kind.as_ref() {
                "response.completed" | "response.incomplete" => {
                    let mut event: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
                    self.response = event.remove("response");
                    self.ended = true;
                }
                "response.failed" | "error" => {
                    (self.failed, self.ended) = (true, true);
                    let event: Value = serde_json::from_str(text).unwrap_or_default();
                    self.error = Some(state::error_of(&event));
                }
                _ => {}
            }
        }
        Some(self.routed(text))
    }

    fn end(&mut self) -> Vec<String> {
        if self.events || self.ended {
            return Vec::new();
        }
        (self.failed, self.ended) = (true, true);
        let mut body: Map<String, Value> = serde_json::from_slice(&self.whole).unwrap_or_default();
        let error = body.remove("error").unwrap_or_default();
        self.error = Some(state::error_of(&error));
        vec![error_event(self.status, error, self.stream.as_deref())]
    }

    /// A message of this answer's stream.
    fn routed(&self, text: &str) -> String {
        match (&self.stream, text.strip_prefix('{')) {
            // A stream's name needs no escapes.
            (Some(stream), Some(rest)) => format!("{{\"stream_id\":\"{stream}\",{rest}"),
            _ => text.to_owned(),
        }
    }
}

/// The events of a response in which nothing is said.
pub(super) fn nothing(shown: &Shown) -> Vec<u8> {
    let (mut writer, mut events) = (Writer::new(shown), Vec::new());
    for event in [
        Event::Start { id: shown.id.clone(), model: shown.model.clone() },
        Event::Stop { choice: 0, stop: Stop::End },
        Event::End,
    ] {
        writer.write(&event, &mut events);
    }
    events
}

/// What a refusal is told as.
pub(super) fn refusal_event(told: &Told, stream: Option<&str>) -> String {
    let body: Map<String, Value> = serde_json::from_slice(&told.openai_body()).unwrap_or_default();
    error_event(told.status, body.get("error").cloned().unwrap_or_default(), stream)
}

fn error_event(status: u16, error: Value, stream: Option<&str>) -> String {
    let mut event = Map::new();
    event.insert("type".to_owned(), "error".into());
    event.insert("status".to_owned(), status.into());
    event.insert("error".to_owned(), error);
    if let Some(stream) = stream {
        event.insert("stream_id".to_owned(), stream.into());
    }
    Value::Object(event).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;
    use serde_json::json;

    fn head(status: u16, kind: &str) -> Piped {
        let mut head = crate::answer::Head::bare(http::StatusCode::from_u16(status).unwrap());
        head.set("content-type", kind);
        Piped::Head(Box::new(head))
    }

    fn taken(outcome: &mut Outcome, pieces: Vec<Piped>) -> Vec<Value> {
        let messages = pieces.into_iter().flat_map(|piped| outcome.take(piped));
        messages.map(|message| serde_json::from_str(&message).unwrap()).collect()
    }

    #[test]
    fn each_event_is_a_message_and_the_response_is_known_at_the_end() {
        let piece = |text: &'static str| Piped::Piece(Bytes::from_static(text.as_bytes()));
        let pieces = || {
            vec![
                head(200, "text/event-stream"),
                piece(
                    "event: response.created\ndata: {\"type\":\"response.created\"}\n\nevent: response.output_text.delta\n",
                ),
                piece("data: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n"),
                piece(
                    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\"}}\n\n",
                ),
                piece("data: [DONE]\n\n"),
                Piped::End,
            ]
        };
        let mut outcome = Outcome::new(None);
        let messages = taken(&mut outcome, pieces());
        assert_eq!(messages.len(), 3);
        assert_eq!(messages[1], json!({"type": "response.output_text.delta", "delta": "a"}));
        assert_eq!(
            (outcome.response.clone(), outcome.failed, outcome.ended),
            (Some(json!({"id": "resp_1"})), false, true)
        );
        let named = taken(&mut Outcome::new(Some("one".to_owned())), pieces());
        assert!(named.iter().all(|message| message["stream_id"] == "one"));
    }

    #[test]
    fn a_refusal_is_an_error_event_with_its_status() {
        let told = Refusal::bad("model", "No.").told();
        let expected = json!({
            "type": "error", "status": 400, "stream_id": "one",
            "error": {"type": "invalid_request_error", "code": "invalid_value", "param": "model", "message": "No."}
        });
        let mut outcome = Outcome::new(Some("one".to_owned()));
        let pieces = vec![head(400, "application/json"), Piped::Piece(told.openai_body().into()), Piped::End];
        assert_eq!(taken(&mut outcome, pieces), std::slice::from_ref(&expected));
        assert!(outcome.failed && outcome.ended && outcome.response.is_none());
        assert_eq!(serde_json::from_str::<Value>(&refusal_event(&told, Some("one"))).unwrap(), expected);
    }
}
