//! What an answer with images or audio says, and what it counts as where it says nothing.
//!
//! The last event of a stream is known only by what follows it: one that could be it is held back until then.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use openclawmu_store::Usage;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Media;
use super::sound::Meter;
use super::tariff::Tariff;
use crate::dialect::openai::reply::Event;
use crate::dialect::scan;

/// Watches one answer.
#[derive(Debug)]
pub(crate) struct Watch {
    tariff: Tariff,
    /// What the answer's tokens are, where its usage says no more.
    kind: Kind,
    meter: Meter,
    /// Images that have come, and whether a part of another has.
    images: u32,
    begun: bool,
    /// Bytes of text that have come.
    text_bytes: usize,
    /// Anything of the answer has come.
    answered: bool,
    /// Events that may be the last ones.
    held: Vec<u8>,
}

/// What an answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Images,
    Sound,
    Text,
}

/// What an answer counts as without the provider's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silent {
    pub(crate) usage: Usage,
    /// The provider bills nothing else than what was counted.
    pub(crate) exact: bool,
}

impl Watch {
    /// A watch over the answer to a request with this tariff.
    pub(crate) fn new(media: &Media, tariff: Tariff) -> Self {
        let (kind, bare) = match media {
            Media::Images(_) => (Kind::Images, false),
            Media::Speech(speech) => (Kind::Sound, speech.bare),
            Media::Transcript(_) => (Kind::Text, false),
        };
        Self {
            tariff,
            kind,
            meter: Meter::new(bare),
            images: 0,
            begun: false,
            text_bytes: 0,
            answered: false,
            held: Vec::new(),
        }
    }

    /// Whether an answer of this type goes on piece by piece.
    pub(crate) fn is_sound(&self, content_type: &str) -> bool {
        self.kind == Kind::Sound && !is_json(content_type)
    }

    /// Takes a piece of sound.
    pub(crate) fn piece(&mut self, piece: &[u8]) {
        self.answered = true;
        self.meter.push(piece);
    }

    /// Takes a whole answer: its usage, where it states one that is a bill. `Err` where it should be JSON and is none.
    pub(crate) fn whole(&mut self, content_type: &str, body: &[u8]) -> Result<Option<Usage>, ()> {
        self.answered = true;
        if !is_json(content_type) {
            self.text_bytes = body.len();
            return Ok(None);
        }
        let body = std::str::from_utf8(body).map_err(|_| ())?;
        let (kind, mut stated, mut duration) = (self.kind, None, None);
        let found = scan::members(body, |key, range| match key.as_ref() {
            "usage" => stated = body.get(range).and_then(|raw| usage(raw, kind)),
            "duration" => duration = body.get(range).and_then(millis),
            "data" => {
                let data = body.get(range).and_then(|raw| serde_json::from_str::<Vec<IgnoredAny>>(raw).ok());
                self.images = data.map_or(0, |data| u32::try_from(data.len()).unwrap_or(u32::MAX));
            }
            "text" => self.text_bytes = range.len(),
            _ => {}
        });
        found.map_err(|_| ())?;
        let timed = || duration.map(|input_ms| Usage { input_ms, ..Usage::default() });
        Ok(self.bill(stated).or_else(|| self.bill(timed())))
    }

    /// Takes an event with its blank line: what it says, and the bytes that go on.
    pub(crate) fn event(&mut self, data: Option<&[u8]>, event: Bytes) -> (Event, Bytes) {
        let said = data.map(|data| self.said(data)).unwrap_or_default();
        if said.finished {
            self.held.extend_from_slice(&event);
            return (said, Bytes::new());
        }
        if self.held.is_empty() {
            return (said, event);
        }
        (said, [std::mem::take(&mut self.held), event.to_vec()].concat().into())
    }

    /// Whether an event is held back.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// What is held back still.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    fn said(&mut self, data: &[u8]) -> Event {
        #[derive(Deserialize)]
        struct Raw<'a> {
            #[serde(rename = "type", borrow, default)]
            kind: Cow<'a, str>,
            #[serde(default)]
            error: Option<IgnoredAny>,
            #[serde(borrow, default)]
            usage: Option<&'a serde_json::value::RawValue>,
            #[serde(borrow, default)]
            delta: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            audio: Option<Cow<'a, str>>,
        }
        if data == b"[DONE]" {
            return Event { done: true, ..Event::default() };
        }
        let Ok(raw) = serde_json::from_slice::<Raw<'_>>(data) else {
            self.answered = true;
            return Event { text_bytes: data.len(), ..Event::default() };
        };
        if raw.error.is_some() || raw.kind == "error" {
            return Event { error: true, ..Event::default() };
        }
        self.answered = true;
        if let Some(sound) = raw.audio.and_then(|audio| STANDARD.decode(audio.as_bytes()).ok()) {
            self.meter.push(&sound);
        }
        let text_bytes = raw.delta.map_or(0, |delta| delta.len());
        self.text_bytes = self.text_bytes.saturating_add(text_bytes);
        self.begun |= raw.kind.ends_with(".partial_image");
        let finished = [".completed", ".done"].iter().any(|end| raw.kind.ends_with(end));
        if raw.kind.starts_with("image_") && finished {
            (self.images, self.begun) = (self.images.saturating_add(1), false);
        }
        let usage = raw.usage.and_then(|raw| usage(raw.get(), self.kind)).filter(|_| finished);
        Event { usage: self.bill(usage), text_bytes, finished, ..Event::default() }
    }

    /// A usage with what was counted beside it, where it is the bill.
    fn bill(&self, usage: Option<Usage>) -> Option<Usage> {
        let usage = usage.filter(|usage| self.tariff.is_stated(usage))?;
        let pieces = self.tariff.request;
        Some(Usage {
            output_images: self.images,
            input_characters: pieces.input_characters,
            output_ms: if self.tariff.by_time { self.heard().output_ms } else { 0 },
            ..usage
        })
    }

    /// The sound that has come.
    fn heard(&self) -> Usage {
        match (self.kind == Kind::Sound && self.answered, self.meter.ms()) {
            (false, _) => Usage::default(),
            (true, Some(ms)) => self.tariff.spoken(ms),
            // What can't be measured counts as the most that it can be.
            (true, None) => self.tariff.audio,
        }
    }

    /// What the answer counts as without the provider's word, as far as it has come.
    pub(crate) fn silent(&self) -> Silent {
        let Tariff { request, image, exact, .. } = self.tariff;
        // An image that has begun is made, whoever still waits for it.
        let images = self.images + u32::from(self.begun);
        let heard = self.heard();
        let text = u32::try_from(self.text_bytes.div_ceil(4)).unwrap_or(u32::MAX);
        let usage = Usage {
            output: if self.tariff.bound.output_tokens > 0 { text } else { 0 },
            output_image_tokens: image.output_image_tokens.saturating_mul(images),
            output_images: images * image.output_images,
            output_audio: heard.output_audio,
            output_ms: heard.output_ms,
            ..request
        };
        Silent { usage, exact }
    }
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

#[derive(Deserialize)]
struct Stated<'a> {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default, alias = "input_token_details")]
    input_tokens_details: Option<Details>,
    #[serde(default, alias = "output_token_details")]
    output_tokens_details: Option<Details>,
    #[serde(borrow, default)]
    seconds: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize, Default)]
struct Details {
    #[serde(default)]
    image_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
    #[serde(default)]
    cached_tokens: Option<u64>,
}

/// Reads a raw `usage`; `None` where it is null, unreadable or states nothing.
fn usage(raw: &str, kind: Kind) -> Option<Usage> {
    let stated: Stated<'_> = serde_json::from_str(raw).ok()?;
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let part = |count: Option<u64>, whole: u64| count.unwrap_or(0).min(whole);
    let input_ms = stated.seconds.and_then(|seconds| millis(seconds.get()));
    if stated.input_tokens.is_none() && stated.output_tokens.is_none() && input_ms.is_none() {
        return None;
    }
    let (input, output) = (stated.input_tokens.unwrap_or(0), stated.output_tokens.unwrap_or(0));
    let inner = stated.input_tokens_details.unwrap_or_default();
    let cache_read = part(inner.cached_tokens, input);
    let input_image_tokens = part(inner.image_tokens, input - cache_read);
    let input_audio = part(inner.audio_tokens, input - cache_read - input_image_tokens);
    let outer = stated.output_tokens_details.unwrap_or(match kind {
        Kind::Images => Details { image_tokens: Some(output), ..Details::default() },
        Kind::Sound => Details { audio_tokens: Some(output), ..Details::default() },
        Kind::Text => Details::default(),
    });
    let output_image_tokens = part(outer.image_tokens, output);
    let output_audio = part(outer.audio_tokens, output - output_image_tokens);
    Some(Usage {
        input: small(input - cache_read - input_image_tokens - input_audio),
        cache_read: small(cache_read),
        input_image_tokens: small(input_image_tokens),
        input_audio: small(input_audio),
        output: small(output - output_image_tokens - output_audio),
        output_image_tokens: small(output_image_tokens),
        output_audio: small(output_audio),
        input_ms: input_ms.unwrap_or(0),
        ..Usage::default()
    })
}

/// A number of seconds, as JSON or in quotes, in milliseconds: rounded up, read digit by digit.
fn millis(raw: &str) -> Option<u32> {
    let text = raw.trim_matches('"');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let (kept, rest) = fraction.split_at(fraction.len().min(3));
    let kept: u64 = format!("{kept:0<3}").parse().ok()?;
    let more = u64::from(rest.bytes().any(|digit| digit != b'0'));
    let ms = whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(kept + more)?;
    Some(u32::try_from(ms).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::tariff::Needs;
    use super::*;

    fn watch(tariff: Tariff, kind: Kind) -> Watch {
        Watch {
            tariff,
            kind,
            meter: Meter::new(true),
            images: 0,
            begun: false,
            text_bytes: 0,
            answered: false,
            held: Vec::new(),
        }
    }

    #[test]
    fn a_usage_is_read_in_every_shape_that_these_routes_have() {
        let drawn = r#"{"total_tokens":1300,"input_tokens":244,"output_tokens":1056,"input_tokens_details":{"text_tokens":50,"image_tokens":194}}"#;
        let expected = Usage { input: 50, input_image_tokens: 194, output_image_tokens: 1056, ..Usage::default() };
        assert_eq!(usage(drawn, Kind::Images), Some(expected));
        let split =
            r#"{"input_tokens":5,"output_tokens":100,"output_tokens_details":{"text_tokens":10,"image_tokens":90}}"#;
        assert_eq!(
            usage(split, Kind::Images),
            Some(Usage { input: 5, output: 10, output_image_tokens: 90, ..Usage::default() })
        );
        let said = r#"{"input_tokens":5,"output_tokens":100,"total_tokens":105}"#;
        let expected = Usage { input: 5, output_audio: 100, ..Usage::default() };
        assert_eq!(usage(said, Kind::Sound), Some(expected));
        let heard = r#"{"type":"tokens","total_tokens":27,"input_tokens":14,"input_token_details":{"text_tokens":4,"audio_tokens":10},"output_tokens":13}"#;
        assert_eq!(usage(heard, Kind::Text), Some(Usage { input: 4, input_audio: 10, output: 13, ..Usage::default() }));
        assert_eq!(
            usage(r#"{"type":"duration","seconds":9}"#, Kind::Text),
            Some(Usage { input_ms: 9_000, ..Usage::default() })
        );
        for none in ["null", "{}", "5", r#"{"seconds":"x"}"#, r#"{"total_tokens":3}"#] {
            assert_eq!(usage(none, Kind::Text), None, "{none}");
        }
        let wrong = r#"{"input_tokens":5,"input_tokens_details":{"image_tokens":9,"audio_tokens":9}}"#;
        assert_eq!(
            usage(wrong, Kind::Images),
            Some(Usage { input_image_tokens: 5, ..Usage::default() }),
            "never more than the whole"
        );
    }

    #[test]
    fn seconds_are_read_digit_by_digit() {
        for (raw, ms) in
            [("9", 9_000), ("8.47", 8_470), ("\"8.470000267028809\"", 8_471), ("0.0010", 1), ("99999999999", u32::MAX)]
        {
            assert_eq!(millis(raw), Some(ms), "{raw}");
        }
        for bad in ["", "-1", "1e3", "null", ".5", "1.2.3"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_answer_without_usage_counts_by_its_images() {
        let image = Usage { output_image_tokens: 1_056, output_images: 1, ..Usage::default() };
        let request = Usage { input: 25, ..Usage::default() };
        let mut made = watch(Tariff { image, request, ..Tariff::default() }, Kind::Images);
        assert_eq!(made.whole("application/json", br#"{"created":1,"data":[{"url":"a"},{"url":"b"}]}"#), Ok(None));
        let expected = Usage { input: 25, output_image_tokens: 2_112, output_images: 2, ..Usage::default() };
        assert_eq!(made.silent(), Silent { usage: expected, exact: false });
        assert_eq!(made.whole("application/json", b"{"), Err(()));
    }

    #[test]
    fn what_says_nothing_of_what_is_billed_is_no_bill() {
        let tariff =
            Tariff { needs: Needs::Time, request: Usage { input_ms: 7, ..Usage::default() }, ..Tariff::default() };
        let mut heard = watch(tariff, Kind::Text);
        assert_eq!(heard.whole("application/json", br#"{"text":"x","usage":{"input_tokens":5}}"#), Ok(None));
        let timed = Some(Usage { input_ms: 8_470, ..Usage::default() });
        assert_eq!(heard.whole("application/json", br#"{"text":"x","duration":8.47}"#), Ok(timed));
        assert_eq!(heard.whole("text/plain; charset=utf-8", b"anything"), Ok(None));
        assert_eq!(heard.silent().usage.input_ms, 7);
    }

    #[test]
    fn the_event_that_may_be_the_last_is_held_back() {
        let image = Usage { output_images: 1, output_image_tokens: 9, ..Usage::default() };
        let mut made = watch(Tariff { image, ..Tariff::default() }, Kind::Images);
        let partial = br#"{"type":"image_generation.partial_image","b64_json":"x"}"#;
        let (said, bytes) = made.event(Some(partial), Bytes::from_static(b"partial"));
        assert!(!said.finished && bytes == "partial");
        assert_eq!(made.silent().usage.output_images, 1, "what has begun is made");
        let completed =
            br#"{"type":"image_generation.completed","b64_json":"y","usage":{"input_tokens":1,"output_tokens":2}}"#;
        let (said, bytes) = made.event(Some(completed), Bytes::from_static(b"completed"));
        let expected = Usage { input: 1, output_image_tokens: 2, output_images: 1, ..Usage::default() };
        assert!(said.finished && bytes.is_empty() && said.usage == Some(expected));
        let (said, bytes) = made.event(Some(b"[DONE]"), Bytes::from_static(b"done"));
        assert!(said.done && bytes == "completeddone" && made.rest().is_empty());
        let (said, _) = made.event(Some(br#"{"type":"error","error":{"message":"m"}}"#), Bytes::new());
        assert!(said.error);
    }

    #[test]
    fn sound_counts_by_its_length_and_as_the_most_where_that_can_t_be_told() {
        let most = Usage { output_audio: 500, ..Usage::default() };
        let tariff = Tariff { audio_tokens_per_minute: 1_200, audio: most, ..Tariff::default() };
        let mut spoken = watch(tariff, Kind::Sound);
        assert_eq!(spoken.silent().usage, Usage::default(), "nothing has come");
        spoken.piece(&[0; 48_000]);
        assert_eq!(spoken.silent().usage.output_audio, 20);
        assert!(spoken.is_sound("audio/pcm") && !spoken.is_sound("application/json"));
        let mut strange = Watch { meter: Meter::new(false), ..watch(tariff, Kind::Sound) };
        strange.piece(b"fLaC and more of that");
        assert_eq!(strange.silent().usage, most);
    }
}
