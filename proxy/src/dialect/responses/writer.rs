//! Events as a stream for a client. Every event has the next sequence number; the last holds the whole response.

use std::sync::Arc;

use openclawmu_store::ServiceTier;
use serde_json::{Map, Value, json};

use super::echo::{Echo, State};
use super::reply::{ending, item_id, reasoning_item, set, text_part};
use super::{REDACTED, trouble};
use crate::dialect::Shown;
use crate::dialect::form::{Delta, Event, Opening, Part, Stop, Trouble};

/// Writes a stream event by event.
#[derive(Debug)]
pub(crate) struct Writer {
    shown: Shown,
    sequence: u64,
    started: bool,
    completed_at: i64,
    /// Items that are complete, and after them the one that is not.
    output: Vec<Value>,
    item: Option<Item>,
    refused: bool,
    stop: Option<Stop>,
    usage: Option<openclawmu_store::Usage>,
    response: Option<Value>,
}

#[derive(Debug)]
struct Item {
    id: String,
    kind: Kind,
    /// A message's parts that are complete.
    content: Vec<Value>,
    /// The part that grows now, by the form's number, with its text.
    part: Option<(u32, Grown)>,
    /// Text of a thought or of arguments.
    text: String,
    signature: String,
}

#[derive(Debug)]
enum Kind {
    Message,
    Reasoning { redacted: Option<String> },
    Call { call_id: String, name: String },
}

#[derive(Debug, Default)]
struct Grown {
    text: String,
    refusal: bool,
    logprobs: Vec<Value>,
}

impl Writer {
    /// A stream for this client.
    pub(crate) fn new(shown: &Shown) -> Self {
        Self {
            completed_at: shown.created,
            shown: shown.clone(),
            sequence: 0,
            started: false,
            output: Vec::new(),
            item: None,
            refused: false,
            stop: None,
            usage: None,
            response: None,
        }
    }

    /// When the answer was complete, in seconds since 1970; to be told before its end is written.
    pub(crate) fn completed_at(&mut self, seconds: i64) {
        self.completed_at = seconds;
    }

    /// At which tier it is served, to be told before its end is written.
    pub(crate) fn served(&mut self, tier: ServiceTier) {
        if let Some(echo) = &mut self.shown.echo {
            Arc::make_mut(echo).served(tier);
        }
    }

    /// The whole response, once it has ended: what is kept.
    pub(crate) fn response(&self) -> Option<&Value> {
        self.response.as_ref()
    }

    /// Writes what one event means to the client: whole SSE events, or nothing. Only the first choice has a place here.
    pub(crate) fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Start { .. } => self.start(out),
            Event::Open { choice: 0, part, opening } => self.open(*part, opening, out),
            Event::Grow { choice: 0, part, delta } => self.grow(*part, delta, out),
            Event::Close { choice: 0, part } => self.close(*part, out),
            Event::Logprobs { choice: 0, logprobs } => self.logprobs(logprobs),
            Event::Stop { choice: 0, stop } => self.stop = Some(stop.clone()),
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Ping => out.extend(b": ping\n\n"),
            Event::End => self.end(out),
            Event::Error(trouble) => self.fail(trouble, out),
            Event::Open { .. }
            | Event::Grow { .. }
            | Event::Close { .. }
            | Event::Logprobs { .. }
            | Event::Stop { .. } => {}
        }
    }

    fn event(&mut self, kind: &str, fields: Value, out: &mut Vec<u8>) {
        let mut event = Map::new();
        event.insert("type".into(), kind.into());
        event.insert("sequence_number".into(), self.sequence.into());
        if let Value::Object(fields) = fields {
            event.extend(fields);
        }
        self.sequence = self.sequence.saturating_add(1);
        out.extend(format!("event: {kind}\ndata: ").as_bytes());
        out.extend(Value::Object(event).to_string().as_bytes());
        out.extend(b"\n\n");
    }

    fn object(&self, status: &str, incomplete: Option<&str>, error: Value) -> Value {
        let state = State {
            status,
            completed_at: (status == "completed").then_some(self.completed_at),
            error,
            incomplete,
            output: self.output.clone(),
            usage: self.usage.filter(|_| status != "in_progress"),
        };
        Echo::shown(&self.shown).object(&self.shown, state)
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let response = self.object("in_progress", None, Value::Null);
        self.event("response.created", json!({"response": response}), out);
        self.event("response.in_progress", json!({"response": response}), out);
    }

    fn open(&mut self, part: u32, opening: &Opening, out: &mut Vec<u8>) {
        self.start(out);
        let said = matches!(opening, Opening::Text | Opening::Refusal);
        self.close_part(out);
        if !(said && self.item.as_ref().is_some_and(|item| matches!(item.kind, Kind::Message))) {
            self.close_item("completed", out);
            self.open_item(opening, out);
        }
        let Some(item) = &mut self.item else { return };
        let refusal = *opening == Opening::Refusal;
        self.refused |= refusal;
        item.part = Some((part, Grown { refusal, ..Grown::default() }));
        if said {
            let place = self.place();
            let empty = if refusal { json!({"type": "refusal", "refusal": ""}) } else { text_part("", json!([])) };
            self.event("response.content_part.added", with(place, json!({"part": empty})), out);
        }
    }

    fn open_item(&mut self, opening: &Opening, out: &mut Vec<u8>) {
        let (prefix, kind) = match opening {
            Opening::Text | Opening::Refusal => ("msg", Kind::Message),
            Opening::Thinking => ("rs", Kind::Reasoning { redacted: None }),
            Opening::RedactedThinking { data } => ("rs", Kind::Reasoning { redacted: Some(data.clone()) }),
            Opening::ToolCall { id, name } => ("fc", Kind::Call { call_id: id.clone(), name: name.clone() }),
        };
        let id = item_id(prefix, &self.shown.id, self.output.len());
        let item = Item { id, kind, content: Vec::new(), part: None, text: String::new(), signature: String::new() };
        let begun = item.value("in_progress");
        self.item = Some(item);
        let fields = json!({"output_index": self.output.len(), "item": begun});
        self.event("response.output_item.added", fields, out);
    }

    /// Where the open part of a message stands.
    fn place(&self) -> Value {
        let (id, index) = self.item.as_ref().map_or(("", 0), |item| (item.id.as_str(), item.content.len()));
        json!({"item_id": id, "output_index": self.output.len(), "content_index": index})
    }

    /// Where a thought or a call stands.
    fn item_place(&self) -> Value {
        let id = self.item.as_ref().map_or("", |item| item.id.as_str());
        json!({"item_id": id, "output_index": self.output.len()})
    }

    fn grow(&mut self, part: u32, delta: &Delta, out: &mut Vec<u8>) {
        let (place, item_place) = (self.place(), self.item_place());
        let Some(item) = &mut self.item else { return };
        let Some((_, grown)) = item.part.as_mut().filter(|(open, _)| *open == part) else { return };
        let (kind, more, fields) = match (&item.kind, delta) {
            (Kind::Message, Delta::Text(text)) if grown.refusal => {
                grown.text.push_str(text);
                ("response.refusal.delta", text, place)
            }
            (Kind::Message, Delta::Text(text)) => {
                grown.text.push_str(text);
                ("response.output_text.delta", text, with(place, json!({"logprobs": []})))
            }
            (Kind::Reasoning { redacted: None }, Delta::Text(text)) => {
                let first = item.text.is_empty();
                item.text.push_str(text);
                let place = with(item_place, json!({"summary_index": 0}));
                if first {
                    let empty = json!({"part": {"type": "summary_text", "text": ""}});
                    self.event("response.reasoning_summary_part.added", with(place.clone(), empty), out);
                }
                ("response.reasoning_summary_text.delta", text, place)
            }
            (Kind::Call { .. }, Delta::Arguments(text)) => {
                item.text.push_str(text);
                ("response.function_call_arguments.delta", text, item_place)
            }
            (Kind::Reasoning { .. } | Kind::Call { .. }, Delta::Signature(more)) => {
                item.signature.push_str(more);
                return;
            }
            (Kind::Message | Kind::Reasoning { .. } | Kind::Call { .. }, _) => return,
        };
        self.event(kind, with(fields, json!({"delta": more})), out);
    }

    fn logprobs(&mut self, logprobs: &Value) {
        let more = logprobs.get("content").and_then(Value::as_array);
        if let (Some(more), Some((_, grown))) = (more, self.item.as_mut().and_then(|item| item.part.as_mut())) {
            grown.logprobs.extend(more.iter().cloned());
        }
    }

    fn close(&mut self, part: u32, out: &mut Vec<u8>) {
        let open = self.item.as_ref().and_then(|item| item.part.as_ref());
        if open.is_some_and(|(open, _)| *open == part) {
            self.close_part(out);
        }
    }

    /// Ends the open part: what it says as a whole. Its item goes on until another begins or the answer ends.
    fn close_part(&mut self, out: &mut Vec<u8>) {
        let (place, item_place) = (self.place(), self.item_place());
        let Some(item) = &mut self.item else { return };
        let Some((_, grown)) = item.part.take() else { return };
        match &item.kind {
            Kind::Message => {
                let (kind, fields, part) = grown.done();
                item.content.push(part.clone());
                self.event(kind, with(place.clone(), fields), out);
                self.event("response.content_part.done", with(place, json!({"part": part})), out);
            }
            Kind::Reasoning { .. } if item.text.is_empty() => {}
            Kind::Reasoning { .. } => {
                let place = with(item_place, json!({"summary_index": 0}));
                let whole = json!({"part": {"type": "summary_text", "text": item.text}});
                let text = json!({"text": item.text});
                self.event("response.reasoning_summary_text.done", with(place.clone(), text), out);
                self.event("response.reasoning_summary_part.done", with(place, whole), out);
            }
            Kind::Call { name, .. } => {
                let fields = json!({"name": name, "arguments": item.text});
                self.event("response.function_call_arguments.done", with(item_place, fields), out);
            }
        }
    }

    fn close_item(&mut self, status: &str, out: &mut Vec<u8>) {
        self.close_part(out);
        let Some(item) = self.item.take() else { return };
        let done = item.value(status);
        let fields = json!({"output_index": self.output.len(), "item": done});
        self.event("response.output_item.done", fields, out);
        self.output.push(done);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.start(out);
        let declined = self.refused.then(|| Part::Refusal { text: String::new() });
        let (status, incomplete) = ending(self.stop.as_ref(), declined.as_slice());
        self.close_item(status, out);
        let response = self.object(status, incomplete, Value::Null);
        self.event(&format!("response.{status}"), json!({"response": response}), out);
        out.extend(b"data: [DONE]\n\n");
        self.response = Some(response);
    }

    fn fail(&mut self, trouble: &Trouble, out: &mut Vec<u8>) {
        if self.started {
            self.close_item("incomplete", out);
            let response = self.object("failed", None, trouble::in_response(trouble));
            self.event("response.failed", json!({"response": response}), out);
            self.response = Some(response);
        }
        out.extend(trouble::event(trouble, self.sequence));
        self.sequence = self.sequence.saturating_add(1);
    }
}

impl Grown {
    /// The event that tells it whole, its fields, and the part.
    fn done(self) -> (&'static str, Value, Value) {
        if self.refusal {
            let part = json!({"type": "refusal", "refusal": self.text});
            return ("response.refusal.done", json!({"refusal": self.text}), part);
        }
        let fields = json!({"text": self.text, "logprobs": self.logprobs});
        ("response.output_text.done", fields, text_part(&self.text, self.logprobs.into()))
    }
}

impl Item {
    fn value(&self, status: &str) -> Value {
        let mut value = match &self.kind {
            Kind::Message => json!({"id": self.id, "type": "message", "role": "assistant", "content": self.content}),
            Kind::Reasoning { redacted } => {
                let mut value = reasoning_item(&self.id, &self.text);
                let hidden = redacted.as_ref().map(|data| format!("{REDACTED}{data}"));
                let proof = hidden.or_else(|| Some(self.signature.clone()).filter(|proof| !proof.is_empty()));
                if let Some(proof) = proof {
                    set(&mut value, "encrypted_content", proof.into());
                }
                value
            }
            Kind::Call { call_id, name } => {
                let mut value = json!({
                    "id": self.id,
                    "type": "function_call",
                    "call_id": call_id,
                    "name": name,
                    "arguments": self.text,
                });
                if !self.signature.is_empty() {
                    set(&mut value, "extra_content", json!({"google": {"thought_signature": self.signature}}));
                }
                value
            }
        };
        set(&mut value, "status", status.into());
        value
    }
}

fn with(mut fields: Value, more: Value) -> Value {
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        fields.extend(more);
    }
    fields
}
