//! Events as a stream for a client. Every event has the next sequence number; the last holds the whole response.
//!
//! A provider may tell several parts in turns, calls above all: each is an item of its own, told apart by its index, and stays
//! open until its own end.

use std::collections::BTreeMap;
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
    /// By their index in the output.
    items: Vec<Item>,
    /// The items of the parts that are open, by the form's number.
    open: BTreeMap<u32, usize>,
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
    /// The part of a message that grows now.
    part: Option<Grown>,
    /// Text of a thought or of arguments.
    text: String,
    signature: String,
    /// As what it ended.
    status: Option<&'static str>,
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
            items: Vec::new(),
            open: BTreeMap::new(),
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
            output: self.items.iter().map(|item| item.value(item.status.unwrap_or(status))).collect(),
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
        self.close(part, out);
        let refusal = *opening == Opening::Refusal;
        let said = refusal || *opening == Opening::Text;
        self.refused |= refusal;
        let at = self.message().filter(|_| said).unwrap_or_else(|| self.open_item(opening, out));
        self.open.insert(part, at);
        if !said {
            return;
        }
        let Some(item) = self.items.get_mut(at) else { return };
        item.part = Some(Grown { refusal, ..Grown::default() });
        let place = item.content_place(at);
        let empty = if refusal { json!({"type": "refusal", "refusal": ""}) } else { text_part("", json!([])) };
        self.event("response.content_part.added", with(place, json!({"part": empty})), out);
    }

    /// The message that can take one more part: the last item, unless a part of it still grows.
    fn message(&self) -> Option<usize> {
        let at = self.items.len().checked_sub(1)?;
        let last = self.items.get(at)?;
        (matches!(last.kind, Kind::Message) && last.part.is_none()).then_some(at)
    }

    fn open_item(&mut self, opening: &Opening, out: &mut Vec<u8>) -> usize {
        self.close_items("completed", out);
        let (prefix, kind) = match opening {
            Opening::Text | Opening::Refusal => ("msg", Kind::Message),
            Opening::Thinking => ("rs", Kind::Reasoning { redacted: None }),
            Opening::RedactedThinking { data } => ("rs", Kind::Reasoning { redacted: Some(data.clone()) }),
            Opening::ToolCall { id, name } => ("fc", Kind::Call { call_id: id.clone(), name: name.clone() }),
        };
        let at = self.items.len();
        let item = Item::new(item_id(prefix, &self.shown.id, at), kind);
        let begun = item.value("in_progress");
        self.items.push(item);
        self.event("response.output_item.added", json!({"output_index": at, "item": begun}), out);
        at
    }

    fn grow(&mut self, part: u32, delta: &Delta, out: &mut Vec<u8>) {
        let Some(&at) = self.open.get(&part) else { return };
        let Some(item) = self.items.get_mut(at) else { return };
        let (kind, more, fields) = match (&item.kind, delta) {
            (Kind::Message, Delta::Text(text)) => {
                let place = item.content_place(at);
                let Some(grown) = &mut item.part else { return };
                grown.text.push_str(text);
                if grown.refusal {
                    ("response.refusal.delta", text, place)
                } else {
                    ("response.output_text.delta", text, with(place, json!({"logprobs": []})))
                }
            }
            (Kind::Reasoning { redacted: None }, Delta::Text(text)) => {
                let first = item.text.is_empty();
                item.text.push_str(text);
                let place = item.summary_place(at);
                if first {
                    let empty = json!({"part": {"type": "summary_text", "text": ""}});
                    self.event("response.reasoning_summary_part.added", with(place.clone(), empty), out);
                }
                ("response.reasoning_summary_text.delta", text, place)
            }
            (Kind::Call { .. }, Delta::Arguments(text)) => {
                item.text.push_str(text);
                ("response.function_call_arguments.delta", text, item.place(at))
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
        let growing = self.items.iter_mut().rev().find_map(|item| item.part.as_mut());
        if let (Some(more), Some(grown)) = (logprobs.get("content").and_then(Value::as_array), growing) {
            grown.logprobs.extend(more.iter().cloned());
        }
    }

    /// Ends a part: what it says as a whole. Its item goes on until another begins or the answer ends.
    fn close(&mut self, part: u32, out: &mut Vec<u8>) {
        let Some(at) = self.open.remove(&part) else { return };
        let Some(item) = self.items.get_mut(at) else { return };
        match &item.kind {
            Kind::Message => {
                let place = item.content_place(at);
                let Some(grown) = item.part.take() else { return };
                let (kind, fields, part) = grown.done();
                item.content.push(part.clone());
                self.event(kind, with(place.clone(), fields), out);
                self.event("response.content_part.done", with(place, json!({"part": part})), out);
            }
            Kind::Reasoning { .. } if item.text.is_empty() => {}
            Kind::Reasoning { .. } => {
                let place = item.summary_place(at);
                let whole = json!({"part": {"type": "summary_text", "text": item.text}});
                let text = json!({"text": item.text});
                self.event("response.reasoning_summary_text.done", with(place.clone(), text), out);
                self.event("response.reasoning_summary_part.done", with(place, whole), out);
            }
            Kind::Call { name, .. } => {
                let fields = with(item.place(at), json!({"name": name, "arguments": item.text}));
                self.event("response.function_call_arguments.done", fields, out);
            }
        }
    }

    /// Ends the items that have no open part.
    fn close_items(&mut self, status: &'static str, out: &mut Vec<u8>) {
        for at in 0..self.items.len() {
            let open = self.open.values().any(|open| *open == at);
            let Some(item) = self.items.get_mut(at).filter(|item| !open && item.status.is_none()) else { continue };
            item.status = Some(status);
            let fields = json!({"output_index": at, "item": item.value(status)});
            self.event("response.output_item.done", fields, out);
        }
    }

    fn close_all(&mut self, status: &'static str, out: &mut Vec<u8>) {
        let open: Vec<u32> = self.open.keys().copied().collect();
        for part in open {
            self.close(part, out);
        }
        self.close_items(status, out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.start(out);
        let declined = self.refused.then(|| Part::Refusal { text: String::new() });
        let (status, incomplete) = ending(self.stop.as_ref(), declined.as_slice());
        self.close_all(status, out);
        let response = self.object(status, incomplete, Value::Null);
        self.event(&format!("response.{status}"), json!({"response": response}), out);
        out.extend(b"data: [DONE]\n\n");
        self.response = Some(response);
    }

    fn fail(&mut self, trouble: &Trouble, out: &mut Vec<u8>) {
        if self.started {
            self.close_all("incomplete", out);
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
    fn new(id: String, kind: Kind) -> Self {
        let (text, signature) = (String::new(), String::new());
        Self { id, kind, content: Vec::new(), part: None, text, signature, status: None }
    }

    /// Where it stands in the output.
    fn place(&self, at: usize) -> Value {
        json!({"item_id": self.id, "output_index": at})
    }

    /// Where its next part stands.
    fn content_place(&self, at: usize) -> Value {
        with(self.place(at), json!({"content_index": self.content.len()}))
    }

    fn summary_place(&self, at: usize) -> Value {
        with(self.place(at), json!({"summary_index": 0}))
    }

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
