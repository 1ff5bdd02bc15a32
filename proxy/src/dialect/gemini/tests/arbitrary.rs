//! Arbitrary forms, within what this dialect can express.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openclawmu_store::Usage;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};

use crate::dialect::form::{
    Choice, Effort, OutputForm, Part, Reasoning, Reply, Request, Role, Sampling, Source, Stop, Tool, ToolChoice, Turn,
};

fn text() -> impl Strategy<Value = String> {
    "[a-zé\"\\\\{} \n]{1,12}".prop_map(|text| text)
}

fn base64() -> impl Strategy<Value = String> {
    vec(any::<u8>(), 1..20).prop_map(|bytes| STANDARD.encode(bytes))
}

pub(super) fn arguments() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("{}".to_owned()),
        Just(r#"{"a":1.50,"b":12345678901234567890123,"c":"x \" y"}"#.to_owned()),
        text().prop_map(|text| json!({ "q": text, "n": [1, null] }).to_string()),
    ]
}

fn media() -> impl Strategy<Value = Part> {
    let document = |source| Part::Document { source, name: None, cache: None };
    let image = |source| Part::Image { source, detail: None, cache: None };
    prop_oneof![
        base64().prop_map(move |data| image(Source::Data { media_type: "image/png".to_owned(), data })),
        Just(image(Source::Url("https://images.test/a.jpg?x=1".to_owned()))),
        base64().prop_map(move |data| document(Source::Data { media_type: "application/pdf".to_owned(), data })),
        Just(document(Source::Url("https://files.test/a.pdf".to_owned()))),
        Just(document(Source::File("files/abc".to_owned()))),
        text().prop_map(move |text| document(Source::Text(text))),
    ]
}

fn user() -> impl Strategy<Value = Vec<Part>> {
    let sound = base64().prop_map(|data| Part::Audio { media_type: "audio/wav".to_owned(), data });
    vec(prop_oneof![3 => text().prop_map(Part::text), 2 => media(), 1 => sound], 1..4)
}

fn thinking() -> impl Strategy<Value = Part> {
    let signed = (text(), of(base64())).prop_map(|(text, signature)| Part::Thinking { text, signature });
    let bare = base64().prop_map(|signature| Part::Thinking { text: String::new(), signature: Some(signature) });
    prop_oneof![signed, bare]
}

fn call() -> impl Strategy<Value = Part> {
    ("[a-z]{1,6}", arguments(), of(base64())).prop_map(|(name, arguments, signature)| Part::ToolCall {
        id: String::new(),
        name,
        arguments,
        signature,
    })
}

type Said = (Vec<Part>, Vec<Part>, Vec<(String, bool, Vec<Part>)>);

fn exchange() -> impl Strategy<Value = Said> {
    let model = vec(prop_oneof![text().prop_map(Part::text), thinking(), call()], 1..5);
    let result =
        (prop_oneof![text().prop_map(|text| format!("it was {text}")), arguments()], any::<bool>(), vec(media(), 0..2));
    (user(), model, vec(result, 5))
}

/// Turns in which every call has an id of its own and gets its result.
fn conversation(exchanges: Vec<Said>) -> Vec<Turn> {
    let (mut turns, mut results, mut count) = (Vec::new(), Vec::new(), 0);
    for (user, mut model, mut returned) in exchanges {
        results.extend(user);
        turns.push(Turn { role: Role::User, parts: std::mem::take(&mut results) });
        for part in &mut model {
            if let Part::ToolCall { id, .. } = part {
                *id = format!("id{count}");
                count += 1;
                let (text, is_error, media) = returned.pop().unwrap();
                let content = std::iter::once(Part::text(text)).chain(media).collect();
                results.push(Part::ToolResult { id: id.clone(), content, is_error, cache: None });
            }
        }
        turns.push(Turn { role: Role::Assistant, parts: model });
    }
    if !results.is_empty() {
        turns.push(Turn { role: Role::User, parts: results });
    }
    turns
}

fn schema() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"type": "object", "properties": {}})),
        Just(
            json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "additionalProperties": false})
        ),
    ]
}

fn tools() -> impl Strategy<Value = (Vec<Tool>, Option<ToolChoice>)> {
    let tool = (of(text()), schema());
    (vec(tool, 0..3), 0..6_u8).prop_map(|(list, choice)| {
        let strict = (choice == 5).then_some(true);
        let tool = |(at, (description, parameters))| Tool {
            name: format!("f{at}"),
            description,
            parameters,
            strict,
            cache: None,
        };
        let tools: Vec<Tool> = list.into_iter().enumerate().map(tool).collect();
        let choice = match choice {
            1 | 5 => Some(ToolChoice::Auto),
            2 => Some(ToolChoice::None),
            3 => Some(ToolChoice::Required),
            4 => Some(ToolChoice::Tool("f0".to_owned())),
            _ => None,
        };
        let choice = choice.filter(|_| !tools.is_empty());
        (tools, choice)
    })
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        (0..100_i64).prop_map(Number::from),
        Just(Number::from_f64(0.7).unwrap()),
        Just(Number::from_f64(-1.25).unwrap())
    ]
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let numbers = proptest::array::uniform6(of(number()));
    (numbers, vec(text(), 0..3), of(0..=20_u32)).prop_map(|(numbers, stop, logprobs)| {
        let [temperature, top_p, top_k, seed, frequency_penalty, presence_penalty] = numbers;
        Sampling { temperature, top_p, top_k, seed, frequency_penalty, presence_penalty, stop, logprobs }
    })
}

fn output() -> impl Strategy<Value = OutputForm> {
    let named = |schema| OutputForm::Schema { name: "response".to_owned(), description: None, schema, strict: None };
    prop_oneof![Just(OutputForm::Text), Just(OutputForm::Json), schema().prop_map(named)]
}

fn reasoning() -> impl Strategy<Value = Reasoning> {
    let none = Reasoning::default();
    prop_oneof![
        (1..9_999_u32, of(any::<bool>())).prop_map(|(tokens, shown)| Reasoning {
            budget_tokens: Some(tokens),
            shown,
            effort: None
        }),
        of(any::<bool>()).prop_map(|shown| Reasoning { effort: Some(Effort::None), shown, ..Reasoning::default() }),
        Just(Reasoning { shown: Some(true), ..none }),
    ]
}

/// Requests to a model that reads efforts as budgets.
pub(super) fn request() -> impl Strategy<Value = Request> {
    let settings = (sampling(), output(), of(reasoning()), of(1..99_999_u32), prop_oneof![Just(0_u32), 2..9_u32]);
    (vec(text(), 0..3), vec(exchange(), 1..4), tools(), settings).prop_map(
        |(system, exchanges, (tools, tool_choice), settings)| {
            let (sampling, output, reasoning, max_output, choices) = settings;
            Request {
                model: "gemini-2.5-pro".to_owned(),
                system: system.into_iter().map(Part::text).collect(),
                turns: conversation(exchanges),
                tools,
                tool_choice,
                max_output,
                sampling,
                choices,
                output,
                reasoning,
                metadata: Map::new(),
                ..Request::default()
            }
        },
    )
}

fn answer() -> impl Strategy<Value = Part> {
    let call = ("[a-z0-9_]{1,9}", "[a-z]{1,6}", arguments(), of(text()));
    prop_oneof![
        2 => "[a-zé ]{0,9}".prop_map(Part::text),
        1 => text().prop_map(|text| Part::Refusal { text }),
        2 => thinking(),
        1 => ("[a-z]{0,4}", of(text())).prop_map(|(text, signature)| Part::Thinking { text, signature }),
        1 => text().prop_map(|data| Part::RedactedThinking { data }),
        2 => call.prop_map(|(id, name, arguments, signature)| Part::ToolCall { id, name, arguments, signature }),
    ]
}

fn stop() -> impl Strategy<Value = Stop> {
    let sequence = of(text()).prop_map(Stop::Sequence);
    let plain = proptest::sample::select(vec![
        Stop::End,
        Stop::MaxTokens,
        Stop::ContextFull,
        Stop::ToolUse,
        Stop::Filter,
        Stop::Refusal,
        Stop::Pause,
    ]);
    prop_oneof![plain, sequence]
}

fn usage() -> impl Strategy<Value = Usage> {
    any::<[u16; 6]>().prop_map(|counts| {
        let [input, cache_read, output, reasoning, input_audio, output_audio] = counts.map(u32::from);
        Usage { input, cache_read, output, reasoning, input_audio, output_audio, ..Usage::default() }
    })
}

/// Answers that are complete.
pub(super) fn reply() -> impl Strategy<Value = Reply> {
    let logprobs = of(Just(json!({"content": [{"token": "a", "logprob": -1, "bytes": [97], "top_logprobs": []}]})));
    let choice = (vec(answer(), 0..6), stop(), logprobs);
    let choice = choice.prop_map(|(parts, stop, logprobs)| Choice { parts, stop: Some(stop), logprobs });
    (vec(choice, 1..3), of(usage())).prop_map(|(choices, usage)| {
        let shown = super::golden::shown();
        Reply { id: shown.id, model: shown.model, choices, usage }
    })
}
