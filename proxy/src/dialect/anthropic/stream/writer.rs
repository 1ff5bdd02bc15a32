//! Form to events for a client. The official SDKs dispatch on the `event:` line, so every event has one.
//!
//! After an error nothing follows. Usage and stop reason are said together at the end, as the provider does.

use openclawmu_store::Usage;
use serde_json::{Value, json};

use crate::dialect::Shown;
use crate::dialect::anthropic::stop::{self, Calls};
use crate::dialect::anthropic::{reply, trouble, usage};
use crate::dialect::form::{Delta, Event, Opening, Stop};
use crate::dialect::json;

/// Writes events one by one. A client of this dialect asks for one answer, so only the first choice is written.
#[derive(Debug)]
pub(crate) struct Writer {
    shown: Shown,
    stage: Stage,
    parts: Vec<Part>,
    calls: Calls,
    stop: Option<Stop>,
    usage: Option<Usage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing is written yet.
    Silent,
    /// The message has begun.
    Begun,
    /// Nothing may follow.
    Over,
}

/// A part that has begun.
#[derive(Debug, Default)]
struct Part {
    thinks: bool,
    closed: bool,
    /// What is known of its signature. SDKs keep the last piece alone, so it is said whole, right before the block ends.
    signature: String,
}

impl Writer {
    /// A writer of one answer.
    pub(crate) fn new(shown: &Shown) -> Self {
        Self {
            shown: shown.clone(),
            stage: Stage::Silent,
            parts: Vec::new(),
            calls: Calls::default(),
            stop: None,
            usage: None,
        }
    }

    /// Writes what an event makes of whole events with their blank lines: none, one or several.
    pub(crate) fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.stage == Stage::Over {
            return;
        }
        if let Event::Error(trouble) = event {
            self.stage = Stage::Over;
            out.extend(trouble::event(trouble, &format!("req_{}", self.shown.id)));
            return;
        }
        if let Event::Usage(usage) = event {
            self.usage = Some(*usage);
            return;
        }
        self.begin(out);
        match event {
            Event::Open { choice: 0, part, opening } => self.open(*part, opening, out),
            Event::Grow { choice: 0, part, delta } => self.grow(*part, delta, out),
            Event::Close { choice: 0, part } => self.close(*part, out),
            Event::Stop { choice: 0, stop } => self.stop = Some(stop.clone()),
            Event::Ping => say("ping", &json!({"type": "ping"}), out),
            Event::End => self.end(out),
            Event::Start { .. }
            | Event::Open { .. }
            | Event::Grow { .. }
            | Event::Close { .. }
            | Event::Logprobs { .. }
            | Event::Stop { .. }
            | Event::Usage(_)
            | Event::Error(_) => {}
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if self.stage != Stage::Silent {
            return;
        }
        self.stage = Stage::Begun;
        let message = Value::from(reply::silent(&self.shown, &self.usage.unwrap_or_default()));
        say("message_start", &json!({"type": "message_start", "message": message}), out);
    }

    fn open(&mut self, part: u32, opening: &Opening, out: &mut Vec<u8>) {
        if usize::try_from(part) != Ok(self.parts.len()) {
            return;
        }
        self.parts.push(Part { thinks: matches!(opening, Opening::Thinking), ..Part::default() });
        let block = match opening {
            Opening::Text | Opening::Refusal => json!({"type": "text", "text": ""}),
            Opening::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Opening::RedactedThinking { data } => json!({"type": "redacted_thinking", "data": data}),
            Opening::ToolCall { id, name } => {
                self.calls = Calls::Some;
                json!({"type": "tool_use", "id": id, "name": name, "input": {}})
            }
        };
        let event = json!({"type": "content_block_start", "index": part, "content_block": block});
        say("content_block_start", &event, out);
    }

    fn grow(&mut self, part: u32, delta: &Delta, out: &mut Vec<u8>) {
        let Some(known) = usize::try_from(part).ok().and_then(|part| self.parts.get_mut(part)) else { return };
        if known.closed {
            return;
        }
        match delta {
            Delta::Text(text) => {
                let (kind, key) = if known.thinks { ("thinking_delta", "thinking") } else { ("text_delta", "text") };
                say_delta(part, kind, key, text, out);
            }
            Delta::Arguments(text) => say_delta(part, "input_json_delta", "partial_json", text, out),
            Delta::Signature(more) => known.signature.push_str(more),
        }
    }

    fn close(&mut self, part: u32, out: &mut Vec<u8>) {
        let Some(known) = usize::try_from(part).ok().and_then(|part| self.parts.get_mut(part)) else { return };
        if known.closed {
            return;
        }
        known.closed = true;
        if !known.signature.is_empty() {
            say_delta(part, "signature_delta", "signature", &known.signature, out);
        }
        say("content_block_stop", &json!({"type": "content_block_stop", "index": part}), out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.stage = Stage::Over;
        for part in 0..u32::try_from(self.parts.len()).unwrap_or(u32::MAX) {
            self.close(part, out);
        }
        let (reason, sequence) = stop::write(self.stop.as_ref(), self.calls);
        let event = json!({
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": usage::write(&self.usage.unwrap_or_default()),
        });
        say("message_delta", &event, out);
        say("message_stop", &json!({"type": "message_stop"}), out);
    }
}

fn say(name: &str, event: &Value, out: &mut Vec<u8>) {
    out.extend(b"event: ");
    out.extend(name.as_bytes());
    out.extend(b"\ndata: ");
    json::write(event, out);
    out.extend(b"\n\n");
}

/// Nearly every event of a stream is one of these, so it is put together without a tree.
fn say_delta(part: u32, kind: &str, key: &str, text: &str, out: &mut Vec<u8>) {
    out.extend(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
    out.extend(part.to_string().into_bytes());
    out.extend(b",\"delta\":{\"type\":\"");
    out.extend(kind.as_bytes());
    out.extend(b"\",\"");
    out.extend(key.as_bytes());
    out.extend(b"\":");
    json::escape(text, out);
    out.extend(b"}}\n\n");
}
