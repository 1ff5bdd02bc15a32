//! Events to chunks. A call goes out when it is complete, as Google sends it; why an answer ended goes out with the usage, in
//! the last chunk, so that a stream that breaks off before never looks complete.

use std::collections::HashMap;

use openclawmu_store::Usage;

use super::super::logprobs;
use super::super::parts::{Content, Outgoing};
use super::super::reply::{Candidate, Outbound, TORN, finish_reason, hidden, outgoing};
use super::super::trouble;
use super::super::usage::Metadata;
use super::Array;
use crate::dialect::Shown;
use crate::dialect::form::{Delta, Event, Opening, Part};

/// Writes chunks.
#[derive(Debug)]
pub(crate) struct Writer {
    shown: Shown,
    /// Absent where chunks are server-sent events.
    array: Option<Array>,
    /// Parts that are open, by answer and number.
    open: HashMap<(u32, u32), Part>,
    /// Why answers ended.
    stops: Vec<(u32, &'static str)>,
    /// Answers with a call that could not be finished.
    torn: Vec<u32>,
    usage: Option<Usage>,
    over: bool,
}

impl Writer {
    /// Writes server-sent events.
    pub(crate) fn new(shown: &Shown) -> Self {
        Self {
            shown: shown.clone(),
            array: None,
            open: HashMap::new(),
            stops: Vec::new(),
            torn: Vec::new(),
            usage: None,
            over: false,
        }
    }

    /// Writes an array.
    pub(crate) fn array(shown: &Shown) -> Self {
        Self { array: Some(Array::default()), ..Self::new(shown) }
    }

    /// Writes what an event says.
    pub(crate) fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        match event {
            Event::Start { .. } | Event::Ping => {}
            Event::Open { choice, part, opening } => self.begin((*choice, *part), opening, out),
            Event::Grow { choice, part, delta } => self.grow((*choice, *part), delta, out),
            Event::Close { choice, part } => self.close((*choice, *part), out),
            Event::Logprobs { choice, logprobs } => {
                let logprobs_result = Some(logprobs::Result::of(logprobs));
                self.chunk(vec![Candidate { logprobs_result, ..said(*choice, Vec::new()) }], None, out);
            }
            Event::Stop { choice, stop } => self.stops.push((*choice, finish_reason(stop))),
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => self.end(out),
            Event::Error(trouble) => {
                self.over = true;
                self.frame(&trouble::write(trouble, &self.shown.id), out);
                self.finish(out);
            }
        }
    }

    fn begin(&mut self, at: (u32, u32), opening: &Opening, out: &mut Vec<u8>) {
        let part = match opening {
            Opening::Text | Opening::Refusal => Part::text(""),
            Opening::Thinking => Part::Thinking { text: String::new(), signature: None },
            Opening::RedactedThinking { data } => {
                self.chunk(vec![said(at.0, vec![hidden(data)])], None, out);
                return;
            }
            Opening::ToolCall { id, name } => {
                Part::ToolCall { id: id.clone(), name: name.clone(), arguments: String::new(), signature: None }
            }
        };
        self.open.insert(at, part);
    }

    fn grow(&mut self, at: (u32, u32), delta: &Delta, out: &mut Vec<u8>) {
        match (self.open.get_mut(&at), delta) {
            (Some(Part::Text { .. }), Delta::Text(text)) => {
                self.chunk(vec![said(at.0, vec![Outgoing::text(text)])], None, out);
            }
            (Some(Part::Thinking { text: known, .. }), Delta::Text(text)) => {
                // Only whether something was said matters to its end.
                known.clone_from(text);
                self.chunk(vec![said(at.0, vec![Outgoing::thought(text, None)])], None, out);
            }
            (Some(Part::ToolCall { arguments, .. }), Delta::Arguments(more)) => arguments.push_str(more),
            (Some(Part::Thinking { signature, .. } | Part::ToolCall { signature, .. }), Delta::Signature(more)) => {
                signature.get_or_insert_default().push_str(more);
            }
            _ => {}
        }
    }

    fn close(&mut self, at: (u32, u32), out: &mut Vec<u8>) {
        match self.open.remove(&at) {
            Some(Part::Thinking { text, signature: Some(signature) }) => {
                let mut part = Outgoing::thought("", Some(&signature));
                // Without words before it, it is the signature of an answer's text.
                part.thought = (!text.is_empty()).then_some(true);
                self.chunk(vec![said(at.0, vec![part])], None, out);
            }
            Some(call @ Part::ToolCall { .. }) => match outgoing(&call) {
                Some(part) => self.chunk(vec![said(at.0, vec![part])], None, out),
                None => self.torn.push(at.0),
            },
            _ => {}
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        // What an upstream left open ends with the stream.
        let mut left: Vec<(u32, u32)> = self.open.keys().copied().collect();
        left.sort_unstable();
        for at in left {
            self.close(at, out);
        }
        self.over = true;
        let torn = std::mem::take(&mut self.torn);
        let last = |(choice, reason): (u32, &'static str)| Candidate {
            finish_reason: Some(if torn.contains(&choice) { TORN } else { reason }),
            ..said(choice, vec![Outgoing::text("")])
        };
        let candidates = std::mem::take(&mut self.stops).into_iter().map(last).collect();
        let usage = self.usage.as_ref().map(Metadata::of);
        self.chunk(candidates, usage, out);
        self.finish(out);
    }

    fn chunk(&mut self, candidates: Vec<Candidate<'_>>, usage_metadata: Option<Metadata>, out: &mut Vec<u8>) {
        let chunk =
            Outbound { candidates, usage_metadata, model_version: &self.shown.model, response_id: &self.shown.id };
        // Texts and numbers: nothing in it can fail.
        let json = serde_json::to_vec(&chunk).unwrap_or_default();
        self.frame(&json, out);
    }

    fn frame(&mut self, json: &[u8], out: &mut Vec<u8>) {
        match &mut self.array {
            Some(array) => array.chunk(json, out),
            None => {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(json);
                out.extend_from_slice(b"\n\n");
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(array) = &mut self.array {
            array.end(out);
        }
    }
}

fn said(index: u32, parts: Vec<Outgoing<'_>>) -> Candidate<'_> {
    Candidate { content: Content { role: Some("model"), parts }, finish_reason: None, index, logprobs_result: None }
}
