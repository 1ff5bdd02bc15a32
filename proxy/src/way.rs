//! How an upstream's answer becomes the client's: as it is, where both speak the same dialect, or by way of the form.
//!
//! Whatever the way, what the answer costs is heard on it. Nothing here reads or writes a connection.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use openclawmu_store::{ServiceTier, Usage};
use serde_json::Value;

use crate::dialect::form::{self, Delta, Event, Opening, Part, Trouble};
use crate::dialect::gemini::path::Framing;
use crate::dialect::openai::media::watch::{Silent, Watch};
use crate::dialect::openai::reply as openai;
use crate::dialect::openai::service;
use crate::dialect::translate::{self, Reader, Writer};
use crate::dialect::{Dialect, Shown, anthropic, gemini};
use crate::sse;
use crate::upstream::provider::Api;

/// The last event of an `OpenAI` stream.
const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");
/// The last event of an Anthropic stream.
const MESSAGE_STOP: Bytes = Bytes::from_static(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");

/// The longest event with a picture in it.
const MAX_MEDIA_EVENT_BYTES: usize = 64 << 20;

/// What one event of a stream says.
pub(crate) type Heard = openai::Event;

/// What a whole answer says, and the bytes that the client gets.
pub(crate) struct Whole {
    pub(crate) usage: Option<Usage>,
    pub(crate) text_bytes: usize,
    pub(crate) service_tier: Option<ServiceTier>,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: Bytes,
}

/// The way of one answer.
pub(crate) enum Way {
    /// `OpenAI` on both sides.
    Openai(openai::Hearing),
    /// Anthropic on both sides.
    Anthropic(anthropic::watch::Watch),
    /// Google on both sides.
    Gemini(gemini::watch::Watch),
    /// `OpenAI`'s images and audio on both sides.
    Media(Box<Watch>),
    /// Two dialects.
    Translated(Box<Translated>),
}

/// The way between two dialects.
pub(crate) struct Translated {
    api: Api,
    dialect: Dialect,
    shown: Shown,
    framing: Option<Framing>,
    stream: Option<(Reader, Writer)>,
    events: Vec<Event>,
    began: Instant,
    /// The tier that the upstream has told.
    tier: Option<ServiceTier>,
}

impl Way {
    /// The way where bytes pass.
    pub(crate) fn same(dialect: Dialect) -> Self {
        match dialect {
            // Responses never: they are always written anew.
            Dialect::Openai | Dialect::Responses => Self::Openai(openai::Hearing::default()),
            Dialect::Anthropic => Self::Anthropic(anthropic::watch::Watch::default()),
            Dialect::Gemini => Self::Gemini(gemini::watch::Watch::default()),
        }
    }

    /// The way from an API to a dialect.
    pub(crate) fn between(api: Api, dialect: Dialect, shown: Shown, framing: Option<Framing>) -> Self {
        let stream = Reader::of(api).map(|reader| (reader, Writer::of(dialect, &shown, framing)));
        let began = Instant::now();
        Self::Translated(Box::new(Translated {
            api,
            dialect,
            shown,
            framing,
            stream,
            events: Vec::new(),
            began,
            tier: None,
        }))
    }

    /// The content type of the client's stream, where it is not the upstream's.
    pub(crate) fn stream_type(&self) -> Option<&'static str> {
        match self {
            Self::Openai(_) | Self::Anthropic(_) | Self::Gemini(_) | Self::Media(_) => None,
            Self::Translated(way) if way.framing == Some(Framing::Array) => Some("application/json"),
            Self::Translated(_) => Some("text/event-stream"),
        }
    }

    /// The bytes of text of a piece that is a whole event as it stands and says nothing but that text, where that is seen at once.
    pub(crate) fn known(&self, piece: &[u8]) -> Option<usize> {
        match self {
            Self::Openai(hearing) => hearing.known(piece),
            Self::Anthropic(_) | Self::Gemini(_) | Self::Media(_) | Self::Translated(_) => None,
        }
    }

    /// Takes one server-sent event with its blank line: what it says, and the bytes that the client gets. Those of the last
    /// one, where [`Heard::done`] is true, are to be held back until the answer is settled.
    pub(crate) fn event(&mut self, event: Bytes) -> (Heard, Bytes) {
        let name = || sse::name(&event);
        match self {
            Self::Openai(hearing) => {
                let heard = hearing.event(&event);
                (heard, event)
            }
            Self::Anthropic(watch) => {
                let said = sse::data(&event).map(|data| watch.event(name().as_deref(), &data)).unwrap_or_default();
                let heard = Heard {
                    usage: said.usage,
                    text_bytes: said.text_bytes,
                    tool_calls: said.tool_calls,
                    finished: said.finished,
                    error: said.error,
                    done: said.done || said.error,
                    ..Heard::default()
                };
                (heard, event)
            }
            Self::Gemini(watch) => {
                let said = sse::data(&event).map(|data| watch.event(None, &data)).unwrap_or_default();
                let heard = Heard {
                    usage: said.usage,
                    text_bytes: said.text_bytes,
                    tool_calls: said.tool_calls,
                    finished: said.finished,
                    error: said.error,
                    done: said.error,
                    ..Heard::default()
                };
                (heard, event)
            }
            Self::Media(watch) => watch.event(sse::data(&event).as_deref(), event.clone()),
            Self::Translated(way) => {
                let data = sse::data(&event).unwrap_or(Cow::Borrowed(b""));
                way.take(name().as_deref(), &data)
            }
        }
    }

    /// Takes one event of a stream that is framed otherwise.
    pub(crate) fn named(&mut self, name: &str, data: &[u8]) -> (Heard, Bytes) {
        match self {
            Self::Translated(way) => way.take(Some(name), data),
            Self::Openai(_) | Self::Anthropic(_) | Self::Gemini(_) | Self::Media(_) => (Heard::default(), Bytes::new()),
        }
    }

    /// The body has ended; `rest` is an event without its blank line. `finished` is what was heard before.
    pub(crate) fn end(&mut self, rest: Option<Bytes>, finished: bool) -> (Heard, Bytes) {
        let (heard, bytes) = rest.map_or_else(|| (Heard::default(), Bytes::new()), |rest| self.event(rest));
        let finished = finished || heard.finished;
        match self {
            Self::Openai(_) => (Heard { done: heard.done || finished, ..heard }, DONE),
            Self::Anthropic(_) => (Heard { done: heard.done || finished, ..heard }, MESSAGE_STOP),
            Self::Gemini(_) => (Heard { done: heard.done || finished, ..heard }, bytes),
            Self::Media(watch) => {
                (Heard { done: heard.done || finished, ..heard }, [bytes.to_vec(), watch.rest()].concat().into())
            }
            Self::Translated(way) => {
                let (last, more) = way.ended();
                let bytes = [bytes, more].concat().into();
                let done = heard.done || last.done;
                (Heard { usage: last.usage.or(heard.usage), done, ..heard }, bytes)
            }
        }
    }

    /// The last event of a stream that failed, where it must fit to those before it.
    pub(crate) fn failed(&mut self, trouble: &Trouble) -> Option<Bytes> {
        if let Self::Media(watch) = self {
            // What was held back as the last event is the last one.
            return Some(watch.rest()).filter(|rest| !rest.is_empty()).map(Bytes::from);
        }
        let Self::Translated(way) = self else { return None };
        let Some((_, Writer::Responses(writer))) = &mut way.stream else { return None };
        let mut out = Vec::new();
        writer.write(&Event::Error(trouble.clone()), &mut out);
        Some(out.into())
    }

    /// The response that a stream was, where it is one that can be kept and has ended.
    pub(crate) fn response(&self) -> Option<Value> {
        let Self::Translated(way) = self else { return None };
        let Some((_, Writer::Responses(writer))) = &way.stream else { return None };
        writer.response().cloned()
    }

    /// Takes a whole answer of this type; `None` when it is not one.
    pub(crate) fn whole(&mut self, content_type: &str, body: Bytes) -> Option<Whole> {
        let plain =
            |usage, text_bytes, service_tier, body| Whole { usage, text_bytes, service_tier, content_type: None, body };
        match self {
            Self::Openai(_) => {
                let said = openai::whole(&body)?;
                Some(plain(said.usage, said.text_bytes, said.service_tier, body))
            }
            Self::Anthropic(_) => {
                let said = anthropic::watch::whole(&body)?;
                Some(plain(said.usage, said.text_bytes, None, body))
            }
            Self::Gemini(_) => {
                let said = gemini::watch::whole(&body)?;
                Some(plain(said.usage, said.text_bytes, None, body))
            }
            Self::Media(watch) => {
                let usage = watch.whole(content_type, &body).ok()?;
                Some(plain(usage, 0, None, body))
            }
            Self::Translated(way) => way.whole(&body),
        }
    }

    /// What the answer counts as without the provider's word, where the way knows better than its text does.
    pub(crate) fn silent(&self) -> Option<Silent> {
        match self {
            Self::Media(watch) => Some(watch.silent()),
            Self::Openai(_) | Self::Anthropic(_) | Self::Gemini(_) | Self::Translated(_) => None,
        }
    }

    /// The longest event that a stream of it may have, in bytes: one that holds a picture is long.
    pub(crate) fn longest_event(&self) -> usize {
        match self {
            Self::Media(_) => MAX_MEDIA_EVENT_BYTES,
            Self::Openai(_) | Self::Anthropic(_) | Self::Gemini(_) | Self::Translated(_) => sse::MAX_EVENT_BYTES,
        }
    }

    /// Whether an event that is probably the last is held back.
    pub(crate) fn may_be_over(&self) -> bool {
        matches!(self, Self::Media(watch) if watch.holds())
    }

    /// Whether an answer of this type goes on piece by piece as it comes.
    pub(crate) fn is_sound(&self, content_type: &str) -> bool {
        matches!(self, Self::Media(watch) if watch.is_sound(content_type))
    }

    /// Takes a piece of such an answer.
    pub(crate) fn piece(&mut self, piece: &[u8]) {
        if let Self::Media(watch) = self {
            watch.piece(piece);
        }
    }
}

impl Translated {
    fn take(&mut self, name: Option<&str>, data: &[u8]) -> (Heard, Bytes) {
        let Some((reader, _)) = &mut self.stream else { return (Heard::default(), Bytes::new()) };
        reader.read(name, data, &mut self.events);
        if self.tier.is_none() && names_tier(self.api) {
            self.tier = service::told(data);
        }
        self.written()
    }

    fn ended(&mut self) -> (Heard, Bytes) {
        let Some((reader, _)) = &mut self.stream else { return (Heard::default(), Bytes::new()) };
        reader.end(&mut self.events);
        self.written()
    }

    /// What the events say, and the client's bytes for them.
    fn written(&mut self) -> (Heard, Bytes) {
        let (mut heard, mut out, completed_at) = (Heard::default(), Vec::new(), self.completed_at());
        heard.service_tier = self.tier;
        for event in self.events.drain(..) {
            hear(&mut heard, &event);
            if let (Event::End, Some((_, Writer::Responses(writer)))) = (&event, &mut self.stream) {
                writer.completed_at(completed_at);
                if let Some(tier) = self.tier {
                    writer.served(tier);
                }
            }
            if let Some((_, writer)) = &mut self.stream {
                writer.write(&event, &mut out);
            }
        }
        (heard, out.into())
    }

    /// Now, in seconds since 1970.
    fn completed_at(&self) -> i64 {
        self.shown.created.saturating_add(i64::try_from(self.began.elapsed().as_secs()).unwrap_or(0))
    }

    fn whole(&self, body: &[u8]) -> Option<Whole> {
        let mut reply = translate::parse_reply(self.api, body)?;
        if let Some(usage) = &mut reply.usage {
            usage.tool_calls = tool_calls(&reply.choices);
        }
        let text_bytes = reply.choices.iter().flat_map(|choice| &choice.parts).map(part_bytes).sum();
        let service_tier = if names_tier(self.api) { service::told(body) } else { None };
        let mut shown = Cow::Borrowed(&self.shown);
        if let (Some(tier), true) = (service_tier, self.shown.echo.is_some())
            && let Some(echo) = &mut shown.to_mut().echo
        {
            Arc::make_mut(echo).served(tier);
        }
        let body = translate::write_reply(self.dialect, &reply, &shown, self.completed_at()).into();
        Some(Whole { usage: reply.usage, text_bytes, service_tier, content_type: Some("application/json"), body })
    }
}

/// Whether an API's answers name the tier that they were served at.
fn names_tier(api: Api) -> bool {
    matches!(api, Api::Chat | Api::Responses)
}

fn hear(heard: &mut Heard, event: &Event) {
    match event {
        Event::Open { opening: Opening::ToolCall { name, .. }, .. } => {
            heard.tool_calls += 1;
            heard.text_bytes += name.len();
        }
        Event::Grow { delta: Delta::Text(text) | Delta::Arguments(text), .. } => heard.text_bytes += text.len(),
        Event::Usage(usage) => heard.usage = Some(*usage),
        Event::Stop { .. } => heard.finished = true,
        Event::End => heard.done = true,
        Event::Error(_) => (heard.error, heard.done) = (true, true),
        Event::Start { .. }
        | Event::Open { .. }
        | Event::Grow { .. }
        | Event::Close { .. }
        | Event::Logprobs { .. }
        | Event::Ping => {}
    }
}

fn tool_calls(choices: &[form::Choice]) -> u32 {
    let calls = choices.iter().flat_map(|choice| &choice.parts).filter(|part| matches!(part, Part::ToolCall { .. }));
    u32::try_from(calls.count()).unwrap_or(u32::MAX)
}

fn part_bytes(part: &Part) -> usize {
    match part {
        Part::Text { text, .. } | Part::Thinking { text, .. } | Part::Refusal { text } => text.len(),
        Part::ToolCall { name, arguments, .. } => name.len() + arguments.len(),
        Part::Image { .. }
        | Part::Document { .. }
        | Part::Audio { .. }
        | Part::RedactedThinking { .. }
        | Part::ToolResult { .. } => 0,
    }
}
