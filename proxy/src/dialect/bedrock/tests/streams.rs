//! Answers, whole and in streams. A stream's fixture is a list of its events, a name and its JSON a line; the test puts them
//! into frames by the specification.

use proptest::prelude::*;

use crate::dialect::bedrock::frames::{Splitter, tests as frames};
use crate::dialect::bedrock::{reply, stream};
use crate::dialect::form::{Assembler, Event, Opening, Reply, Stop, TroubleKind};
use crate::dialect::golden;

fn fixtures(folder: &str, ending: &str) -> Vec<String> {
    let names = golden::list(&format!("bedrock/golden/{folder}"), ending);
    names.iter().map(|name| name.strip_suffix(ending).unwrap().to_owned()).collect()
}

/// Each event of a fixture in its frame.
fn framed(text: &str) -> Vec<Vec<u8>> {
    let event = |line: &str| {
        let (name, payload) = line.split_once(' ').unwrap();
        frames::event(name, payload)
    };
    text.lines().map(event).collect()
}

fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let (mut splitter, mut reader, mut out) = (Splitter::default(), stream::Reader::default(), Vec::new());
    for piece in pieces {
        splitter.push(piece).unwrap();
        while let Some(frame) = splitter.next().unwrap() {
            reader.read(Some(&frame.name), &frame.payload, &mut out);
        }
    }
    reader.end(&mut out);
    out
}

fn assembled(events: &[Event]) -> Option<Reply> {
    let mut assembler = Assembler::default();
    events.iter().for_each(|event| assembler.add(event));
    assembler.finish().map(|reply| reply.expect("no error in the stream"))
}

#[test]
fn replies_become_the_form() {
    for name in fixtures("replies", ".provider.json") {
        let form = reply::parse(golden::input(&format!("{name}.provider.json")).as_bytes()).unwrap();
        golden::check_debug(&format!("{name}.form.txt"), &form);
    }
    for other in ["", "{}", "[]", r#"{"message":"no"}"#, r#"{"output":{}}"#] {
        assert_eq!(reply::parse(other.as_bytes()), None, "{other}");
    }
}

#[test]
fn a_reassembled_stream_equals_the_whole_answer() {
    for name in fixtures("streams", ".events.txt") {
        let bytes = framed(&golden::input(&format!("{name}.events.txt"))).concat();
        let whole = golden::input(&format!("{}.provider.json", name.replace("/streams/", "/replies/")));
        assert_eq!(assembled(&events([bytes.as_slice()])), reply::parse(whole.as_bytes()), "{name}");
    }
}

#[test]
fn s8_01_a_stream_cut_at_every_byte_says_the_same() {
    for name in fixtures("streams", ".events.txt") {
        let bytes = framed(&golden::input(&format!("{name}.events.txt"))).concat();
        let whole = events([bytes.as_slice()]);
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(events([a, b]), whole, "{name} cut at {at}");
        }
        assert_eq!(events(bytes.chunks(1)), whole, "{name}");
    }
}

#[test]
fn s8_06_a_stream_that_broke_off_has_no_end() {
    for name in fixtures("streams", ".events.txt") {
        let all = framed(&golden::input(&format!("{name}.events.txt")));
        // Without its last event it lacks the usage, but it has stopped.
        for kept in 0..all.len() - 1 {
            let bytes = all[..kept].concat();
            let ended = events([bytes.as_slice()]).contains(&Event::End);
            assert!(!ended, "{name} after {kept} events");
        }
        let bytes = all[..all.len() - 1].concat();
        assert!(events([bytes.as_slice()]).contains(&Event::End), "{name}");
    }
}

#[test]
fn m_04_an_exception_ends_a_stream() {
    let exception = [(":exception-type", "throttlingException"), (":message-type", "exception")];
    let bytes = [
        frames::event("messageStart", r#"{"role":"assistant"}"#),
        frames::event("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"a"}}"#),
        frames::encoded(&exception, br#"{"message":"Too many tokens"}"#),
        frames::event("messageStop", r#"{"stopReason":"end_turn"}"#),
    ]
    .concat();
    let all = events([bytes.as_slice()]);
    let Some(Event::Error(trouble)) = all.last() else { panic!("{all:?}") };
    assert_eq!((trouble.kind, trouble.message.as_str()), (TroubleKind::RateLimit, "Too many tokens"));
    let error = [(":error-code", "500"), (":error-message", "broken"), (":message-type", "error")];
    let all = events([frames::encoded(&error, b"").as_slice()]);
    let Some(Event::Error(trouble)) = all.last() else { panic!("{all:?}") };
    assert_eq!((trouble.kind, trouble.message.as_str()), (TroubleKind::Internal, "broken"));
}

#[test]
fn blocks_may_have_any_index_and_parts_have_none_missing() {
    let text = "messageStart {\"role\":\"assistant\"}\n\
        contentBlockDelta {\"contentBlockIndex\":4,\"delta\":{\"citation\":{}}}\n\
        contentBlockDelta {\"contentBlockIndex\":7,\"delta\":{\"text\":\"a\"}}\n\
        contentBlockStart {\"contentBlockIndex\":9,\"start\":{\"toolUse\":{\"toolUseId\":\"t\",\"name\":\"f\"}}}\n\
        messageStop {\"stopReason\":\"tool_use\"}";
    let all = events([framed(text).concat().as_slice()]);
    let opened: Vec<(u32, &Opening)> = all
        .iter()
        .filter_map(|event| if let Event::Open { part, opening, .. } = event { Some((*part, opening)) } else { None })
        .collect();
    assert_eq!(opened, [(0, &Opening::Text), (1, &Opening::ToolCall { id: "t".to_owned(), name: "f".to_owned() })]);
    assert_eq!(
        all.iter().filter(|event| matches!(event, Event::Close { .. })).count(),
        2,
        "what is open ends with the message"
    );
    assert!(all.contains(&Event::Stop { choice: 0, stop: Stop::ToolUse }));
}

proptest! {
    #[test]
    fn nothing_panics_on_arbitrary_events(list in proptest::collection::vec((0..8_usize, 0..3_u32, ".{0,12}"), 0..20), bytes: Vec<u8>) {
        let names = ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata", "otherException", ""];
        let (mut reader, mut out) = (stream::Reader::default(), Vec::new());
        for (at, index, text) in list {
            let payloads = [
                serde_json::json!({"contentBlockIndex": index, "delta": {"text": text}}).to_string(),
                serde_json::json!({"contentBlockIndex": index, "delta": {"reasoningContent": {"redactedContent": text}}}).to_string(),
                serde_json::json!({"contentBlockIndex": index, "delta": {"toolUse": {"input": text}}, "start": {"toolUse": {}}}).to_string(),
                text,
            ];
            for payload in payloads {
                reader.read(Some(names[at]), payload.as_bytes(), &mut out);
            }
        }
        reader.read(Some("contentBlockDelta"), &bytes, &mut out);
        reader.end(&mut out);
        let mut assembler = Assembler::default();
        out.iter().for_each(|event| assembler.add(event));
        drop(reply::parse(&bytes));
        drop(crate::dialect::bedrock::trouble::parse(500, &bytes));
    }
}
