//! Files that a request to a model names by their ids. Tenants share the operator's account, so a model would read another
//! tenant's file to whoever knows its id: it is as absent here as it is on its own route.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use openclawmu_store::{ObjectKind, Store};
use serde_json::Value;

use super::desk::{is_id, not_found, unavailable};
use crate::authenticate::Caller;
use crate::refusal::Refusal;

static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\\u00"));

/// Members of a request that are the client's own words, or no part of the prompt.
const OWN_WORDS: [&str; 5] = ["metadata", "tools", "functions", "response_format", "text"];
/// Members that hold what a model passes to a tool, whose names are the client's own.
const ARGUMENTS: [&str; 2] = ["arguments", "input"];

/// Whether every file that `body` names is the caller's, in the account of this upstream that it shares with others. In an account
/// of the tenant's own every file is the tenant's; no file is a client secret's, since those are all users' together.
///
/// # Errors
/// 404 that names the first one that is not.
pub(crate) fn check_mentions(
    store: &Store,
    caller: &Caller,
    (upstream, own_account): (&str, bool),
    body: &[u8],
) -> Result<(), Refusal> {
    let for_secret = caller.policy.secret.is_some();
    if (own_account && !for_secret) || !may_mention(body) {
        return Ok(());
    }
    // What is no JSON has been refused before.
    let Ok(Value::Object(request)) = serde_json::from_slice::<Value>(body) else { return Ok(()) };
    let mut named = Vec::new();
    for (_, value) in request.iter().filter(|(key, _)| !OWN_WORDS.contains(&key.as_str())) {
        collect(value, &mut named);
    }
    for id in named {
        let file = match is_id(id) && !for_secret {
            true => {
                let found = store.object(caller.policy.tenant_key, ObjectKind::File, id);
                found.map_err(|err| unavailable(&err))?
            }
            false => None,
        };
        if file.is_none_or(|file| file.upstream != upstream || file.own_key) {
            return Err(not_found(ObjectKind::File, id));
        }
    }
    Ok(())
}

/// Whether a body may have such a key, in whatever spelling; nearly none has, and those that can't are not parsed.
fn may_mention(body: &[u8]) -> bool {
    let spelled = |at: usize| {
        let digits = body.get(at + 4..at + 6).and_then(|digits| std::str::from_utf8(digits).ok());
        // Letters and `_`: what no writer of JSON escapes by itself.
        digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).is_some_and(|byte| (0x41..0x7b).contains(&byte))
    };
    let named = |at: usize| {
        let word = at.checked_sub(4).and_then(|from| body.get(from..at + 3));
        word.is_some_and(|word| word.eq_ignore_ascii_case(b"file_id"))
    };
    memchr::memchr_iter(b'_', body).any(named) || ESCAPE.find_iter(body).any(spelled)
}

fn collect<'a>(value: &'a Value, named: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            let is_call = object.get("type").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("tool_use"));
            for (key, value) in object {
                if let Some(id) = value.as_str().filter(|_| key.eq_ignore_ascii_case("file_id")) {
                    named.push(id);
                } else if let Some(ids) = value.as_array().filter(|_| key.eq_ignore_ascii_case("file_ids")) {
                    named.extend(ids.iter().filter_map(Value::as_str));
                } else if !(is_call && ARGUMENTS.contains(&key.as_str())) {
                    collect(value, named);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, named)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(body: &str) -> Vec<String> {
        assert!(may_mention(body.as_bytes()), "{body}");
        let value: Value = serde_json::from_str(body).unwrap();
        let mut found = Vec::new();
        for (_, value) in value.as_object().unwrap().iter().filter(|(key, _)| !OWN_WORDS.contains(&key.as_str())) {
            collect(value, &mut found);
        }
        found.into_iter().map(str::to_owned).collect()
    }

    /// I-01
    #[test]
    fn a_file_is_found_however_it_is_named() {
        for body in [
            r#"{"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"file","file":{"fil\u0065_id":"f"}}]}]}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"file","file":{"FILE_ID":"f"}}]}]}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"file","file":{"File_id":"f"}}]}]}"#,
            r#"{"input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]}"#,
            r#"{"messages":[{"content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}]}"#,
        ] {
            assert_eq!(named(body), ["f"], "{body}");
        }
    }

    #[test]
    fn words_of_the_clients_own_are_no_files() {
        for body in [
            r#"{"messages":[{"content":[{"type":"tool_use","input":{"file_id":"f"}}]}]}"#,
            r#"{"messages":[{"role":"user","content":"what is a file_id?"}],"metadata":{"file_id":"f"}}"#,
            r#"{"messages":[],"tools":[{"function":{"parameters":{"properties":{"file_id":{"type":"string"}}}}}]}"#,
            r#"{"messages":[{"tool_calls":[{"function":{"arguments":"{\"file_id\":\"f\"}"}}]}]}"#,
        ] {
            assert_eq!(named(body), [""; 0], "{body}");
        }
        assert!(!may_mention(
            br#"{"messages":[{"role":"user","content":"caf\u00e9 \u003c"}],"model":"gpt","call_id":"x"}"#
        ));
    }
}
