//! Imports of prices: what one would change, and the version that it adds.
//!
//! An import never withdraws a price by leaving it out, and never stands over an operator's own price unless it is told to.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction};
use serde_json::json;

use crate::audit::Actor;
use crate::change::Change;
use crate::clock::UnixMs;
use crate::error::Result;
use crate::price::ModelPrice;
use crate::rate::{ModelPrices, NewVersion, RateCard, RateSource, RateTable, check, load, look_again, put};
use crate::store::Store;

/// Prices from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateImport {
    /// See [`RateCard::effective_from`]; absent or past is now.
    pub effective_from: Option<UnixMs>,
    /// What it prices; `None` withdraws.
    pub models: ModelPrices,
    /// What becomes of the operator's own prices.
    pub overrides: Overrides,
}

/// What an import does with models that an operator has priced or withdrawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overrides {
    /// They stay as they are.
    #[default]
    Keep,
    /// The import's prices replace them.
    Replace,
}

/// What an import changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateDifference {
    /// New names.
    pub added: BTreeMap<String, ModelPrice>,
    /// Names with another price: the old and the new one.
    pub changed: BTreeMap<String, (ModelPrice, ModelPrice)>,
    /// Names that lose their price since the import says so.
    pub withdrawn: Vec<String>,
    /// How many names have the price that the import states.
    pub unchanged: usize,
    /// Names left as an operator has priced them, each with the operator's name or pattern that does so.
    pub kept: BTreeMap<String, String>,
}

impl RateDifference {
    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.withdrawn.is_empty()
    }

    fn models(&self) -> ModelPrices {
        let added = self.added.iter().map(|(name, price)| (name.clone(), Some(price.clone())));
        let changed = self.changed.iter().map(|(name, (_, price))| (name.clone(), Some(price.clone())));
        added.chain(changed).chain(self.withdrawn.iter().map(|name| (name.clone(), None))).collect()
    }
}

impl Store {
    /// What [`Store::import_rates`] would change, without changing it.
    ///
    /// # Errors
    /// As [`Store::import_rates`].
    pub fn rate_difference(&self, import: &RateImport) -> Result<RateDifference> {
        let now = self.inner.clock.now();
        self.inner.reader.with(|conn| difference(conn, now, import))
    }

    /// Adds a version with what `import` changes; none when that is nothing.
    ///
    /// Fails with [`StoreError::Invalid`](crate::StoreError::Invalid) as [`Store::put_rates`] does.
    pub fn import_rates(&self, actor: &Actor, import: RateImport) -> Change<(RateDifference, Option<RateCard>)> {
        let actor = actor.clone();
        let import = move |tx: &Transaction<'_>, now| {
            let difference = difference(tx, now, &import)?;
            if difference.is_empty() {
                return Ok((difference, None));
            }
            let version = NewVersion {
                effective_from: import.effective_from,
                models: difference.models(),
                source: RateSource::Import,
                action: "rates.import",
                detail: json!({
                    "added": difference.added.len(),
                    "changed": difference.changed.len(),
                    "kept": difference.kept.len(),
                    "replace_overrides": import.overrides == Overrides::Replace,
                }),
            };
            let card = put(tx, now, &actor, version)?;
            Ok((difference, Some(card)))
        };
        Change::new(self, import).then(look_again)
    }
}

/// Compares with the prices that are in effect when the import will be.
fn difference(conn: &Connection, now: UnixMs, import: &RateImport) -> Result<RateDifference> {
    check(&import.models)?;
    let at = import.effective_from.map_or(now, |from| from.max(now));
    let table = load(conn, at)?;
    let mut found = RateDifference::default();
    for (name, price) in &import.models {
        let old = table.exact(name).map(|pinned| &*pinned.price);
        let new = price.as_ref().map(|price| completed(price, &table, name));
        if old == new.as_ref() && (new.is_some() || table.lists(name)) {
            found.unchanged += 1;
            continue;
        }
        if let (Overrides::Keep, Some(by)) = (import.overrides, table.operators(name)) {
            found.kept.insert(name.clone(), by);
            continue;
        }
        match (old, new) {
            (Some(old), Some(new)) => drop(found.changed.insert(name.clone(), (old.clone(), new))),
            (None, Some(new)) => drop(found.added.insert(name.clone(), new)),
            (_, None) => found.withdrawn.push(name.clone()),
        }
    }
    Ok(found)
}

/// What price lists of others don't state stays as it is known.
fn completed(price: &ModelPrice, table: &RateTable, name: &str) -> ModelPrice {
    let Some(known) = table.known(name) else { return price.clone() };
    ModelPrice {
        tokenizer: price.tokenizer.or(known.price.tokenizer),
        image_tokens: price.image_tokens.or(known.price.image_tokens),
        images: if price.images.is_empty() { known.price.images.clone() } else { price.images.clone() },
        audio_tokens_per_minute: price.audio_tokens_per_minute.or(known.price.audio_tokens_per_minute),
        max_input_seconds: price.max_input_seconds.or(known.price.max_input_seconds),
        ..price.clone()
    }
}
