//! What is known of the response that is under way, and what it has probably used, for when nobody will say.

use std::time::{Duration, Instant};

use openclawmu_store::Usage;
use serde_json::{Map, Value};

use crate::admit::estimate_tokens;

/// Bytes of a millisecond of audio: 16 bits at 24 kHz, the finest format there is, and 8 bits at 8 kHz.
const WIDE: usize = 48;
const NARROW: usize = 8;
/// Milliseconds that one token stands for, of what is heard and of what is said.
const HEARD_MS: usize = 100;
const SPOKEN_MS: usize = 50;
/// Pause between two notes of progress.
const NOTE_EVERY: Duration = Duration::from_millis(100);

/// The response that is under way.
#[derive(Debug)]
pub(super) enum Turn {
    /// There is none: one can begin when the gateway asks for it.
    Idle,
    /// One was asked for by an event of this id.
    Asked {
        /// The event's id.
        event_id: String,
        /// When.
        since: Instant,
    },
    /// One has begun.
    Speaking(Speech),
}

/// A response that has begun.
#[derive(Debug)]
pub(super) struct Speech {
    /// Milliseconds until it began.
    pub(super) first_ms: u32,
    text_bytes: usize,
    text_events: u32,
    audio_bytes: usize,
    noted: Instant,
}

impl Turn {
    /// One has begun.
    pub(super) fn begun(&self) -> Self {
        let waited = match self {
            Self::Asked { since, .. } => since.elapsed(),
            Self::Idle | Self::Speaking(_) => Duration::ZERO,
        };
        let first_ms = u32::try_from(waited.as_millis()).unwrap_or(u32::MAX);
        Self::Speaking(Speech { first_ms, text_bytes: 0, text_events: 0, audio_bytes: 0, noted: Instant::now() })
    }
}

impl Speech {
    /// Adds text.
    pub(super) fn text(&mut self, bytes: usize) {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
        self.text_events = self.text_events.saturating_add(1);
    }

    /// Adds audio, in bytes of base64.
    pub(super) fn audio(&mut self, bytes: usize) {
        self.audio_bytes = self.audio_bytes.saturating_add(bytes);
    }

    /// Whether nothing of it has come.
    pub(super) fn is_silent(&self) -> bool {
        self.text_bytes == 0 && self.audio_bytes == 0
    }

    /// Whether it is time to note how far it has come.
    pub(super) fn is_notable(&mut self) -> bool {
        let due = self.noted.elapsed() >= NOTE_EVERY;
        if due {
            self.noted = Instant::now();
        }
        due
    }
}

/// What a model probably has before it.
#[derive(Debug)]
pub(super) struct Context {
    /// Tokens of the last response and of all before it, as the provider stated them.
    text: u32,
    audio: u32,
    /// What came since.
    text_bytes: usize,
    audio_bytes: usize,
    heard_rate: usize,
    spoken_rate: usize,
}

impl Context {
    /// That of a session that has just begun.
    pub(super) fn of(session: &Map<String, Value>) -> Self {
        let mut context =
            Self { text: 0, audio: 0, text_bytes: 0, audio_bytes: 0, heard_rate: WIDE, spoken_rate: WIDE };
        context.formats(session);
        context.text_bytes = session.get("instructions").and_then(Value::as_str).map_or(0, str::len);
        context
    }

    /// Reads the formats of a session's audio.
    pub(super) fn formats(&mut self, session: &Map<String, Value>) {
        let rate = |beta: &str, way: &str| {
            let audio = session.get("audio").and_then(|audio| audio.get(way));
            let format = audio.and_then(|way| way.get("format")).and_then(|format| format.get("type"));
            let name = format.or_else(|| session.get(beta)).and_then(Value::as_str).unwrap_or_default();
            if name.starts_with("g711") || name.starts_with("audio/pcmu") || name.starts_with("audio/pcma") {
                NARROW
            } else {
                WIDE
            }
        };
        self.heard_rate = rate("input_audio_format", "input");
        self.spoken_rate = rate("output_audio_format", "output");
    }

    /// Adds a client's event, of which so many bytes are audio in base64.
    pub(super) fn add(&mut self, bytes: usize, audio_bytes: usize) {
        self.text_bytes = self.text_bytes.saturating_add(bytes.saturating_sub(audio_bytes));
        self.audio_bytes = self.audio_bytes.saturating_add(audio_bytes);
    }

    /// A response has ended with this usage: it and its prompt are what the next one has before it.
    pub(super) fn settle(&mut self, usage: &Usage) {
        self.text = [usage.input, usage.cache_read, usage.output].into_iter().fold(0, u32::saturating_add);
        self.audio = usage.input_audio.saturating_add(usage.output_audio);
        (self.text_bytes, self.audio_bytes) = (0, 0);
    }

    /// What a response has probably used.
    pub(super) fn estimate(&self, speech: &Speech) -> Usage {
        let heard = audio_tokens(self.audio_bytes, self.heard_rate * HEARD_MS);
        let text = if self.text_bytes == 0 { 0 } else { estimate_tokens(self.text_bytes) };
        Usage {
            input: self.text.saturating_add(text).max(1),
            input_audio: self.audio.saturating_add(heard),
            output: estimate_tokens(speech.text_bytes).max(speech.text_events),
            output_audio: audio_tokens(speech.audio_bytes, self.spoken_rate * SPOKEN_MS),
            ..Usage::default()
        }
    }
}

/// Tokens of so many bytes of base64.
fn audio_tokens(base64_bytes: usize, bytes_a_token: usize) -> u32 {
    u32::try_from((base64_bytes / 4 * 3).div_ceil(bytes_a_token.max(1))).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn session(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn an_estimate_counts_what_went_in_and_what_came_out() {
        let mut context = Context::of(&session(&json!({"instructions": "x".repeat(40)})));
        // A second of 16-bit audio at 24 kHz is 10 tokens heard and 20 tokens spoken.
        context.add(64_100, 64_000);
        let Turn::Speaking(mut speech) = Turn::Idle.begun() else { panic!("it has begun") };
        assert!(speech.is_silent());
        speech.text(8);
        speech.audio(64_000);
        let expected = Usage { input: 35, input_audio: 10, output: 2, output_audio: 20, ..Usage::default() };
        assert_eq!(context.estimate(&speech), expected);
        context.settle(&Usage {
            input: 30,
            cache_read: 5,
            input_audio: 10,
            output: 2,
            output_audio: 20,
            ..Usage::default()
        });
        let next = context.estimate(&speech);
        assert_eq!((next.input, next.input_audio), (37, 30));
    }

    #[test]
    fn narrow_audio_has_fewer_bytes_a_token() {
        for narrow in [
            json!({"input_audio_format": "g711_ulaw", "output_audio_format": "g711_alaw"}),
            json!({"audio": {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcma"}}}}),
        ] {
            let context = Context::of(&session(&narrow));
            assert_eq!((context.heard_rate, context.spoken_rate), (NARROW, NARROW));
        }
        let context =
            Context::of(&session(&json!({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}}}})));
        assert_eq!((context.heard_rate, context.spoken_rate), (WIDE, WIDE));
    }
}
