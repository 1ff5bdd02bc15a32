//! What must hold for anything arbitrary.

use openclawmu_store::Usage;
use proptest::prelude::*;

use super::fixtures::{OLD, assembled, read, shown, written};
use super::{reply, stream, trouble, watch};
use crate::dialect::form::{
    Cache, Delta, Effort, Event, Opening, OutputForm, Part, Reasoning, Reply, Request, Role, Sampling, Source, Stop,
    Tool, ToolChoice, Turn, arbitrary,
};

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let part = prop_oneof![
        arbitrary::text().prop_map(Part::text),
        (arbitrary::text(), proptest::option::of(arbitrary::name()))
            .prop_map(|(text, signature)| Part::Thinking { text, signature }),
        arbitrary::name().prop_map(|data| Part::RedactedThinking { data }),
        arbitrary::tool_call(),
    ];
    proptest::collection::vec(part, 0..5)
}

/// What the dialect makes of an answer: its own id and model, and a usage in any case.
fn told(reply: Reply) -> Reply {
    let usage = Some(reply.usage.unwrap_or_default());
    Reply { id: "msg_0123456789abcdef".into(), model: "alias".into(), usage, ..reply }
}

fn cache() -> impl Strategy<Value = Option<Cache>> {
    prop_oneof![Just(None), Just(Some(Cache::Short)), Just(Some(Cache::Long))]
}

fn text_part() -> impl Strategy<Value = Part> {
    (arbitrary::text(), cache()).prop_map(|(text, cache)| Part::Text { text, cache })
}

fn media_part() -> impl Strategy<Value = Part> {
    let source = prop_oneof![
        arbitrary::name().prop_map(Source::Url),
        arbitrary::name().prop_map(Source::File),
        arbitrary::name().prop_map(|data| Source::Data { media_type: "application/pdf".into(), data }),
    ];
    let document = prop_oneof![source.clone(), arbitrary::text().prop_map(Source::Text)];
    prop_oneof![
        (source, cache()).prop_map(|(source, cache)| Part::Image { source, detail: None, cache }),
        (document, proptest::option::of(arbitrary::text()), cache()).prop_map(|(source, name, cache)| Part::Document {
            source,
            name,
            cache
        }),
        text_part(),
    ]
}

fn user_turn() -> impl Strategy<Value = Turn> {
    let result = (arbitrary::name(), proptest::collection::vec(media_part(), 0..3), any::<bool>(), cache())
        .prop_map(|(id, content, is_error, cache)| Part::ToolResult { id, content, is_error, cache });
    (proptest::collection::vec(result, 0..2), proptest::collection::vec(media_part(), 1..3))
        .prop_map(|(results, rest)| Turn { role: Role::User, parts: [results, rest].concat() })
}

fn assistant_turn() -> impl Strategy<Value = Turn> {
    let part = prop_oneof![
        text_part(),
        (arbitrary::text(), arbitrary::name())
            .prop_map(|(text, signature)| Part::Thinking { text, signature: Some(signature) }),
        arbitrary::name().prop_map(|data| Part::RedactedThinking { data }),
        arbitrary::tool_call(),
    ];
    proptest::collection::vec(part, 1..4).prop_map(|parts| Turn { role: Role::Assistant, parts })
}

fn tools() -> impl Strategy<Value = (Vec<Tool>, Option<ToolChoice>, Option<bool>)> {
    let tool =
        (arbitrary::name(), proptest::option::of(arbitrary::text()), proptest::option::of(any::<bool>()), cache())
            .prop_map(|(name, description, strict, cache)| Tool {
                name,
                description,
                parameters: serde_json::json!({"type": "object", "properties": {"a": {"type": "number"}}}),
                strict,
                cache,
            });
    let choice = prop_oneof![
        Just((None, None)),
        Just((Some(ToolChoice::None), None)),
        proptest::option::of(any::<bool>()).prop_map(|parallel| (Some(ToolChoice::Auto), parallel)),
        proptest::option::of(any::<bool>()).prop_map(|parallel| (Some(ToolChoice::Required), parallel)),
        (arbitrary::name(), proptest::option::of(any::<bool>()))
            .prop_map(|(name, parallel)| (Some(ToolChoice::Tool(name)), parallel)),
    ];
    (proptest::collection::vec(tool, 1..3), choice).prop_map(|(tools, (choice, parallel))| (tools, choice, parallel))
}

fn reasoning() -> impl Strategy<Value = Option<Reasoning>> {
    let effort = prop_oneof![
        Just(Effort::Low),
        Just(Effort::Medium),
        Just(Effort::High),
        Just(Effort::Higher),
        Just(Effort::Max)
    ];
    let shown = proptest::option::of(any::<bool>());
    prop_oneof![
        Just(None),
        Just(Some(Reasoning { effort: Some(Effort::None), ..Reasoning::default() })),
        (proptest::option::of(effort), proptest::option::of(1_024..9_000_u32), shown)
            .prop_map(|(effort, budget_tokens, shown)| Some(Reasoning { effort, budget_tokens, shown })),
    ]
}

prop_compose! {
    /// A request within what the dialect can express, to a model that takes both kinds of thinking.
    fn request()(
        system in proptest::collection::vec(text_part(), 0..3),
        turns in proptest::collection::vec((user_turn(), assistant_turn()), 1..3),
        (tools, tool_choice, parallel_tools) in prop_oneof![Just((Vec::new(), None, None)), tools()],
        max_output in 9_001..1_000_000_u32,
        temperature in proptest::option::of(0..100_u32),
        stop in proptest::collection::vec(arbitrary::text(), 0..3),
        schema in any::<bool>(),
        reasoning in reasoning(),
        user in proptest::option::of(arbitrary::name()),
        stream in any::<bool>(),
    ) -> Request {
        let output = OutputForm::Schema {
            name: "answer".into(),
            description: None,
            schema: serde_json::json!({"type": "object"}),
            strict: Some(true),
        };
        Request {
            model: "claude-opus-4-6".into(),
            system,
            turns: turns.into_iter().flat_map(|(user, assistant)| [user, assistant]).collect(),
            tools,
            tool_choice,
            parallel_tools,
            max_output: Some(max_output),
            sampling: Sampling { temperature: temperature.map(Into::into), stop, ..Sampling::default() },
            output: if schema { output } else { OutputForm::Text },
            reasoning,
            user,
            stream,
            ..Request::default()
        }
    }
}

#[test]
fn a_message_begins_once() {
    let start = br#"{"type":"message_start","message":{"id":"a","model":"b","usage":{"input_tokens":1}}}"#;
    let (mut reader, mut events) = (stream::Reader::default(), Vec::new());
    reader.read(None, start, &mut events);
    reader.read(None, start, &mut events);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Start { .. })).count(), 1);
}

proptest! {
    #[test]
    fn a_request_written_and_read_is_the_same(request in request()) {
        let body = super::request::write(&request, OLD).unwrap();
        let again = super::request::parse(std::str::from_utf8(&body).unwrap());
        prop_assert_eq!(again, Ok(request));
    }

    #[test]
    fn a_reply_written_and_read_is_the_same(reply in arbitrary::reply(parts())) {
        let again = reply::parse(&reply::write(&reply, &shown()));
        prop_assert_eq!(again, Some(told(reply)));
    }

    #[test]
    fn events_written_and_read_are_the_same_answer(reply in arbitrary::reply(parts()), piece in 1..9_usize) {
        let out = written(&arbitrary::events(&reply, piece));
        let again = assembled(&read(&[&out]));
        prop_assert_eq!(again, Some(Ok(told(reply))));
    }

    #[test]
    fn parts_that_overlap_are_kept_apart(texts in proptest::collection::vec(arbitrary::text(), 2..4)) {
        let mut events = vec![Event::Start { id: "x".into(), model: "y".into() }];
        let parts: Vec<u32> = (0..).take(texts.len()).collect();
        let open = |&part: &u32| Event::Open { choice: 0, part, opening: Opening::Text };
        events.extend(parts.iter().map(open));
        for (&part, text) in parts.iter().zip(&texts).rev() {
            events.push(Event::Grow { choice: 0, part, delta: Delta::Text(text.clone()) });
        }
        // Never closed, and of a second answer nothing is told.
        events.push(Event::Stop { choice: 1, stop: Stop::MaxTokens });
        events.push(Event::End);
        let again = assembled(&read(&[&written(&events)])).unwrap().unwrap();
        let expected: Vec<Part> = texts.into_iter().map(Part::text).collect();
        prop_assert_eq!((&again.choices[0].parts, &again.choices[0].stop), (&expected, &Some(Stop::End)));
    }

    #[test]
    fn no_bytes_make_anything_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), status: u16, text in "[{}\\[\\]\":a-z_0-9,]{0,60}") {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            let (mut reader, mut watched, mut events) = (stream::Reader::default(), watch::Watch::default(), Vec::new());
            for name in [None, Some("message_start"), Some("content_block_start"), Some("content_block_delta"), Some("error")] {
                reader.read(name, bytes, &mut events);
                watched.event(name, bytes);
            }
            reply::parse(bytes);
            watch::whole(bytes);
            trouble::parse(status, bytes);
            reply::parse_count(bytes);
        }
        let _ = super::request::parse(&text);
        let _ = super::request::facts::facts(super::request::facts::Asks::Answer, &text);
    }

    #[test]
    fn events_in_any_order_neither_panic_nor_end_twice(picks in proptest::collection::vec((0..9_usize, 0..3_u32, "[a-z{}\"]{0,4}"), 0..20)) {
        let events: Vec<Event> = picks.into_iter().map(|(pick, part, text)| match pick {
            0 => Event::Start { id: text, model: String::new() },
            1 => Event::Open { choice: 0, part, opening: Opening::Text },
            2 => Event::Open { choice: part, part: 0, opening: Opening::ToolCall { id: text.clone(), name: text } },
            3 => Event::Grow { choice: 0, part, delta: Delta::Text(text) },
            4 => Event::Grow { choice: 0, part, delta: Delta::Signature(text) },
            5 => Event::Close { choice: 0, part },
            6 => Event::End,
            7 => Event::Ping,
            _ => Event::Usage(Usage::default()),
        }).collect();
        let out = String::from_utf8(written(&events)).unwrap();
        prop_assert!(out.matches("event: message_stop\n").count() <= 1);
        prop_assert!(out.is_empty() || out.starts_with("event: message_start\n"));
        prop_assert!(out.is_empty() || out.ends_with("\n\n"));
    }

    #[test]
    fn a_plain_text_is_found_as_a_parser_finds_it(index in 0..99_u32, text in arbitrary::text(), padding in " {0,4}", quirk in 0..4_usize) {
        let quoted = serde_json::to_string(&text).unwrap();
        let data = match quirk {
            0 | 1 => format!(r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"text_delta","text":{quoted}}}{padding}}}{padding}"#),
            2 => format!(r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"text_delta","text":{quoted}}},"type":"message_stop"}}"#),
            _ => format!(r#"{{"index":{index},"type":"content_block_delta","delta":{{"text":{quoted},"type":"text_delta"}}}}"#),
        };
        let said = watch::Watch::default().event(None, data.as_bytes());
        match quirk {
            2 => prop_assert_eq!(said.text_bytes, data.len(), "a repeated key is no event"),
            _ => prop_assert_eq!(said.text_bytes, text.len()),
        }
    }
}
