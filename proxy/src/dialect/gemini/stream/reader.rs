//! Chunks to events.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::logprobs;
use super::super::signature::{self, Signature};
use super::super::trouble::Error;
use super::super::usage::Metadata;
use crate::dialect::arguments::compact;
use crate::dialect::form::{Delta, Event, Opening, Stop};
use openclawmu_store::Usage;

/// The most candidates that are believed.
const MAX_CANDIDATES: usize = 128;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Chunk<'a> {
    #[serde(borrow)]
    candidates: Option<Vec<Candidate<'a>>>,
    prompt_feedback: Option<Feedback>,
    usage_metadata: Option<Metadata>,
    model_version: Option<String>,
    response_id: Option<String>,
    error: Option<Error>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Feedback {
    block_reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Candidate<'a> {
    #[serde(borrow)]
    content: Option<Content<'a>>,
    finish_reason: Option<String>,
    index: Option<usize>,
    logprobs_result: Option<logprobs::Result>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Option<Vec<Part<'a>>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Part<'a> {
    text: Option<String>,
    thought: Option<bool>,
    thought_signature: Option<String>,
    #[serde(borrow)]
    function_call: Option<Call<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Call<'a> {
    id: Option<String>,
    name: String,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

/// Reads chunks.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    started: bool,
    id: String,
    choices: Vec<State>,
    usage: Option<Usage>,
    calls: u32,
    over: bool,
    answered: bool,
}

/// How far a candidate is.
#[derive(Debug, Default)]
struct State {
    index: u32,
    parts: u32,
    /// What its last part is, while it may grow.
    open: Option<Kind>,
    calls: bool,
    stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
}

impl Reader {
    /// Reads one chunk. What can't be read says nothing.
    pub(crate) fn read(&mut self, _event: Option<&str>, data: &[u8], out: &mut Vec<Event>) {
        // An array would be read as an object's members in their order.
        if self.over || !data.trim_ascii_start().starts_with(b"{") {
            return;
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else { return };
        if let Some(error) = chunk.error {
            self.over = true;
            out.push(Event::Error(error.trouble(None)));
            return;
        }
        if !self.started {
            self.started = true;
            self.id = chunk.response_id.unwrap_or_default();
            out.push(Event::Start { id: self.id.clone(), model: chunk.model_version.unwrap_or_default() });
        }
        self.answered |= chunk.candidates.is_some();
        for candidate in chunk.candidates.into_iter().flatten() {
            self.candidate(candidate, out);
        }
        if chunk.prompt_feedback.and_then(|feedback| feedback.block_reason).is_some() && self.choices.is_empty() {
            self.answered = true;
            self.choices.push(State { stopped: true, ..State::default() });
            out.push(Event::Stop { choice: 0, stop: Stop::Filter });
        }
        let usage = chunk.usage_metadata.and_then(|usage| usage.disjoint());
        if usage.is_some() && usage != self.usage {
            self.usage = usage;
            out.extend(usage.map(Event::Usage));
        }
    }

    /// The body has ended. Unless every candidate came to its end, it broke off.
    pub(crate) fn end(&mut self, out: &mut Vec<Event>) {
        let complete = !self.choices.is_empty() && self.choices.iter().all(|state| state.stopped);
        if complete && !self.over {
            out.push(Event::End);
        }
        self.over = true;
    }

    /// Whether anything that came was an answer.
    pub(in super::super) fn has_answered(&self) -> bool {
        self.answered
    }

    fn candidate(&mut self, candidate: Candidate<'_>, out: &mut Vec<Event>) {
        let at = candidate.index.unwrap_or(0);
        if at >= MAX_CANDIDATES {
            return;
        }
        while self.choices.len() <= at {
            let index = u32::try_from(self.choices.len()).unwrap_or(u32::MAX);
            self.choices.push(State { index, ..State::default() });
        }
        let Some(state) = self.choices.get_mut(at).filter(|state| !state.stopped) else { return };
        for part in candidate.content.and_then(|content| content.parts).unwrap_or_default() {
            match part.function_call {
                Some(call) => {
                    let number = self.calls;
                    self.calls += 1;
                    state.call(&call, part.thought_signature.as_deref(), &made_id(&self.id, number), out);
                }
                None => state.said(part, out),
            }
        }
        if let Some(logprobs) = candidate.logprobs_result.and_then(logprobs::Result::openai) {
            out.push(Event::Logprobs { choice: state.index, logprobs });
        }
        if let Some(reason) = candidate.finish_reason {
            state.close(out);
            state.stopped = true;
            out.push(Event::Stop { choice: state.index, stop: stop(&reason, state.calls) });
        }
    }
}

/// The id of a call that has none: the same for the same answer, and of no other answer.
fn made_id(response: &str, number: u32) -> String {
    let fine = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    let short: String = response.chars().filter(fine).take(28).collect();
    format!("call_{short}_{number}")
}

impl State {
    fn close(&mut self, out: &mut Vec<Event>) {
        if self.open.take().is_some() {
            out.push(Event::Close { choice: self.index, part: self.parts.saturating_sub(1) });
        }
    }

    /// Opens a part; its number.
    fn begin(&mut self, opening: Opening, out: &mut Vec<Event>) -> u32 {
        self.close(out);
        let part = self.parts;
        self.parts += 1;
        out.push(Event::Open { choice: self.index, part, opening });
        part
    }

    fn grow(&mut self, kind: Kind, delta: Delta, out: &mut Vec<Event>) {
        if self.open != Some(kind) {
            let opening = if kind == Kind::Text { Opening::Text } else { Opening::Thinking };
            self.begin(opening, out);
            self.open = Some(kind);
        }
        out.push(Event::Grow { choice: self.index, part: self.parts.saturating_sub(1), delta });
    }

    fn call(&mut self, call: &Call<'_>, signed: Option<&str>, made_id: &str, out: &mut Vec<Event>) {
        self.calls = true;
        let id = call.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| made_id.to_owned());
        let part = self.begin(Opening::ToolCall { id, name: call.name.clone() }, out);
        let choice = self.index;
        let arguments = call.args.map_or_else(|| "{}".to_owned(), |args| compact(args.get()));
        out.push(Event::Grow { choice, part, delta: Delta::Arguments(arguments) });
        if let Some(Signature::Thought(signature)) = signed.map(signature::read) {
            out.push(Event::Grow { choice, part, delta: Delta::Signature(signature) });
        }
        out.push(Event::Close { choice, part });
    }

    /// Text or a thought. A signature ends the thought that it signs; one on text becomes that of a thought which says
    /// nothing, since it is of everything that went before.
    fn said(&mut self, part: Part<'_>, out: &mut Vec<Event>) {
        let Part { text, thought, thought_signature, .. } = part;
        let kind = if thought == Some(true) { Kind::Thinking } else { Kind::Text };
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.grow(kind, Delta::Text(text), out);
        }
        let Some(signature) = thought_signature else { return };
        match signature::read(&signature) {
            Signature::Hidden(data) => {
                let part = self.begin(Opening::RedactedThinking { data }, out);
                out.push(Event::Close { choice: self.index, part });
            }
            Signature::Thought(signature) => {
                if kind == Kind::Text {
                    self.close(out);
                }
                self.grow(Kind::Thinking, Delta::Signature(signature), out);
                self.close(out);
            }
        }
    }
}

/// Why an answer ended. What Google has no better word for (`OTHER`, a call that it could not write) is an end like any other.
fn stop(reason: &str, calls: bool) -> Stop {
    match reason {
        "MAX_TOKENS" | "CONTINUATION" => Stop::MaxTokens,
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "IMAGE_OTHER"
        | "NO_IMAGE"
        | "ESCALATION"
        | "MODEL_ARMOR"
        | "PUP_LIMITED_DISABLED"
        | "PROHIBITED_CONTENT" => Stop::Filter,
        _ if calls => Stop::ToolUse,
        _ => Stop::End,
    }
}
