//! What a model costs: prices, context tiers, and the two sums the ledger needs, the exact cost and its upper bound.

use serde::{Deserialize, Serialize};

use crate::money::NanoUsd;
use crate::usage::{ServiceTier, Usage};

/// Prices of one model, in USD per million tokens as exact decimals, and its limits.
///
/// Absent prices fall back: `cache_read` and `cache_write` to `input`, `cache_write_1h` to `cache_write`,
/// `reasoning` and `output_audio` to `output`, `input_audio` to `input`; an absent `output` costs nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// The public byte-pair encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tokenizer {
    /// GPT-3.5 and GPT-4.
    Cl100kBase,
    /// GPT-4o and later.
    O200kBase,
}

/// USD per million tokens of each bucket of [`Usage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    /// Uncached prompt tokens.
    pub input: NanoUsd,
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
}

/// Prices that apply to the whole request when its prompt is longer than `context_over` tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    /// The bound, exclusive, in prompt tokens.
    pub context_over: u64,
    /// The tier's prices.
    #[serde(flatten)]
    pub prices: Prices,
}

/// An upper bound of what an attempt may consume, known before it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// At most this many prompt tokens, of any bucket.
    pub input_tokens: u32,
    /// At most this many answer tokens over all choices, of any bucket.
    pub output_tokens: u32,
}

impl Bound {
    /// Prompt and answer together.
    #[must_use]
    pub fn total_tokens(self) -> u64 {
        u64::from(self.input_tokens) + u64::from(self.output_tokens)
    }
}

impl Prices {
    fn output(&self) -> NanoUsd {
        self.output.unwrap_or_default()
    }

    fn cache_write(&self) -> NanoUsd {
        self.cache_write.unwrap_or(self.input)
    }

    fn cost(&self, usage: &Usage) -> i128 {
        let output = self.output();
        [
            (usage.input, self.input),
            (usage.cache_read, self.cache_read.unwrap_or(self.input)),
            (usage.cache_write, self.cache_write()),
            (usage.cache_write_1h, self.cache_write_1h.unwrap_or_else(|| self.cache_write())),
            (usage.input_audio, self.input_audio.unwrap_or(self.input)),
            (usage.output, output),
            (usage.reasoning, self.reasoning.unwrap_or(output)),
            (usage.output_audio, self.output_audio.unwrap_or(output)),
        ]
        .iter()
        .map(|(tokens, price)| i128::from(*tokens) * i128::from(price.0))
        .sum()
    }

    /// The dearest price that a prompt token may be billed at.
    fn dearest_input(&self) -> NanoUsd {
        [self.cache_read, self.cache_write, self.cache_write_1h, self.input_audio]
            .into_iter()
            .flatten()
            .fold(self.input, NanoUsd::max)
    }

    /// The dearest price that an answer token may be billed at.
    fn dearest_output(&self) -> NanoUsd {
        [self.reasoning, self.output_audio].into_iter().flatten().fold(self.output(), NanoUsd::max)
    }

    fn all(&self) -> impl Iterator<Item = NanoUsd> {
        let optional = [
            self.output,
            self.cache_read,
            self.cache_write,
            self.cache_write_1h,
            self.reasoning,
            self.input_audio,
            self.output_audio,
        ];
        std::iter::once(self.input).chain(optional.into_iter().flatten())
    }
}

impl ModelPrice {
    /// A model with one price for prompts and one for answers, and no known limits.
    #[must_use]
    pub fn flat(input: NanoUsd, output: NanoUsd) -> Self {
        let base = Prices {
            input,
            output: Some(output),
            cache_read: None,
            cache_write: None,
            cache_write_1h: None,
            reasoning: None,
            input_audio: None,
            output_audio: None,
        };
        Self {
            base,
            per_request: None,
            tiers: Vec::new(),
            context_tokens: None,
            max_output_tokens: None,
            tokenizer: None,
            image_tokens: None,
        }
    }

    /// What `usage` costs, rounded once, half up. Includes the fee per request.
    #[must_use]
    pub fn cost(&self, usage: &Usage, _tier: ServiceTier) -> NanoUsd {
        let prompt = usage.prompt_tokens();
        let tier = self.tiers.iter().filter(|tier| prompt > tier.context_over).max_by_key(|tier| tier.context_over);
        let prices = tier.map_or(&self.base, |tier| &tier.prices);
        self.with_fee(prices.cost(usage))
    }

    /// The most that an attempt within `bound` can cost, whichever buckets and tier its tokens land in.
    #[must_use]
    pub fn upper_bound(&self, bound: Bound, _tier: ServiceTier) -> NanoUsd {
        self.with_fee(
            i128::from(bound.input_tokens) * i128::from(self.dearest(bound, Prices::dearest_input))
                + i128::from(bound.output_tokens) * i128::from(self.dearest(bound, Prices::dearest_output)),
        )
    }

    /// How many answer tokens surely fit into `budget` beside `input_tokens` of prompt.
    #[must_use]
    pub fn affordable_output(&self, budget: NanoUsd, input_tokens: u32) -> u32 {
        let bound = Bound { input_tokens, output_tokens: 0 };
        let left = budget.saturating_sub(self.upper_bound(bound, ServiceTier::Standard));
        let price = self.dearest(bound, Prices::dearest_output);
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

    /// Refuses prices that can't be charged.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn check(&self) -> Result<(), String> {
        let tiers = self.tiers.iter().flat_map(|tier| tier.prices.all());
        if self.base.all().chain(tiers).chain(self.per_request).any(|price| price < NanoUsd::ZERO) {
            return Err("a price must not be negative".to_owned());
        }
        Ok(())
    }

    fn with_fee(&self, product: i128) -> NanoUsd {
        NanoUsd::from_product(product).saturating_add(self.per_request.unwrap_or_default())
    }

    fn dearest(&self, bound: Bound, of: fn(&Prices) -> NanoUsd) -> i64 {
        let tiers = self
            .tiers
            .iter()
            .filter(|tier| u64::from(bound.input_tokens) > tier.context_over)
            .map(|tier| of(&tier.prices));
        tiers.fold(of(&self.base), NanoUsd::max).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn price(json: &str) -> ModelPrice {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn m_11_every_bucket_has_its_own_rate_goldens() {
        let claude = price(r#"{"input":"3","output":"15","cache_read":"0.3","cache_write":"3.75"}"#);
        let usage = Usage { input: 3, cache_write: 12_304, output: 550, ..Usage::default() };
        assert_eq!(claude.cost(&usage, ServiceTier::Standard).to_string(), "0.054399000");

        let glm = price(r#"{"input":"1.4","output":"4.4","cache_read":"0.26"}"#);
        let usage = Usage { input: 1, cache_read: 27_146, output: 351, ..Usage::default() };
        assert_eq!(glm.cost(&usage, ServiceTier::Standard).to_string(), "0.008603760");
        let usage = Usage { input: 44_341 - 41_518, cache_read: 41_518, ..Usage::default() };
        assert_eq!(glm.cost(&usage, ServiceTier::Standard).to_string(), "0.014746880");
    }

    #[test]
    fn a_tier_prices_the_whole_request() {
        let gemini =
            price(r#"{"input":"1.25","output":"10","tiers":[{"context_over":200000,"input":"2.5","output":"15"}]}"#);
        assert_eq!(
            gemini.cost(&Usage { input: 200_000, output: 10, ..Usage::default() }, ServiceTier::Standard),
            NanoUsd(250_100_000)
        );
        assert_eq!(
            gemini.cost(&Usage { input: 200_001, output: 10, ..Usage::default() }, ServiceTier::Standard),
            NanoUsd(500_152_500)
        );
    }

    #[test]
    fn an_unknown_field_or_a_float_is_refused() {
        assert!(serde_json::from_str::<ModelPrice>(r#"{"input":"1","imput":"2"}"#).is_err());
        assert!(serde_json::from_str::<ModelPrice>(r#"{"input":1.5}"#).is_err());
        assert!(serde_json::from_str::<ModelPrice>(r#"{"output":"1"}"#).is_err());
        assert!(price(r#"{"input":"-1"}"#).check().is_err());
    }

    fn any_price() -> impl Strategy<Value = ModelPrice> {
        let nano = || (0..200_000_000_000_i64).prop_map(NanoUsd);
        let maybe = || proptest::option::of((0..200_000_000_000_i64).prop_map(NanoUsd));
        let prices = || {
            (nano(), maybe(), maybe(), maybe(), maybe(), maybe(), maybe(), maybe()).prop_map(
                |(input, output, cache_read, cache_write, cache_write_1h, reasoning, input_audio, output_audio)| {
                    Prices {
                        input,
                        output,
                        cache_read,
                        cache_write,
                        cache_write_1h,
                        reasoning,
                        input_audio,
                        output_audio,
                    }
                },
            )
        };
        let tiers = proptest::collection::vec(
            (0..300_000_u64, prices()).prop_map(|(context_over, prices)| Tier { context_over, prices }),
            0..3,
        );
        (prices(), tiers, maybe()).prop_map(|(base, tiers, per_request)| ModelPrice {
            base,
            tiers,
            per_request,
            ..ModelPrice::flat(NanoUsd(0), NanoUsd(0))
        })
    }

    proptest! {
        #[test]
        fn the_cost_never_passes_the_upper_bound(
            price in any_price(),
            n in proptest::array::uniform8(0..100_000_u32),
            (more_in, more_out) in (0..1000_u32, 0..1000_u32),
        ) {
            let usage = Usage {
                input: n[0], cache_read: n[1], cache_write: n[2], cache_write_1h: n[3], input_audio: n[4],
                output: n[5], reasoning: n[6], output_audio: n[7], ..Usage::default()
            };
            let bound = Bound {
                input_tokens: u32::try_from(usage.prompt_tokens()).unwrap() + more_in,
                output_tokens: u32::try_from(usage.completion_tokens()).unwrap() + more_out,
            };
            prop_assert!(price.cost(&usage, ServiceTier::Standard) <= price.upper_bound(bound, ServiceTier::Standard));
        }

        #[test]
        fn affordable_output_fits_the_budget(price in any_price(), input_tokens in 0..400_000_u32, budget in 0..2_000_000_000_000_i64) {
            let affordable = price.affordable_output(NanoUsd(budget), input_tokens);
            if affordable > 0 && affordable < u32::MAX {
                let bound = Bound { input_tokens, output_tokens: affordable };
                prop_assert!(price.upper_bound(bound, ServiceTier::Standard) <= NanoUsd(budget));
            }
        }
    }
}
