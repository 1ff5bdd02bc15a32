//! The prices of one model by service tier and context tier, while they are gathered; and how they become one price.

use std::collections::{BTreeMap, BTreeSet};

use openclawmu_store::{ModelPrice, NanoUsd, Prices, ServicePrices, ServiceTier, Tier};

use crate::rate_import::field::{SLOTS, Slot};

/// A service tier, and the tokens that a prompt must have more of.
pub(super) type Level = (ServiceTier, Option<u64>);

/// What a list states, level by level.
#[derive(Debug, Default)]
pub(super) struct Sets(BTreeMap<Level, Prices>);

impl Sets {
    /// States a price. Where a list states one thing twice, the dearer counts.
    pub(super) fn state(&mut self, level: Level, slot: Slot, price: NanoUsd) {
        let place = slot(self.0.entry(level).or_default());
        *place = Some(place.map_or(price, |known| known.max(price)));
    }

    /// Forgets a price at every level.
    pub(super) fn forget(&mut self, slot: Slot) {
        for prices in self.0.values_mut() {
            *slot(prices) = None;
        }
    }

    /// Forgets a part's price where it is that of the whole: at other levels, where only the whole has a price, the part
    /// must follow it.
    pub(super) fn forget_repeated(&mut self, part: Slot, whole: Slot) {
        let levels: Vec<Level> = self.0.keys().copied().collect();
        for level in levels {
            let price = *whole(&mut self.merged(level));
            if let Some(prices) = self.0.get_mut(&level).filter(|prices| *part(&mut (*prices).clone()) == price) {
                *part(prices) = None;
            }
        }
    }

    /// The ordinary prices of short prompts.
    pub(super) fn base(&self) -> Prices {
        self.merged((ServiceTier::Standard, None))
    }

    /// What counts at a level: what is not stated for a service tier is as for the ordinary one, and what is not stated for
    /// long prompts is as for short ones.
    pub(super) fn merged(&self, (service, over): Level) -> Prices {
        let chain = [(service, over), (ServiceTier::Standard, over), (service, None), (ServiceTier::Standard, None)];
        let mut merged = Prices::default();
        for slot in SLOTS {
            *slot(&mut merged) =
                chain.iter().find_map(|level| *slot(&mut self.0.get(level).cloned().unwrap_or_default()));
        }
        merged
    }

    /// The prices as a rate card holds them.
    pub(super) fn into_price(self) -> ModelPrice {
        let mut price = ModelPrice { base: self.base(), ..ModelPrice::default() };
        price.tiers = self.tiers(ServiceTier::Standard);
        price.batch = self.service(ServiceTier::Batch);
        price.flex = self.service(ServiceTier::Flex);
        price.priority = self.service(ServiceTier::Priority);
        price
    }

    fn service(&self, service: ServiceTier) -> Option<Box<ServicePrices>> {
        let stated = self.0.keys().any(|(stated, _)| *stated == service);
        let prices = || ServicePrices { base: self.merged((service, None)), tiers: self.tiers(service) };
        stated.then(|| Box::new(prices()))
    }

    fn tiers(&self, service: ServiceTier) -> Vec<Tier> {
        let stated = |stated: ServiceTier| stated == ServiceTier::Standard || stated == service;
        let bounds: BTreeSet<u64> = self.0.keys().filter(|level| stated(level.0)).filter_map(|level| level.1).collect();
        let tier = |over| Tier { context_over: over, prices: self.merged((service, Some(over))) };
        bounds.into_iter().map(tier).collect()
    }
}
