//! What a request may cost, and the edits of what the gateway owns.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::json::Members;
use crate::dialect::ask::{self, Ask, Fields};
use crate::dialect::openai::request::Edits;
use crate::routes::AiRoute;

/// The routes whose bodies are read, each with the members of which one alone may be there.
const ROUTES: [(AiRoute, &[&str]); 9] = [
    (AiRoute::ChatCompletions, &["model", "stream", "n", "max_tokens", "max_completion_tokens", "messages", "tools"]),
    (AiRoute::Completions, &["model", "stream", "n", "best_of", "max_tokens", "prompt"]),
    (AiRoute::Embeddings, &["model", "input"]),
    (AiRoute::Moderations, &["model", "input"]),
    (AiRoute::ImageGenerations, &["model", "prompt", "n", "size", "quality", "stream", "partial_images"]),
    (AiRoute::Speech, &["model", "input", "instructions", "stream_format", "speed"]),
    (AiRoute::Messages, &["model", "stream", "max_tokens", "messages", "tools", "service_tier"]),
    (AiRoute::CountTokens, &["model", "messages", "tools"]),
    (AiRoute::GenerateContent, &["contents", "generationConfig", "tools", "cachedContent"]),
];
/// The cap that an edit sets.
const CAP: u32 = 77;

/// What is believed of a request is what any parser reads in it; an edited body is the same but for what the gateway owns.
pub(super) fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for (route, once) in ROUTES {
        let Ok(ask) = ask::read(route, ("gemini-2.5-pro:generateContent", None), text) else { continue };
        let edited = edits(route).map(|edits| (ask::edit(&Bytes::copy_from_slice(data), &ask.fields, &edits), edits));
        let Ok(members) = serde_json::from_str::<Members>(text) else { continue };
        for name in once {
            assert!(members.count(name) <= 1, "{route:?} was read with `{name}` given twice");
        }
        believed(route, &ask, &members);
        // What is nested too deeply or has its fault inside a value goes on as it came.
        let Ok(Value::Object(before)) = serde_json::from_str::<Value>(text) else { continue };
        for (body, edits) in edited {
            let after: Value = serde_json::from_slice(&body).expect("an edited body is JSON");
            assert!(body == data || edits != Edits::default(), "without edits nothing changes");
            let expected = owned(before.clone(), &ask.fields, &edits);
            assert_eq!(after, Value::Object(expected), "nothing but the owned fields changes");
        }
    }
}

/// Edits as the gateway makes them.
fn edits(route: AiRoute) -> [Edits<'static>; 4] {
    let openai = matches!(route, AiRoute::ChatCompletions | AiRoute::Completions);
    let cap = (route.has_output()).then_some(("max_completion_tokens", CAP));
    let all = Edits { model: Some("a\"b\\é"), cap, force_usage: openai, ordinary_tier: openai };
    [
        Edits::default(),
        Edits { model: None, ..all.clone() },
        Edits { cap: None, ordinary_tier: false, ..all.clone() },
        all,
    ]
}

fn believed(route: AiRoute, ask: &Ask, members: &Members) {
    let read = |name: &str| members.raw(name).and_then(|raw| serde_json::from_str::<Value>(raw).ok());
    let number = |name: &str| read(name).and_then(|value| value.as_u64());
    if route == AiRoute::GenerateContent {
        let config = read("generationConfig").or_else(|| read("generation_config")).unwrap_or_default();
        let spelled =
            |camel: &str, snake: &str| config.get(camel).or_else(|| config.get(snake)).and_then(Value::as_u64);
        assert_eq!(ask.max_output.map(u64::from), spelled("maxOutputTokens", "max_output_tokens"), "the cap");
        assert!(u64::from(ask.choices) >= spelled("candidateCount", "candidate_count").unwrap_or(1), "answers");
        return;
    }
    let named = ask.fields.names_model();
    assert_eq!(read("model"), named.then(|| ask.model.as_str().into()), "the model");
    assert!(named || route == AiRoute::Moderations, "only a moderation names no model");
    if route.has_output() {
        assert_eq!(ask.stream, read("stream") == Some(true.into()), "the stream");
        let cap = number("max_tokens").or_else(|| match ask.fields {
            Fields::Openai(_) => number("max_completion_tokens"),
            Fields::Responses { .. } => number("max_output_tokens"),
            Fields::Form { .. } | Fields::Anthropic(_) | Fields::Gemini(..) => None,
        });
        assert_eq!(ask.max_output.map(u64::from), cap, "the cap");
    }
    if matches!(route, AiRoute::ChatCompletions | AiRoute::Completions) {
        assert!(u64::from(ask.choices) >= number("n").unwrap_or(1), "answers");
    }
    let several = match route {
        AiRoute::Completions => read("prompt"),
        AiRoute::Embeddings | AiRoute::Moderations => read("input"),
        AiRoute::ChatCompletions
        | AiRoute::Messages
        | AiRoute::CountTokens
        | AiRoute::GenerateContent
        | AiRoute::Responses
        | AiRoute::Compact
        | AiRoute::ImageGenerations
        | AiRoute::ImageEdits
        | AiRoute::ImageVariations
        | AiRoute::Speech
        | AiRoute::Transcriptions
        | AiRoute::Translations => None,
    };
    if let Some(Value::Array(inputs)) = several
        && inputs.iter().any(|input| !input.is_number())
    {
        assert!(usize::try_from(ask.inputs).unwrap_or(usize::MAX) >= inputs.len(), "inputs");
    }
}

/// The body as its edits leave it: what the gateway owns says what it must, everything else what it said.
fn owned(mut body: Map<String, Value>, fields: &Fields, edits: &Edits<'_>) -> Map<String, Value> {
    let cap = edits.cap.map(|(name, tokens)| (name, Value::from(tokens)));
    let first = |names: [&'static str; 2], object: &Map<String, Value>| {
        names.into_iter().find(|name| object.contains_key(*name))
    };
    match fields {
        Fields::Openai(_) => {
            body.extend(edits.model.map(|model| ("model".to_owned(), model.into())));
            if let Some((name, cap)) = cap {
                let name = first(["max_tokens", "max_completion_tokens"], &body).unwrap_or(name);
                body.insert(name.to_owned(), cap);
            }
            if edits.force_usage {
                let mut options = body.get("stream_options").and_then(Value::as_object).cloned().unwrap_or_default();
                options.insert("include_usage".to_owned(), true.into());
                body.insert("stream_options".to_owned(), options.into());
            }
            body.extend(edits.ordinary_tier.then(|| ("service_tier".to_owned(), "default".into())));
        }
        Fields::Anthropic(_) => {
            body.extend(edits.model.map(|model| ("model".to_owned(), model.into())));
            if let (Some((_, cap)), Some(place)) = (cap, body.get_mut("max_tokens")) {
                *place = cap;
            }
        }
        // Written anew, never edited; and no JSON.
        Fields::Responses { .. } | Fields::Form { .. } => {}
        Fields::Gemini(..) => {
            if let (Some(model), Some(place)) = (edits.model, body.get_mut("model")) {
                *place = model.into();
            }
            if let Some((_, cap)) = cap {
                let name = first(["generationConfig", "generation_config"], &body).unwrap_or("generationConfig");
                let mut config = body.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
                let inner = first(["maxOutputTokens", "max_output_tokens"], &config).unwrap_or("maxOutputTokens");
                config.insert(inner.to_owned(), cap);
                body.insert(name.to_owned(), config.into());
            }
        }
    }
    body
}
