//! Sums over the requests of a batch: what they can cost at most, and what they cost. Each is rounded once, so that the one is
//! never below the other.

use crate::money::NanoUsd;
use crate::price::{Bound, ModelPrice, dimension};
use crate::usage::{ServiceTier, Usage};

/// The tier that a batch is served at.
const TIER: ServiceTier = ServiceTier::Batch;

/// The most that the requests of a batch can cost and use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchBound {
    product: i128,
    fees: NanoUsd,
    tokens: u64,
}

impl BatchBound {
    /// Adds a request, at the prices of a batch; at the ordinary ones where none are listed.
    pub fn add(&mut self, price: &ModelPrice, bound: Bound) {
        let (base, tiers) = price.at(TIER);
        let long = tiers.iter().filter(|tier| u64::from(bound.input_tokens) > tier.context_over);
        let sets: Vec<_> = std::iter::once(base).chain(long.map(|tier| &tier.prices)).collect();
        self.product = self.product.saturating_add(dimension::dearest_product(&sets, bound));
        self.fees = self.fees.saturating_add(price.per_request.unwrap_or_default());
        self.tokens = self.tokens.saturating_add(bound.total_tokens());
    }

    /// The most that all of it can cost.
    #[must_use]
    pub fn usd(&self) -> NanoUsd {
        NanoUsd::from_product(self.product).saturating_add(self.fees)
    }

    /// The most tokens that all of it can use.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }
}

/// What the requests of a batch used and cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchTally {
    product: i128,
    fees: NanoUsd,
    usage: Usage,
}

impl BatchTally {
    /// Adds a request; false where a count would be more than a row can hold, and nothing was added.
    #[must_use]
    pub fn add(&mut self, price: &ModelPrice, usage: &Usage) -> bool {
        let mut sums = self.usage.counts();
        for (sum, count) in sums.iter_mut().zip(usage.counts()) {
            let Some(larger) = sum.checked_add(count) else { return false };
            *sum = larger;
        }
        let (base, tiers) = price.at(TIER);
        let prompt = usage.prompt_tokens();
        let long = tiers.iter().filter(|tier| prompt > tier.context_over).max_by_key(|tier| tier.context_over);
        self.product = self.product.saturating_add(long.map_or(base, |tier| &tier.prices).product(usage));
        self.fees = self.fees.saturating_add(price.per_request.unwrap_or_default());
        self.usage = Usage::from_counts(sums);
        true
    }

    /// What it cost, rounded once, half up.
    #[must_use]
    pub fn cost(&self) -> NanoUsd {
        NanoUsd::from_product(self.product).saturating_add(self.fees)
    }

    /// What it used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::{Prices, ServicePrices, Tier};
    use proptest::prelude::*;

    fn price(batch: Option<i64>) -> ModelPrice {
        let prices = |input: i64| Prices {
            input: Some(NanoUsd(input)),
            output: Some(NanoUsd(3 * input + 1)),
            cache_read: Some(NanoUsd(input / 3)),
            ..Prices::default()
        };
        let service = |input: i64| ServicePrices {
            base: prices(input),
            tiers: vec![Tier { context_over: 500, prices: prices(2 * input) }],
        };
        ModelPrice {
            base: prices(1_000_003),
            batch: batch.map(|input| Box::new(service(input))),
            per_request: Some(NanoUsd(7)),
            ..ModelPrice::default()
        }
    }

    #[test]
    fn a_batch_costs_its_own_prices_and_full_ones_where_none_are_listed() {
        let usage = Usage { input: 100, output: 10, ..Usage::default() };
        for (batch, each) in [(Some(500_000), 100 * 500_000 + 10 * 1_500_001), (None, 100 * 1_000_003 + 10 * 3_000_010)]
        {
            let (mut tally, mut bound) = (BatchTally::default(), BatchBound::default());
            for _ in 0..3 {
                assert!(tally.add(&price(batch), &usage));
                bound.add(&price(batch), Bound::tokens(100, 10));
            }
            let exact = NanoUsd::from_product(3 * i128::from(each)).saturating_add(NanoUsd(21));
            assert_eq!((tally.cost(), bound.usd(), bound.tokens()), (exact, exact, 330));
            assert_eq!(tally.usage(), Usage { input: 300, output: 30, ..Usage::default() });
        }
    }

    #[test]
    fn a_long_request_is_priced_by_its_own_length_alone() {
        let (mut tally, price) = (BatchTally::default(), price(Some(1_000_000)));
        for input in [400, 400, 600] {
            assert!(tally.add(&price, &Usage { input, ..Usage::default() }));
        }
        assert_eq!(tally.cost(), NanoUsd(400 + 400 + 2 * 600 + 21));
    }

    #[test]
    fn what_a_row_cannot_hold_is_not_added() {
        let (mut tally, price) = (BatchTally::default(), price(None));
        assert!(tally.add(&price, &Usage { input: u32::MAX, ..Usage::default() }));
        let before = tally;
        assert!(!tally.add(&price, &Usage { input: 1, output: 1, ..Usage::default() }));
        assert_eq!(tally, before);
    }

    proptest! {
        #[test]
        fn no_batch_within_its_bounds_costs_more_than_was_reserved(
            lines in proptest::collection::vec((0_u32..2_000, 0_u32..2_000, 0_u32..2_000, 0_u32..2_000), 0..20),
            batch in proptest::option::of(1_i64..9_999_999)
        ) {
            let price = price(batch);
            let (mut tally, mut bound) = (BatchTally::default(), BatchBound::default());
            for (input, cache_read, output, spare) in lines {
                let usage = Usage { input, cache_read, output, ..Usage::default() };
                prop_assert!(tally.add(&price, &usage));
                bound.add(&price, Bound::tokens(input + cache_read, output + spare));
            }
            prop_assert!(tally.cost() <= bound.usd());
            prop_assert!(tally.usage().total_tokens() <= bound.tokens());
        }
    }
}
