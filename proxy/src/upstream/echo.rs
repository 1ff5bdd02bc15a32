//! The built-in upstream: answers with the last user message, deterministic, streaming, with usage. It lets a new user see the
//! whole way work, billing included, before a provider's key is at hand.
//!
//! One token is four bytes of text, the last one perhaps fewer.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::upstream::provider::Api;

/// Bytes of one token.
const TOKEN_BYTES: usize = 4;
/// Numbers of an embedding when none are asked for.
const DIMENSIONS: usize = 256;
/// The largest embedding.
const MAX_DIMENSIONS: u64 = 3072;
/// The same moment in every answer, so that answers are deterministic: 2026-01-01.
const CREATED: u64 = 1_767_225_600;

/// What the echo answers.
pub(crate) struct Answer {
    /// 200, or 400 for a request that it can't read.
    pub(crate) status: u16,
    /// `text/event-stream` or `application/json`.
    pub(crate) content_type: &'static str,
    /// The body.
    pub(crate) pieces: VecDeque<Bytes>,
}

/// Answers a request.
pub(crate) fn answer(api: Api, body: &[u8]) -> Answer {
    let request: Value = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(err) => {
            return refuse(&format!("We could not parse the JSON body of your request: {err}."));
        }
    };
    match api {
        Api::Chat => match last_user_message(&request) {
            Some(text) => complete(&request, &text, true),
            None => refuse("`messages` must hold at least one message with text."),
        },
        Api::Completions => complete(&request, &prompt(&request), false),
        Api::Embeddings => embed(&request),
        Api::Messages
        | Api::CountTokens
        | Api::Generate
        | Api::Converse
        | Api::Responses
        | Api::Moderations
        | Api::ImageGenerations
        | Api::ImageEdits
        | Api::ImageVariations
        | Api::Speech
        | Api::Transcriptions
        | Api::Translations => refuse("The echo speaks OpenAI's dialect, and of text alone."),
    }
}

fn refuse(message: &str) -> Answer {
    let body = json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}});
    whole(400, &body)
}

fn whole(status: u16, body: &Value) -> Answer {
    Answer { status, content_type: "application/json", pieces: VecDeque::from([Bytes::from(body.to_string())]) }
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

fn messages(request: &Value) -> impl DoubleEndedIterator<Item = &Value> {
    request.get("messages").and_then(Value::as_array).into_iter().flatten()
}

fn last_user_message(request: &Value) -> Option<String> {
    let is_user = |message: &&Value| message.get("role").and_then(Value::as_str) == Some("user");
    let message = messages(request).rev().find(is_user).or_else(|| messages(request).next_back())?;
    Some(message.get("content").map(text_of).unwrap_or_default())
}

fn prompt(request: &Value) -> String {
    match request.get("prompt") {
        Some(Value::Array(parts)) => parts.first().map(text_of).unwrap_or_default(),
        Some(other) => text_of(other),
        None => String::new(),
    }
}

fn tokens(text: &str) -> usize {
    text.len().div_ceil(TOKEN_BYTES)
}

fn prompt_tokens(request: &Value) -> usize {
    let said: usize =
        messages(request).filter_map(|message| message.get("content")).map(|content| tokens(&text_of(content))).sum();
    said + tokens(&prompt(request))
}

/// The longest beginning of `text` that has at most `cap` tokens and ends between characters.
fn cut(text: &str, cap: usize) -> &str {
    let mut end = text.len().min(cap.saturating_mul(TOKEN_BYTES));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn complete(request: &Value, text: &str, chat: bool) -> Answer {
    let count = |name: &str| request.get(name).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
    let said = count("max_tokens").or_else(|| count("max_completion_tokens")).map_or(text, |cap| cut(text, cap));
    let reply = Reply {
        chat,
        said,
        finish: if said.len() < text.len() { "length" } else { "stop" },
        choices: count("n").unwrap_or(1),
        prompt_tokens: prompt_tokens(request),
    };
    if request.get("stream").and_then(Value::as_bool) == Some(true) {
        let usage =
            request.get("stream_options").and_then(|options| options.get("include_usage")).and_then(Value::as_bool)
                == Some(true);
        reply.stream(usage)
    } else {
        reply.whole()
    }
}

struct Reply<'a> {
    chat: bool,
    said: &'a str,
    finish: &'static str,
    choices: usize,
    prompt_tokens: usize,
}

impl Reply<'_> {
    fn usage(&self) -> Value {
        let completion = tokens(self.said) * self.choices;
        json!({"prompt_tokens": self.prompt_tokens, "completion_tokens": completion, "total_tokens": self.prompt_tokens + completion,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}})
    }

    fn envelope(&self, object: &str, choices: &Value) -> Value {
        let id = if self.chat { "chatcmpl-echo" } else { "cmpl-echo" };
        json!({"id": id, "object": object, "created": CREATED, "model": "echo", "choices": choices})
    }

    fn whole(&self) -> Answer {
        let choice = |index| {
            if self.chat {
                let message = json!({"role": "assistant", "content": self.said, "refusal": null});
                json!({"index": index, "message": message, "logprobs": null, "finish_reason": self.finish})
            } else {
                json!({"index": index, "text": self.said, "logprobs": null, "finish_reason": self.finish})
            }
        };
        let choices: Value = (0..self.choices).map(choice).collect();
        let mut body = self.envelope(if self.chat { "chat.completion" } else { "text_completion" }, &choices);
        if let Some(body) = body.as_object_mut() {
            body.insert("usage".to_owned(), self.usage());
        }
        whole(200, &body)
    }

    fn stream(&self, usage: bool) -> Answer {
        let object = if self.chat { "chat.completion.chunk" } else { "text_completion" };
        let mut pieces = VecDeque::new();
        let mut event = |choices: Value, last: Option<Value>| {
            let mut body = self.envelope(object, &choices);
            if let (Some(body), true) = (body.as_object_mut(), usage) {
                body.insert("usage".to_owned(), last.unwrap_or(Value::Null));
            }
            pieces.push_back(Bytes::from(format!("data: {body}\n\n")));
        };
        for index in 0..self.choices {
            for choice in self.chunks(index) {
                event(json!([choice]), None);
            }
        }
        if usage {
            event(json!([]), Some(self.usage()));
        }
        pieces.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
        Answer { status: 200, content_type: "text/event-stream", pieces }
    }

    fn chunks(&self, index: usize) -> Vec<Value> {
        let chunk = |text: Option<&str>, role: bool, finish: Option<&str>| {
            if !self.chat {
                return json!({"index": index, "text": text.unwrap_or_default(), "logprobs": null, "finish_reason": finish});
            }
            let mut delta = serde_json::Map::new();
            if role {
                delta.insert("role".to_owned(), "assistant".into());
            }
            if let Some(text) = text {
                delta.insert("content".to_owned(), text.into());
            }
            json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish})
        };
        let mut chunks = vec![chunk(Some(""), true, None)];
        let mut rest = self.said;
        while !rest.is_empty() {
            let piece = match cut(rest, 1) {
                "" => rest.chars().next().map_or(rest, |first| rest.get(..first.len_utf8()).unwrap_or(rest)),
                piece => piece,
            };
            chunks.push(chunk(Some(piece), false, None));
            rest = rest.get(piece.len()..).unwrap_or_default();
        }
        chunks.push(chunk(None, false, Some(self.finish)));
        chunks
    }
}

fn embed(request: &Value) -> Answer {
    let inputs: Vec<String> = match request.get("input") {
        Some(Value::Array(parts)) if parts.iter().all(Value::is_number) => {
            vec![parts.iter().map(ToString::to_string).collect()]
        }
        Some(Value::Array(parts)) => {
            parts.iter().map(|part| if part.is_string() { text_of(part) } else { part.to_string() }).collect()
        }
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            return refuse("`input` must be a string or a list.");
        }
    };
    let dimensions = match request.get("dimensions").map(Value::as_u64) {
        None => DIMENSIONS,
        Some(Some(asked @ 1..=MAX_DIMENSIONS)) => usize::try_from(asked).unwrap_or(DIMENSIONS),
        Some(_) => return refuse("`dimensions` must be from 1 to 3072."),
    };
    let base64 = request.get("encoding_format").and_then(Value::as_str) == Some("base64");
    let row = |(index, text): (usize, &String)| {
        let vector = vector(text, dimensions);
        let embedding = if base64 { Value::from(encode_base64(&vector)) } else { json!(vector) };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    let data: Vec<Value> = inputs.iter().enumerate().map(row).collect();
    let tokens: usize = inputs.iter().map(|text| tokens(text)).sum();
    whole(
        200,
        &json!({"object": "list", "model": "echo", "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}),
    )
}

/// Numbers from -1 to 1 that depend on the text alone.
#[expect(clippy::float_arithmetic, reason = "embeddings are vectors of floats; no money is involved")]
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    // FNV-1a seeds a xorshift sequence: stable over versions and machines.
    let mut state = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [a, b, ..] = state.to_le_bytes();
        f32::from(i16::from_le_bytes([a, b])) / 32768.0
    };
    (0..dimensions).map(|_| next()).collect()
}

fn encode_base64(vector: &[f32]) -> String {
    use base64::Engine;
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::openai::reply;

    fn chat(body: &Value) -> Answer {
        answer(Api::Chat, body.to_string().as_bytes())
    }

    fn value(answer: &Answer) -> Value {
        serde_json::from_slice(&answer.pieces[0]).unwrap()
    }

    #[test]
    fn it_says_the_last_user_message_and_counts_tokens() {
        let body = json!({"model": "echo", "messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "hello wörld"}, {"role": "assistant", "content": "x"}]});
        let reply = value(&chat(&body));
        assert_eq!(reply["choices"][0]["message"]["content"], "hello wörld");
        assert_eq!(reply["usage"]["completion_tokens"], 3);
        assert_eq!(reply["usage"]["prompt_tokens"], 1 + 3 + 1);
    }

    #[test]
    fn a_stream_reassembled_is_the_whole_answer() {
        for text in ["", "hi", "日本語のテキスト", "a longer text with 😀 in it"] {
            let body = json!({"messages": [{"role": "user", "content": text}], "stream": true, "stream_options": {"include_usage": true}});
            let answer = chat(&body);
            let (mut said, mut usage) = (String::new(), None);
            for piece in &answer.pieces {
                let data = crate::sse::data(piece).unwrap();
                if let Ok(event) = serde_json::from_slice::<Value>(&data) {
                    said.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
                }
                usage = usage.or(reply::Hearing::default().event(piece).usage);
            }
            assert_eq!(said, text);
            assert_eq!(usage.unwrap().output as usize, tokens(text));
            assert_eq!(answer.pieces.back().unwrap().as_ref(), b"data: [DONE]\n\n");
        }
    }

    #[test]
    fn the_cap_is_kept() {
        let body = json!({"messages": [{"role": "user", "content": "0123456789"}], "max_tokens": 2});
        let reply = value(&chat(&body));
        assert_eq!(reply["choices"][0]["message"]["content"], "01234567");
        assert_eq!(reply["choices"][0]["finish_reason"], "length");
    }

    #[test]
    fn embeddings_are_the_same_in_both_encodings() {
        let floats = value(&answer(Api::Embeddings, br#"{"input":["a","b"],"dimensions":8}"#));
        let packed =
            value(&answer(Api::Embeddings, br#"{"input":["a","b"],"dimensions":8,"encoding_format":"base64"}"#));
        use base64::Engine;
        for index in 0..2 {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(packed["data"][index]["embedding"].as_str().unwrap())
                .unwrap();
            let unpacked: Vec<f32> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
            assert_eq!(json!(unpacked), floats["data"][index]["embedding"]);
        }
        assert_ne!(floats["data"][0], floats["data"][1]);
        assert_eq!(answer(Api::Embeddings, br#"{"input":1}"#).status, 400);
    }
}
