//! The provider's events to form. Never makes up an end: without `message_stop` there is none.

use serde_json::value::RawValue;

use super::raw::{Raw, RawDelta, Words};
use crate::dialect::anthropic::reply;
use crate::dialect::anthropic::stop;
use crate::dialect::anthropic::trouble;
use crate::dialect::anthropic::usage::Counts;
use crate::dialect::form::{Delta, Event, Opening};
use crate::dialect::json::Json;

/// The only choice that there is in this dialect.
const CHOICE: u32 = 0;

/// The status that stands for an error in a stream whose type is not known.
const BROKEN: u16 = 500;

/// Reads events one by one.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    started: bool,
    counts: Counts,
    blocks: Vec<Block>,
    parts: u32,
    over: bool,
}

/// A block of the provider's that is a part of ours.
#[derive(Clone, Copy, Debug)]
struct Block {
    index: u64,
    part: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Text or thinking.
    Text,
    /// A call whose arguments have not been said yet.
    SilentCall,
    /// A call.
    Call,
}

impl Reader {
    /// Takes one event: its `event:` name and its data. What can't be read says nothing.
    pub(crate) fn read(&mut self, event: Option<&str>, data: &[u8], out: &mut Vec<Event>) {
        if self.over {
            return;
        }
        let Some(mut raw) = Raw::parse(data) else { return };
        match raw.name(event) {
            "content_block_delta" => {
                if let Some(delta) = raw.delta {
                    self.grow(raw.index, delta, out);
                }
            }
            "content_block_start" => {
                let index = raw.index;
                raw.content_block.and_then(|block| self.open(index, block, out)).unwrap_or_default();
            }
            "content_block_stop" => self.close(raw.index, out),
            "message_start" => {
                if let Some(message) = raw.message {
                    if !self.started {
                        self.started = true;
                        out.push(Event::Start { id: message.id, model: message.model });
                    }
                    self.count(message.usage, out);
                }
            }
            "message_delta" => {
                if let Some(RawDelta { stop_reason: Some(Words(reason)), stop_sequence, .. }) = raw.delta {
                    let sequence = stop_sequence.map(|Words(sequence)| sequence.into_owned());
                    out.push(Event::Stop { choice: CHOICE, stop: stop::parse(&reason, sequence) });
                }
                self.count(raw.usage, out);
            }
            "message_stop" => {
                self.over = true;
                out.push(Event::End);
            }
            "ping" => out.push(Event::Ping),
            "error" => {
                self.over = true;
                let trouble = match raw.error.take() {
                    Some(said) => trouble::of(said, BROKEN),
                    None => trouble::parse(BROKEN, data),
                };
                out.push(Event::Error(trouble));
            }
            _ => {}
        }
    }

    /// The body ended. Everything that this dialect has to say it says in events, so nothing is missing, and a stream that
    /// broke off has no end.
    #[expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "every dialect's reader is told")]
    pub(crate) fn end(&mut self, _out: &mut Vec<Event>) {}

    fn count(&mut self, later: Option<Counts>, out: &mut Vec<Event>) {
        if let Some(later) = later {
            self.counts.absorb(later);
            out.extend(self.counts.usage().map(Event::Usage));
        }
    }

    /// A block begins. `None` when the form has no place for it; then what follows of it is left out as well.
    fn open(&mut self, index: u64, block: &RawValue, out: &mut Vec<Event>) -> Option<()> {
        let Ok(Json::Object(mut members)) = Json::parse(block.get()) else { return None };
        let mut block = reply::Block(&mut members);
        let mut text = |key: &str| block.text(key);
        let mut deltas = Vec::new();
        let (opening, kind) = match text("type")?.as_str() {
            "text" => {
                deltas.extend(text("text").map(Delta::Text));
                (Opening::Text, Kind::Text)
            }
            "thinking" => {
                deltas.extend(text("thinking").map(Delta::Text));
                deltas.extend(text("signature").map(Delta::Signature));
                (Opening::Thinking, Kind::Text)
            }
            "redacted_thinking" => (Opening::RedactedThinking { data: text("data")? }, Kind::Text),
            "tool_use" => {
                let (id, name) = (text("id")?, text("name")?);
                let input = block.take("input");
                let said = input.filter(|input| matches!(input, Json::Object(said) if !said.is_empty()));
                let said = said.map(|input| input.to_string());
                let kind = if said.is_some() { Kind::Call } else { Kind::SilentCall };
                deltas.extend(said.map(Delta::Arguments));
                (Opening::ToolCall { id, name }, kind)
            }
            _ => return None,
        };
        let part = self.parts;
        self.parts = self.parts.saturating_add(1);
        self.blocks.retain(|block| block.index != index);
        self.blocks.push(Block { index, part, kind });
        out.push(Event::Open { choice: CHOICE, part, opening });
        // A block begins with empty texts and grows; a server that says something at once is understood as well.
        deltas.retain(|delta| !words(delta).is_empty());
        out.extend(deltas.into_iter().map(|delta| Event::Grow { choice: CHOICE, part, delta }));
        Some(())
    }

    fn grow(&mut self, index: u64, delta: RawDelta<'_>, out: &mut Vec<Event>) {
        let Some(block) = self.blocks.iter_mut().rev().find(|block| block.index == index) else { return };
        let owned = |Words(words): Words<'_>| words.into_owned();
        let kind = delta.kind.as_ref().map(|Words(kind)| kind.as_ref()).unwrap_or_default();
        let grown = match kind {
            "text_delta" => delta.text.map(owned).map(Delta::Text),
            "thinking_delta" => delta.thinking.map(owned).map(Delta::Text),
            "signature_delta" => delta.signature.map(owned).map(Delta::Signature),
            "input_json_delta" => delta.partial_json.map(owned).map(Delta::Arguments),
            _ => None,
        };
        let Some(delta) = grown.filter(|delta| !words(delta).is_empty()) else { return };
        if block.kind == Kind::SilentCall && matches!(delta, Delta::Arguments(_)) {
            block.kind = Kind::Call;
        }
        out.push(Event::Grow { choice: CHOICE, part: block.part, delta });
    }

    fn close(&mut self, index: u64, out: &mut Vec<Event>) {
        let Some(at) = self.blocks.iter().rposition(|block| block.index == index) else { return };
        let Block { part, kind, .. } = self.blocks.remove(at);
        if kind == Kind::SilentCall {
            // A call without arguments is said without any text of them; whole, it has an empty object.
            out.push(Event::Grow { choice: CHOICE, part, delta: Delta::Arguments("{}".to_owned()) });
        }
        out.push(Event::Close { choice: CHOICE, part });
    }
}

fn words(delta: &Delta) -> &str {
    match delta {
        Delta::Text(words) | Delta::Arguments(words) | Delta::Signature(words) => words,
    }
}
