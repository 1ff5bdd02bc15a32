//! Properties of every form.

use proptest::prelude::*;

use super::arbitrary::{reply, request};
use super::golden::{assembled, events, shown, written};
use crate::dialect::form::{Choice, Delta, Event, Opening, Part, Reply, Request, Stop, Trouble, TroubleKind};
use crate::dialect::gemini::{reply as replies, request as requests, stream};

/// What this dialect can say of an answer.
fn said(reply: &Reply) -> Reply {
    let mut reply = reply.clone();
    for choice in &mut reply.choices {
        let mut parts: Vec<Part> = Vec::new();
        for part in std::mem::take(&mut choice.parts) {
            let part = if let Part::Refusal { text } = part { Part::text(text) } else { part };
            match (parts.last_mut(), part) {
                (_, Part::Text { text, .. }) if text.is_empty() => {}
                (_, Part::Thinking { text, signature: None }) if text.is_empty() => {}
                (Some(Part::Text { text, .. }), Part::Text { text: more, .. }) => text.push_str(&more),
                (Some(Part::Thinking { text, signature: known @ None }), Part::Thinking { text: more, signature })
                    if !more.is_empty() =>
                {
                    text.push_str(&more);
                    *known = signature;
                }
                (_, part) => parts.push(part),
            }
        }
        let calls = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
        choice.stop = choice.stop.take().map(|stop| match stop {
            Stop::MaxTokens | Stop::ContextFull => Stop::MaxTokens,
            Stop::Filter | Stop::Refusal => Stop::Filter,
            Stop::End | Stop::ToolUse | Stop::Sequence(_) | Stop::Pause => {
                if calls {
                    Stop::ToolUse
                } else {
                    Stop::End
                }
            }
        });
        choice.parts = parts;
    }
    reply
}

/// The events of an answer whose texts come in pieces of `step` letters.
fn steps(reply: &Reply, step: usize) -> Vec<Event> {
    let mut out = vec![Event::Start { id: reply.id.clone(), model: reply.model.clone() }, Event::Ping];
    for (Choice { parts, stop, logprobs }, choice) in reply.choices.iter().zip(0..) {
        for (content, part) in parts.iter().zip(0..) {
            let (opening, text, arguments, signature) = match content {
                Part::Text { text, .. } => (Opening::Text, text.as_str(), "", &None),
                Part::Refusal { text } => (Opening::Refusal, text.as_str(), "", &None),
                Part::Thinking { text, signature } => (Opening::Thinking, text.as_str(), "", signature),
                Part::RedactedThinking { data } => (Opening::RedactedThinking { data: data.clone() }, "", "", &None),
                Part::ToolCall { id, name, arguments, signature } => {
                    (Opening::ToolCall { id: id.clone(), name: name.clone() }, "", arguments.as_str(), signature)
                }
                Part::Image { .. } | Part::Document { .. } | Part::Audio { .. } | Part::ToolResult { .. } => {
                    panic!("{content:?} is no part of an answer")
                }
            };
            out.push(Event::Open { choice, part, opening });
            let pieces = |text: &str| {
                let letters: Vec<char> = text.chars().collect();
                letters.chunks(step).map(|piece| piece.iter().collect::<String>()).collect::<Vec<_>>()
            };
            let mut deltas: Vec<Delta> = pieces(text).into_iter().map(Delta::Text).collect();
            deltas.extend(pieces(arguments).into_iter().map(Delta::Arguments));
            deltas.extend(pieces(signature.as_deref().unwrap_or_default()).into_iter().map(Delta::Signature));
            out.extend(deltas.into_iter().map(|delta| Event::Grow { choice, part, delta }));
            out.push(Event::Close { choice, part });
        }
        out.extend(logprobs.clone().map(|logprobs| Event::Logprobs { choice, logprobs }));
        out.extend(stop.clone().map(|stop| Event::Stop { choice, stop }));
    }
    out.extend(reply.usage.map(Event::Usage));
    out.push(Event::End);
    out
}

fn any_event() -> impl Strategy<Value = Event> {
    let opening = prop_oneof![
        Just(Opening::Text),
        Just(Opening::Thinking),
        Just(Opening::Refusal),
        Just(Opening::RedactedThinking { data: "x".to_owned() }),
        Just(Opening::ToolCall { id: "i".to_owned(), name: "f".to_owned() }),
    ];
    let delta =
        prop_oneof![".*".prop_map(Delta::Text), ".*".prop_map(Delta::Arguments), ".*".prop_map(Delta::Signature)];
    let at = || (0..3_u32, 0..3_u32);
    prop_oneof![
        (at(), opening).prop_map(|((choice, part), opening)| Event::Open { choice, part, opening }),
        (at(), delta).prop_map(|((choice, part), delta)| Event::Grow { choice, part, delta }),
        at().prop_map(|(choice, part)| Event::Close { choice, part }),
        (0..3_u32).prop_map(|choice| Event::Stop { choice, stop: Stop::End }),
        (0..3_u32).prop_map(|choice| Event::Logprobs { choice, logprobs: serde_json::json!({"content": 1}) }),
        Just(Event::Ping),
        Just(Event::End),
        Just(Event::Error(trouble())),
    ]
}

fn trouble() -> Trouble {
    Trouble {
        kind: TroubleKind::Overloaded,
        message: "The model is overloaded.".to_owned(),
        param: None,
        code: Some("UNAVAILABLE".to_owned()),
    }
}

proptest! {
    #[test]
    fn a_request_goes_out_and_comes_back(request in request()) {
        let body = requests::write(&request).unwrap();
        let mut again = requests::parse(std::str::from_utf8(&body).unwrap()).unwrap();
        again.model.clone_from(&request.model);
        prop_assert_eq!(again, request);
    }

    #[test]
    fn q_03_a_cap_is_set_whatever_the_body(request in request(), cap in 1..9_999_u32) {
        let body = requests::write(&request).unwrap();
        let requests::Ask { fields, max_output, .. } = requests::read(std::str::from_utf8(&body).unwrap()).unwrap();
        prop_assert_eq!(max_output, request.max_output);
        let edited = |fields: &requests::Fields| requests::edit(&body, fields, None, Some(cap)).into_owned();
        let mut again = requests::parse(std::str::from_utf8(&edited(&fields)).unwrap()).unwrap();
        again.model.clone_from(&request.model);
        prop_assert_eq!(again, Request { max_output: Some(cap), ..request });
    }

    #[test]
    fn a_whole_answer_goes_out_and_comes_back(reply in reply()) {
        let again = replies::parse(&replies::write(&reply, &shown())).unwrap();
        prop_assert_eq!(again, said(&reply));
    }

    #[test]
    fn a_streamed_answer_goes_out_and_comes_back(reply in reply(), step in 1..5_usize) {
        let bytes = written(&steps(&reply, step));
        let again = assembled(&events([bytes.as_slice()])).unwrap();
        prop_assert_eq!(&again, &said(&reply));
        prop_assert_eq!(events(bytes.chunks(7)), events([bytes.as_slice()]));
    }

    #[test]
    fn an_array_holds_the_same_chunks(reply in reply()) {
        let (mut writer, mut array) = (stream::Writer::array(&shown()), Vec::new());
        steps(&reply, 3).iter().for_each(|event| writer.write(event, &mut array));
        let chunks: Vec<serde_json::Value> = serde_json::from_slice(&array).unwrap();
        let lines = String::from_utf8(written(&steps(&reply, 3))).unwrap();
        let same: Vec<serde_json::Value> =
            lines.split("\n\n").filter_map(|line| line.strip_prefix("data: ")).map(|json| serde_json::from_str(json).unwrap()).collect();
        prop_assert_eq!(chunks, same);
    }

    #[test]
    fn whatever_events_come_the_stream_is_well_formed(list in proptest::collection::vec(any_event(), 0..30)) {
        let bytes = written(&list);
        let over = list.iter().position(|event| matches!(event, Event::End | Event::Error(_)));
        let failed = over.is_some_and(|at| matches!(list[at], Event::Error(_)));
        let text = String::from_utf8(bytes).unwrap();
        for line in text.split_terminator("\n\n") {
            let chunk: serde_json::Value = serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap();
            prop_assert!(chunk.get("error").is_some() || chunk.get("candidates").is_some());
        }
        if failed {
            prop_assert!(!text.contains("finishReason"));
            let last = events([text.as_bytes()]).pop();
            prop_assert_eq!(last, Some(Event::Error(trouble())));
        }
        let (mut writer, mut array) = (stream::Writer::array(&shown()), Vec::new());
        list.iter().for_each(|event| writer.write(event, &mut array));
        if over.is_some() {
            prop_assert!(serde_json::from_slice::<Vec<serde_json::Value>>(&array).is_ok());
        }
    }

    #[test]
    fn nothing_panics_on_arbitrary_bytes(data: Vec<u8>, text in "[{}\\[\\]\",:a1\\\\ contentspartsxt]{0,60}") {
        for bytes in [data.as_slice(), text.as_bytes()] {
            drop(replies::parse(bytes));
            let mut out = Vec::new();
            let mut reader = stream::Reader::default();
            reader.read(None, bytes, &mut out);
            reader.end(&mut out);
            drop(crate::dialect::gemini::trouble::parse(500, bytes));
        }
        drop(requests::parse(&text));
        drop(requests::read(&text));
    }

    #[test]
    fn what_is_cut_short_is_refused_and_never_misread(request in request(), at in 0..10_000_usize) {
        let body = String::from_utf8(requests::write(&request).unwrap()).unwrap();
        let mut at = at % body.len();
        while !body.is_char_boundary(at) { at -= 1; }
        prop_assert!(requests::parse(&body[..at]).is_err() && requests::read(&body[..at]).is_err());
        prop_assert!(requests::read(&body).is_ok());
    }
}
