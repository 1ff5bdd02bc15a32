//! OpenAI's images, audio and moderations as they are on the wire: JSON and forms in; JSON, events, text and sound out.
//!
//! What it bills is counted here, by the public guides: an image of a prompt is 194 tokens (one tile), one that is made as many
//! as its size and quality say, a draft 100; a second that is heard 10 tokens, a second that is spoken 20.

use serde_json::{Value, json};

use super::account;
use super::behaviour::{Behaviour, Fault};
use super::plan::{Plan, Step, frame, interrupted, whole};
use super::record::{Bill, Pieces};
use super::wire::base64_of;

const CREATED: u64 = 1_795_000_000;
/// Tokens of one image of a prompt.
const GIVEN_TOKENS: u64 = 194;
/// Tokens of one draft.
const PARTIAL_TOKENS: u64 = 100;
/// Sound in each piece, in milliseconds.
const PIECE_MS: u64 = 120;

/// A request's body as the provider reads it: JSON, or a form with its texts as strings and its files as lists of their lengths.
pub(super) fn body(content_type: &str, bytes: &[u8]) -> Value {
    let Some(parts) = account::form(content_type, bytes) else {
        return serde_json::from_slice(bytes).unwrap_or(Value::Null);
    };
    let mut fields = json!({});
    for part in parts {
        if part.filename.is_some() {
            let name = part.name.trim_end_matches("[]");
            let mut files = fields[name].as_array().cloned().unwrap_or_default();
            files.push(json!(part.content.len()));
            fields[name] = json!(files);
        } else {
            fields[part.name.as_str()] = json!(String::from_utf8_lossy(&part.content));
        }
    }
    fields
}

/// Whether a path is one of these.
pub(super) fn is(path: &str) -> bool {
    path.ends_with("/moderations") || path.contains("/images/") || path.contains("/audio/")
}

/// The answer on one of these paths.
pub(super) fn plan(path: &str, body: &Value, behaviour: &Behaviour, mut steps: Vec<Step>) -> Plan {
    let asked = Asked { body, behaviour };
    let bill = Bill { model: asked.text("model").to_owned(), ..Bill::default() };
    steps.push(Step::Charge);
    if path.ends_with("/moderations") {
        asked.moderation(bill, steps)
    } else if path.contains("/images/") {
        asked.images(path, bill, steps)
    } else if path.ends_with("/speech") {
        asked.speech(bill, steps)
    } else {
        asked.transcript(bill, steps)
    }
}

struct Asked<'a> {
    body: &'a Value,
    behaviour: &'a Behaviour,
}

impl Asked<'_> {
    fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }

    /// A number, as JSON or as text.
    fn number(&self, name: &str, otherwise: u64) -> u64 {
        self.body[name].as_u64().or_else(|| self.text(name).parse().ok()).unwrap_or(otherwise)
    }

    fn streams(&self) -> bool {
        self.body["stream"] == json!(true) || self.text("stream") == "true"
    }

    fn words(&self, name: &str) -> u64 {
        u64::try_from(self.text(name).split_whitespace().count()).expect("small")
    }

    fn with_usage(&self) -> bool {
        !matches!(self.behaviour.fault, Fault::NoUsage)
    }

    fn moderation(&self, bill: Bill, mut steps: Vec<Step>) -> Plan {
        let several = self.body["input"].as_array().filter(|list| list.iter().all(Value::is_string));
        let result = json!({
            "flagged": false, "categories": { "violence": false, "self-harm": false },
            "category_scores": { "violence": 0.000_25, "self-harm": 0.000_5 },
            "category_applied_input_types": { "violence": ["text"], "self-harm": ["text"] }
        });
        let results = vec![result; several.map_or(1, Vec::len)];
        let model = if bill.model.is_empty() { "omni-moderation-latest" } else { &bill.model };
        let value = json!({ "id": "modr-scripted", "model": model, "results": results });
        whole(&mut steps, 200, None, value.to_string().into_bytes());
        steps.push(Step::Complete);
        Plan { steps, bill, chunked: false }
    }

    /// Size, quality and what such an image is billed as.
    fn drawn(&self) -> (&str, &str, u64) {
        let known = |asked: &'static str, value: &str| (value == asked).then_some(asked);
        let size =
            ["1024x1536", "1536x1024"].iter().find_map(|size| known(size, self.text("size"))).unwrap_or("1024x1024");
        let quality =
            ["low", "high"].iter().find_map(|quality| known(quality, self.text("quality"))).unwrap_or("medium");
        let tokens = match (quality, size) {
            ("low", "1024x1024") => 272,
            ("low", "1024x1536") => 408,
            ("low", _) => 400,
            ("high", "1024x1024") => 4_160,
            ("high", "1024x1536") => 6_240,
            ("high", _) => 6_208,
            (_, "1024x1024") => 1_056,
            (_, "1024x1536") => 1_584,
            _ => 1_568,
        };
        (size, quality, tokens)
    }

    fn images(&self, path: &str, mut bill: Bill, mut steps: Vec<Step>) -> Plan {
        let count = self.number("n", 1);
        let files = |name: &str| self.body[name].as_array().map_or(0, Vec::len);
        let given = files("image") + files("images") + usize::from(!self.body["mask"].is_null());
        let (size, quality, tokens) = self.drawn();
        let by_piece = bill.model == "poster";
        let drafts = if self.streams() { self.number("partial_images", 0) } else { 0 };
        bill.pieces = if by_piece {
            let quality = if self.text("quality").is_empty() { "standard" } else { self.text("quality") };
            Pieces {
                images: vec![
                    (self.text("size").to_owned(), quality.to_owned());
                    usize::try_from(count).expect("small")
                ],
                ..Pieces::default()
            }
        } else {
            bill.prompt = self.words("prompt");
            bill.completion = count * tokens + drafts * PARTIAL_TOKENS;
            Pieces { image_tokens: GIVEN_TOKENS * u64::try_from(given).expect("small"), ..Pieces::default() }
        };
        let usage = json!({
            "total_tokens": bill.prompt + bill.pieces.image_tokens + bill.completion,
            "input_tokens": bill.prompt + bill.pieces.image_tokens, "output_tokens": bill.completion,
            "input_tokens_details": { "text_tokens": bill.prompt, "image_tokens": bill.pieces.image_tokens }
        });
        let usage = (self.with_usage() && !by_piece).then_some(usage);
        let image = base64_of(format!("\u{89}PNG {}", "x".repeat(self.behaviour.padding_bytes)).as_bytes());
        if !self.streams() {
            let one = if by_piece {
                json!({ "url": "https://images.example/one.png" })
            } else {
                json!({ "b64_json": image })
            };
            let data = vec![one; usize::try_from(count).expect("small")];
            let mut value = json!({ "created": CREATED, "background": "opaque", "output_format": "png", "quality": quality, "size": size, "data": data });
            if let Some(usage) = usage {
                value["usage"] = usage;
            }
            whole(&mut steps, 200, None, value.to_string().into_bytes());
            steps.push(Step::Complete);
            return Plan { steps, bill, chunked: false };
        }
        let kind = if path.ends_with("edits") { "image_edit" } else { "image_generation" };
        let event = |name: &str, more: Value| {
            let mut value = json!({
                "type": format!("{kind}.{name}"), "b64_json": image, "created_at": CREATED, "size": size, "quality": quality,
                "background": "opaque", "output_format": "png"
            });
            value.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            named(&value)
        };
        let mut events: Vec<Vec<u8>> =
            (0..drafts).map(|at| event("partial_image", json!({ "partial_image_index": at }))).collect();
        events.push(event("completed", usage.map_or_else(|| json!({}), |usage| json!({ "usage": usage }))));
        self.stream(events, &mut steps);
        Plan { steps, bill, chunked: true }
    }

    fn speech(&self, mut bill: Bill, mut steps: Vec<Step>) -> Plan {
        let pieces = self.behaviour.words;
        let ms = PIECE_MS * u64::try_from(pieces).expect("small");
        if bill.model == "voice" {
            bill.pieces.characters = u64::try_from(self.text("input").chars().count()).expect("small");
        } else {
            bill.prompt = self.words("input") + self.words("instructions");
            bill.pieces.spoken_tokens = ms.div_ceil(50);
        }
        let format = if self.text("response_format").is_empty() { "mp3" } else { self.text("response_format") };
        if self.text("stream_format") == "sse" {
            let usage = json!({
                "input_tokens": bill.prompt, "output_tokens": bill.pieces.spoken_tokens,
                "total_tokens": bill.prompt + bill.pieces.spoken_tokens
            });
            let delta = |at| named(&json!({ "type": "speech.audio.delta", "audio": base64_of(&sound(format, at)) }));
            let mut events: Vec<Vec<u8>> = (0..pieces).map(delta).collect();
            let mut done = json!({ "type": "speech.audio.done" });
            if self.with_usage() {
                done["usage"] = usage;
            }
            events.push(named(&done));
            self.stream(events, &mut steps);
            return Plan { steps, bill, chunked: true };
        }
        let kind = match format {
            "mp3" => "audio/mpeg",
            "wav" => "audio/wav",
            "pcm" => "audio/pcm",
            _ => "audio/flac",
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nx-request-id: req_scripted\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        steps.push(Step::Head(head.into_bytes()));
        for at in 0..pieces {
            if interrupted(&mut steps, at, self.behaviour) {
                return Plan { steps, bill, chunked: true };
            }
            steps.push(Step::Body { bytes: sound(format, at), tokens: 0 });
        }
        if !interrupted(&mut steps, pieces, self.behaviour) {
            steps.push(Step::Complete);
        }
        Plan { steps, bill, chunked: true }
    }

    fn transcript(&self, mut bill: Bill, mut steps: Vec<Step>) -> Plan {
        let bytes = self.body["file"][0].as_u64().unwrap_or(0).saturating_sub(44);
        // Samples of 16 bits, 16,000 a second.
        let ms = bytes / 32;
        let seconds: Value = serde_json::from_str(&format!("{}.{:03}", ms / 1_000, ms % 1_000)).expect("a number");
        let texts: Vec<String> = (0..self.behaviour.words).map(|at| format!("word{at} ")).collect();
        let usage = if bill.model == "ear" {
            bill.pieces.heard_ms = ms;
            json!({ "type": "duration", "seconds": seconds })
        } else {
            bill.prompt = self.words("prompt");
            bill.pieces.heard_tokens = ms.div_ceil(100);
            bill.completion = u64::try_from(texts.len()).expect("small");
            let input = bill.prompt + bill.pieces.heard_tokens;
            json!({
                "type": "tokens", "total_tokens": input + bill.completion, "input_tokens": input, "output_tokens": bill.completion,
                "input_token_details": { "text_tokens": bill.prompt, "audio_tokens": bill.pieces.heard_tokens }
            })
        };
        if self.streams() {
            let delta = |text: &String| named(&json!({ "type": "transcript.text.delta", "delta": text }));
            let mut events: Vec<Vec<u8>> = texts.iter().map(delta).collect();
            let mut done = json!({ "type": "transcript.text.done", "text": texts.concat() });
            if self.with_usage() {
                done["usage"] = usage;
            }
            events.push(named(&done));
            self.stream(events, &mut steps);
            return Plan { steps, bill, chunked: true };
        }
        let text = texts.concat();
        let (kind, content) = match self.text("response_format") {
            "text" => ("text/plain; charset=utf-8", format!("{text}\n")),
            "srt" => ("text/plain; charset=utf-8", format!("1\n00:00:00,000 --> 00:00:02,000\n{text}\n\n")),
            "vtt" => ("text/vtt; charset=utf-8", format!("WEBVTT\n\n00:00.000 --> 00:02.000\n{text}\n\n")),
            "verbose_json" => {
                let mut value = json!({ "task": "transcribe", "language": "english", "duration": seconds, "text": text, "segments": [] });
                if self.with_usage() {
                    value["usage"] = usage;
                }
                ("application/json", value.to_string())
            }
            _ => {
                let mut value = json!({ "text": text });
                if self.with_usage() {
                    value["usage"] = usage;
                }
                ("application/json", value.to_string())
            }
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nx-request-id: req_scripted\r\ncontent-length: {}\r\n\r\n",
            content.len()
        );
        steps.push(Step::Head(head.into_bytes()));
        steps.push(Step::Body { bytes: content.into_bytes(), tokens: 0 });
        steps.push(Step::Complete);
        Plan { steps, bill, chunked: false }
    }

    fn stream(&self, events: Vec<Vec<u8>>, steps: &mut Vec<Step>) {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nx-request-id: req_scripted\r\ntransfer-encoding: chunked\r\n\r\n";
        steps.push(Step::Head(head.as_bytes().to_vec()));
        for (at, bytes) in events.into_iter().enumerate() {
            if interrupted(steps, at, self.behaviour) {
                return;
            }
            steps.push(Step::Body { bytes, tokens: 0 });
        }
        steps.push(Step::Complete);
    }
}

/// An event with its name, as these routes have it.
fn named(value: &Value) -> Vec<u8> {
    let Step::Body { bytes, .. } = frame(value) else { unreachable!("a frame is a body") };
    [format!("event: {}\n", value["type"].as_str().expect("a type")).as_bytes(), &bytes].concat()
}

/// The whole of what is spoken in so many pieces.
#[must_use]
pub fn spoken(format: &str, pieces: usize) -> Vec<u8> {
    (0..pieces).flat_map(|at| sound(format, at)).collect()
}

/// 120 ms of sound.
fn sound(format: &str, at: usize) -> Vec<u8> {
    let samples: Vec<u8> = (0..5_760_u32).map(|byte| u8::try_from(byte % 251).expect("a byte")).collect();
    match (format, at) {
        ("mp3", _) => {
            let mut frame = vec![0xff, 0xf3, 0x84, 0xc4];
            frame.extend_from_slice(&samples[..188]);
            frame.repeat(5)
        }
        ("wav", 0) => [wav_head(24_000, u32::MAX).as_slice(), &samples].concat(),
        ("flac", 0) => [b"fLaC".as_slice(), &samples].concat(),
        _ => samples,
    }
}

/// The head of a file of samples: 16 bits, one channel.
#[must_use]
pub fn wav_head(rate: u32, bytes: u32) -> Vec<u8> {
    let mut head = b"RIFF".to_vec();
    head.extend(bytes.saturating_add(36).to_le_bytes());
    head.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    head.extend(rate.to_le_bytes());
    head.extend((rate * 2).to_le_bytes());
    head.extend(b"\x02\0\x10\0data");
    head.extend(bytes.to_le_bytes());
    head
}
