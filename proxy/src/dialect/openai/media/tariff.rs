//! What a request for images or audio can cost at most, and what counts where its answer says nothing.
//!
//! The bounds, and what they rest on:
//! - Text: a byte is an upper bound of a byte-level token; [`TEMPLATE_TOKENS`] stand for what a provider puts around it.
//! - An image that is given: the card's `image_tokens`, else its context window.
//! - An image that is made: the card's `images`, by the size and quality that are asked for; the dearest where that is left open.
//!   A draft of it in a stream is [`PARTIAL_TOKENS`] more, by `OpenAI`'s guide to image generation.
//! - Speech: a second for each character and ten more, four times that where it is to be said slowly; as many tokens as the
//!   card's `audio_tokens_per_minute` makes of that.
//! - A recording: the card's context window where tokens count; where time does, its bytes (see `sound`), or the card's
//!   `max_input_seconds` where that is less.

use openclawmu_store::{Bound, ModelPrice, NanoUsd, Usage};

use super::Media;
use super::audio::{Speech, Transcript};
use super::image::Images;
use crate::refusal::Refusal;

/// Tokens that a provider may put around a prompt without any byte in the request.
const TEMPLATE_TOKENS: u32 = 64;
/// Tokens of one draft of an image.
const PARTIAL_TOKENS: u32 = 100;
/// Bytes of text per token, for what is billed only when a provider says nothing.
const BYTES_PER_TOKEN: usize = 4;
/// Speech that no character stands for, in milliseconds.
const SILENCE_MS: u32 = 10_000;
/// The longest that a character is spoken, in milliseconds.
const CHARACTER_MS: u32 = 1_000;
/// How much longer that may be at the slowest speed.
const SLOWEST: u32 = 4;
/// The most tokens of a millisecond that is heard, as one in so many: `OpenAI`'s models hear ten a second, twice that bounds them.
const MS_PER_TOKEN: u32 = 50;

/// What is known of the cost before anything is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tariff {
    /// The most that it can use.
    pub(crate) bound: Bound,
    /// The price of an image of this size and quality, where it has one of its own.
    pub(crate) image_price: Option<NanoUsd>,
    /// What the request alone counts as.
    pub(crate) request: Usage,
    /// What each image of the answer counts as.
    pub(crate) image: Usage,
    /// What the answer's audio counts as at most.
    pub(crate) audio: Usage,
    /// How many tokens a minute of the answer's audio is.
    pub(crate) audio_tokens_per_minute: u32,
    /// The answer's audio is billed by time.
    pub(crate) by_time: bool,
    /// What is counted here is what the provider bills: it counts nothing else.
    pub(crate) exact: bool,
    /// What a usage must state to be the bill.
    pub(crate) needs: Needs,
}

/// What a provider's usage must state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Whatever it states.
    #[default]
    Anything,
    /// Tokens.
    Tokens,
    /// Time.
    Time,
}

/// The tariff of a request by this price.
///
/// # Errors
/// 400 that names the field which leaves the cost open.
pub(crate) fn of(media: &Media, price: &ModelPrice, model: &str) -> Result<Tariff, Refusal> {
    match media {
        Media::Images(images) => images_tariff(images, price, model),
        Media::Speech(speech) => speech_tariff(speech, price, model),
        Media::Transcript(transcript) => transcript_tariff(transcript, price, model),
    }
}

fn unpriced(model: &str, what: &str) -> Refusal {
    Refusal::bad("model", format!("The rate card states no {what} for `{model}`, so this request cannot be bounded."))
}

fn small(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn text_bound(bytes: usize, price: &ModelPrice) -> u32 {
    let bound = small(bytes).saturating_add(TEMPLATE_TOKENS);
    price.context_tokens.map_or(bound, |window| bound.min(window))
}

fn images_tariff(images: &Images, price: &ModelPrice, model: &str) -> Result<Tariff, Refusal> {
    let each = match price.image(images.size.as_deref(), images.quality.as_deref()) {
        Some(each) => each,
        None if price.images.is_empty() && price.per_request.is_some() => Default::default(),
        None if price.images.is_empty() => return Err(unpriced(model, "price of an image")),
        None => {
            let (name, asked) = match price.image(None, images.quality.as_deref()) {
                None => ("quality", &images.quality),
                Some(_) => ("size", &images.size),
            };
            let asked: String = asked.iter().flat_map(|asked| asked.chars()).take(40).collect();
            let message = format!("The rate card states no price of an image of the {name} `{asked}` by `{model}`.");
            return Err(Refusal::bad(name, message));
        }
    };
    let by_token = price.base.input.is_some();
    let answered = price.base.output.or(price.base.output_image_tokens).is_some();
    let tokens = match (answered, each.tokens, price.max_output_tokens) {
        (false, ..) => 0,
        (true, 0, Some(most)) => most,
        (true, 0, None) => return Err(unpriced(model, "tokens of an image (`images` or `max_output_tokens`)")),
        (true, tokens, _) => tokens.saturating_add(images.partial * PARTIAL_TOKENS),
    };
    let given = match (by_token && images.inputs > 0, price.image_tokens.or(price.context_tokens)) {
        (false, _) => 0,
        (true, Some(tokens)) => tokens.saturating_mul(images.inputs),
        (true, None) => return Err(unpriced(model, "tokens of an image of a prompt (`image_tokens`)")),
    };
    let text = if by_token { text_bound(images.prompt_bytes, price) } else { 0 };
    let bound = Bound {
        input_tokens: text.saturating_add(given),
        output_tokens: tokens.saturating_mul(images.count),
        input_images: images.inputs,
        output_images: images.count,
        ..Bound::default()
    };
    let input = if by_token { small(images.prompt_bytes.div_ceil(BYTES_PER_TOKEN)) } else { 0 };
    Ok(Tariff {
        bound,
        image_price: each.price,
        request: Usage { input, input_image_tokens: given, input_images: images.inputs, ..Usage::default() },
        image: Usage { output_image_tokens: tokens, output_images: 1, ..Usage::default() },
        exact: !by_token && !answered,
        needs: if by_token { Needs::Tokens } else { Needs::Anything },
        ..Tariff::default()
    })
}

fn speech_tariff(speech: &Speech, price: &ModelPrice, model: &str) -> Result<Tariff, Refusal> {
    let base = &price.base;
    let (by_token, by_character) = (base.input.is_some(), base.input_characters.is_some());
    let (spoken, by_time) = (base.output_audio.or(base.output).is_some(), base.output_second.is_some());
    if !(spoken || by_time || by_character || price.per_request.is_some()) {
        return Err(unpriced(model, "price of speech"));
    }
    let slow = if speech.slow { SLOWEST } else { 1 };
    let most_ms = speech.characters.saturating_mul(CHARACTER_MS).saturating_add(SILENCE_MS).saturating_mul(slow);
    let per_minute = match (spoken, price.audio_tokens_per_minute) {
        (false, _) => 0,
        (true, Some(tokens)) => tokens,
        (true, None) => return Err(unpriced(model, "tokens of a minute of audio (`audio_tokens_per_minute`)")),
    };
    let mut tariff = Tariff {
        audio_tokens_per_minute: per_minute,
        by_time,
        exact: !(by_token || spoken || by_time),
        needs: if by_token { Needs::Tokens } else { Needs::Anything },
        ..Tariff::default()
    };
    tariff.audio = tariff.spoken(most_ms);
    if let Some(most) = price.max_output_tokens.filter(|_| spoken) {
        tariff.audio.output_audio = tariff.audio.output_audio.min(most);
    }
    let characters = if by_character { speech.characters } else { 0 };
    let text = if by_token { text_bound(speech.text_bytes, price) } else { 0 };
    let input = if by_token { small(speech.text_bytes.div_ceil(BYTES_PER_TOKEN)) } else { 0 };
    tariff.request = Usage { input, input_characters: characters, ..Usage::default() };
    tariff.bound = Bound {
        input_tokens: text,
        output_tokens: tariff.audio.output_audio,
        input_characters: characters,
        output_ms: tariff.audio.output_ms,
        ..Bound::default()
    };
    Ok(tariff)
}

fn transcript_tariff(transcript: &Transcript, price: &ModelPrice, model: &str) -> Result<Tariff, Refusal> {
    let base = &price.base;
    let (by_token, by_time) = (base.input.is_some(), base.input_second.is_some());
    if !(by_token || by_time || price.per_request.is_some()) {
        return Err(unpriced(model, "price of a transcript"));
    }
    let longest = price.max_input_seconds.map_or(u32::MAX, |seconds| seconds.saturating_mul(1_000));
    let most_ms = transcript.length.most_ms.min(longest);
    let heard_ms = transcript.length.measured_ms.map_or(most_ms, |ms| ms.min(longest));
    let mut bound = Bound { input_ms: if by_time { most_ms } else { 0 }, ..Bound::default() };
    let mut request = Usage { input_ms: if by_time { heard_ms } else { 0 }, ..Usage::default() };
    if by_token {
        // What is heard in parts is heard with the prompt each time, and each part has an answer of its own: a text has no more
        // tokens than the audio that it was heard in.
        let parts = if transcript.chunked { 2 } else { 1 };
        let heard = most_ms
            .div_ceil(MS_PER_TOKEN)
            .saturating_add(small(transcript.prompt_bytes))
            .saturating_add(TEMPLATE_TOKENS);
        bound.input_tokens = price.context_tokens.unwrap_or(heard).saturating_mul(parts);
        let answer = price.max_output_tokens.ok_or_else(|| unpriced(model, "`max_output_tokens`"))?;
        bound.output_tokens = if transcript.chunked { answer.max(bound.input_tokens) } else { answer };
        request.input = small(transcript.prompt_bytes.div_ceil(BYTES_PER_TOKEN));
        request.input_audio = (heard_ms / MS_PER_TOKEN / 2).min(bound.input_tokens);
    }
    let needs = match (by_token, by_time) {
        (true, false) => Needs::Tokens,
        (false, true) => Needs::Time,
        (true, true) | (false, false) => Needs::Anything,
    };
    Ok(Tariff { bound, request, needs, ..Tariff::default() })
}

impl Tariff {
    /// What so much of the answer's audio counts as.
    pub(crate) fn spoken(&self, ms: u32) -> Usage {
        let tokens = (u64::from(ms) * u64::from(self.audio_tokens_per_minute)).div_ceil(60_000);
        let output_audio = u32::try_from(tokens).unwrap_or(u32::MAX);
        Usage { output_audio, output_ms: if self.by_time { ms } else { 0 }, ..Usage::default() }
    }

    /// Whether a usage states what is billed.
    pub(crate) fn is_stated(&self, usage: &Usage) -> bool {
        match self.needs {
            Needs::Anything => true,
            Needs::Tokens => usage.total_tokens() > 0,
            Needs::Time => usage.input_ms > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sound::Length;
    use super::*;

    fn price(json: &str) -> ModelPrice {
        let price: ModelPrice = serde_json::from_str(json).unwrap();
        price.check().unwrap();
        price
    }

    fn images(count: u32) -> Images {
        Images { count, size: None, quality: None, partial: 0, prompt_bytes: 100, inputs: 0 }
    }

    fn fault(media: &Media, price: &ModelPrice) -> String {
        of(media, price, "m").unwrap_err().told().param.unwrap().into_owned()
    }

    const PAINTER: &str = r#"{"input":"5","output":"40","input_image_tokens":"10","image_tokens":581,"images":[
        {"size":"s","quality":"low","tokens":272},{"size":"s","quality":"high","tokens":4160},{"size":"l","quality":"high","tokens":6240}]}"#;

    #[test]
    fn an_image_in_tokens_is_bounded_by_its_tariff_its_drafts_and_what_is_given() {
        let painter = price(PAINTER);
        let bound = |images: Images| of(&Media::Images(images), &painter, "m").unwrap().bound;
        assert_eq!(bound(images(2)), Bound { output_images: 2, ..Bound::tokens(164, 12_480) });
        let small = Images { size: Some("s".into()), quality: Some("low".into()), partial: 3, inputs: 2, ..images(1) };
        assert_eq!(
            bound(small.clone()),
            Bound { output_images: 1, input_images: 2, ..Bound::tokens(164 + 1_162, 572) }
        );
        let other = Images { size: Some("xl".into()), ..small.clone() };
        assert_eq!(fault(&Media::Images(other), &painter), "size");
        let other = Images { quality: Some("hd".into()), ..small };
        assert_eq!(fault(&Media::Images(other), &painter), "quality");
        let blind = price(r#"{"input":"5","output":"40","images":[{"tokens":5}]}"#);
        assert_eq!(fault(&Media::Images(Images { inputs: 1, ..images(1) }), &blind), "model");
        assert_eq!(fault(&Media::Images(images(1)), &price(r#"{"input":"5","output":"40"}"#)), "model");
        let open = price(r#"{"input":"5","output":"40","output_image":"0.01"}"#);
        assert_eq!(fault(&Media::Images(images(1)), &open), "model", "tokens beside the piece must be bounded too");
    }

    #[test]
    fn an_image_by_the_piece_costs_its_price_and_nothing_else() {
        let painter = price(r#"{"images":[{"size":"s","price":"0.04"},{"size":"l","price":"0.08"}]}"#);
        let tariff = of(&Media::Images(Images { size: Some("l".into()), ..images(3) }), &painter, "m").unwrap();
        assert_eq!(tariff.bound, Bound { output_images: 3, ..Bound::default() });
        assert!(tariff.exact && tariff.image_price == Some(NanoUsd(80_000_000)));
    }

    #[test]
    fn speech_is_bounded_by_its_characters_and_exact_where_they_are_what_is_billed() {
        let speech = |slow| Media::Speech(Speech { characters: 50, text_bytes: 80, slow, bare: false });
        let tariff = of(&speech(false), &price(r#"{"input_characters":"15"}"#), "m").unwrap();
        assert_eq!(tariff.bound, Bound { input_characters: 50, ..Bound::default() });
        assert!(tariff.exact && tariff.request.input_characters == 50);
        let voice = price(r#"{"input":"0.6","output_audio":"12","audio_tokens_per_minute":1250}"#);
        let tariff = of(&speech(false), &voice, "m").unwrap();
        assert_eq!(tariff.bound, Bound::tokens(144, 1_250));
        assert!(!tariff.exact && tariff.spoken(60_000).output_audio == 1_250 && tariff.spoken(1).output_audio == 1);
        assert_eq!(of(&speech(true), &voice, "m").unwrap().bound.output_tokens, 5_000);
        let timed = of(&speech(false), &price(r#"{"output_second":"0.001"}"#), "m").unwrap();
        assert_eq!((timed.bound.output_ms, timed.bound.output_tokens), (60_000, 0));
        for silent in [r#"{"input":"1"}"#, r#"{"input_second":"1"}"#, r#"{"input":"1","output":"2"}"#] {
            assert_eq!(fault(&speech(false), &price(silent)), "model", "{silent}");
        }
    }

    #[test]
    fn a_recording_is_bounded_by_time_or_by_the_context_window() {
        let length = Length { measured_ms: Some(9_000), most_ms: 60_000 };
        let heard = |chunked| Media::Transcript(Transcript { length, prompt_bytes: 40, chunked });
        let whisper = of(&heard(false), &price(r#"{"input_second":"0.0001"}"#), "m").unwrap();
        assert_eq!((whisper.bound.input_ms, whisper.request.input_ms, whisper.needs), (60_000, 9_000, Needs::Time));
        let capped = of(&heard(false), &price(r#"{"input_second":"0.0001","max_input_seconds":30}"#), "m").unwrap();
        assert_eq!(capped.bound.input_ms, 30_000);
        let words = price(r#"{"input":"2.5","output":"10","context_tokens":16000,"max_output_tokens":2000}"#);
        assert_eq!(of(&heard(false), &words, "m").unwrap().bound, Bound::tokens(16_000, 2_000));
        assert_eq!(of(&heard(true), &words, "m").unwrap().bound, Bound::tokens(32_000, 32_000));
        let open = price(r#"{"input":"2.5","output":"10","max_output_tokens":2000}"#);
        assert_eq!(of(&heard(false), &open, "m").unwrap().bound.input_tokens, 1_200 + 40 + 64);
        for unsaid in [r#"{"input":"2.5","output":"10"}"#, r#"{"output_image":"1"}"#] {
            assert_eq!(fault(&heard(false), &price(unsaid)), "model", "{unsaid}");
        }
    }

    #[test]
    fn a_usage_of_another_kind_than_the_price_is_no_bill() {
        let timed = Tariff { needs: Needs::Time, ..Tariff::default() };
        let counted = Tariff { needs: Needs::Tokens, ..Tariff::default() };
        let (tokens, time) = (Usage { input: 1, ..Usage::default() }, Usage { input_ms: 1, ..Usage::default() });
        assert!(timed.is_stated(&time) && !timed.is_stated(&tokens));
        assert!(counted.is_stated(&tokens) && !counted.is_stated(&time));
    }
}
