//! Open Responses against wire-faithful fixtures, and the properties that every dialect keeps.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Number, Value, json};

use super::*;
use crate::dialect::form::{
    Assembler, Delta, Effort, Event, Opening, OutputForm, Part, Reasoning, Reply, Request, Role, Sampling, Source,
    Tool, ToolChoice, Trouble, TroubleKind, Turn, arbitrary,
};
use crate::dialect::{Shown, golden};
use crate::refusal::Refusal;
use crate::sse;

const FOLDER: &str = "responses/golden";

/// Every field of `Response` in the official SDK (openai 2.54), and what Open Responses adds.
const RESPONSE_FIELDS: [&str; 37] = [
    "background",
    "completed_at",
    "conversation",
    "created_at",
    "error",
    "frequency_penalty",
    "id",
    "incomplete_details",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "object",
    "output",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "status",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "usage",
    "user",
];

/// The fields of each event in the official SDK, besides `type` and `sequence_number`.
const EVENT_FIELDS: [(&str, &[&str]); 20] = [
    ("response.created", &["response"]),
    ("response.in_progress", &["response"]),
    ("response.completed", &["response"]),
    ("response.incomplete", &["response"]),
    ("response.failed", &["response"]),
    ("response.output_item.added", &["item", "output_index"]),
    ("response.output_item.done", &["item", "output_index"]),
    ("response.content_part.added", &["content_index", "item_id", "output_index", "part"]),
    ("response.content_part.done", &["content_index", "item_id", "output_index", "part"]),
    ("response.output_text.delta", &["content_index", "delta", "item_id", "logprobs", "output_index"]),
    ("response.output_text.done", &["content_index", "item_id", "logprobs", "output_index", "text"]),
    ("response.refusal.delta", &["content_index", "delta", "item_id", "output_index"]),
    ("response.refusal.done", &["content_index", "item_id", "output_index", "refusal"]),
    ("response.reasoning_summary_part.added", &["item_id", "output_index", "part", "summary_index"]),
    ("response.reasoning_summary_part.done", &["item_id", "output_index", "part", "summary_index"]),
    ("response.reasoning_summary_text.delta", &["delta", "item_id", "output_index", "summary_index"]),
    ("response.reasoning_summary_text.done", &["item_id", "output_index", "summary_index", "text"]),
    ("response.function_call_arguments.delta", &["delta", "item_id", "output_index"]),
    ("response.function_call_arguments.done", &["arguments", "item_id", "name", "output_index"]),
    ("error", &["code", "error", "message", "param"]),
];

fn shown() -> Shown {
    Shown { id: "0".repeat(32), model: "asked".into(), created: 1_763_848_800, wants_usage: false, echo: None }
}

fn asked(body: &str) -> Result<Asked, Refusal> {
    parse(body, &Earlier::default())
}

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

fn stream(events: &[Event]) -> Vec<u8> {
    let (mut writer, mut out) = (Writer::new(&shown()), Vec::new());
    writer.completed_at(1_763_848_801);
    events.iter().for_each(|event| writer.write(event, &mut out));
    if let Some(kept) = writer.response() {
        whole(kept);
    }
    out
}

/// The events of a written stream, each checked against the SDK's fields and its sequence number; without `[DONE]`.
fn checked(stream: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stream).unwrap();
    let mut events = Vec::new();
    for event in text.split_terminator("\n\n").filter(|event| *event != "data: [DONE]") {
        let (name, data) = event.split_once('\n').unwrap();
        let value: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), value["type"].as_str());
        assert_eq!(value["sequence_number"], events.len(), "{event}");
        let (_, fields) = EVENT_FIELDS.iter().find(|(kind, _)| value["type"] == *kind).unwrap();
        let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        keys.retain(|key| !matches!(*key, "type" | "sequence_number"));
        keys.sort_unstable();
        assert_eq!(keys, *fields, "{event}");
        if let Some(response) = value.get("response") {
            whole(response);
        }
        events.push(value);
    }
    events
}

fn whole(response: &Value) {
    let mut keys: Vec<&str> = response.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, RESPONSE_FIELDS);
}

#[test]
fn requests_become_the_form_and_are_written_from_it() {
    for name in golden::list(FOLDER, ".request.json") {
        let asked = asked(&golden::input(&name)).unwrap_or_else(|err| panic!("{name}: {err}"));
        let stem = name.trim_end_matches(".request.json");
        golden::check_debug(&format!("{stem}.request.form"), &asked);
        golden::check_json(&format!("{stem}.request.written"), &write(&asked.request).unwrap());
    }
}

#[test]
fn replies_become_the_form_and_are_written_whole() {
    for name in golden::list(FOLDER, ".reply.json") {
        let form = parse_reply(golden::input(&name).as_bytes()).unwrap();
        let stem = name.trim_end_matches(".reply.json");
        golden::check_debug(&format!("{stem}.reply.form"), &form);
        let written = write_reply(&form, &shown(), 1_763_848_801);
        golden::check_json(&format!("{stem}.reply.written"), &written);
        whole(&serde_json::from_slice(&written).unwrap());
        let again = parse_reply(&written).unwrap();
        assert_eq!((again.choices, again.usage), (form.choices, form.usage), "{name}");
    }
}

#[test]
fn a_reassembled_stream_is_the_whole_answer_for_every_split() {
    for name in golden::list(FOLDER, ".stream.txt") {
        let text = golden::input(&name);
        let stem = name.trim_end_matches(".stream.txt");
        let reply = parse_reply(golden::input(&format!("{stem}.reply.json")).as_bytes()).unwrap();
        let events = read(&[text.as_bytes()]);
        golden::check_debug(&format!("{stem}.stream.events"), &events);
        let mut assembled = assemble(&events).unwrap().unwrap();
        assert_eq!(assembled, reply, "{name}");
        for at in (0..text.len()).step_by(7) {
            let (a, b) = text.as_bytes().split_at(at);
            assert_eq!(read(&[a, b]), events, "{name} split at {at}");
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes), events, "{name} byte by byte");
        let written = stream(&events);
        golden::check(&format!("{stem}.stream.written"), std::str::from_utf8(&written).unwrap());
        let last = checked(&written).pop().unwrap();
        let response = write_reply(&reply, &shown(), 1_763_848_801);
        assert_eq!(last["response"], serde_json::from_slice::<Value>(&response).unwrap(), "{name}");
        let again = assemble(&read(&[&written])).unwrap().unwrap();
        assembled.id = again.id.clone();
        assembled.model = again.model.clone();
        assert_eq!(again, assembled, "{name}");
    }
}

#[test]
fn a_stream_that_fails_or_breaks_off_has_no_proper_end() {
    let text = golden::input("responses/golden/failed.broken.txt");
    let events = read(&[text.as_bytes()]);
    let expected = Trouble {
        kind: TroubleKind::Internal,
        message: "The server had an error.".into(),
        param: None,
        code: Some("server_error".into()),
    };
    assert_eq!(assemble(&events), Some(Err(expected.clone())));
    let written = stream(&events);
    let body = trouble::write(&expected, "id");
    assert_eq!(trouble::parse(0, &body), expected);
    let kinds: Vec<Value> = checked(&written).iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds[kinds.len() - 2..], ["response.failed", "error"]);
    let text_written = String::from_utf8(written).unwrap();
    assert!(!text_written.contains("[DONE]") && !text_written.contains("response.completed"));
    let cut = text.find("event: error").unwrap();
    assert!(assemble(&read(&[&text.as_bytes()[..cut]])).is_none());
    assert_eq!(parse_reply(br#"{"status":"failed","output":[],"error":{"code":"server_error","message":"x"}}"#), None);
}

#[test]
fn reasoning_of_which_nothing_more_is_said_is_left_to_the_provider() {
    let request = |reasoning| Request { model: "m".into(), reasoning, ..Request::default() };
    let written = |reasoning| serde_json::from_slice::<Value>(&write(&request(reasoning)).unwrap()).unwrap();
    let body = written(Some(Reasoning::default()));
    assert_eq!((body.get("reasoning"), body.get("include")), (None, None));
    let body = written(Some(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() }));
    assert_eq!(body["reasoning"], json!({"effort": "low"}));
    assert_eq!(body["include"], json!(["reasoning.encrypted_content"]));
}

#[test]
fn a_response_repeats_its_request() {
    let body = golden::input("responses/golden/plain.request.json");
    let asked = asked(&body).unwrap();
    assert!(!asked.store);
    let reply = Reply { choices: vec![], ..Reply::default() };
    let response: Value =
        serde_json::from_slice(&write_reply(&reply, &Shown { echo: Some(asked.echo.clone()), ..shown() }, 0)).unwrap();
    for (name, value) in [
        ("instructions", json!("Be brief.")),
        ("max_output_tokens", json!(256)),
        ("metadata", json!({"run": "7"})),
        ("reasoning", json!({"effort": "high", "summary": "auto"})),
        ("text", json!({"format": {"type": "text"}, "verbosity": "low"})),
        ("store", json!(false)),
        ("service_tier", json!("default")),
        ("temperature", json!(0.7)),
    ] {
        assert_eq!(response[name], value, "{name}");
    }
}

#[test]
fn earlier_items_come_first_and_references_are_put_in_place() {
    let item = json!({"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"});
    let earlier = Earlier {
        items: vec![json!({"type": "message", "role": "user", "content": "first"})],
        named: [("fc_1".to_owned(), item)].into(),
        ..Earlier::default()
    };
    let body = json!({"model": "m", "previous_response_id": "resp_1", "input": [
        {"type": "item_reference", "id": "fc_1"}, {"type": "function_call_output", "call_id": "c", "output": "ok"},
    ]})
    .to_string();
    assert_eq!(previous(&body).unwrap().as_deref(), Some("resp_1"));
    let asked = parse(&body, &earlier).unwrap();
    let call = Part::ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into(), signature: None };
    let result = Part::ToolResult { id: "c".into(), content: vec![Part::text("ok")], is_error: false, cache: None };
    let turn = |role, part| Turn { role, parts: vec![part] };
    let expected = [turn(Role::User, Part::text("first")), turn(Role::Assistant, call), turn(Role::User, result)];
    assert_eq!(asked.request.turns, expected);
    assert_eq!(asked.input.len(), 2);
    assert!(
        matches!(parse(&body, &Earlier::default()), Err(Refusal::Bad { param: Some(param), .. }) if param == "input[0]")
    );
}

#[test]
fn what_another_provider_cannot_be_told_is_refused_by_name() {
    let base = json!({"model": "m", "input": "x"});
    let cases = [
        ("background", json!("yes")),
        ("conversation", json!("conv_1")),
        ("prompt", json!({"id": "pmpt_1"})),
        ("truncation", json!("middle")),
        ("service_tier", json!("scale")),
        ("frobnicate", json!(1)),
        ("max_output_tokens", json!(0)),
        ("temperature", json!("hot")),
        ("tools[0].type", json!([{"type": "web_search"}])),
        ("tools[0].type", json!([{"type": "mcp", "server_label": "x"}])),
        ("tools[0].type", json!([{"type": "custom", "name": "x"}])),
        ("tool_choice.type", json!({"type": "file_search"})),
        ("text.format.type", json!({"format": {"type": "grammar"}})),
        ("reasoning.effort", json!({"effort": "huge"})),
        ("input[0].type", json!([{"type": "web_search_call", "id": "ws_1", "status": "completed"}])),
        ("input[0].content[0].type", json!([{"role": "user", "content": [{"type": "input_video"}]}])),
        ("input[0].call_id", json!([{"type": "function_call_output", "output": "x"}])),
        ("input[0]", json!(["x"])),
        ("input", json!([])),
    ];
    for (name, value) in cases {
        let mut body = base.clone();
        body[name.split(['[', '.']).next().unwrap()] = value;
        let refusal = asked(&body.to_string()).unwrap_err();
        let Refusal::Bad { status: 400, param: Some(param), .. } = &refusal else { panic!("{refusal:?}") };
        assert_eq!(param, name, "{refusal}");
    }
    let turns = vec![Turn { role: Role::User, parts: vec![Part::text("x")] }];
    let sampling = Sampling { stop: vec!["x".into()], ..Sampling::default() };
    let request = Request { model: "m".into(), turns, sampling, ..Request::default() };
    assert!(matches!(write(&request), Err(Refusal::Bad { param: Some(param), .. }) if param == "stop"));
}

fn user_part() -> impl Strategy<Value = Part> {
    let source = || {
        prop_oneof![
            "[a-zA-Z0-9+/]{0,12}".prop_map(|data| Source::Data { media_type: "image/png".into(), data }),
            "https://[a-z]{1,9}/[a-z.,]{0,9}".prop_map(Source::Url),
            arbitrary::name().prop_map(Source::File),
        ]
    };
    prop_oneof![
        arbitrary::text().prop_map(Part::text),
        (source(), option::of(Just("low".to_owned()))).prop_map(|(source, detail)| Part::Image {
            source,
            detail,
            cache: None
        }),
        (source(), arbitrary::name()).prop_map(|(source, name)| {
            let name = matches!(source, Source::Data { .. }).then_some(name);
            Part::Document { source, name, cache: None }
        }),
    ]
}

fn thought() -> impl Strategy<Value = Part> {
    (option::of(arbitrary::text()), arbitrary::name())
        .prop_map(|(text, proof)| Part::Thinking { text: text.unwrap_or_default(), signature: Some(proof) })
}

fn said_part() -> impl Strategy<Value = Part> {
    let call = (arbitrary::tool_call(), option::of(arbitrary::name())).prop_map(|(mut call, signed)| {
        if let Part::ToolCall { signature, .. } = &mut call {
            *signature = signed;
        }
        call
    });
    prop_oneof![
        arbitrary::text().prop_map(Part::text),
        arbitrary::text().prop_map(|text| Part::Refusal { text }),
        thought(),
        call,
    ]
}

/// Turns of both sides in turn, since what the model says in a row is one.
fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let result = (arbitrary::name(), vec(user_part(), 1..3))
        .prop_map(|(id, content)| vec![Part::ToolResult { id, content, is_error: false, cache: None }]);
    let user = prop_oneof![vec(user_part(), 1..4), result].prop_map(|parts| Turn { role: Role::User, parts });
    let model = vec(said_part(), 1..4).prop_map(|parts| Turn { role: Role::Assistant, parts });
    vec((user, model), 1..3).prop_map(|pairs| pairs.into_iter().flat_map(|(user, model)| [user, model]).collect())
}

fn request() -> impl Strategy<Value = Request> {
    let tool =
        (arbitrary::name(), option::of(arbitrary::text()), any::<bool>()).prop_map(|(name, description, strict)| {
            let parameters = json!({"type": "object", "properties": {"z": {"type": "string"}, "a": {}}});
            Tool { name, description, parameters, strict: Some(strict), cache: None }
        });
    let choice = prop_oneof![Just(ToolChoice::Required), arbitrary::name().prop_map(ToolChoice::Tool)];
    let tools = (vec(tool, 1..3), option::of(choice), option::of(any::<bool>()));
    let number = || option::of((0_i64..9).prop_map(Number::from));
    let sampling = (number(), number(), option::of(0_u32..20)).prop_map(|(temperature, top_p, logprobs)| Sampling {
        temperature,
        top_p,
        logprobs,
        ..Sampling::default()
    });
    let output = prop_oneof![
        Just(OutputForm::Text),
        Just(OutputForm::Json),
        (arbitrary::name(), option::of(any::<bool>())).prop_map(|(name, strict)| OutputForm::Schema {
            name,
            description: None,
            schema: json!({"type": "object"}),
            strict,
        }),
    ];
    let effort = prop_oneof![Just(Effort::None), Just(Effort::Low), Just(Effort::High), Just(Effort::Max)];
    let reasoning = option::of((effort, option::of(Just(true))).prop_map(|(effort, shown)| Reasoning {
        effort: Some(effort),
        shown,
        ..Reasoning::default()
    }));
    let prompt = (vec(arbitrary::text().prop_map(Part::text), 0..3), turns());
    let rest = (option::of(1_u32..9), any::<bool>(), option::of(arbitrary::name()));
    (prompt, option::of(tools), sampling, output, reasoning, rest).prop_map(
        |((system, turns), tools, sampling, output, reasoning, (max_output, stream, user))| {
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
                choices: 1,
                output,
                reasoning,
                user,
                stream,
                ..Request::default()
            }
        },
    )
}

fn reply_parts() -> impl Strategy<Value = Vec<Part>> {
    let unsigned = arbitrary::text().prop_map(|text| Part::Thinking { text, signature: None });
    let hidden = arbitrary::name().prop_map(|data| Part::RedactedThinking { data });
    vec(prop_oneof![3 => said_part(), 1 => unsigned, 1 => hidden], 0..6)
}

proptest! {
    #[test]
    fn a_written_request_is_parsed_as_the_same(request in request()) {
        let written = String::from_utf8(write(&request).unwrap()).unwrap();
        prop_assert_eq!(asked(&written).unwrap().request, request);
    }

    #[test]
    fn a_written_reply_is_parsed_as_the_same(reply in arbitrary::reply(reply_parts())) {
        let again = parse_reply(&write_reply(&reply, &shown(), 0)).unwrap();
        prop_assert_eq!((again.choices, again.usage), (reply.choices, reply.usage));
    }

    #[test]
    fn a_written_stream_is_read_as_the_same_and_ends_with_the_whole_answer(reply in arbitrary::reply(reply_parts()), piece in 1_usize..9) {
        let written = stream(&arbitrary::events(&reply, piece));
        let again = assemble(&read(&[&written])).unwrap().unwrap();
        prop_assert_eq!((&again.choices, again.usage), (&reply.choices, reply.usage));
        let last = checked(&written).pop().unwrap();
        let response: Value = serde_json::from_slice(&write_reply(&reply, &shown(), 1_763_848_801)).unwrap();
        prop_assert_eq!(&last["response"], &response);
    }

    #[test]
    fn nothing_panics(text in ".{0,200}", bytes in vec(any::<u8>(), 0..100)) {
        let _ = asked(&text);
        let _ = previous(&text);
        let _ = parse_reply(&bytes);
        let _ = trouble::parse(400, &bytes);
        let mut out = Vec::new();
        Reader::default().read(None, &bytes, &mut out);
    }

    #[test]
    fn no_order_of_events_breaks_the_numbers(parts in vec((0_u32..3, 0_u32..3, 0_u8..6, arbitrary::text()), 0..12)) {
        let events: Vec<Event> = parts.into_iter().map(|(choice, part, kind, text)| match kind {
            0 => Event::Open { choice, part, opening: Opening::Text },
            1 => Event::Open { choice, part, opening: Opening::ToolCall { id: text.clone(), name: text } },
            2 => Event::Open { choice, part, opening: Opening::RedactedThinking { data: text } },
            3 => Event::Grow { choice, part, delta: Delta::Text(text) },
            4 => Event::Grow { choice, part, delta: Delta::Arguments(text) },
            _ => Event::Close { choice, part },
        }).chain([Event::End]).collect();
        checked(&stream(&events));
    }
}

#[test]
fn a_compaction_is_what_it_says_where_it_can_be_opened() {
    let body = json!({"model": "m", "input": [
        {"role": "user", "content": "first"}, {"id": "cmp_1", "type": "compaction", "encrypted_content": "sealed"},
    ]})
    .to_string();
    assert_eq!(state::compactions(&body, &Earlier::default()), ["sealed"]);
    let refusal = parse(&body, &Earlier::default()).unwrap_err();
    assert_eq!(refusal.told().param.as_deref(), Some("input[1].encrypted_content"));
    let opened = Earlier { opened: [("sealed".to_owned(), "it went well".to_owned())].into(), ..Earlier::default() };
    let asked = parse(&body, &opened).unwrap();
    let said = asked.request.turns.last().unwrap();
    assert_eq!(said.role, Role::User);
    assert!(matches!(said.parts.last(), Some(Part::Text { text, .. }) if text.ends_with("it went well")));
    assert_eq!(asked.input[1]["encrypted_content"], "sealed", "it is kept as it came");
    assert_eq!(asked.retained, [json!({"role": "user", "content": "first"})]);
}
