//! A client's body as each provider's.

use serde_json::Value;

use crate::dialect::form::Request;
use crate::dialect::{Dialect, translate};
use crate::upstream::provider::{Api, Provider};

/// Every dialect of a client.
pub(super) const DIALECTS: [Dialect; 4] = [Dialect::Openai, Dialect::Anthropic, Dialect::Gemini, Dialect::Responses];

/// Every provider, with the dialect of those that clients speak as well.
fn providers() -> [(Provider, Api, Option<Dialect>); 7] {
    let anthropic = |version: &str| Provider::Anthropic { version: version.to_owned() };
    [
        (Provider::Openai { responses: true }, Api::Responses, Some(Dialect::Responses)),
        (Provider::Openai { responses: false }, Api::Chat, Some(Dialect::Openai)),
        (Provider::Azure { api_version: "v".to_owned() }, Api::Chat, Some(Dialect::Openai)),
        (anthropic("2023-06-01"), Api::Messages, Some(Dialect::Anthropic)),
        (anthropic("2026-10-21"), Api::Messages, Some(Dialect::Anthropic)),
        (Provider::Gemini { bearer: false }, Api::Generate, Some(Dialect::Gemini)),
        (Provider::Bedrock, Api::Converse, None),
    ]
}

/// The cap that admission sets.
const CAP: u32 = 4_321;

/// Faults of the client's that are for the provider to find.
const CLIENTS_OWN: [&str; 2] = ["must be base64", "names the unknown function"];

/// What is written for a provider is JSON that it can read, asks for no more than was admitted, and says the same when it is
/// read and written again.
pub(super) fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for dialect in DIALECTS {
        let Ok(mut form) = translate::parse(dialect, text) else { continue };
        form.model = "claude-opus-4-6".to_owned();
        form.max_output = Some(CAP);
        for (provider, api, same) in providers() {
            let Ok(body) = translate::write((&provider, api), &form, "max_tokens") else { continue };
            let value: Value = serde_json::from_slice(&body).expect("a body that was written is JSON");
            admitted((&provider, api), &form, &value);
            let Some(same) = same else { continue };
            let text = std::str::from_utf8(&body).expect("a body that was written is UTF-8");
            let again = match translate::parse(same, text) {
                Ok(again) => again,
                // What only some dialects look at goes on as the client wrote it.
                Err(refusal) if CLIENTS_OWN.iter().any(|fault| refusal.to_string().contains(fault)) => continue,
                Err(refusal) => panic!("{dialect:?} written for {provider:?} is refused: {refusal:?}\n{text}"),
            };
            let again =
                Request { model: form.model.clone(), max_output: form.max_output, stream: form.stream, ..again };
            let twice =
                translate::write((&provider, api), &again, "max_tokens").expect("what was written can be written");
            let mut twice: Value = serde_json::from_slice(&twice).expect("a body that was written is JSON");
            let mut once = value;
            [&mut once, &mut twice].into_iter().for_each(one_alphabet);
            assert_eq!(twice, once, "{dialect:?} written for {provider:?} twice");
        }
    }
}

/// Base64 in one of its two alphabets, without its padding: a dialect that looks at it writes it in its own way.
fn one_alphabet(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(one_alphabet),
        Value::Object(members) => {
            if let Some(Value::String(data)) = members.get_mut("data") {
                *data = data.trim_end_matches('=').replace('_', "/").replace('-', "+");
            }
            members.values_mut().for_each(one_alphabet);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What a body asks for: one model, one cap, as many answers as were admitted.
fn admitted((provider, api): (&Provider, Api), form: &Request, body: &Value) {
    let at = |path: &str| body.pointer(path).cloned().unwrap_or_default();
    let (cap, choices) = match provider {
        Provider::Openai { .. } if api == Api::Responses => (at("/max_output_tokens"), Value::Null),
        Provider::Openai { .. } | Provider::Azure { .. } => (at("/max_tokens"), at("/n")),
        Provider::Anthropic { .. } => (at("/max_tokens"), Value::Null),
        Provider::Gemini { .. } => (at("/generationConfig/maxOutputTokens"), at("/generationConfig/candidateCount")),
        Provider::Bedrock => (at("/inferenceConfig/maxTokens"), Value::Null),
    };
    assert_eq!(cap, CAP, "the cap for {provider:?}");
    assert!(choices.as_u64().unwrap_or(1) <= u64::from(form.choices.max(1)), "answers of {provider:?}");
    assert!(body.get("max_completion_tokens").is_none(), "no second cap");
    if !matches!(provider, Provider::Gemini { .. } | Provider::Bedrock) {
        assert_eq!(at("/model"), form.model.as_str(), "the model");
        assert_eq!(at("/stream") == Value::Bool(true), form.stream, "the stream");
    }
}
