//! A provider's stream as each client's.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::reply::{api, same, shown};
use super::request::DIALECTS;
use super::{cut, frames, sse as events};
use crate::dialect::Dialect;
use crate::dialect::bedrock::frames::Splitter;
use crate::dialect::form::{Assembler, Event};
use crate::dialect::translate::{Reader, Writer};
use crate::sse;
use crate::upstream::provider::Api;

/// The APIs whose streams are server-sent events.
const APIS: [Api; 4] = [Api::Chat, Api::Messages, Api::Generate, Api::Responses];

/// An event's name and data.
type Named = (Option<String>, Vec<u8>);

/// Wherever a stream is cut it says the same, in the order that the form lays down; each client reads what was said; and a
/// stream ends properly for the client exactly if the provider ended it.
pub(super) fn target(data: &[u8]) {
    let named = named(events::events(cut::pieces(data)));
    assert_eq!(named, self::named(events::events([data])), "cut anywhere");
    for from in APIS {
        check(from, &named);
    }
    let bytes: Vec<u8> =
        named.iter().flat_map(|(name, data)| framed(name.as_deref().unwrap_or_default(), data)).collect();
    let (mut splitter, mut unframed) = (Splitter::default(), Vec::new());
    for piece in cut::pieces(&bytes) {
        splitter.push(piece).expect("what is encoded is not too long");
        while let Some(frame) = splitter.next().expect("what is encoded is read") {
            unframed.push((Some(frame.name), frame.payload.to_vec()));
        }
    }
    check(Api::Converse, &unframed);
}

fn framed(name: &str, data: &[u8]) -> Vec<u8> {
    let kind: &[u8] = if name.ends_with("Exception") { b"exception" } else { b"event" };
    frames::encoded(
        &[frames::header(":event-type", name.as_bytes()), frames::header(":message-type", kind)].concat(),
        data,
    )
}

fn named(events: Vec<Vec<u8>>) -> Vec<Named> {
    let one = |event: Vec<u8>| Some((sse::name(&event).map(Cow::into_owned), sse::data(&event)?.into_owned()));
    events.into_iter().filter_map(one).collect()
}

fn read(from: Api, named: &[Named]) -> Vec<Event> {
    let mut reader = Reader::of(from).expect("this API has streams");
    let mut events = Vec::new();
    for (name, data) in named {
        reader.read(name.as_deref(), data, &mut events);
    }
    reader.end(&mut events);
    events
}

fn check(from: Api, named: &[Named]) {
    let events = read(from, named);
    ordered(&events);
    let ended = events.last() == Some(&Event::End);
    for dialect in DIALECTS {
        let bytes = written(dialect, &events);
        assert_eq!(
            ends_properly(dialect, &bytes),
            ended,
            "{dialect:?} of {from:?}: {}",
            String::from_utf8_lossy(&bytes)
        );
        let heard = read(api(dialect), &self::named(self::events::events(cut::pieces(&bytes))));
        ordered(&heard);
        let gone = |events: &[Event]| matches!(events.last(), Some(Event::Error(_)));
        assert_eq!(gone(&heard), gone(&events), "{dialect:?} of {from:?}: an error is told as one");
        // What breaks off is a beginning of it; only what was ended can be held against it.
        if ended {
            same(dialect, assembled(&events).reply(), assembled(&heard).reply());
        }
    }
    broken_off(from, named);
}

fn written(dialect: Dialect, events: &[Event]) -> Vec<u8> {
    let (mut writer, mut bytes) = (Writer::of(dialect, &shown(), None), Vec::new());
    events.iter().for_each(|event| writer.write(event, &mut bytes));
    bytes
}

fn assembled(events: &[Event]) -> Assembler {
    let mut assembler = Assembler::default();
    events.iter().for_each(|event| assembler.add(event));
    assembler
}

/// Whether a client takes the stream for a whole answer.
fn ends_properly(dialect: Dialect, bytes: &[u8]) -> bool {
    match dialect {
        Dialect::Openai | Dialect::Responses => bytes.ends_with(b"data: [DONE]\n\n"),
        Dialect::Anthropic => bytes.ends_with(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
        // Nothing says so in this dialect but the reason in each candidate's last chunk, which only an end writes.
        Dialect::Gemini => {
            let last = self::named(events::events([bytes])).pop().map(|(_, data)| data).unwrap_or_default();
            let last: serde_json::Value = serde_json::from_slice(&last).unwrap_or_default();
            last.get("candidates").is_some() && last.pointer("/error").is_none() && finished(&last)
        }
    }
}

fn finished(chunk: &serde_json::Value) -> bool {
    let candidates = chunk.get("candidates").and_then(serde_json::Value::as_array);
    candidates.is_some_and(|all| all.iter().all(|candidate| candidate.get("finishReason").is_some()))
}

/// The order of events: parts are numbered without gaps, what grows is open, and nothing follows the end or an error.
fn ordered(events: &[Event]) {
    let (mut open, mut closed) = (BTreeSet::new(), BTreeSet::new());
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Open { choice, part, .. } => {
                let known = open.iter().chain(&closed).filter(|(of, _)| of == choice).count();
                assert_eq!(usize::try_from(*part), Ok(known), "parts are numbered without gaps");
                open.insert((*choice, *part));
            }
            Event::Grow { choice, part, .. } => {
                assert!(open.contains(&(*choice, *part)), "what grows is open: {event:?}");
            }
            Event::Close { choice, part } => {
                assert!(open.remove(&(*choice, *part)), "what is closed was open: {event:?}");
                closed.insert((*choice, *part));
            }
            Event::End | Event::Error(_) => assert_eq!(at + 1, events.len(), "nothing follows the end"),
            Event::Start { .. } => {
                assert!(!events.iter().take(at).any(|event| matches!(event, Event::Start { .. })), "it begins once");
            }
            Event::Logprobs { .. } | Event::Stop { .. } | Event::Usage(_) | Event::Ping => {}
        }
    }
}

/// A stream that lacks what its provider ends streams with has no end.
fn broken_off(from: Api, named: &[Named]) {
    let said = |word: &str| named.iter().any(|(_, data)| memchr::memmem::find(data, word.as_bytes()).is_some());
    let named_so = |word: &str| named.iter().any(|(name, _)| name.as_deref() == Some(word));
    // A word may be written with escapes.
    let maybe = said("\\");
    let may_end = match from {
        Api::Chat => maybe || said("[DONE]") || said("finish_reason"),
        Api::Messages => maybe || said("message_stop") || named_so("message_stop"),
        Api::Generate => maybe || said("finishReason") || said("blockReason"),
        Api::Converse => named_so("messageStop"),
        Api::Responses => maybe || said("response.completed") || said("response.incomplete"),
        Api::Completions
        | Api::Embeddings
        | Api::CountTokens
        | Api::Moderations
        | Api::ImageGenerations
        | Api::ImageEdits
        | Api::ImageVariations
        | Api::Speech
        | Api::Transcriptions
        | Api::Translations => false,
    };
    if !may_end {
        assert!(!read(from, named).contains(&Event::End), "{from:?} broke off");
    }
}
