//! Chat completions against wire-faithful fixtures, and the properties that every dialect keeps.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Number, json};

use super::*;
use crate::dialect::form::{
    Assembler, Effort, Event, OutputForm, Part, Reasoning, Reply, Request, Role, Sampling, Source, Stop, Tool,
    ToolChoice, Trouble, TroubleKind, Turn, arbitrary,
};
use crate::dialect::{Shown, golden};
use crate::refusal::Refusal;
use crate::sse;

const FOLDER: &str = "openai/golden";

fn shown() -> Shown {
    Shown { id: "0".repeat(32), model: "asked".into(), created: 1_763_848_800, wants_usage: true, echo: None }
}

/// The events of a stream that came in these pieces.
fn read(pieces: &[&[u8]]) -> Vec<Event> {
    let (mut splitter, mut reader, mut out) = (sse::Splitter::default(), Reader::default(), Vec::new());
    for piece in pieces {
        splitter.push(piece).unwrap();
        while let Some(event) = splitter.next() {
            if let Some(data) = sse::data(&event) {
                reader.read(None, &data, &mut out);
            }
        }
    }
    reader.end(&mut out);
    out
}

fn assemble(events: &[Event]) -> Option<Result<Reply, Trouble>> {
    let mut assembler = Assembler::default();
    events.iter().for_each(|event| assembler.add(event));
    assembler.finish()
}

fn stream(events: &[Event], shown: &Shown) -> Vec<u8> {
    let (mut writer, mut out) = (Writer::new(shown), Vec::new());
    events.iter().for_each(|event| writer.write(event, &mut out));
    out
}

#[test]
fn requests_become_the_form_and_are_written_from_it() {
    for name in golden::list(FOLDER, ".request.json") {
        let form = parse(&golden::input(&name)).unwrap_or_else(|err| panic!("{name}: {err}"));
        let stem = name.trim_end_matches(".request.json");
        golden::check_debug(&format!("{stem}.request.form"), &form);
        golden::check_json(&format!("{stem}.request.written"), &write(&form, "max_completion_tokens").unwrap());
    }
}

#[test]
fn replies_become_the_form_and_are_written_from_it() {
    for name in golden::list(FOLDER, ".reply.json") {
        let form = parse_reply(golden::input(&name).as_bytes()).unwrap();
        let stem = name.trim_end_matches(".reply.json");
        golden::check_debug(&format!("{stem}.reply.form"), &form);
        let written = write_reply(&form, &shown());
        golden::check_json(&format!("{stem}.reply.written"), &written);
        let again = parse_reply(&written).unwrap();
        assert_eq!((again.choices, again.usage), (form.choices, form.usage), "{name}");
    }
}

#[test]
fn a_reassembled_stream_is_the_whole_answer_for_every_split() {
    for name in golden::list(FOLDER, ".stream.txt") {
        let text = golden::input(&name);
        let stem = name.trim_end_matches(".stream.txt");
        let whole = parse_reply(golden::input(&format!("{stem}.reply.json")).as_bytes()).unwrap();
        let events = read(&[text.as_bytes()]);
        golden::check_debug(&format!("{stem}.stream.events"), &events);
        assert_eq!(assemble(&events), Some(Ok(whole.clone())), "{name}");
        for at in 0..text.len() {
            let (a, b) = text.as_bytes().split_at(at);
            assert_eq!(read(&[a, b]), events, "{name} split at {at}");
        }
        let written = stream(&events, &shown());
        golden::check(&format!("{stem}.stream.written"), std::str::from_utf8(&written).unwrap());
        let again = assemble(&read(&[&written])).unwrap().unwrap();
        assert_eq!((again.choices, again.usage), (whole.choices, whole.usage), "{name}");
    }
}

#[test]
fn a_stream_that_broke_off_has_no_end() {
    let text = golden::input("openai/golden/text.stream.txt");
    let cut = text.find(", world").unwrap();
    let events = read(&[&text.as_bytes()[..cut]]);
    assert!(assemble(&events).is_none());
    let written = stream(&events, &shown());
    assert!(!written.windows(6).any(|bytes| bytes == b"[DONE]"));
}

#[test]
fn an_error_in_a_stream_ends_it_without_done() {
    let events = read(&[b"data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\ndata: [DONE]\n\n"]);
    let trouble =
        Trouble { kind: TroubleKind::Internal, message: "no".into(), param: None, code: Some("server_error".into()) };
    assert_eq!(assemble(&events), Some(Err(trouble)));
    let written = String::from_utf8(stream(&events, &shown())).unwrap();
    assert!(written.starts_with("data: {\"error\":{\"message\":\"no\"") && !written.contains("[DONE]"), "{written}");
}

#[test]
fn the_usage_is_told_only_to_who_asked() {
    let events = read(&[golden::input("openai/golden/text.stream.txt").as_bytes()]);
    let asked = String::from_utf8(stream(&events, &shown())).unwrap();
    assert_eq!(asked.matches("\"usage\":null").count(), 6);
    assert!(asked.contains("\"choices\":[],\"usage\":{\"prompt_tokens\":82"));
    let silent = String::from_utf8(stream(&events, &Shown { wants_usage: false, ..shown() })).unwrap();
    assert!(!silent.contains("\"usage\""));
    assert!(silent.ends_with("data: [DONE]\n\n"));
}

#[test]
fn calls_that_are_told_in_turns_keep_their_arguments() {
    let call = |index: u32, rest: &str| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":{index},{rest}}}]}},\"finish_reason\":\"\"}}]}}\n\n"
        )
    };
    let begun = |index: u32| call(index, &format!(r#""id":"c{index}","function":{{"name":"f","arguments":""}}"#));
    let more = |index: u32, text: &str| call(index, &format!(r#""function":{{"arguments":{}}}"#, json!(text)));
    let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n";
    let told = [begun(0), more(0, "{\"a\""), begun(1), more(0, ":1}"), more(1, "{}"), end.to_owned()].concat();
    let events = read(&[told.as_bytes()]);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Close { .. })).count(), 2);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Stop { .. })).count(), 1);
    let reply = assemble(&events).unwrap().unwrap();
    let arguments: Vec<&str> = reply.choices[0]
        .parts
        .iter()
        .filter_map(|part| if let Part::ToolCall { arguments, .. } = part { Some(arguments.as_str()) } else { None })
        .collect();
    assert_eq!(arguments, ["{\"a\":1}", "{}"]);
}

#[test]
fn servers_that_count_calls_in_their_own_way_are_understood() {
    let chunk =
        |calls: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{calls}]}}}}]}}\n\n");
    let one = r#"{"id":"a","function":{"name":"f","arguments":"{}"}}"#;
    let two = r#"{"id":"b","function":{"name":"g","arguments":"{}"}}"#;
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    for [one, two] in
        [[one.to_owned(), two.to_owned()], [one, two].map(|call| call.replace("{\"id\"", "{\"index\":0,\"id\""))]
    {
        let text = format!("{}{}{end}", chunk(&one), chunk(&two));
        let reply = assemble(&read(&[text.as_bytes()])).unwrap().unwrap();
        let call = |id: &str, name: &str| Part::ToolCall {
            id: id.into(),
            name: name.into(),
            arguments: "{}".into(),
            signature: None,
        };
        assert_eq!(reply.choices[0].parts, [call("a", "f"), call("b", "g")]);
        assert_eq!(reply.choices[0].stop, Some(Stop::ToolUse));
    }
}

#[test]
fn what_another_provider_cannot_be_told_is_refused_by_name() {
    let base = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
    let cases = [
        ("functions", json!([{"name": "f"}])),
        ("function_call", json!("auto")),
        ("logit_bias", json!({"1": 5})),
        ("prediction", json!({"type": "content", "content": "x"})),
        ("audio", json!({"voice": "alloy", "format": "mp3"})),
        ("modalities", json!(["text", "audio"])),
        ("service_tier", json!("priority")),
        ("web_search_options", json!({"search_context_size": "low"})),
        ("temperature", json!("hot")),
        ("n", json!(0)),
        ("frobnicate", json!(1)),
        ("stop", json!([1])),
        ("top_logprobs", json!(2)),
        ("reasoning_effort", json!("huge")),
        ("messages", json!([])),
        ("messages[0].role", json!([{"role": "function", "name": "f", "content": "x"}])),
        ("messages[0].content", json!([{"role": "user"}])),
        (
            "messages[0].content[1].type",
            json!([{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "video"}]}]),
        ),
        (
            "messages[0].content[0].type",
            json!([{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
        ),
        ("messages[0].tool_call_id", json!([{"role": "tool", "content": "x"}])),
        (
            "messages[0].tool_calls[0].type",
            json!([{"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}]),
        ),
        ("tools[0].type", json!([{"type": "custom", "custom": {"name": "x"}}])),
        ("tool_choice", json!("required")),
        ("tool_choice.type", json!({"type": "custom"})),
        ("response_format.type", json!({"type": "grammar"})),
    ];
    for (name, value) in cases {
        let mut body = base.clone();
        let field = name.split(['[', '.']).next().unwrap();
        body[field] = value;
        let refusal = parse(&body.to_string()).unwrap_err();
        let Refusal::Bad { status: 400, param: Some(param), .. } = &refusal else { panic!("{refusal:?}") };
        assert_eq!(param, name, "{refusal}");
    }
    let both = json!({"model": "m", "messages": base["messages"], "max_tokens": 1, "max_completion_tokens": 1});
    assert!(matches!(parse(&both.to_string()), Err(Refusal::Bad { param: Some(param), .. }) if param == "max_tokens"));
}

#[test]
fn what_a_result_cannot_hold_follows_it() {
    let image = Part::Image { source: Source::Url("https://x/a.png".into()), detail: None, cache: None };
    let result = |id: &str, content, is_error| Part::ToolResult { id: id.into(), content, is_error, cache: None };
    let parts =
        vec![Part::text("and?"), result("a", vec![image], false), result("b", vec![Part::text("no file")], true)];
    let turns = vec![Turn { role: Role::User, parts }];
    let request = Request { model: "m".into(), turns, choices: 1, ..Request::default() };
    let body: serde_json::Value = serde_json::from_slice(&write(&request, "max_tokens").unwrap()).unwrap();
    let expected = json!([
        {"role": "tool", "tool_call_id": "a", "content": "See what follows."},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "Error:"}, {"type": "text", "text": "no file"}]},
        {"role": "user", "content": [{"type": "text", "text": "and?"}, {"type": "image_url", "image_url": {"url": "https://x/a.png"}}]},
    ]);
    assert_eq!(body["messages"], expected);
    let by_id = Part::Image { source: Source::File("f".into()), detail: None, cache: None };
    let request = Request { turns: vec![Turn { role: Role::User, parts: vec![by_id] }], ..request };
    assert!(matches!(write(&request, "max_tokens"), Err(Refusal::Bad { param: Some(_), .. })));
}

fn user_part() -> impl Strategy<Value = Part> {
    let source = prop_oneof![
        "[a-zA-Z0-9+/]{0,12}".prop_map(|data| Source::Data { media_type: "image/png".into(), data }),
        "https://[a-z]{1,9}/[a-z.,]{0,9}".prop_map(Source::Url),
    ];
    prop_oneof![
        arbitrary::text().prop_map(Part::text),
        (source, option::of(Just("low".to_owned()))).prop_map(|(source, detail)| Part::Image {
            source,
            detail,
            cache: None
        }),
        "[a-zA-Z0-9+/]{0,12}".prop_map(|data| Part::Audio { media_type: "audio/mpeg".into(), data }),
        arbitrary::name().prop_map(|id| Part::Document { source: Source::File(id), name: None, cache: None }),
        ("[a-z+/]{0,9}", arbitrary::name()).prop_map(|(data, name)| Part::Document {
            source: Source::Data { media_type: "application/pdf".into(), data },
            name: Some(name),
            cache: None,
        }),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    let assistant = (option::of(arbitrary::text()), vec(arbitrary::text(), 1..3), vec(arbitrary::tool_call(), 0..3))
        .prop_map(|(thought, texts, calls)| {
            let thought = thought.map(|text| Part::Thinking { text, signature: None });
            thought.into_iter().chain(texts.into_iter().map(Part::text)).chain(calls).collect()
        });
    let result = (arbitrary::name(), vec(arbitrary::text().prop_map(Part::text), 1..3))
        .prop_map(|(id, content)| vec![Part::ToolResult { id, content, is_error: false, cache: None }]);
    prop_oneof![
        vec(user_part(), 1..4).prop_map(|parts| Turn { role: Role::User, parts }),
        assistant.prop_map(|parts| Turn { role: Role::Assistant, parts }),
        result.prop_map(|parts| Turn { role: Role::User, parts }),
    ]
}

fn output() -> impl Strategy<Value = OutputForm> {
    prop_oneof![
        Just(OutputForm::Text),
        Just(OutputForm::Json),
        (arbitrary::name(), option::of(any::<bool>())).prop_map(|(name, strict)| OutputForm::Schema {
            name,
            description: None,
            schema: json!({"type": "object"}),
            strict,
        }),
    ]
}

fn reasoning() -> impl Strategy<Value = Option<Reasoning>> {
    let effort = prop_oneof![
        Just(Effort::None),
        Just(Effort::Minimal),
        Just(Effort::Low),
        Just(Effort::Medium),
        Just(Effort::High),
        Just(Effort::Higher),
        Just(Effort::Max)
    ];
    option::of(effort.prop_map(|effort| Reasoning { effort: Some(effort), ..Reasoning::default() }))
}

fn request() -> impl Strategy<Value = Request> {
    let tool = (arbitrary::name(), option::of(arbitrary::text()), option::of(any::<bool>())).prop_map(
        |(name, description, strict)| Tool {
            name,
            description,
            parameters: json!({"type": "object", "properties": {"z": {"type": "string"}, "a": {}}}),
            strict,
            cache: None,
        },
    );
    let choice = prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::None),
        Just(ToolChoice::Required),
        arbitrary::name().prop_map(ToolChoice::Tool)
    ];
    let tools = (vec(tool, 1..3), option::of(choice), option::of(any::<bool>()));
    let number = || option::of((0_i64..9).prop_map(Number::from));
    let sampling = (number(), number(), vec(arbitrary::text(), 0..3), option::of(0_u32..20)).prop_map(
        |(temperature, seed, stop, logprobs)| Sampling { temperature, seed, stop, logprobs, ..Sampling::default() },
    );
    let (output, reasoning) = (output(), reasoning());
    let prompt = (vec(arbitrary::text().prop_map(Part::text), 0..3), vec(turn(), 1..4));
    let rest = (option::of(1_u32..9), 1_u32..5, any::<bool>(), option::of(arbitrary::name()));
    (prompt, option::of(tools), sampling, output, reasoning, rest).prop_map(
        |((system, turns), tools, sampling, output, reasoning, (max_output, choices, stream, user))| {
            let (tools, tool_choice, parallel_tools) = tools.unwrap_or_default();
            Request {
                model: "m".into(),
                system,
                turns,
                tools,
                tool_choice,
                parallel_tools,
                max_output,
                sampling,
                choices,
                output,
                reasoning,
                user,
                stream,
                ..Request::default()
            }
        },
    )
}

/// What one chat answer can hold: thoughts, then at most one text or refusal, then calls.
fn reply_parts() -> impl Strategy<Value = Vec<Part>> {
    let signed = (arbitrary::text(), arbitrary::name())
        .prop_map(|(text, signature)| Part::Thinking { text, signature: Some(signature) });
    let hidden = arbitrary::name().prop_map(|data| Part::RedactedThinking { data });
    let thoughts = prop_oneof![
        vec(prop_oneof![signed, hidden], 0..4),
        arbitrary::text().prop_map(|text| vec![Part::Thinking { text, signature: None }]),
    ];
    let said =
        prop_oneof![arbitrary::text().prop_map(Part::text), arbitrary::text().prop_map(|text| Part::Refusal { text }),];
    let call = (arbitrary::tool_call(), option::of(arbitrary::name())).prop_map(|(mut call, signed)| {
        if let Part::ToolCall { signature, .. } = &mut call {
            *signature = signed;
        }
        call
    });
    // Two calls of one answer have different ids.
    let calls = vec(call, 0..3).prop_map(|mut calls| {
        for (at, call) in calls.iter_mut().enumerate() {
            if let Part::ToolCall { id, .. } = call {
                id.push_str(&at.to_string());
            }
        }
        calls
    });
    (thoughts, option::of(said), calls)
        .prop_map(|(thoughts, said, calls)| thoughts.into_iter().chain(said).chain(calls).collect())
}

proptest! {
    #[test]
    fn a_written_request_is_parsed_as_the_same(request in request()) {
        let written = String::from_utf8(write(&request, "max_tokens").unwrap()).unwrap();
        prop_assert_eq!(parse(&written).unwrap(), request);
    }

    #[test]
    fn a_written_reply_is_parsed_as_the_same(reply in arbitrary::reply(reply_parts())) {
        let again = parse_reply(&write_reply(&reply, &shown())).unwrap();
        prop_assert_eq!((again.choices, again.usage), (reply.choices, reply.usage));
    }

    #[test]
    fn a_written_stream_is_read_as_the_same(reply in arbitrary::reply(reply_parts()), piece in 1_usize..9) {
        let written = stream(&arbitrary::events(&reply, piece), &shown());
        let again = assemble(&read(&[&written])).unwrap().unwrap();
        prop_assert_eq!((again.choices, again.usage), (reply.choices, reply.usage));
    }

    #[test]
    fn nothing_panics(text in ".{0,200}", bytes in vec(any::<u8>(), 0..100)) {
        let _ = parse(&text);
        let _ = parse_reply(&bytes);
        let _ = super::super::trouble::parse(400, &bytes);
        let mut out = Vec::new();
        Reader::default().read(None, &bytes, &mut out);
    }

    #[test]
    fn no_event_of_a_writer_panics_or_splits(choice in any::<u32>(), part in any::<u32>(), text in arbitrary::text()) {
        use crate::dialect::form::{Delta, Opening};
        let events = [
            Event::Grow { choice, part, delta: Delta::Text(text.clone()) },
            Event::Open { choice, part, opening: Opening::Thinking },
            Event::Grow { choice, part, delta: Delta::Text(text) },
            Event::Close { choice, part },
            Event::Close { choice, part },
        ];
        let written = stream(&events, &shown());
        prop_assert!(written.is_empty() || written.ends_with(b"\n\n"));
    }
}
