//! A provider's whole answer as each client's.

use serde_json::Value;

use super::request::DIALECTS;
use crate::dialect::form::{Part, Reply};
use crate::dialect::json::Json;
use crate::dialect::{Dialect, Shown, translate};
use crate::upstream::provider::Api;

/// The APIs whose answers are translated.
pub(super) const APIS: [Api; 5] = [Api::Chat, Api::Messages, Api::Generate, Api::Converse, Api::Responses];

/// What an answer shows of the gateway's side.
pub(super) fn shown() -> Shown {
    Shown {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        model: "a\"b".to_owned(),
        created: 1,
        wants_usage: true,
        echo: None,
    }
}

/// The API by which a provider speaks a client's dialect.
pub(super) fn api(dialect: Dialect) -> Api {
    match dialect {
        Dialect::Openai => Api::Chat,
        Dialect::Anthropic => Api::Messages,
        Dialect::Gemini => Api::Generate,
        Dialect::Responses => Api::Responses,
    }
}

/// What is written for a client is JSON that it can read, in which it finds what was said and what it cost.
pub(super) fn target(data: &[u8]) {
    for from in APIS {
        let Some(reply) = translate::parse_reply(from, data) else { continue };
        for dialect in DIALECTS {
            let body = translate::write_reply(dialect, &reply, &shown(), 2);
            let value: Value = serde_json::from_slice(&body).expect("an answer that was written is JSON");
            assert!(value.is_object(), "an answer is an object");
            let again = translate::parse_reply(api(dialect), &body);
            let again = again.unwrap_or_else(|| panic!("{dialect:?} can't read {}", String::from_utf8_lossy(&body)));
            same(dialect, &reply, &again);
        }
    }
}

/// Texts and calls are the same, and so are the sums that are billed. A dialect of one answer has the first.
pub(super) fn same(dialect: Dialect, reply: &Reply, again: &Reply) {
    let answers = if matches!(dialect, Dialect::Anthropic | Dialect::Responses) { 1 } else { reply.choices.len() };
    for (at, choice) in reply.choices.iter().take(answers).enumerate() {
        let parts = again.choices.get(at).map_or(&[][..], |choice| &choice.parts);
        assert_eq!(said(parts), said(&choice.parts), "what answer {at} says in {dialect:?}");
    }
    let Some((usage, again)) = reply.usage.zip(again.usage) else { return };
    assert_eq!(again.completion_tokens(), usage.completion_tokens(), "tokens of the answer in {dialect:?}");
    assert_eq!(again.prompt_tokens(), usage.prompt_tokens(), "tokens of the prompt in {dialect:?}");
}

/// What an answer says: its text and refusals, and the names of its calls with what they are called with, to the last digit.
fn said(parts: &[Part]) -> (String, Vec<(&str, Json<'_>)>) {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for part in parts {
        match part {
            Part::Text { text: more, .. } | Part::Refusal { text: more } => text.push_str(more),
            Part::ToolCall { name, arguments, .. } => {
                // Nothing at all stands for no arguments. A dialect whose arguments are JSON can't hold what is none; it leaves
                // it out, or wraps it as Anthropic advises.
                let arguments = if arguments.is_empty() { "{}" } else { arguments };
                if let Ok(Json::Object(members)) = Json::parse(arguments)
                    && members.iter().all(|(key, _)| key != "INVALID_JSON")
                {
                    calls.push((name.as_str(), Json::Object(members)));
                }
            }
            Part::Image { .. }
            | Part::Document { .. }
            | Part::Audio { .. }
            | Part::Thinking { .. }
            | Part::RedactedThinking { .. }
            | Part::ToolResult { .. } => {}
        }
    }
    // Those that are told in turns are whole in another order than they began.
    calls.sort_by_cached_key(|(name, arguments)| format!("{name}{arguments}"));
    (text, calls)
}
