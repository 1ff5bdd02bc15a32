//! The prices in effect at one instant. Immutable; a pure function of the versions and the instant.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::UnixMs;
use crate::price::ModelPrice;
use crate::rate::{LOOK_EVERY_MS, RateCard, RateSource};

/// A model's price and the version that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedPrice {
    /// The price.
    pub price: Arc<ModelPrice>,
    /// The rate card version that lists it.
    pub card: u32,
    /// Where that version comes from.
    pub source: RateSource,
}

/// What the newest version that lists a name says of it. What is withdrawn is known too: it must not fall through to a
/// wider pattern.
#[derive(Debug)]
struct Listing {
    price: Option<PinnedPrice>,
    source: RateSource,
}

type Listed = HashMap<String, Listing>;

/// The prices in effect from one instant until the next scheduled change.
#[derive(Clone, Debug)]
pub struct RateTable {
    prices: Arc<Prices>,
    newest_version: u32,
    /// Since when the prices are these.
    since: UnixMs,
    next_change_at: UnixMs,
    /// When new versions were last looked for.
    looked_at: UnixMs,
}

#[derive(Debug)]
struct Prices {
    exact: Listed,
    /// By what stands before the `*`.
    patterns: Listed,
    /// The lengths of the patterns, the longest first.
    lengths: Vec<usize>,
    /// Every name with a price, patterns with their `*`, sorted.
    names: Vec<(String, PinnedPrice)>,
    /// Whether any name or pattern holds a `/`, as those of one upstream do.
    qualified: bool,
}

impl RateTable {
    /// The table at `now`. A name's price is that of the version in effect that lists it and is newest by
    /// `effective_from`, then by number.
    pub(super) fn new(mut cards: Vec<RateCard>, now: UnixMs) -> Self {
        cards.sort_by_key(|card| (card.effective_from, card.version));
        let newest_version = cards.iter().map(|card| card.version).max().unwrap_or(0);
        let due = cards.partition_point(|card| card.effective_from <= now);
        let next_change_at = cards.get(due).map_or(UnixMs(i64::MAX), |card| card.effective_from);
        cards.truncate(due);
        let since = cards.last().map_or(UnixMs(i64::MIN), |card| card.effective_from);
        Self { prices: Arc::new(Prices::of(cards)), newest_version, since, next_change_at, looked_at: now }
    }

    /// What `model` costs: by its exact name, else by the longest pattern. A name that was withdrawn has no price, even
    /// where a pattern would match it; nor has one whose longest pattern was withdrawn.
    #[must_use]
    pub fn price(&self, model: &str) -> Option<PinnedPrice> {
        let Prices { exact, patterns, lengths, .. } = &*self.prices;
        if let Some(listed) = exact.get(model) {
            return listed.price.clone();
        }
        let beginnings = lengths.iter().filter_map(|&length| model.get(..length));
        beginnings.into_iter().find_map(|beginning| patterns.get(beginning))?.price.clone()
    }

    /// What `model` costs at `upstream`: by `<upstream>/<model>` where the card lists that name or a pattern that begins
    /// with `<upstream>/`, else by the model alone.
    #[must_use]
    pub fn price_at(&self, upstream: &str, model: &str) -> Option<PinnedPrice> {
        let Prices { exact, patterns, lengths, qualified, .. } = &*self.prices;
        if !qualified {
            return self.price(model);
        }
        let name = format!("{upstream}/{model}");
        if let Some(listed) = exact.get(&name) {
            return listed.price.clone();
        }
        let own = lengths.iter().filter(|&&length| length > upstream.len());
        let listed = own.filter_map(|&length| name.get(..length)).find_map(|beginning| patterns.get(beginning));
        listed.map_or_else(|| self.price(model), |listed| listed.price.clone())
    }

    /// Every name that has a price, sorted; patterns end in `*`.
    pub fn models(&self) -> impl Iterator<Item = (&str, &PinnedPrice)> {
        self.prices.names.iter().map(|(name, pinned)| (name.as_str(), pinned))
    }

    /// The price of exactly this name; of a pattern with its `*`, that pattern's own.
    pub(super) fn exact(&self, name: &str) -> Option<&PinnedPrice> {
        self.listing(name)?.price.as_ref()
    }

    /// Whether exactly this name is priced or withdrawn.
    pub(super) fn lists(&self, name: &str) -> bool {
        self.listing(name).is_some()
    }

    /// The operator's own name or pattern that decides over `name` now, or over the model behind the upstream that it
    /// begins with. The pattern of everything, `*`, is a fallback and decides over nothing.
    pub(super) fn operators(&self, name: &str) -> Option<String> {
        let (by, listing) = self.decides(name)?;
        (listing.source == RateSource::Operator).then_some(by)
    }

    /// The price that `name` has now, unless by the fallback.
    pub(super) fn known(&self, name: &str) -> Option<&PinnedPrice> {
        self.decides(name)?.1.price.as_ref()
    }

    fn listing(&self, name: &str) -> Option<&Listing> {
        match name.strip_suffix('*') {
            Some(beginning) => self.prices.patterns.get(beginning),
            None => self.prices.exact.get(name),
        }
    }

    fn decides(&self, name: &str) -> Option<(String, &Listing)> {
        if let Some(listing) = self.listing(name) {
            return Some((name.to_owned(), listing));
        }
        let bare = name.strip_suffix('*').unwrap_or(name);
        let lengths = self.prices.lengths.iter().filter(|&&length| length > 0);
        let pattern = lengths.filter_map(|&length| bare.get(..length)).find_map(|beginning| {
            self.prices.patterns.get(beginning).map(|listing| (format!("{beginning}*"), listing))
        });
        pattern.or_else(|| name.split_once('/').and_then(|(_, model)| self.decides(model)))
    }

    pub(super) fn newest_version(&self) -> u32 {
        self.newest_version
    }

    /// Whether no scheduled version comes or goes between this table's instant and `now`.
    pub(super) fn unchanged_at(&self, now: UnixMs) -> bool {
        self.since <= now && now < self.next_change_at
    }

    /// Whether the table may be used at `now` without a look for new versions.
    pub(super) fn valid_at(&self, now: UnixMs) -> bool {
        self.unchanged_at(now) && now.0.saturating_sub(self.looked_at.0).unsigned_abs() < LOOK_EVERY_MS.unsigned_abs()
    }

    /// The same prices, after a look at `now` that found nothing new.
    pub(super) fn looked_at(&self, now: UnixMs) -> Self {
        Self { looked_at: now, ..self.clone() }
    }
}

impl Prices {
    fn of(cards: Vec<RateCard>) -> Self {
        let (mut exact, mut patterns) = (Listed::new(), Listed::new());
        for RateCard { version: card, models, source, .. } in cards {
            for (name, price) in models {
                let price = price.map(|price| PinnedPrice { price: Arc::new(price), card, source });
                let listing = Listing { price, source };
                match name.strip_suffix('*') {
                    Some(beginning) => patterns.insert(beginning.to_owned(), listing),
                    None => exact.insert(name, listing),
                };
            }
        }
        let mut lengths: Vec<usize> = patterns.keys().map(String::len).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        let qualified = exact.keys().chain(patterns.keys()).any(|name| name.contains('/'));
        let starred = patterns.iter().map(|(beginning, listing)| (format!("{beginning}*"), listing));
        let listed = exact.iter().map(|(name, listing)| (name.clone(), listing)).chain(starred);
        let mut names: Vec<(String, PinnedPrice)> =
            listed.filter_map(|(name, listing)| Some((name, listing.price.clone()?))).collect();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Self { exact, patterns, lengths, names, qualified }
    }
}
