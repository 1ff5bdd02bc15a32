//! A provider's stream as events.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::reply::{Incomplete, call_signature, encrypted, stop};
use super::{REDACTED, trouble, usage};
use crate::dialect::form::{Delta, Event, Opening, Part};

/// More items than any provider sends; a bound on what a broken one can make us hold.
const MAX_ITEMS: usize = 1 << 12;

/// Reads a stream event by event.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    started: bool,
    over: bool,
    parts: u32,
    /// By item and by its content's index.
    open: BTreeMap<(u32, u32), Open>,
    called: bool,
    refused: bool,
}

#[derive(Debug)]
struct Open {
    part: u32,
    grown: bool,
    closed: bool,
    /// Whether log probabilities have come with the deltas.
    logprobs: bool,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    output_index: u32,
    #[serde(default)]
    content_index: u32,
    #[serde(default)]
    summary_index: u32,
    #[serde(default)]
    delta: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
    #[serde(default)]
    logprobs: Option<Vec<Value>>,
    #[serde(default)]
    item: Option<Value>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Response<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    incomplete_details: Option<Incomplete>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

impl Reader {
    /// Reads one event of the stream; what can't be read says nothing. The event's type stands in its data as well.
    pub(crate) fn read(&mut self, _event: Option<&str>, data: &[u8], out: &mut Vec<Event>) {
        if self.over {
            return;
        }
        let Ok(raw) = serde_json::from_slice::<Raw<'_>>(data) else { return };
        let at = (raw.output_index, raw.content_index);
        match raw.kind.as_str() {
            "response.created" | "response.in_progress" | "response.queued" => self.start(raw.response, out),
            "response.output_item.added" => self.item_added(&raw, out),
            "response.output_text.delta" => self.text(at, &Opening::Text, &raw, out),
            "response.output_text.done" => self.text_done(at, &Opening::Text, &raw, out),
            "response.refusal.delta" => self.text(at, &Opening::Refusal, &raw, out),
            "response.refusal.done" => self.text_done(at, &Opening::Refusal, &raw, out),
            "response.content_part.done" => self.close(at, out),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.text((raw.output_index, 0), &Opening::Thinking, &raw, out);
            }
            "response.reasoning_summary_part.added" if raw.summary_index > 0 => {
                self.grow((raw.output_index, 0), Delta::Text("\n\n".to_owned()), out);
            }
            "response.function_call_arguments.delta" => {
                let delta = Delta::Arguments(raw.delta.unwrap_or_default());
                self.grow((raw.output_index, 0), delta, out);
            }
            "response.function_call_arguments.done" => self.arguments_done(raw.output_index, raw.arguments, out),
            "response.output_item.done" => self.item_done(&raw, out),
            "response.completed" => self.finish("completed", raw.response, out),
            "response.incomplete" => self.finish("incomplete", raw.response, out),
            "response.failed" => self.fail(raw.response.map_or(data, |response| response.get().as_bytes()), out),
            "error" => self.fail(data, out),
            _ => {}
        }
    }

    /// The body has ended: this dialect says its end itself.
    #[expect(clippy::unused_self, reason = "every dialect's reader has it")]
    pub(crate) fn end(&mut self, _out: &mut Vec<Event>) {}

    fn start(&mut self, response: Option<&RawValue>, out: &mut Vec<Event>) {
        if self.started {
            return;
        }
        self.started = true;
        let response = response_of(response);
        out.push(Event::Start { id: response.id.unwrap_or_default(), model: response.model.unwrap_or_default() });
    }

    fn fail(&mut self, data: &[u8], out: &mut Vec<Event>) {
        self.over = true;
        out.push(Event::Error(trouble::parse(0, data)));
    }

    fn open(&mut self, at: (u32, u32), opening: &Opening, out: &mut Vec<Event>) {
        if self.open.contains_key(&at) || self.open.len() >= MAX_ITEMS {
            return;
        }
        self.called |= matches!(opening, Opening::ToolCall { .. });
        self.refused |= *opening == Opening::Refusal;
        let part = self.parts;
        self.parts = self.parts.saturating_add(1);
        self.open.insert(at, Open { part, grown: false, closed: false, logprobs: false });
        out.push(Event::Open { choice: 0, part, opening: opening.clone() });
    }

    fn grow(&mut self, at: (u32, u32), delta: Delta, out: &mut Vec<Event>) {
        let empty = match &delta {
            Delta::Text(text) | Delta::Arguments(text) | Delta::Signature(text) => text.is_empty(),
        };
        if let Some(open) = self.open.get_mut(&at).filter(|open| !empty && !open.closed) {
            open.grown |= !matches!(delta, Delta::Signature(_));
            out.push(Event::Grow { choice: 0, part: open.part, delta });
        }
    }

    fn close(&mut self, at: (u32, u32), out: &mut Vec<Event>) {
        if let Some(open) = self.open.get_mut(&at).filter(|open| !open.closed) {
            open.closed = true;
            out.push(Event::Close { choice: 0, part: open.part });
        }
    }

    fn text(&mut self, at: (u32, u32), opening: &Opening, raw: &Raw<'_>, out: &mut Vec<Event>) {
        let text = raw.delta.clone().unwrap_or_default();
        if text.is_empty() {
            return;
        }
        self.open(at, opening, out);
        self.grow(at, Delta::Text(text), out);
        self.logprobs(at, raw.logprobs.as_deref(), out);
    }

    /// The whole text: of use only to who did not send it in pieces. Log probabilities may come here alone.
    fn text_done(&mut self, at: (u32, u32), opening: &Opening, raw: &Raw<'_>, out: &mut Vec<Event>) {
        let text = raw.text.as_deref().or(raw.refusal.as_deref()).unwrap_or_default();
        if !text.is_empty() && !self.open.contains_key(&at) {
            self.open(at, opening, out);
            self.grow(at, Delta::Text(text.to_owned()), out);
        }
        if self.open.get(&at).is_some_and(|open| !open.logprobs) {
            self.logprobs(at, raw.logprobs.as_deref(), out);
        }
    }

    fn logprobs(&mut self, at: (u32, u32), logprobs: Option<&[Value]>, out: &mut Vec<Event>) {
        let Some(logprobs) = logprobs.filter(|logprobs| !logprobs.is_empty()) else { return };
        if let Some(open) = self.open.get_mut(&at) {
            open.logprobs = true;
        }
        out.push(Event::Logprobs { choice: 0, logprobs: json!({"content": logprobs}) });
    }

    fn arguments_done(&mut self, item: u32, arguments: Option<String>, out: &mut Vec<Event>) {
        if self.open.get(&(item, 0)).is_some_and(|open| !open.grown) {
            self.grow((item, 0), Delta::Arguments(arguments.unwrap_or_default()), out);
        }
    }

    fn item_added(&mut self, raw: &Raw<'_>, out: &mut Vec<Event>) {
        let Some(item) = raw.item.as_ref().filter(|item| kind(item) == "function_call") else { return };
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let opening = Opening::ToolCall { id: text("call_id"), name: text("name") };
        self.open((raw.output_index, 0), &opening, out);
    }

    fn item_done(&mut self, raw: &Raw<'_>, out: &mut Vec<Event>) {
        let at = (raw.output_index, 0);
        let Some(item) = &raw.item else { return };
        match kind(item) {
            "function_call" => {
                self.item_added(raw, out);
                let arguments = item.get("arguments").and_then(Value::as_str).map(str::to_owned);
                self.arguments_done(raw.output_index, arguments, out);
                self.grow(at, Delta::Signature(call_signature(item).unwrap_or_default()), out);
            }
            "reasoning" => {
                if let Some(proof) = encrypted(item) {
                    match proof.strip_prefix(REDACTED) {
                        Some(data) => self.open(at, &Opening::RedactedThinking { data: data.to_owned() }, out),
                        None => {
                            self.open(at, &Opening::Thinking, out);
                            self.grow(at, Delta::Signature(proof), out);
                        }
                    }
                }
            }
            _ => {}
        }
        let places: Vec<_> =
            self.open.range((raw.output_index, 0)..=(raw.output_index, u32::MAX)).map(|(at, _)| *at).collect();
        for place in places {
            self.close(place, out);
        }
    }

    fn finish(&mut self, status: &str, response: Option<&RawValue>, out: &mut Vec<Event>) {
        self.start(response, out);
        let places: Vec<_> = self.open.keys().copied().collect();
        for place in places {
            self.close(place, out);
        }
        let response = response_of(response);
        let why = response.incomplete_details.and_then(|details| details.reason);
        let refused = self.refused.then(|| Part::Refusal { text: String::new() });
        let called = self.called.then(|| Part::ToolCall {
            id: String::new(),
            name: String::new(),
            arguments: String::new(),
            signature: None,
        });
        let said: Vec<Part> = [refused, called].into_iter().flatten().collect();
        out.push(Event::Stop { choice: 0, stop: stop(status, why.as_deref(), &said) });
        out.extend(response.usage.and_then(|raw| usage::parse(raw.get())).map(Event::Usage));
        out.push(Event::End);
        self.over = true;
    }
}

fn kind(item: &Value) -> &str {
    item.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn response_of(raw: Option<&RawValue>) -> Response<'_> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}
