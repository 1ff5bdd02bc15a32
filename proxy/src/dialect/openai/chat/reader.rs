//! A provider's chat stream as events.
//!
//! A part ends where another begins, and at the latest with its choice: this dialect never says so itself. Only a call whose
//! arguments are not whole yet stays open, since a server may tell several calls in turns.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::reply::{Block, Call, Said, stop};
use crate::dialect::form::{Delta, Event, Opening, Part, Stop};
use crate::dialect::openai::{reply, trouble};

/// More choices and calls than any provider sends; a bound on what a broken one can make us hold.
const MAX_INDEX: u32 = 1 << 10;

/// Reads a stream event by event.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    started: bool,
    over: bool,
    choices: BTreeMap<u32, Choice>,
}

#[derive(Debug, Default)]
struct Choice {
    /// Parts opened so far.
    parts: u32,
    open: Option<Open>,
    /// By the provider's index.
    calls: BTreeMap<u32, Called>,
    refused: bool,
    stopped: bool,
}

/// A call so far.
#[derive(Debug)]
struct Called {
    part: u32,
    id: String,
    arguments: String,
    open: bool,
}

#[derive(Debug)]
struct Open {
    part: u32,
    kind: Kind,
}

#[derive(Debug, PartialEq)]
enum Kind {
    Text,
    /// With what has been thought: some servers say it again with its signature.
    Thinking(String),
    Refusal,
    /// Complete as it was opened.
    Redacted,
    Call,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Option<Vec<RawChoice>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct RawChoice {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    delta: Option<Said>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Value>,
}

impl Reader {
    /// Reads one event of the stream; what can't be read says nothing.
    pub(crate) fn read(&mut self, _event: Option<&str>, data: &[u8], out: &mut Vec<Event>) {
        if self.over {
            return;
        }
        if data == b"[DONE]" {
            self.close_all(out);
            self.over = true;
            out.push(Event::End);
            return;
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else { return };
        if chunk.error.is_some_and(|error| !error.is_null()) {
            self.over = true;
            out.push(Event::Error(trouble::parse(0, data)));
            return;
        }
        if !self.started {
            self.started = true;
            out.push(Event::Start { id: chunk.id.unwrap_or_default(), model: chunk.model.unwrap_or_default() });
        }
        for raw in chunk.choices.into_iter().flatten() {
            if raw.index < MAX_INDEX {
                self.choices.entry(raw.index).or_default().read(raw, out);
            }
        }
        let usage = chunk.usage.and_then(|usage| reply::usage(usage.get()));
        out.extend(usage.map(Event::Usage));
    }

    /// The body has ended. Without `[DONE]` that is an end only where every choice had its own.
    pub(crate) fn end(&mut self, out: &mut Vec<Event>) {
        if !self.over && !self.choices.is_empty() && self.choices.values().all(|choice| choice.stopped) {
            self.close_all(out);
            self.over = true;
            out.push(Event::End);
        }
    }

    fn close_all(&mut self, out: &mut Vec<Event>) {
        for (index, choice) in &mut self.choices {
            choice.close_all(*index, out);
        }
    }
}

impl Choice {
    fn read(&mut self, raw: RawChoice, out: &mut Vec<Event>) {
        let index = raw.index;
        if let Some(said) = raw.delta {
            self.think(index, &said, out);
            self.say(index, Kind::Text, said.text(), out);
            let refusal = said.refusal.unwrap_or_default();
            self.refused |= !refusal.is_empty();
            self.say(index, Kind::Refusal, refusal, out);
            for call in said.tool_calls.into_iter().flatten() {
                self.call(index, &call, out);
            }
        }
        if let Some(logprobs) = raw.logprobs.filter(|logprobs| !logprobs.is_null()) {
            out.push(Event::Logprobs { choice: index, logprobs });
        }
        // Some servers have an empty word where others have none.
        if let Some(reason) = raw.finish_reason.filter(|reason| !reason.is_empty())
            && !self.stopped
        {
            self.close_all(index, out);
            self.stopped = true;
            out.push(Event::Stop { choice: index, stop: self.stop(&reason) });
        }
    }

    fn stop(&self, reason: &str) -> Stop {
        let refused = self.refused.then(|| Part::Refusal { text: String::new() });
        let called = self.calls.keys().next().map(|_| Part::ToolCall {
            id: String::new(),
            name: String::new(),
            arguments: String::new(),
            signature: None,
        });
        stop(reason, &[refused, called].into_iter().flatten().collect::<Vec<_>>())
    }

    fn close(&mut self, choice: u32, out: &mut Vec<Event>) {
        let Some(Open { part, kind }) = self.open.take() else { return };
        if kind == Kind::Call
            && let Some(call) = self.calls.values_mut().find(|call| call.part == part)
        {
            call.open = serde_json::from_str::<IgnoredAny>(&call.arguments).is_err();
            if call.open {
                return;
            }
        }
        out.push(Event::Close { choice, part });
    }

    fn close_all(&mut self, choice: u32, out: &mut Vec<Event>) {
        self.close(choice, out);
        for call in self.calls.values_mut().filter(|call| call.open) {
            call.open = false;
            out.push(Event::Close { choice, part: call.part });
        }
    }

    fn open(&mut self, choice: u32, kind: Kind, opening: Opening, out: &mut Vec<Event>) -> u32 {
        self.close(choice, out);
        let part = self.parts;
        self.parts = self.parts.saturating_add(1);
        self.open = Some(Open { part, kind });
        out.push(Event::Open { choice, part, opening });
        part
    }

    fn say(&mut self, choice: u32, kind: Kind, text: String, out: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        let part = match &self.open {
            Some(open) if open.kind == kind => open.part,
            _ => {
                let opening = if kind == Kind::Text { Opening::Text } else { Opening::Refusal };
                self.open(choice, kind, opening, out)
            }
        };
        out.push(Event::Grow { choice, part, delta: Delta::Text(text) });
    }

    fn think(&mut self, choice: u32, said: &Said, out: &mut Vec<Event>) {
        let thought = said.thought();
        self.grow_thinking(choice, thought, out);
        for block in said.thinking_blocks.iter().flatten() {
            if let Some(data) = &block.data {
                let opening = Opening::RedactedThinking { data: data.clone() };
                self.open(choice, Kind::Redacted, opening, out);
                self.close(choice, out);
                continue;
            }
            self.block(choice, block, !thought.is_empty(), out);
        }
    }

    /// A block repeats what `reasoning_content` has said: in the same chunk bit by bit, or as a whole with its signature.
    fn block(&mut self, choice: u32, block: &Block, said: bool, out: &mut Vec<Event>) {
        let text = block.thinking.as_deref().unwrap_or_default();
        let known = matches!(&self.open, Some(Open { kind: Kind::Thinking(known), .. }) if known == text);
        if !said && !known {
            self.grow_thinking(choice, text, out);
        }
        let Some(signature) = block.signed() else { return };
        let part = match &self.open {
            Some(Open { part, kind: Kind::Thinking(_) }) => *part,
            _ => self.open(choice, Kind::Thinking(String::new()), Opening::Thinking, out),
        };
        out.push(Event::Grow { choice, part, delta: Delta::Signature(signature.to_owned()) });
        self.close(choice, out);
    }

    fn grow_thinking(&mut self, choice: u32, text: &str, out: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        if !matches!(&self.open, Some(Open { kind: Kind::Thinking(_), .. })) {
            self.open(choice, Kind::Thinking(String::new()), Opening::Thinking, out);
        }
        if let Some(Open { part, kind: Kind::Thinking(known) }) = &mut self.open {
            known.push_str(text);
            out.push(Event::Grow { choice, part: *part, delta: Delta::Text(text.to_owned()) });
        }
    }

    fn call(&mut self, choice: u32, call: &Call, out: &mut Vec<Event>) {
        let latest = self.calls.keys().next_back().copied();
        // A server that leaves the index out sends each call whole.
        let index =
            call.index.or_else(|| if call.id.is_some() { latest.map(|at| at + 1) } else { latest }).unwrap_or(0);
        if index >= MAX_INDEX {
            return;
        }
        let id = call.id.clone().unwrap_or_default();
        // A server that gives every call the index 0 tells them apart by their ids.
        if !self.calls.get(&index).is_some_and(|known| id.is_empty() || known.id == id) {
            self.begin(choice, (index, id), call.name(), out);
        }
        let Some(known) = self.calls.get_mut(&index).filter(|known| known.open) else { return };
        let part = known.part;
        let arguments = call.arguments();
        if !arguments.is_empty() {
            known.arguments.push_str(&arguments);
            out.push(Event::Grow { choice, part, delta: Delta::Arguments(arguments) });
        }
        let signature = call.signature();
        out.extend(signature.map(|signature| Event::Grow { choice, part, delta: Delta::Signature(signature) }));
    }
    fn begin(&mut self, choice: u32, (index, id): (u32, String), name: String, out: &mut Vec<Event>) {
        let part = self.open(choice, Kind::Call, Opening::ToolCall { id: id.clone(), name }, out);
        let call = Called { part, id, arguments: String::new(), open: true };
        if let Some(Called { part, open: true, .. }) = self.calls.insert(index, call) {
            out.push(Event::Close { choice, part });
        }
    }
}
