//! The golden files, and what must hold for each of them.

use openclawmu_store::Usage;
use serde_json::Value;

use super::{reply, request, stream, trouble, watch};
use crate::dialect::form::{Assembler, Choice, Event, Part, Reply, Role, Trouble, TroubleKind};
use crate::dialect::{Shown, golden};
use crate::sse::{self, Splitter};

pub(super) const OLD: &str = "2023-06-01";
const NEW: &str = "2026-10-21";

pub(super) fn shown() -> Shown {
    Shown { id: "0123456789abcdef".into(), model: "alias".into(), created: 0, wants_usage: false, echo: None }
}

/// The name and the data of every event in a body that comes in pieces.
fn cut(pieces: &[&[u8]]) -> Vec<(Option<String>, Vec<u8>)> {
    let mut splitter = Splitter::default();
    let mut events = Vec::new();
    for piece in pieces {
        splitter.push(piece).unwrap();
        while let Some(event) = splitter.next() {
            let text = String::from_utf8(event.to_vec()).unwrap();
            let name = text.lines().find_map(|line| line.strip_prefix("event: ")).map(str::to_owned);
            events.push((name, sse::data(&event).unwrap_or_default().into_owned()));
        }
    }
    events
}

pub(super) fn read(pieces: &[&[u8]]) -> Vec<Event> {
    let (mut reader, mut events) = (stream::Reader::default(), Vec::new());
    for (name, data) in cut(pieces) {
        reader.read(name.as_deref(), &data, &mut events);
    }
    reader.end(&mut events);
    events
}

pub(super) fn assembled(events: &[Event]) -> Option<Result<Reply, Trouble>> {
    let mut assembler = Assembler::default();
    events.iter().for_each(|event| assembler.add(event));
    assembler.finish()
}

pub(super) fn written(events: &[Event]) -> Vec<u8> {
    let (mut writer, mut out) = (stream::Writer::new(&shown()), Vec::new());
    events.iter().for_each(|event| writer.write(event, &mut out));
    out
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').unwrap().0
}

/// The inputs of a folder: what was made of them stands beside them under longer names.
fn inputs(folder: &str, suffix: &str) -> Vec<String> {
    golden::list(folder, suffix).into_iter().filter(|name| !name.contains(".out.")).collect()
}

#[test]
fn every_request_becomes_its_form_and_a_body_for_either_version() {
    for name in inputs("anthropic/golden/requests", ".json") {
        let form = request::parse(&golden::input(&name)).unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
        golden::check_debug(&format!("{}.form", stem(&name)), &form);
        let body = request::write(&form, OLD).unwrap();
        golden::check_json(&format!("{}.out.json", stem(&name)), &body);
        let again = request::parse(std::str::from_utf8(&body).unwrap()).unwrap();
        if form.turns.iter().all(|turn| turn.role != Role::System) {
            assert_eq!(again, form, "{name}");
        }
        let sampling = form.sampling.temperature.is_some() || form.sampling.top_k.is_some();
        assert_eq!(request::write(&form, NEW).is_err(), sampling, "{name}");
    }
}

#[test]
fn every_reply_becomes_its_form_and_is_written_for_a_client() {
    for name in inputs("anthropic/golden/replies", ".json") {
        let form = reply::parse(golden::input(&name).as_bytes()).unwrap();
        golden::check_debug(&format!("{}.form", stem(&name)), &form);
        let body = reply::write(&form, &shown());
        golden::check_json(&format!("{}.out.json", stem(&name)), &body);
        let again = reply::parse(&body).unwrap();
        let expected = Reply { id: "msg_0123456789abcdef".into(), model: "alias".into(), ..form };
        assert_eq!(again, expected, "{name}");
    }
}

#[test]
fn every_stream_put_together_is_the_reply_however_its_bytes_are_cut() {
    for name in inputs("anthropic/golden/streams", ".sse") {
        let bytes = golden::input(&name).into_bytes();
        let events = read(&[&bytes]);
        golden::check_debug(&format!("{}.events", stem(&name)), &events);
        let whole =
            reply::parse(golden::input(&format!("{}.json", stem(&name).replace("streams", "replies"))).as_bytes());
        assert_eq!(assembled(&events).unwrap().unwrap(), whole.unwrap(), "{name}");
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(read(&[a, b]), events, "{name} cut at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), events, "{name}");
    }
}

#[test]
fn every_stream_is_written_for_a_client_as_the_provider_writes_it() {
    for name in inputs("anthropic/golden/streams", ".sse") {
        let events = read(&[golden::input(&name).as_bytes()]);
        let out = written(&events);
        golden::check(&format!("{}.out.sse", stem(&name)), std::str::from_utf8(&out).unwrap());
        let again = read(&[&out]);
        let expected = assembled(&events).unwrap().unwrap();
        let expected = Reply { id: "msg_0123456789abcdef".into(), model: "alias".into(), ..expected };
        assert_eq!(assembled(&again).unwrap().unwrap(), expected, "{name}");
    }
}

#[test]
fn s8_06_a_stream_that_broke_off_has_no_end() {
    for name in inputs("anthropic/golden/streams", ".sse") {
        let text = golden::input(&name);
        let broken = text.rsplit_once("event: message_stop").unwrap().0;
        let events = read(&[broken.as_bytes()]);
        assert!(!events.contains(&Event::End) && assembled(&events).is_none(), "{name}");
        let out = String::from_utf8(written(&events)).unwrap();
        assert!(!out.contains("message_stop") && !out.contains("message_delta"), "{name}");
    }
}

#[test]
fn an_error_in_a_stream_is_said_and_nothing_follows() {
    let text = golden::input("anthropic/golden/streams/text.sse");
    let (begun, rest) = text.split_once("event: ping").unwrap();
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"},\"request_id\":\"req_u\"}\n\n";
    let events = read(&[begun.as_bytes(), error.as_bytes(), b"event: ping", rest.as_bytes()]);
    let trouble = Trouble {
        kind: TroubleKind::Overloaded,
        message: "Overloaded".into(),
        param: None,
        code: Some("overloaded_error".into()),
    };
    assert_eq!(events.last(), Some(&Event::Error(trouble.clone())));
    let mut events = events;
    events.push(Event::End);
    let out = String::from_utf8(written(&events)).unwrap();
    let expected = String::from_utf8(trouble::event(&trouble, "req_0123456789abcdef")).unwrap();
    assert!(out.ends_with(&expected) && !out.contains("message_stop"), "{out}");
    assert_eq!(out.matches("event: error").count(), 1);
}

#[test]
fn a_watched_stream_says_what_its_reply_says() {
    for name in inputs("anthropic/golden/streams", ".sse") {
        let whole = golden::input(&format!("{}.json", stem(&name).replace("streams", "replies")));
        let without: Value = serde_json::from_str(&whole).unwrap();
        let mut without = without;
        without.as_object_mut().unwrap().shift_remove("usage");
        let (whole, without) =
            (watch::whole(whole.as_bytes()).unwrap(), watch::whole(without.to_string().as_bytes()).unwrap());
        let mut watched = watch::Watch::default();
        let (mut usage, mut text, mut calls, mut ends) = (None, 0, 0, (0, 0));
        for (event, data) in cut(&[golden::input(&name).as_bytes()]) {
            let said = watched.event(event.as_deref(), &data);
            usage = said.usage.or(usage);
            text += said.text_bytes;
            calls += said.tool_calls;
            ends.0 += u32::from(said.finished);
            ends.1 += u32::from(said.done);
            assert!(!said.error);
        }
        let usage = usage.map(|usage| Usage { tool_calls: calls, ..usage });
        assert_eq!((usage, ends), (whole.usage, (1, 1)), "{name}");
        // A call without arguments has two bytes of them when it is whole.
        let empty = if name.contains("tools") { 2 } else { 0 };
        assert_eq!(text + empty, without.text_bytes, "{name}");
    }
}

/// Asserts that a body is refused and which field is named.
fn refused(body: &str, param: &str) {
    let told = request::parse(body).expect_err(body).told();
    assert_eq!((told.status, told.param.as_deref()), (400, Some(param)), "{body}");
}

#[test]
fn a_field_that_can_not_be_told_is_refused_by_name() {
    let with =
        |field: &str| format!(r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"x"}}],{field}}}"#);
    for (body, param) in [
        (r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#.to_owned(), "max_tokens"),
        (r#"{"model":"m","max_tokens":0,"messages":[]}"#.to_owned(), "max_tokens"),
        (r#"{"max_tokens":1,"messages":[{"role":"user","content":"x"}]}"#.to_owned(), "model"),
        (r#"{"model":"m","max_tokens":1,"messages":[]}"#.to_owned(), "messages"),
        (r#"{"model":"m","max_tokens":1,"messages":[{"role":"tool","content":"x"}]}"#.to_owned(), "messages[0].role"),
        (r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":7}]}"#.to_owned(), "messages[0].content"),
        (with(r#""unknown":1"#), "unknown"),
        (with(r#""n":2"#), "n"),
        (with(r#""temperature":"hot""#), "temperature"),
        (with(r#""speed":"fast""#), "speed"),
        (with(r#""inference_geo":"us""#), "inference_geo"),
        (with(r#""container":"c""#), "container"),
        (with(r#""system":[{"type":"image","source":{"type":"url","url":"u"}}]"#), "system[0].type"),
        (with(r#""thinking":{"type":"between_tools"}"#), "thinking.type"),
        (with(r#""thinking":{"type":"enabled","budget_tokens":1023}"#), "thinking.budget_tokens"),
        (with(r#""thinking":{"type":"adaptive","budget_tokens":2000}"#), "thinking.budget_tokens"),
        (with(r#""output_config":{"effort":"extreme"}"#), "output_config.effort"),
        (with(r#""output_config":{"format":{"type":"json_schema"}}"#), "output_config.format.schema"),
        (
            with(
                r#""output_config":{"format":{"type":"json_schema","schema":{}}},"output_format":{"type":"json_schema","schema":{}}"#,
            ),
            "output_format",
        ),
        (with(r#""tools":[{"type":"web_search_20260318","name":"web_search"}]"#), "tools[0].type"),
        (with(r#""tools":[{"name":"f"}]"#), "tools[0].input_schema"),
        (
            with(r#""tool_choice":{"type":"none","disable_parallel_tool_use":true}"#),
            "tool_choice.disable_parallel_tool_use",
        ),
        (with(r#""stop_sequences":["a",1]"#), "stop_sequences[1]"),
        (with(r#""metadata":{"user_id":"u","x":1}"#), "metadata.x"),
    ] {
        refused(&body, param);
    }
}

#[test]
fn a_block_that_can_not_be_told_is_refused_by_name() {
    let block =
        |block: &str| format!(r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":[{block}]}}]}}"#);
    for (body, param) in [
        (block(r#"{"type":"search_result","source":"s","title":"t","content":[]}"#), "messages[0].content[0].type"),
        (
            block(r#"{"type":"image","source":{"type":"base64","data":"x"}}"#),
            "messages[0].content[0].source.media_type",
        ),
        (
            block(r#"{"type":"document","source":{"type":"url","url":"u"},"context":"c"}"#),
            "messages[0].content[0].context",
        ),
        (
            block(r#"{"type":"document","source":{"type":"url","url":"u"},"citations":{"enabled":true}}"#),
            "messages[0].content[0].citations.enabled",
        ),
        (block(r#"{"type":"tool_use","id":"a","name":"f","input":"{}"}"#), "messages[0].content[0].input"),
        (
            block(r#"{"type":"tool_result","tool_use_id":"a","content":[{"type":"thinking","thinking":"x"}]}"#),
            "messages[0].content[0].content[0].type",
        ),
        (
            block(r#"{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl":"2h"}}"#),
            "messages[0].content[0].cache_control.ttl",
        ),
    ] {
        refused(&body, param);
    }
}

#[test]
fn a_count_shares_the_prompt_and_nothing_else() {
    let prompt = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"system":"s"}"#;
    let counted = request::parse_count(prompt).unwrap();
    assert_eq!((counted.max_output, counted.system.len()), (None, 1));
    let more = prompt.replace("\"system\"", "\"max_tokens\":1,\"system\"");
    assert_eq!(request::parse_count(&more).unwrap_err().told().param.as_deref(), Some("max_tokens"));
    assert_eq!(reply::count(2095), br#"{"input_tokens":2095}"#);
    assert_eq!(reply::parse_count(br#"{"input_tokens":2095,"context_management":null}"#), Some(2095));
}

#[test]
fn arguments_that_were_cut_off_are_wrapped_as_the_provider_advises() {
    let parts = vec![Part::ToolCall { id: "a".into(), name: "f".into(), arguments: "{\"x\":".into(), signature: None }];
    let choice = Choice { parts, stop: None, logprobs: None };
    let body = reply::write(&Reply { choices: vec![choice], ..Reply::default() }, &shown());
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["content"][0]["input"], serde_json::json!({"INVALID_JSON": "{\"x\":"}));
    assert_eq!(body["stop_reason"], "tool_use");
}
