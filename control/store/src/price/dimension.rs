//! The prices of one level of service: one for each thing that a provider counts. Never rounds.

use serde::{Deserialize, Serialize};

use crate::money::NanoUsd;
use crate::price::Bound;
use crate::usage::Usage;

/// What one nano-dollar a piece is in nano-dollars a million, the unit of every product.
const PER_PIECE: i128 = 1_000_000;
/// What one nano-dollar a second is for a millisecond, in nano-dollars a million.
const PER_MS: i128 = 1_000;

/// Prices of what [`Usage`] counts: USD per million tokens or characters, USD for each image and each second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Prices {
    /// Uncached prompt tokens. Absent only where no token has a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<NanoUsd>,
    /// Answer tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<NanoUsd>,
    /// Prompt tokens from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<NanoUsd>,
    /// Prompt tokens written to the 5-minute cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<NanoUsd>,
    /// Prompt tokens written to the 1-hour cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<NanoUsd>,
    /// Reasoning tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<NanoUsd>,
    /// Audio tokens of the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_audio: Option<NanoUsd>,
    /// Audio tokens of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_audio: Option<NanoUsd>,
    /// Characters of the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_characters: Option<NanoUsd>,
    /// Characters of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_characters: Option<NanoUsd>,
    /// Each image of the prompt, beside the tokens that it may be counted as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_image: Option<NanoUsd>,
    /// Each image of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_image: Option<NanoUsd>,
    /// Each second of audio or video of the prompt; parts of a second count in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_second: Option<NanoUsd>,
    /// Each second of audio or video of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_second: Option<NanoUsd>,
    /// Image tokens of the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_image_tokens: Option<NanoUsd>,
    /// Image tokens of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_image_tokens: Option<NanoUsd>,
}

/// The prices of tokens that another price of tokens stands in for.
const FALL_BACK: [&str; 8] = [
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "input_audio",
    "output_audio",
    "input_image_tokens",
    "output_image_tokens",
];

/// One price of [`Prices`], or the dearest of several.
type Price = fn(&Prices) -> NanoUsd;

impl Prices {
    fn input(&self) -> NanoUsd {
        self.input.unwrap_or_default()
    }

    fn output(&self) -> NanoUsd {
        self.output.unwrap_or_default()
    }

    fn cache_write(&self) -> NanoUsd {
        self.cache_write.unwrap_or_else(|| self.input())
    }

    /// What `usage` costs, in nano-dollars times a million.
    pub(super) fn product(&self, usage: &Usage) -> i128 {
        let (input, output) = (self.input(), self.output());
        let tokens: i128 = [
            (usage.input, input),
            (usage.cache_read, self.cache_read.unwrap_or(input)),
            (usage.cache_write, self.cache_write()),
            (usage.cache_write_1h, self.cache_write_1h.unwrap_or_else(|| self.cache_write())),
            (usage.input_audio, self.input_audio.unwrap_or(input)),
            (usage.input_image_tokens, self.input_image_tokens.unwrap_or(input)),
            (usage.output, output),
            (usage.reasoning, self.reasoning.unwrap_or(output)),
            (usage.output_audio, self.output_audio.unwrap_or(output)),
            (usage.output_image_tokens, self.output_image_tokens.unwrap_or(output)),
        ]
        .iter()
        .map(|(tokens, price)| i128::from(*tokens) * i128::from(price.0))
        .sum();
        let pieces = Bound {
            input_images: usage.input_images,
            output_images: usage.output_images,
            input_characters: usage.input_characters,
            output_characters: usage.output_characters,
            input_ms: usage.input_ms,
            output_ms: usage.output_ms,
            ..Bound::default()
        };
        tokens + dearest_product(&[self], pieces)
    }

    /// The dearest price that a prompt token may be billed at.
    fn dearest_input(&self) -> NanoUsd {
        [self.cache_read, self.cache_write, self.cache_write_1h, self.input_audio, self.input_image_tokens]
            .into_iter()
            .flatten()
            .fold(self.input(), NanoUsd::max)
    }

    /// The dearest price that an answer token may be billed at.
    pub(super) fn dearest_output(&self) -> NanoUsd {
        [self.reasoning, self.output_audio, self.output_image_tokens]
            .into_iter()
            .flatten()
            .fold(self.output(), NanoUsd::max)
    }

    /// Every price with its name, absent ones too.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Option<NanoUsd>); 16] {
        [
            ("input", self.input),
            ("output", self.output),
            ("cache_read", self.cache_read),
            ("cache_write", self.cache_write),
            ("cache_write_1h", self.cache_write_1h),
            ("reasoning", self.reasoning),
            ("input_audio", self.input_audio),
            ("output_audio", self.output_audio),
            ("input_characters", self.input_characters),
            ("output_characters", self.output_characters),
            ("input_image", self.input_image),
            ("output_image", self.output_image),
            ("input_second", self.input_second),
            ("output_second", self.output_second),
            ("input_image_tokens", self.input_image_tokens),
            ("output_image_tokens", self.output_image_tokens),
        ]
    }

    /// The prices that nothing else stands in for: what leaves one out makes that thing free.
    pub(super) fn own(&self) -> impl Iterator<Item = (&'static str, Option<NanoUsd>)> {
        self.named().into_iter().filter(|(name, _)| !FALL_BACK.contains(name))
    }

    /// Whether any price of tokens is set beside that of the prompt.
    pub(super) fn prices_tokens(&self) -> bool {
        self.output.is_some() || self.named().iter().any(|(name, price)| FALL_BACK.contains(name) && price.is_some())
    }
}

/// The most that `bound` can cost under whichever of `sets`, in nano-dollars times a million.
pub(super) fn dearest_product(sets: &[&Prices], bound: Bound) -> i128 {
    let dimensions: [(u32, Price, i128); 8] = [
        (bound.input_tokens, Prices::dearest_input, 1),
        (bound.output_tokens, Prices::dearest_output, 1),
        (bound.input_characters, |prices| prices.input_characters.unwrap_or_default(), 1),
        (bound.output_characters, |prices| prices.output_characters.unwrap_or_default(), 1),
        (bound.input_images, |prices| prices.input_image.unwrap_or_default(), PER_PIECE),
        (bound.output_images, |prices| prices.output_image.unwrap_or_default(), PER_PIECE),
        (bound.input_ms, |prices| prices.input_second.unwrap_or_default(), PER_MS),
        (bound.output_ms, |prices| prices.output_second.unwrap_or_default(), PER_MS),
    ];
    dimensions.iter().map(|&(count, of, unit)| i128::from(count) * i128::from(dearest(sets, of).0) * unit).sum()
}

/// The dearest of one price over `sets`.
pub(super) fn dearest(sets: &[&Prices], of: Price) -> NanoUsd {
    sets.iter().map(|prices| of(prices)).fold(NanoUsd::ZERO, NanoUsd::max)
}
