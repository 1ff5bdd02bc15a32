//! What a test may ask of the provider of the Realtime API for one response, and what is noted of a connection.

use serde_json::{Value, json};

use super::behaviour::Gate;

/// One response's script. The default: three words, 10 tokens in and 3 out.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// The words, one event each.
    pub words: Vec<String>,
    /// The `usage` of its end.
    pub usage: Value,
    /// A gate before the word of this index.
    pub gate: Option<(usize, Gate)>,
    /// The connection breaks after so many words.
    pub breaks_after: Option<usize>,
    /// The name of a function that it calls.
    pub calls: Option<String>,
}

impl Default for Spoken {
    fn default() -> Self {
        Self {
            words: ["one ", "two ", "three "].map(str::to_owned).to_vec(),
            usage: usage(10, 3),
            gate: None,
            breaks_after: None,
            calls: None,
        }
    }
}

impl Spoken {
    /// The default's words with this usage.
    #[must_use]
    pub fn using(usage: Value) -> Self {
        Self { usage, ..Self::default() }
    }
}

/// A usage of text alone.
#[must_use]
pub fn usage(input: u64, output: u64) -> Value {
    json!({
        "total_tokens": input + output, "input_tokens": input, "output_tokens": output,
        "input_token_details": {
            "text_tokens": input, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 0,
            "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}
        },
        "output_token_details": {"text_tokens": output, "audio_tokens": 0}
    })
}

/// One connection as it came.
#[derive(Debug, Default)]
pub struct Line {
    /// The request's target.
    pub target: String,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Events received so far, in order.
    pub events: Vec<Value>,
    /// Responses that were begun.
    pub begun: usize,
    /// It has ended, whoever ended it.
    pub ended: bool,
}

impl Line {
    /// The first header of this name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The events of this type.
    #[must_use]
    pub fn of(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["type"] == kind).collect()
    }
}

/// A session as the provider begins it.
pub(super) fn session(model: &str) -> Value {
    json!({
        "object": "realtime.session", "id": "sess_1", "type": "realtime", "model": model, "output_modalities": ["audio"],
        "instructions": "Be kind.", "tools": [], "tool_choice": "auto", "max_output_tokens": "inf", "tracing": null,
        "prompt": null, "truncation": "auto", "expires_at": 1_795_003_600, "include": null,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000}, "transcription": null, "noise_reduction": null,
                "turn_detection": {
                    "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 200,
                    "idle_timeout_ms": null, "create_response": true, "interrupt_response": true
                }
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin", "speed": 1.0}
        }
    })
}
