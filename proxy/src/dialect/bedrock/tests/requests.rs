//! Requests: forms that clients of other dialects ask, and the bodies that Bedrock takes.

use serde_json::{Number, Value, json};

use crate::dialect::bedrock::request::write;
use crate::dialect::form::{
    Cache, Effort, OutputForm, Part, Reasoning, Request, Role, Sampling, Source, Tool, ToolChoice, Turn,
};
use crate::dialect::golden;

const CLAUDE: &str = "us.anthropic.claude-sonnet-4-20250514-v1:0";

fn turn(role: Role, parts: Vec<Part>) -> Turn {
    Turn { role, parts }
}

fn asked(model: &str, parts: Vec<Part>) -> Request {
    Request { model: model.to_owned(), turns: vec![turn(Role::User, parts)], ..Request::default() }
}

fn tool(name: &str) -> Tool {
    Tool {
        name: name.to_owned(),
        description: Some(format!("The {name}")),
        parameters: json!({"type": "object", "properties": {"city": {"type": "string"}}}),
        strict: None,
        cache: None,
    }
}

fn data(media_type: &str) -> Source {
    Source::Data { media_type: media_type.to_owned(), data: "AAECAw==".to_owned() }
}

fn conversation() -> Request {
    let long = Part::Text { text: "You are terse.".to_owned(), cache: Some(Cache::Long) };
    let call = |id: &str, arguments: &str| Part::ToolCall {
        id: id.to_owned(),
        name: "weather".to_owned(),
        arguments: arguments.to_owned(),
        signature: None,
    };
    let result = |id: &str, text: &str, is_error| Part::ToolResult {
        id: id.to_owned(),
        content: vec![Part::text(text)],
        is_error,
        cache: None,
    };
    let thought = Part::Thinking { text: "Two calls.".to_owned(), signature: Some("EqQB".to_owned()) };
    let unsigned = Part::Thinking { text: "From elsewhere.".to_owned(), signature: None };
    let hidden = Part::RedactedThinking { data: "aGlk".to_owned() };
    Request {
        model: CLAUDE.to_owned(),
        system: vec![Part::text("Be kind."), long],
        turns: vec![
            turn(Role::User, vec![Part::Text { text: "Weather?".to_owned(), cache: Some(Cache::Short) }]),
            turn(
                Role::Assistant,
                vec![
                    thought,
                    unsigned,
                    hidden,
                    Part::text(""),
                    call("a", r#"{"city":"Paris","days":1.50}"#),
                    call("b", ""),
                ],
            ),
            turn(Role::User, vec![result("a", "21", false)]),
            turn(Role::User, vec![result("b", "no city", true)]),
            turn(Role::System, vec![Part::text("Answer in French.")]),
        ],
        tools: vec![
            Tool { strict: Some(true), ..tool("weather") },
            Tool { cache: Some(Cache::Short), ..tool("clock") },
        ],
        tool_choice: Some(ToolChoice::Auto),
        parallel_tools: Some(false),
        max_output: Some(4_000),
        sampling: Sampling {
            temperature: Number::from_f64(0.5),
            top_k: Some(Number::from(40)),
            stop: vec!["END".to_owned()],
            ..Sampling::default()
        },
        reasoning: Some(Reasoning { budget_tokens: Some(2_000), ..Reasoning::default() }),
        ..Request::default()
    }
}

fn media() -> Request {
    let document = |source, name: &str| Part::Document { source, name: Some(name.to_owned()), cache: None };
    let image = |source| Part::Image { source, detail: Some("high".to_owned()), cache: None };
    asked(
        "amazon.nova-pro-v1:0",
        vec![
            Part::text("Compare these."),
            image(data("image/png")),
            image(Source::Url("s3://bucket/cat.webp".to_owned())),
            document(data("application/pdf"), "Q3 report (final)_v2.pdf"),
            document(data("application/pdf"), "Q3 report (final)_v2.pdf"),
            document(Source::Text("Grüße".to_owned()), ""),
            Part::Audio { media_type: "audio/wav".to_owned(), data: "UklGRg==".to_owned() },
        ],
    )
}

fn schema() -> Request {
    let output = OutputForm::Schema {
        name: "recipe".to_owned(),
        description: Some("A recipe".to_owned()),
        schema: json!({"type": "object", "properties": {}, "additionalProperties": false}),
        strict: Some(true),
    };
    Request {
        output,
        reasoning: Some(Reasoning { effort: Some(Effort::High), ..Reasoning::default() }),
        tools: vec![tool("weather")],
        tool_choice: Some(ToolChoice::Tool("weather".to_owned())),
        ..asked("anthropic.claude-opus-4-6-v1", vec![Part::text("A recipe")])
    }
}

#[test]
fn requests_become_a_providers_body() {
    for (name, request) in [("conversation", conversation()), ("media", media()), ("schema", schema())] {
        golden::check_json(&format!("bedrock/golden/requests/{name}.provider.json"), &write(&request).unwrap());
    }
}

#[test]
fn arguments_go_as_they_were_written() {
    let body = String::from_utf8(write(&conversation()).unwrap()).unwrap();
    assert!(body.contains(r#""input":{"city":"Paris","days":1.50}"#));
}

#[test]
fn what_this_provider_can_not_be_asked_is_named() {
    let plain = || asked(CLAUDE, vec![Part::text("x")]);
    let with = |sampling: Sampling| Request { sampling, ..plain() };
    let one = || Some(Number::from(1));
    let url = |url: &str| Part::Image { source: Source::Url(url.to_owned()), detail: None, cache: None };
    let call = Part::ToolCall { id: "a b".to_owned(), name: "f".to_owned(), arguments: String::new(), signature: None };
    let result = Part::ToolResult { id: "a".to_owned(), content: vec![], is_error: false, cache: None };
    let effort = Some(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() });
    let other = "meta.llama3-70b-instruct-v1:0";
    for (request, param) in [
        (with(Sampling { seed: one(), ..Sampling::default() }), "seed"),
        (with(Sampling { frequency_penalty: one(), ..Sampling::default() }), "frequency_penalty"),
        (with(Sampling { presence_penalty: one(), ..Sampling::default() }), "presence_penalty"),
        (with(Sampling { logprobs: Some(1), ..Sampling::default() }), "logprobs"),
        (Request { model: other.to_owned(), ..with(Sampling { top_k: one(), ..Sampling::default() }) }, "top_k"),
        (Request { choices: 2, ..plain() }, "n"),
        (Request { verbosity: Some("low".to_owned()), ..plain() }, "verbosity"),
        (Request { output: OutputForm::Json, ..plain() }, "response_format"),
        (Request { model: other.to_owned(), reasoning: effort, ..plain() }, "reasoning_effort"),
        (
            Request { model: other.to_owned(), tools: vec![tool("f")], parallel_tools: Some(false), ..plain() },
            "parallel_tool_calls",
        ),
        (asked(CLAUDE, vec![url("https://x.test/a.png")]), "messages[0].content"),
        (
            asked(CLAUDE, vec![Part::Image { source: data("image/tiff"), detail: None, cache: None }]),
            "messages[0].content",
        ),
        (asked(CLAUDE, vec![call]), "messages[0].content"),
        (
            Request { tools: vec![tool("f")], tool_choice: Some(ToolChoice::None), ..asked(CLAUDE, vec![result]) },
            "tool_choice",
        ),
    ] {
        let told = write(&request).unwrap_err().told();
        assert_eq!((told.status, told.param.as_deref()), (400, Some(param)));
    }
}

#[test]
fn an_effort_becomes_what_the_model_understands() {
    let body = |model: &str, effort, cap| -> Value {
        let reasoning = Some(Reasoning { effort: Some(effort), ..Reasoning::default() });
        let request = Request { reasoning, max_output: cap, ..asked(model, vec![Part::text("x")]) };
        serde_json::from_slice(&write(&request).unwrap()).unwrap()
    };
    let more = |value: &Value| value["additionalModelRequestFields"].clone();
    assert_eq!(
        more(&body(CLAUDE, Effort::High, None)),
        json!({"thinking": {"type": "enabled", "budget_tokens": 4_096}})
    );
    assert_eq!(more(&body(CLAUDE, Effort::High, Some(2_000)))["thinking"]["budget_tokens"], 1_999, "below the cap");
    assert_eq!(more(&body(CLAUDE, Effort::High, Some(500))), Value::Null, "too small a cap to think within");
    assert_eq!(more(&body(CLAUDE, Effort::None, None)), Value::Null);
    let newer = body("anthropic.claude-opus-4-6-v1", Effort::Max, None);
    assert_eq!(
        (&more(&newer)["thinking"]["type"], &newer["outputConfig"]["effort"]),
        (&json!("adaptive"), &json!("max"))
    );
    assert_eq!(more(&body("openai.gpt-oss-120b-1:0", Effort::Minimal, None)), json!({"reasoning_effort": "low"}));
    let nova = more(&body("us.amazon.nova-2-lite-v1:0", Effort::Max, None));
    assert_eq!(nova, json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}));
}
