//! An answer bit by bit: events of `ConverseStream`, each in a frame that names it. Blocks of text and thinking begin without
//! being announced, with their first delta.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::frames::EXCEPTION;
use super::reply::stop;
use super::trouble;
use super::usage::Counts;
use crate::dialect::form::{Delta, Event, Opening};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Body {
    content_block_index: u32,
    start: Option<Start>,
    delta: Option<Change>,
    stop_reason: Option<String>,
    usage: Option<Counts>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Start {
    tool_use: Option<ToolUse>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ToolUse {
    tool_use_id: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Change {
    text: Option<String>,
    tool_use: Option<Input>,
    reasoning_content: Option<Reasoning>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Input {
    input: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Reasoning {
    text: Option<String>,
    signature: Option<String>,
    redacted_content: Option<String>,
}

/// Reads events.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    started: bool,
    parts: u32,
    /// Blocks that are open, by the provider's index.
    open: Vec<(u32, Open)>,
    stopped: bool,
    over: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Open {
    /// A part, by its number.
    Part(u32),
    /// Hidden thoughts, which the form wants whole.
    Hidden(String),
}

impl Reader {
    /// Reads one event; `event` is its frame's name.
    pub(crate) fn read(&mut self, event: Option<&str>, data: &[u8], out: &mut Vec<Event>) {
        if self.over {
            return;
        }
        let name = event.unwrap_or_default();
        if name.ends_with(EXCEPTION) {
            self.over = true;
            out.push(Event::Error(trouble::exception(name, data)));
            return;
        }
        let Ok(body) = serde_json::from_slice::<Body>(data) else { return };
        if !self.started {
            self.started = true;
            out.push(Event::Start { id: String::new(), model: String::new() });
        }
        match name {
            "contentBlockStart" => self.begin(body, out),
            "contentBlockDelta" => self.grow(body, out),
            "contentBlockStop" => self.close(body.content_block_index, out),
            "messageStop" => self.stop(body, out),
            "metadata" => {
                out.extend(body.usage.and_then(|usage| usage.disjoint()).map(Event::Usage));
                self.finish(out);
            }
            _ => {}
        }
    }

    /// The body has ended. Unless the message has stopped, it broke off.
    pub(crate) fn end(&mut self, out: &mut Vec<Event>) {
        if !self.over {
            self.finish(out);
        }
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        if self.stopped {
            self.over = true;
            out.push(Event::End);
        }
    }

    fn stop(&mut self, body: Body, out: &mut Vec<Event>) {
        if self.stopped {
            return;
        }
        for (index, _) in self.open.clone() {
            self.close(index, out);
        }
        self.stopped = true;
        let stop = stop(&body.stop_reason.unwrap_or_default());
        out.push(Event::Stop { choice: 0, stop });
    }

    fn begin(&mut self, body: Body, out: &mut Vec<Event>) {
        let Some(call) = body.start.and_then(|start| start.tool_use) else { return };
        let opening = Opening::ToolCall { id: call.tool_use_id, name: call.name };
        self.part(body.content_block_index, opening, out);
    }

    /// The part of a block, opened if it is not; `None` once the message has stopped.
    fn part(&mut self, index: u32, opening: Opening, out: &mut Vec<Event>) -> Option<u32> {
        match self.open.iter().find(|(at, _)| *at == index) {
            Some((_, Open::Part(part))) => return Some(*part),
            Some((_, Open::Hidden(_))) => return None,
            None if self.stopped => return None,
            None => {}
        }
        let part = self.parts;
        self.parts += 1;
        self.open.push((index, Open::Part(part)));
        out.push(Event::Open { choice: 0, part, opening });
        Some(part)
    }

    fn grow(&mut self, body: Body, out: &mut Vec<Event>) {
        let index = body.content_block_index;
        let Some(change) = body.delta else { return };
        let reasoning = change.reasoning_content.unwrap_or_default();
        if let Some(data) = reasoning.redacted_content {
            self.hide(index, &data);
            return;
        }
        let opening = if change.text.is_some() { Opening::Text } else { Opening::Thinking };
        let delta = match (change.text, change.tool_use, reasoning.text, reasoning.signature) {
            (Some(text), ..) | (None, None, Some(text), _) => Delta::Text(text),
            (None, Some(call), ..) => {
                let Some((_, Open::Part(part))) = self.open.iter().find(|(at, _)| *at == index) else { return };
                out.push(Event::Grow { choice: 0, part: *part, delta: Delta::Arguments(call.input) });
                return;
            }
            (None, None, None, Some(signature)) => Delta::Signature(signature),
            (None, None, None, None) => return,
        };
        if let Some(part) = self.part(index, opening, out) {
            out.push(Event::Grow { choice: 0, part, delta });
        }
    }

    /// Base64 of pieces is joined by its bytes.
    fn hide(&mut self, index: u32, data: &str) {
        match self.open.iter_mut().find(|(at, _)| *at == index) {
            None if !self.stopped => self.open.push((index, Open::Hidden(data.to_owned()))),
            Some((_, Open::Hidden(known))) => {
                if let (Ok(mut bytes), Ok(more)) = (STANDARD.decode(&*known), STANDARD.decode(data)) {
                    bytes.extend(more);
                    *known = STANDARD.encode(bytes);
                }
            }
            None | Some((_, Open::Part(_))) => {}
        }
    }

    fn close(&mut self, index: u32, out: &mut Vec<Event>) {
        let Some(at) = self.open.iter().position(|(open, _)| *open == index) else { return };
        let part = match self.open.remove(at) {
            (_, Open::Part(part)) => part,
            (_, Open::Hidden(data)) => {
                let part = self.parts;
                self.parts += 1;
                out.push(Event::Open { choice: 0, part, opening: Opening::RedactedThinking { data } });
                part
            }
        };
        out.push(Event::Close { choice: 0, part });
    }
}
