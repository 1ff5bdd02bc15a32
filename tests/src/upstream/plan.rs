//! A request and a behaviour become a list of steps. Pure: the same two give the same bytes.

use std::time::Duration;

use serde_json::{Value, json};

use super::agent::{self, Call};
use super::behaviour::{Behaviour, Fault, Gate};
use super::media;
use super::record::Bill;
use super::wire::{self, Envelope};

/// One thing that the server does for an answer, in order.
#[derive(Debug)]
pub(super) enum Step {
    /// Waits at a gate.
    Wait(Gate),
    /// Pauses.
    Delay(Duration),
    /// Writes these bytes of the head.
    Head(Vec<u8>),
    /// Writes these bytes of the body; `tokens` of the completion are generated with them.
    Body { bytes: Vec<u8>, tokens: u64 },
    /// From here on the provider charges the prompt.
    Charge,
    /// The whole answer is out.
    Complete,
    /// Closes the connection.
    HangUp,
    /// Never goes on.
    Stall,
    /// Writes these bytes for ever.
    Repeat(Vec<u8>),
}

/// The answer to one request: its steps, and the bill with the prompt's side filled in.
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) bill: Bill,
    /// True: the body is framed by chunks; false: by `content-length`.
    pub(super) chunked: bool,
}

/// Plans the answer.
pub(super) fn plan(target: &str, body: &Value, sequence: u64, behaviour: &Behaviour) -> Plan {
    let path = target.split('?').next().unwrap_or_default();
    let mut steps = Vec::new();
    if !behaviour.delay.is_zero() {
        steps.push(Step::Delay(behaviour.delay));
    }
    if let Some((0, gate)) = &behaviour.gate {
        steps.push(Step::Wait(gate.clone()));
    }
    match &behaviour.fault {
        Fault::Silent => steps.push(Step::Stall),
        Fault::Status { code, retry_after } => {
            whole(&mut steps, *code, *retry_after, wire::error(*code).to_string().into_bytes())
        }
        Fault::InvalidJson => whole(&mut steps, 200, None, b"{\"id\":\"chatcmpl-broken\",\"choices\":[".to_vec()),
        Fault::None
        | Fault::NoUsage
        | Fault::ErrorEventAfter(_)
        | Fault::StallAfter(_)
        | Fault::CutAfter(_)
        | Fault::HangUpAtByte(_)
        | Fault::HugeEvent(_)
        | Fault::Endless => return answer(path, body, sequence, behaviour, steps),
    }
    Plan { steps, bill: Bill { model: model_of(body), ..Bill::default() }, chunked: false }
}

/// Plans an answer that is known already: status, content type, body.
pub(super) fn planned_whole(behaviour: &Behaviour, (code, content_type, body): (u16, &str, Vec<u8>)) -> Plan {
    let mut steps = Vec::new();
    if !behaviour.delay.is_zero() {
        steps.push(Step::Delay(behaviour.delay));
    }
    if let Some((0, gate)) = &behaviour.gate {
        steps.push(Step::Wait(gate.clone()));
    }
    let head = format!(
        "HTTP/1.1 {code} Scripted\r\ncontent-type: {content_type}\r\nx-request-id: req_scripted\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // A 204 has no length (RFC 9110, section 8.6).
    let head = if code == 204 { head.replace("content-length: 0\r\n", "") } else { head };
    steps.push(Step::Head(head.into_bytes()));
    steps.push(Step::Body { bytes: body, tokens: 0 });
    steps.push(Step::Complete);
    Plan { steps, bill: Bill::default(), chunked: false }
}

fn answer(path: &str, body: &Value, sequence: u64, behaviour: &Behaviour, mut steps: Vec<Step>) -> Plan {
    if media::is(path) {
        return media::plan(path, body, behaviour, steps);
    }
    let mut bill = Bill {
        model: model_of(body),
        prompt: behaviour.prompt_tokens.unwrap_or_else(|| prompt_tokens(body)),
        cached: behaviour.cached_tokens,
        ..Bill::default()
    };
    steps.push(Step::Charge);
    if path.ends_with("/embeddings") {
        let base64 = body["encoding_format"] == json!("base64");
        let inputs = body["input"].as_array().map_or(1, Vec::len);
        let value = wire::embeddings(&bill.model, inputs, base64, &bill);
        whole(&mut steps, 200, None, value.to_string().into_bytes());
        steps.push(Step::Complete);
        return Plan { steps, bill, chunked: false };
    }
    bill.reasoning = behaviour.reasoning_tokens;
    let speech = Speech::new(path, body, sequence, behaviour, &bill);
    let streamed = body["stream"] == json!(true);
    if streamed {
        bill.completion = bill.reasoning;
        speech.stream(&mut steps);
    } else {
        bill.completion = speech.total.completion;
        speech.at_once(&mut steps);
    }
    Plan { steps, bill, chunked: streamed }
}

/// A generated text on its way out.
struct Speech<'a> {
    behaviour: &'a Behaviour,
    envelope: Envelope,
    chat: bool,
    texts: Vec<String>,
    /// The bill of the whole answer.
    total: Bill,
}

impl<'a> Speech<'a> {
    fn new(path: &str, body: &Value, sequence: u64, behaviour: &'a Behaviour, bill: &Bill) -> Self {
        let choices = body["n"].as_u64().unwrap_or(1);
        let (texts, calls, whole) = content(body, behaviour);
        let mut total = bill.clone();
        let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
        let envelope = Envelope {
            sequence,
            model: bill.model.clone(),
            choices,
            finish: if whole { finish } else { "length" },
            service_tier: behaviour.service_tier,
            calls,
            with_usage: body["stream_options"]["include_usage"] == json!(true),
        };
        let chat = path.ends_with("/chat/completions");
        let pieces = if chat { envelope.deltas(&texts).len() } else { texts.len() };
        total.completion = u64::try_from(pieces).expect("small") * choices + behaviour.reasoning_tokens;
        Self { behaviour, envelope, chat, texts, total }
    }

    fn with_usage(&self) -> bool {
        !matches!(self.behaviour.fault, Fault::NoUsage)
    }

    fn at_once(&self, steps: &mut Vec<Step>) {
        let usage = self.with_usage().then(|| wire::usage(&self.total));
        let text = format!("{}{}", self.texts.concat(), "x".repeat(self.behaviour.padding_bytes));
        let value = if self.chat {
            self.envelope.chat(&text, usage.as_ref())
        } else {
            self.envelope.completion(&text, Some(self.envelope.finish), usage.as_ref())
        };
        whole(steps, 200, None, value.to_string().into_bytes());
        steps.push(Step::Complete);
    }

    /// Role chunk, content chunks, finish, usage where asked for, `[DONE]`.
    fn stream(&self, steps: &mut Vec<Step>) {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                    cache-control: no-cache\r\nx-request-id: req_scripted\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        steps.push(Step::Head(head.as_bytes().to_vec()));
        if self.chat {
            for index in 0..self.envelope.choices {
                let role = json!({ "role": "assistant", "content": "", "refusal": null });
                steps.push(frame(&self.envelope.chunk(index, &role, None)));
            }
        }
        let pieces = self.pieces();
        for (at, piece) in pieces.iter().enumerate() {
            if interrupted(steps, at, self.behaviour) {
                return;
            }
            for index in 0..self.envelope.choices {
                steps.push(Step::Body { bytes: self.content(index, piece), tokens: 1 });
            }
        }
        if !interrupted(steps, pieces.len(), self.behaviour) {
            self.end(steps);
        }
    }

    fn end(&self, steps: &mut Vec<Step>) {
        if let Fault::HugeEvent(size) = self.behaviour.fault {
            let mut bytes = b"data: ".to_vec();
            bytes.resize(size, b'x');
            steps.push(Step::Body { bytes, tokens: 0 });
            steps.push(Step::Stall);
            return;
        }
        if matches!(self.behaviour.fault, Fault::Endless) {
            steps.push(Step::Repeat(self.content(0, &self.piece(&"word ".repeat(200)))));
            return;
        }
        let finish = Some(self.envelope.finish);
        if self.chat {
            for index in 0..self.envelope.choices {
                steps.push(frame(&self.envelope.chunk(index, &json!({}), finish)));
            }
        } else {
            steps.push(frame(&self.envelope.completion("", finish, None)));
        }
        if self.envelope.with_usage && self.with_usage() {
            steps.push(frame(&self.envelope.usage_chunk(&wire::usage(&self.total))));
        }
        steps.push(Step::Body { bytes: b"data: [DONE]\n\n".to_vec(), tokens: 0 });
        steps.push(Step::Complete);
    }

    /// What is said, a token each.
    fn pieces(&self) -> Vec<Value> {
        if self.chat {
            return self.envelope.deltas(&self.texts);
        }
        self.texts.iter().map(|text| self.piece(text)).collect()
    }

    fn piece(&self, text: &str) -> Value {
        if self.chat { json!({ "content": text }) } else { json!(text) }
    }

    fn content(&self, index: u64, piece: &Value) -> Vec<u8> {
        wire::event(&if self.chat {
            self.envelope.chunk(index, piece, None)
        } else {
            self.envelope.completion(piece.as_str().expect("text"), None, None)
        })
    }
}

pub(super) fn frame(value: &Value) -> Step {
    Step::Body { bytes: wire::event(value), tokens: 0 }
}

/// Adds what the behaviour wants before the content chunk `at`; true when nothing may follow.
pub(super) fn interrupted(steps: &mut Vec<Step>, at: usize, behaviour: &Behaviour) -> bool {
    if let Some((before, gate)) = &behaviour.gate
        && *before == at
        && at > 0
    {
        steps.push(Step::Wait(gate.clone()));
    }
    match behaviour.fault {
        Fault::ErrorEventAfter(after) if after == at => {
            let text = "The model is overloaded, please try again in a little while: scripted words that nobody may be billed for.";
            let error = json!({ "error": { "message": text, "type": "server_error", "param": null, "code": null } });
            steps.push(Step::Body { bytes: wire::event(&error), tokens: 0 });
            steps.push(Step::Complete);
            true
        }
        Fault::StallAfter(after) if after == at => {
            steps.push(Step::Stall);
            true
        }
        Fault::CutAfter(after) if after == at => {
            steps.push(Step::HangUp);
            true
        }
        _ => false,
    }
}

pub(super) fn whole(steps: &mut Vec<Step>, code: u16, retry_after: Option<u32>, body: Vec<u8>) {
    let retry = retry_after.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
    let head = format!(
        "HTTP/1.1 {code} Scripted\r\ncontent-type: application/json\r\nx-request-id: req_scripted\r\n{retry}content-length: {}\r\n\r\n",
        body.len()
    );
    steps.push(Step::Head(head.into_bytes()));
    steps.push(Step::Body { bytes: body, tokens: 0 });
}

fn model_of(body: &Value) -> String {
    body["model"].as_str().unwrap_or_default().to_owned()
}

/// What is said, what is called instead, and whether nothing of it was cut off.
fn content(body: &Value, behaviour: &Behaviour) -> (Vec<String>, Vec<Call>, bool) {
    if behaviour.acts {
        let said = agent::answer(body);
        return (said.text.split_inclusive(' ').map(str::to_owned).collect(), said.calls, true);
    }
    let texts = texts(body, behaviour);
    let whole = texts.len() == behaviour.texts.as_ref().map_or(behaviour.words, Vec::len);
    let tool = behaviour.tool.or_else(|| body["tools"][0]["function"]["name"].as_str());
    match tool.filter(|_| behaviour.calls_tool) {
        None => (texts, Vec::new(), whole),
        Some(name) => (Vec::new(), vec![Call { name: name.to_owned(), pieces: texts }], whole),
    }
}

/// The answer's pieces, cut to the request's output cap as a provider does.
fn texts(body: &Value, behaviour: &Behaviour) -> Vec<String> {
    let cap = ["max_completion_tokens", "max_tokens"].iter().find_map(|key| body[key].as_u64());
    let room = cap.map_or(usize::MAX, |cap| {
        usize::try_from(cap.saturating_sub(behaviour.reasoning_tokens)).unwrap_or(usize::MAX)
    });
    match &behaviour.texts {
        Some(texts) => texts.iter().take(room).cloned().collect(),
        None => (0..behaviour.words.min(room)).map(|at| format!("word{at} ")).collect(),
    }
}

/// Words of the prompt: never more than its tokens, and never zero.
fn prompt_tokens(body: &Value) -> u64 {
    fn words(value: &Value) -> usize {
        match value {
            Value::String(text) => text.split_whitespace().count(),
            Value::Array(items) => items.iter().map(words).sum(),
            Value::Object(fields) => fields.get("content").or_else(|| fields.get("text")).map_or(0, words),
            Value::Number(_) => 1,
            Value::Null | Value::Bool(_) => 0,
        }
    }
    let count: usize = ["messages", "prompt", "input"].iter().map(|key| words(&body[*key])).sum();
    u64::try_from(count.max(1)).expect("small")
}
