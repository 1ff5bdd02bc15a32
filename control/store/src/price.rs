//! What a model costs: prices, context tiers, service tiers, and the two sums the ledger needs, the exact cost and its upper
//! bound.
//!
//! - `dimension`: a price for each thing that a provider counts
//! - `check`: which prices are refused
//! - `image`: what each image of an answer counts as, by size and quality
//! - `tally`: sums over the requests of a batch

mod check;
mod dimension;
mod image;
mod tally;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::money::NanoUsd;
use crate::usage::{ServiceTier, Usage};

pub use dimension::Prices;
pub use image::{ImageCount, ImageTariff};
pub use tally::{BatchBound, BatchTally};

/// Prices of one model as exact decimals, in USD per million tokens where [`Prices`] says nothing else, and its limits.
///
/// Absent prices fall back: `cache_read` and `cache_write` to `input`, `cache_write_1h` to `cache_write`, `reasoning`,
/// `output_audio` and `output_image_tokens` to `output`, `input_audio` and `input_image_tokens` to `input`; what else is absent
/// costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelPrice {
    /// Prices up to the first tier's bound.
    #[serde(flatten)]
    pub base: Prices,
    /// Charged once for each attempt that the provider answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_request: Option<NanoUsd>,
    /// Prices for long prompts; the tier with the highest bound below the prompt's size prices the whole request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
    /// Prices in a batch; absent, as for the other service tiers: the ordinary ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Box<ServicePrices>>,
    /// Prices of the slower and cheaper service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flex: Option<Box<ServicePrices>>,
    /// Prices of the faster and dearer service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Box<ServicePrices>>,
    /// The model's context window in tokens, where known: no prompt can be billed for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
    /// The most tokens that one answer can have, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// The byte-pair encoding, where it is public: lets a prompt be counted exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Tokenizer>,
    /// The most tokens that one image of a prompt is billed as; absent: the context window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tokens: Option<u32>,
    /// What each image of an answer counts as, by its size and quality; where there are any, other images are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageTariff>,
    /// How many tokens a minute of the answer's audio is billed as, where it is billed by tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_tokens_per_minute: Option<u32>,
    /// The longest audio, in seconds, that the model takes in one request, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_input_seconds: Option<u32>,
}

/// The public byte-pair encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tokenizer {
    /// GPT-3.5 and GPT-4.
    Cl100kBase,
    /// GPT-4o and later.
    O200kBase,
}

/// Prices that apply to the whole request when its prompt is longer than `context_over` tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// The bound, exclusive, in prompt tokens.
    pub context_over: u64,
    /// The tier's prices.
    #[serde(flatten)]
    pub prices: Prices,
}

/// Prices of one service tier; they stand in for all the ordinary ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServicePrices {
    /// Prices up to the first context tier's bound.
    #[serde(flatten)]
    pub base: Prices,
    /// See [`ModelPrice::tiers`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
}

/// An upper bound of what an attempt may consume, known before it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// At most this many prompt tokens, of any bucket.
    pub input_tokens: u32,
    /// At most this many answer tokens over all choices, of any bucket.
    pub output_tokens: u32,
    /// At most this many images in the prompt.
    pub input_images: u32,
    /// At most this many images in the answer.
    pub output_images: u32,
    /// At most this many characters in the prompt, where they are billed.
    pub input_characters: u32,
    /// At most this many characters in the answer, where they are billed.
    pub output_characters: u32,
    /// At most this many milliseconds of audio or video in the prompt.
    pub input_ms: u32,
    /// At most this many milliseconds of audio or video in the answer.
    pub output_ms: u32,
}

impl Bound {
    /// Tokens alone.
    #[must_use]
    pub const fn tokens(input_tokens: u32, output_tokens: u32) -> Self {
        Self {
            input_tokens,
            output_tokens,
            input_images: 0,
            output_images: 0,
            input_characters: 0,
            output_characters: 0,
            input_ms: 0,
            output_ms: 0,
        }
    }

    /// Prompt and answer together.
    #[must_use]
    pub fn total_tokens(self) -> u64 {
        u64::from(self.input_tokens) + u64::from(self.output_tokens)
    }
}

impl ModelPrice {
    /// A model with one price for prompts and one for answers, and no known limits.
    #[must_use]
    pub fn flat(input: NanoUsd, output: NanoUsd) -> Self {
        let base = Prices { input: Some(input), output: Some(output), ..Prices::default() };
        Self { base, ..Self::default() }
    }

    /// What `usage` costs at `tier`, rounded once, half up. Includes the fee per request.
    #[must_use]
    pub fn cost(&self, usage: &Usage, tier: ServiceTier) -> NanoUsd {
        let prompt = usage.prompt_tokens();
        let (base, tiers) = self.at(tier);
        let long = tiers.iter().filter(|tier| prompt > tier.context_over).max_by_key(|tier| tier.context_over);
        let prices = long.map_or(base, |tier| &tier.prices);
        self.with_fee(prices.product(usage))
    }

    /// The most that an attempt within `bound` can cost at `tier` and at the ordinary one, which a provider may serve
    /// instead, whichever buckets and context tier its tokens land in.
    #[must_use]
    pub fn upper_bound(&self, bound: Bound, tier: ServiceTier) -> NanoUsd {
        self.with_fee(dimension::dearest_product(&self.reachable(bound, tier), bound))
    }

    /// How many answer tokens surely fit into `budget` at `tier` beside the rest of `bound`.
    #[must_use]
    pub fn affordable_output(&self, budget: NanoUsd, bound: Bound, tier: ServiceTier) -> u32 {
        let rest = Bound { output_tokens: 0, ..bound };
        let left = budget.saturating_sub(self.upper_bound(rest, tier));
        let price = dimension::dearest(&self.reachable(rest, tier), Prices::dearest_output).0;
        if left < NanoUsd::ZERO {
            return 0;
        }
        if price == 0 {
            return u32::MAX;
        }
        // One nano is kept back, so that rounding half up can't carry the sum over the budget.
        let product = i128::from((left.0 - 1).max(0)) * 1_000_000;
        u32::try_from(product / i128::from(price)).unwrap_or(u32::MAX)
    }

    /// Whether images of a prompt have a price of their own, at whatever level.
    #[must_use]
    pub fn bills_input_images(&self) -> bool {
        let services = [&self.batch, &self.flex, &self.priority].into_iter().flatten();
        let base = std::iter::once((&self.base, &self.tiers)).chain(services.map(|own| (&own.base, &own.tiers)));
        let mut sets =
            base.flat_map(|(base, tiers)| std::iter::once(base).chain(tiers.iter().map(|tier| &tier.prices)));
        sets.any(|prices| prices.input_image.is_some())
    }

    /// Whether `tier` has prices of its own.
    #[must_use]
    pub fn lists(&self, tier: ServiceTier) -> bool {
        self.service(tier).is_some()
    }

    /// A service tier's own prices.
    #[must_use]
    pub fn service(&self, tier: ServiceTier) -> Option<&ServicePrices> {
        match tier {
            ServiceTier::Standard => None,
            ServiceTier::Batch => self.batch.as_deref(),
            ServiceTier::Flex => self.flex.as_deref(),
            ServiceTier::Priority => self.priority.as_deref(),
        }
    }

    fn at(&self, tier: ServiceTier) -> (&Prices, &[Tier]) {
        self.service(tier).map_or((&self.base, &self.tiers), |own| (&own.base, &own.tiers))
    }

    /// Every set of prices that may price an attempt within `bound` that asked for `tier`.
    fn reachable(&self, bound: Bound, tier: ServiceTier) -> Vec<&Prices> {
        let mut sets = Vec::with_capacity(4);
        for tier in [Some(ServiceTier::Standard), Some(tier).filter(|tier| self.lists(*tier))].into_iter().flatten() {
            let (base, tiers) = self.at(tier);
            sets.push(base);
            let long = tiers.iter().filter(|tier| u64::from(bound.input_tokens) > tier.context_over);
            sets.extend(long.map(|tier| &tier.prices));
        }
        sets
    }

    fn with_fee(&self, product: i128) -> NanoUsd {
        NanoUsd::from_product(product).saturating_add(self.per_request.unwrap_or_default())
    }
}
