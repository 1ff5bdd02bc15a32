//! OpenAI's bodies as they are on the wire: completions, chunks, embeddings, errors. Text only, no sockets.

use serde_json::{Value, json};

use super::agent::Call;
use super::record::Bill;

const CREATED: u64 = 1_795_000_000;

/// The `usage` object of a bill.
pub(super) fn usage(bill: &Bill) -> Value {
    json!({
        "prompt_tokens": bill.prompt,
        "completion_tokens": bill.completion,
        "total_tokens": bill.prompt + bill.completion,
        "prompt_tokens_details": { "cached_tokens": bill.cached, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": bill.reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0
        }
    })
}

/// What every answer to one request shares.
pub(super) struct Envelope {
    pub(super) sequence: u64,
    pub(super) model: String,
    pub(super) choices: u64,
    pub(super) finish: &'static str,
    /// The service tier that it says it was served at.
    pub(super) service_tier: Option<&'static str>,
    /// The client asked for `stream_options.include_usage`.
    pub(super) with_usage: bool,
    /// What the answer calls, instead of saying anything.
    pub(super) calls: Vec<Call>,
}

impl Envelope {
    fn id(&self, prefix: &str) -> String {
        format!("{prefix}-T{:026}", self.sequence)
    }

    fn call(&self, index: usize, arguments: &str) -> Value {
        let name = &self.calls[index].name;
        json!({ "id": format!("call_{:020}{index:04}", self.sequence), "type": "function", "function": { "name": name, "arguments": arguments } })
    }

    /// `chat.completion`.
    pub(super) fn chat(&self, text: &str, usage: Option<&Value>) -> Value {
        let message = if self.calls.is_empty() {
            json!({ "role": "assistant", "content": text, "refusal": null, "annotations": [] })
        } else {
            let calls: Vec<Value> =
                self.calls.iter().enumerate().map(|(index, call)| self.call(index, &call.pieces.concat())).collect();
            json!({ "role": "assistant", "content": null, "refusal": null, "annotations": [], "tool_calls": calls })
        };
        let choices: Vec<Value> = (0..self.choices)
            .map(|index| {
                json!({
                    "index": index,
                    "message": message,
                    "logprobs": null,
                    "finish_reason": self.finish
                })
            })
            .collect();
        let mut body = json!({
            "id": self.id("chatcmpl"), "object": "chat.completion", "created": CREATED, "model": self.model,
            "choices": choices, "service_tier": self.service_tier, "system_fingerprint": "fp_scripted"
        });
        if let Some(usage) = usage {
            body["usage"] = usage.clone();
        }
        body
    }

    /// `text_completion`, whole or as a stream's chunk.
    pub(super) fn completion(&self, text: &str, finish: Option<&str>, usage: Option<&Value>) -> Value {
        let choices: Vec<Value> = (0..self.choices)
            .map(|index| json!({ "text": text, "index": index, "logprobs": null, "finish_reason": finish }))
            .collect();
        let mut body = json!({
            "id": self.id("cmpl"), "object": "text_completion", "created": CREATED, "model": self.model, "choices": choices
        });
        if let Some(usage) = usage {
            body["usage"] = usage.clone();
        }
        body
    }

    /// One `chat.completion.chunk` for the choice `index`.
    pub(super) fn chunk(&self, index: u64, delta: &Value, finish: Option<&str>) -> Value {
        self.framed(
            json!([{ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish }]),
            &Value::Null,
        )
    }

    /// The deltas of a whole answer, a token each: its texts, or the pieces of its calls.
    pub(super) fn deltas(&self, texts: &[String]) -> Vec<Value> {
        if self.calls.is_empty() {
            return texts.iter().map(|text| json!({ "content": text })).collect();
        }
        let mut deltas = Vec::new();
        for (index, call) in self.calls.iter().enumerate() {
            for (at, piece) in call.pieces.iter().enumerate() {
                let mut delta = json!({ "function": { "arguments": piece } });
                if at == 0 {
                    delta = self.call(index, piece);
                }
                delta["index"] = json!(index);
                deltas.push(json!({ "tool_calls": [delta] }));
            }
        }
        deltas
    }

    /// The last chunk of a stream with usage: no choices.
    pub(super) fn usage_chunk(&self, usage: &Value) -> Value {
        self.framed(json!([]), usage)
    }

    fn framed(&self, choices: Value, usage: &Value) -> Value {
        let mut body = json!({
            "id": self.id("chatcmpl"), "object": "chat.completion.chunk", "created": CREATED, "model": self.model,
            "service_tier": self.service_tier, "system_fingerprint": "fp_scripted", "choices": choices
        });
        if self.with_usage {
            body["usage"] = usage.clone();
        }
        body
    }
}

/// The embedding vectors of `inputs` texts, as floats or base64 of little-endian f32.
pub(super) fn embeddings(model: &str, inputs: usize, base64: bool, bill: &Bill) -> Value {
    let data: Vec<Value> = (0..inputs)
        .map(|index| {
            let vector = [0.125_f32, -0.5, 0.75, format!("{index}.25").parse::<f32>().expect("a number")];
            let embedding = if base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                json!(base64_of(&bytes))
            } else {
                json!(vector)
            };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    json!({
        "object": "list", "data": data, "model": model,
        "usage": { "prompt_tokens": bill.prompt, "total_tokens": bill.prompt }
    })
}

pub(super) fn base64_of(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let mut word = [0_u8; 4];
        word[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(word) << 8;
        for place in 0..4_u32 {
            let wanted = usize::try_from(place).expect("small") <= group.len();
            let digit = usize::try_from((bits >> (26 - 6 * place)) & 63).expect("six bits");
            out.push(if wanted { char::from(ALPHABET[digit]) } else { '=' });
        }
    }
    out
}

/// OpenAI's error body for a status.
pub(super) fn error(code: u16) -> Value {
    let (kind, name, message) = match code {
        400 => ("invalid_request_error", json!("invalid_value"), "Invalid value: scripted."),
        401 => ("invalid_request_error", json!("invalid_api_key"), "Incorrect API key provided: scripted."),
        404 => ("invalid_request_error", json!("model_not_found"), "The model does not exist: scripted."),
        429 => ("requests", json!("rate_limit_exceeded"), "Rate limit reached: scripted."),
        _ => ("server_error", Value::Null, "The server had an error while processing your request: scripted."),
    };
    json!({ "error": { "message": message, "type": kind, "param": null, "code": name } })
}

/// One SSE event of a JSON value.
pub(super) fn event(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::base64_of;

    #[test]
    fn base64_pads_as_rfc_4648_does() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64_of(bytes.as_bytes()), text);
        }
    }
}
