//! What comes out of one call of the model: chunks of a chat, put together. Text is given on as it comes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

/// Calls in one step that are answered.
const MAX_CALLS: usize = 64;

/// What the model calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Called {
    pub(super) id: String,
    pub(super) name: String,
    /// JSON, as the model wrote it.
    pub(super) arguments: String,
}

impl Called {
    /// As a message of a chat has it.
    pub(super) fn value(&self) -> Value {
        json!({"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}})
    }
}

/// Tokens of one call or of several, as OpenAI counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Tokens {
    prompt_tokens: u64,
    completion_tokens: u64,
    #[serde(deserialize_with = "or_nothing")]
    prompt_tokens_details: Cached,
    #[serde(deserialize_with = "or_nothing")]
    completion_tokens_details: Reasoning,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Cached {
    #[serde(deserialize_with = "or_nothing")]
    cached_tokens: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Reasoning {
    #[serde(deserialize_with = "or_nothing")]
    reasoning_tokens: u64,
}

/// Null is nothing.
fn or_nothing<'de, T: Deserialize<'de> + Default, D: serde::Deserializer<'de>>(reader: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}

impl Tokens {
    pub(super) fn add(&mut self, other: &Self) {
        let sum = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        sum(&mut self.prompt_tokens, other.prompt_tokens);
        sum(&mut self.completion_tokens, other.completion_tokens);
        sum(&mut self.prompt_tokens_details.cached_tokens, other.prompt_tokens_details.cached_tokens);
        sum(&mut self.completion_tokens_details.reasoning_tokens, other.completion_tokens_details.reasoning_tokens);
    }

    /// As a chat's answer has it.
    pub(super) fn value(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens.saturating_add(self.completion_tokens),
            "prompt_tokens_details": {"cached_tokens": self.prompt_tokens_details.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.completion_tokens_details.reasoning_tokens},
        })
    }
}

/// What one call came to.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) text: String,
    calls: BTreeMap<u64, Called>,
    pub(super) tokens: Tokens,
    pub(super) finish: Option<String>,
    /// What an error event says.
    pub(super) error: Option<String>,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Tokens>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default, deserialize_with = "or_nothing")]
    index: u64,
    #[serde(default, deserialize_with = "or_nothing")]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    #[serde(deserialize_with = "or_nothing")]
    tool_calls: Vec<CallDelta>,
}

#[derive(Deserialize)]
struct CallDelta {
    #[serde(default)]
    index: u64,
    id: Option<String>,
    #[serde(default, deserialize_with = "or_nothing")]
    function: FunctionDelta,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

impl Heard {
    /// Takes an event; the text in it that is new.
    pub(super) fn take(&mut self, event: &[u8]) -> String {
        let mut new = String::new();
        for line in event.split(|byte| matches!(byte, b'\n' | b'\r')) {
            let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else { continue };
            if data == b"[DONE]" {
                continue;
            }
            match serde_json::from_slice::<Chunk>(data) {
                Ok(chunk) => self.chunk(chunk, &mut new),
                Err(err) => self.error = Some(format!("The model's answer can't be read: {err}.")),
            }
        }
        self.text.push_str(&new);
        new
    }

    fn chunk(&mut self, chunk: Chunk, new: &mut String) {
        if let Some(error) = chunk.error {
            let message = error.get("message").and_then(Value::as_str).unwrap_or("The model's answer broke off.");
            self.error = Some(message.to_owned());
        }
        if let Some(tokens) = chunk.usage {
            // The last value wins: it counts all of the answer.
            self.tokens = tokens;
        }
        for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
            new.extend(choice.delta.content);
            new.extend(choice.delta.refusal);
            for delta in choice.delta.tool_calls {
                self.call(delta);
            }
            self.finish = choice.finish_reason.or(self.finish.take());
        }
    }

    fn call(&mut self, delta: CallDelta) {
        if !self.calls.contains_key(&delta.index) && self.calls.len() >= MAX_CALLS {
            self.error = Some(format!("The model calls more than {MAX_CALLS} tools at once."));
            return;
        }
        let call = self.calls.entry(delta.index).or_default();
        if let Some(id) = delta.id.filter(|id| !id.is_empty()) {
            call.id = id;
        }
        call.name.extend(delta.function.name);
        call.arguments.extend(delta.function.arguments);
    }

    /// What it calls, in its order. One without an id gets one, by which its answer is told.
    pub(super) fn calls(&self) -> Vec<Called> {
        let named = |(index, call): (&u64, &Called)| {
            let id = if call.id.is_empty() { format!("call_{index}") } else { call.id.clone() };
            Called { id, ..call.clone() }
        };
        self.calls.iter().map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(value: &Value) -> Vec<u8> {
        format!("data: {value}\n\n").into_bytes()
    }

    fn delta(delta: &Value, finish: Option<&str>) -> Vec<u8> {
        event(&json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
    }

    #[test]
    fn chunks_come_to_text_calls_and_tokens() {
        let mut heard = Heard::default();
        assert_eq!(heard.take(&delta(&json!({"role": "assistant", "content": "Let "}), None)), "Let ");
        assert_eq!(heard.take(&delta(&json!({"content": "me"}), None)), "me");
        for (index, id, name, arguments) in [
            (1, json!("b"), json!("two"), "{}"),
            (0, json!("a"), json!("one"), "{\"x\""),
            (0, Value::Null, Value::Null, ":1}"),
        ] {
            let call = json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}});
            assert_eq!(heard.take(&delta(&json!({"content": null, "tool_calls": [call]}), None)), "");
        }
        heard.take(&delta(&json!({}), Some("tool_calls")));
        let usage = json!({"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": null, "completion_tokens_details": {"reasoning_tokens": 2}});
        heard.take(&event(&json!({"choices": [], "usage": usage})));
        heard.take(b": ping\n\n");
        assert_eq!(heard.take(b"data: [DONE]\n\n"), "");
        assert_eq!((heard.text.as_str(), heard.finish.as_deref(), &heard.error), ("Let me", Some("tool_calls"), &None));
        let calls = heard.calls();
        assert_eq!(
            calls.iter().map(|call| (&*call.id, &*call.name, &*call.arguments)).collect::<Vec<_>>(),
            [("a", "one", "{\"x\":1}"), ("b", "two", "{}")]
        );
        let mut sum = heard.tokens;
        sum.add(&heard.tokens);
        assert_eq!(sum.value()["total_tokens"], 24);
        assert_eq!(sum.value()["completion_tokens_details"]["reasoning_tokens"], 4);
    }

    #[test]
    fn an_error_event_and_what_is_no_chunk_are_no_answer() {
        let mut heard = Heard::default();
        heard.take(&event(&json!({"error": {"message": "overloaded", "type": "server_error"}})));
        assert_eq!(heard.error.as_deref(), Some("overloaded"));
        let mut heard = Heard::default();
        heard.take(b"data: {\"choices\": 5}\n\n");
        assert!(heard.error.is_some());
    }
}
