//! What went wrong, from each provider to each client.

use serde_json::Value;

use super::request::DIALECTS;
use crate::dialect::translate;
use crate::upstream::provider::Api;

/// Whatever a provider's error says, a client gets one of its own dialect, with a message in it.
pub(super) fn target(data: &[u8]) {
    let status = [0, 400, 401, 429, 500, 529].get(data.len() % 6).copied().unwrap_or(0);
    for from in
        [Api::Chat, Api::Completions, Api::Messages, Api::CountTokens, Api::Generate, Api::Converse, Api::Responses]
    {
        let trouble = translate::parse_trouble(from, status, data);
        for dialect in DIALECTS {
            let body = translate::write_trouble(dialect, &trouble, "req");
            let value: Value = serde_json::from_slice(&body).expect("an error that was written is JSON");
            assert!(value.pointer("/error/message").is_some_and(Value::is_string), "an error has a message: {value}");
        }
    }
}
