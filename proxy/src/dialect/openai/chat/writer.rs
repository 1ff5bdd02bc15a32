//! Events as a chat stream for a client.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::reply::{finish_reason, sign, thinking_block};
use crate::dialect::Shown;
use crate::dialect::form::{Delta, Event, Opening};
use crate::dialect::json::{self, Json};
use crate::dialect::openai::{trouble, usage};

/// Writes a stream event by event.
#[derive(Debug)]
pub(crate) struct Writer {
    /// `data: {"id":...,"choices":[`
    head: Vec<u8>,
    /// What follows the choices: `]}`, or `],"usage":null}` where the client asked for the usage.
    tail: &'static str,
    wants_usage: bool,
    request_id: String,
    usage: Option<openclawmu_store::Usage>,
    choices: BTreeMap<u32, Choice>,
}

#[derive(Debug, Default)]
struct Choice {
    parts: BTreeMap<u32, Said>,
    calls: u32,
    blocks: u32,
    refused: bool,
}

#[derive(Debug)]
enum Said {
    Text,
    Refusal,
    Call(u32),
    /// Its text and signature so far: they are told together when it is complete.
    Thinking(String, String),
    Redacted,
}

impl Writer {
    /// A stream for this client.
    pub(crate) fn new(shown: &Shown) -> Self {
        let head = format!(
            "data: {{\"id\":\"chatcmpl-{}\",\"object\":\"chat.completion.chunk\",\"created\":{},\"model\":{},\"choices\":[",
            shown.id,
            shown.created,
            Value::from(shown.model.as_str())
        );
        Self {
            head: head.into_bytes(),
            tail: if shown.wants_usage { "],\"usage\":null}\n\n" } else { "]}\n\n" },
            wants_usage: shown.wants_usage,
            request_id: shown.id.clone(),
            usage: None,
            choices: BTreeMap::new(),
        }
    }

    /// Writes what one event means to the client: whole SSE events, or nothing.
    pub(crate) fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Start { .. } => self.begin(0, out),
            Event::Open { choice, part, opening } => self.open((*choice, *part), opening, out),
            Event::Grow { choice, part, delta } => self.grow((*choice, *part), delta, out),
            Event::Close { choice, part } => self.close(*choice, *part, out),
            Event::Logprobs { choice, logprobs } => {
                self.begin(*choice, out);
                self.chunk(*choice, &json!({}), &json!({"logprobs": logprobs, "finish_reason": null}), out);
            }
            Event::Stop { choice, stop } => {
                self.begin(*choice, out);
                let refused = self.choices.get(choice).is_some_and(|choice| choice.refused);
                let reason = finish_reason(stop, refused);
                self.chunk(*choice, &json!({}), &json!({"logprobs": null, "finish_reason": reason}), out);
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Ping => out.extend(b": ping\n\n"),
            Event::End => self.end(out),
            Event::Error(trouble) => out.extend(trouble::event(trouble, &self.request_id)),
        }
    }

    /// A choice's first chunk names the role.
    fn begin(&mut self, choice: u32, out: &mut Vec<u8>) {
        if self.choices.contains_key(&choice) {
            return;
        }
        self.choices.insert(choice, Choice::default());
        self.delta(choice, &json!({"role": "assistant", "content": "", "refusal": null}), out);
    }

    fn delta(&self, choice: u32, delta: &Value, out: &mut Vec<u8>) {
        self.chunk(choice, delta, &json!({"logprobs": null, "finish_reason": null}), out);
    }

    fn chunk(&self, choice: u32, delta: &Value, rest: &Value, out: &mut Vec<u8>) {
        let mut said = json!({"index": choice, "delta": delta});
        if let (Some(said), Some(rest)) = (said.as_object_mut(), rest.as_object()) {
            said.extend(rest.clone());
        }
        out.extend(&self.head);
        json::write(&said, out);
        out.extend(self.tail.as_bytes());
    }

    /// A chunk of text, which nearly all are: made without a tree.
    fn text(&self, choice: u32, name: &str, text: &str, out: &mut Vec<u8>) {
        out.extend(&self.head);
        out.extend(format!("{{\"index\":{choice},\"delta\":{{\"{name}\":").as_bytes());
        json::escape(text, out);
        out.extend(b"},\"logprobs\":null,\"finish_reason\":null}");
        out.extend(self.tail.as_bytes());
    }

    fn open(&mut self, (choice, part): (u32, u32), opening: &Opening, out: &mut Vec<u8>) {
        self.begin(choice, out);
        let said = self.choices.entry(choice).or_default();
        let (kind, delta) = match opening {
            Opening::Text => (Said::Text, None),
            Opening::Refusal => {
                said.refused = true;
                (Said::Refusal, None)
            }
            Opening::Thinking => (Said::Thinking(String::new(), String::new()), None),
            Opening::RedactedThinking { data } => {
                let block = json!({"index": said.blocks, "type": "redacted_thinking", "data": data});
                said.blocks = said.blocks.saturating_add(1);
                (Said::Redacted, Some(json!({"thinking_blocks": [block]})))
            }
            Opening::ToolCall { id, name } => {
                let index = said.calls;
                said.calls = said.calls.saturating_add(1);
                let function = json!({"name": name, "arguments": ""});
                let call = json!({"index": index, "id": id, "type": "function", "function": function});
                (Said::Call(index), Some(json!({"tool_calls": [call]})))
            }
        };
        said.parts.insert(part, kind);
        if let Some(delta) = delta {
            self.delta(choice, &delta, out);
        }
    }

    fn grow(&mut self, (choice, part): (u32, u32), delta: &Delta, out: &mut Vec<u8>) {
        let Some(said) = self.choices.get_mut(&choice).and_then(|choice| choice.parts.get_mut(&part)) else { return };
        match (said, delta) {
            (Said::Text, Delta::Text(text)) => self.text(choice, "content", text, out),
            (Said::Refusal, Delta::Text(text)) => self.text(choice, "refusal", text, out),
            (Said::Thinking(whole, _), Delta::Text(text)) => {
                whole.push_str(text);
                self.text(choice, "reasoning_content", text, out);
            }
            (Said::Thinking(_, whole), Delta::Signature(more)) => whole.push_str(more),
            (Said::Call(index), Delta::Arguments(more)) => {
                let call = json!({"index": *index, "function": {"arguments": more}});
                self.delta(choice, &json!({"tool_calls": [call]}), out);
            }
            (Said::Call(index), Delta::Signature(signature)) => {
                let mut call = json!({"index": *index});
                sign(&mut call, Some(signature));
                self.delta(choice, &json!({"tool_calls": [call]}), out);
            }
            (Said::Text | Said::Refusal | Said::Thinking(..) | Said::Call(_) | Said::Redacted, _) => {}
        }
    }

    /// A thought that was signed is told once more, whole, with its signature: so it can come back as it was.
    fn close(&mut self, choice: u32, part: u32, out: &mut Vec<u8>) {
        let Some(said) = self.choices.get_mut(&choice) else { return };
        let Some(Said::Thinking(text, signature)) = said.parts.get(&part) else { return };
        if signature.is_empty() {
            return;
        }
        let mut block = thinking_block(text, Some(signature));
        if let Some(block) = block.as_object_mut() {
            block.insert("index".into(), said.blocks.into());
        }
        said.blocks = said.blocks.saturating_add(1);
        self.delta(choice, &json!({"thinking_blocks": [block]}), out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.wants_usage {
            let usage = Json::from(self.usage.map(|usage| usage::write(&usage)));
            out.extend(&self.head);
            out.extend(format!("],\"usage\":{usage}}}\n\n").as_bytes());
        }
        out.extend(b"data: [DONE]\n\n");
    }
}
