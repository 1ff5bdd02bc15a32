//! Rate cards: versions of prices. A version never changes; a row of the ledger pins the one that it was admitted with.
//!
//! - `import`: what prices from outside change
//! - `table`: the prices in effect at one instant

mod import;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::openapi::schema::{Object, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};

use crate::audit::{self, Actor, Entry};
use crate::change::Change;
use crate::clock::{UnixMs, rfc3339, rfc3339_option};
use crate::error::{Result, StoreError};
use crate::model;
use crate::price::ModelPrice;
use crate::sqlite::reader::Reader;
use crate::store::Store;

pub use import::{Overrides, RateDifference, RateImport};
pub use table::{PinnedPrice, RateTable};

/// The most models in one version.
const MAX_MODELS: usize = 20_000;
/// How long a table is used before somebody else's new version is looked for, in milliseconds.
const LOOK_EVERY_MS: i64 = 1_000;

/// Prices by model name; a name may end in `*`; `None` withdraws what an earlier version listed.
pub type ModelPrices = BTreeMap<String, Option<ModelPrice>>;

/// Where a version comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RateSource {
    /// An operator's own prices; imports leave them as they are.
    #[default]
    Operator,
    /// A price list from outside.
    Import,
}

impl RateSource {
    /// The name in the store and in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Import => "import",
        }
    }
}

/// One version of the prices. It lists the models that it prices and says nothing about others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateCard {
    /// Counts up from 1.
    pub version: u32,
    /// From when on it counts.
    #[serde(with = "rfc3339")]
    pub effective_from: UnixMs,
    /// When it was stored.
    #[serde(with = "rfc3339")]
    pub created_at: UnixMs,
    /// Where it comes from.
    pub source: RateSource,
    /// What it prices.
    #[schema(schema_with = models_schema)]
    pub models: ModelPrices,
}

/// What a version to be stored says, and how the audit log tells it.
struct NewVersion {
    effective_from: Option<UnixMs>,
    models: ModelPrices,
    source: RateSource,
    action: &'static str,
    /// What the audit log says beside the number of models.
    detail: serde_json::Value,
}

/// A version to add, as the admin API and `conf/rates.json` write it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRateCard {
    /// From when on it counts; absent or past: now.
    #[serde(default, deserialize_with = "rfc3339_option::deserialize")]
    pub effective_from: Option<UnixMs>,
    /// Prices by name; a name may end in `*`; null withdraws what an earlier version listed.
    #[schema(schema_with = models_schema)]
    pub models: ModelPrices,
}

/// [`ModelPrices`] in the API's document.
fn models_schema() -> Object {
    let price = OneOfBuilder::new()
        .item(ObjectBuilder::new().schema_type(Type::Null))
        .item(Ref::from_schema_name("ModelPrice"));
    ObjectBuilder::new().additional_properties(Some(RefOr::T(Schema::from(price)))).build()
}

/// The table in use, and when to look for another.
#[derive(Debug)]
pub(crate) struct Rates {
    current: ArcSwap<RateTable>,
    loading: Mutex<()>,
}

impl Rates {
    pub(crate) fn open(reader: &Reader, now: UnixMs) -> Result<Self> {
        let table = reader.with(|conn| load(conn, now))?;
        Ok(Self { current: ArcSwap::from_pointee(table), loading: Mutex::new(()) })
    }
}

impl Store {
    /// The prices in effect now. A version that this store was given counts at once, a scheduled one at its moment, and
    /// one that another process wrote within a second.
    #[must_use]
    pub fn rates(&self) -> Arc<RateTable> {
        let now = self.inner.clock.now();
        let table = self.inner.rates.current.load();
        if table.valid_at(now) {
            return Arc::clone(&table);
        }
        let _loading = self.inner.rates.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.inner.rates.current.load_full();
        if table.valid_at(now) {
            return table;
        }
        match self.inner.reader.with(|conn| refreshed(conn, &table, now)) {
            Ok(fresh) => self.inner.rates.current.store(Arc::new(fresh)),
            Err(err) => tracing::warn!(%err, "can't look for new rates; the known ones stay in use"),
        }
        self.inner.rates.current.load_full()
    }

    /// Adds a version. A past or absent `effective_from` is now; rows that exist keep the prices they were admitted with.
    ///
    /// Fails with [`StoreError::Invalid`] on a bad name or price, or more than 20,000 models.
    pub fn put_rates(&self, actor: &Actor, effective_from: Option<UnixMs>, models: ModelPrices) -> Change<RateCard> {
        let actor = actor.clone();
        let (source, detail) = (RateSource::Operator, json!({}));
        let version = NewVersion { effective_from, models, source, action: "rates.put", detail };
        Change::new(self, move |tx, now| put(tx, now, &actor, version)).then(look_again)
    }

    /// Adds the first version, in effect now; `None` when there is one already.
    pub fn import_first_rates(&self, actor: &Actor, models: ModelPrices) -> Change<Option<RateCard>> {
        let actor = actor.clone();
        let import = move |tx: &Transaction<'_>, now| {
            let any: bool = tx.query_row("SELECT EXISTS (SELECT 1 FROM rate_cards)", [], |row| row.get(0))?;
            if any {
                return Ok(None);
            }
            let (source, detail) = (RateSource::Import, json!({}));
            let version = NewVersion { effective_from: None, models, source, action: "rates.import", detail };
            put(tx, now, &actor, version).map(Some)
        };
        Change::new(self, import).then(look_again)
    }

    /// At most `limit` versions, those after `after`, in the order of their numbers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn rate_cards(&self, after: Option<u32>, limit: u32) -> Result<Vec<RateCard>> {
        self.inner.reader.with(|conn| {
            let sql = "SELECT version, effective_from_ms, created_at_ms, models, source FROM rate_cards WHERE version > ?1 ORDER BY version LIMIT ?2";
            cards(conn, sql, params![after.unwrap_or(0), limit])
        })
    }

    /// What `model` costs at `at`, which may lie in the future.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn rate_price_at(&self, model: &str, at: UnixMs) -> Result<Option<PinnedPrice>> {
        Ok(self.inner.reader.with(|conn| load(conn, at))?.price(model))
    }

    /// What version `card` alone says about `model`: the price that a row pinned.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn priced_row(&self, card: u32, model: &str) -> Result<Option<ModelPrice>> {
        self.inner.reader.with(|conn| priced_row(conn, card, ("", model)))
    }
}

/// What a model cost at an upstream under one version, for who has a connection and no store yet. Only the names that may
/// decide are read: a version can list thousands, and a recovery asks for every reservation.
pub(crate) fn priced_row(conn: &Connection, card: u32, (upstream, model): (&str, &str)) -> Result<Option<ModelPrice>> {
    let mut statement = conn.prepare_cached(
        "SELECT listed.key, listed.value FROM rate_cards, json_each(rate_cards.models) AS listed
         WHERE rate_cards.version = ?1 AND (listed.key IN (?2, ?3) OR (substr(listed.key, -1) = '*' AND
            substr(listed.key, 1, length(listed.key) - 1)
                IN (substr(?2, 1, length(listed.key) - 1), substr(?3, 1, length(listed.key) - 1))))",
    )?;
    let mut rows = statement.query(params![card, model, format!("{upstream}/{model}")])?;
    let mut models = ModelPrices::new();
    while let Some(row) = rows.next()? {
        let price: Option<String> = row.get(1)?;
        models.insert(row.get(0)?, price.map(|price| serde_json::from_str(&price)).transpose()?);
    }
    let (at, source) = (UnixMs(0), RateSource::default());
    let card = RateCard { version: card, effective_from: at, created_at: at, source, models };
    let price = RateTable::new(vec![card], at).price_at(upstream, model);
    Ok(price.map(|pinned| ModelPrice::clone(&pinned.price)))
}

/// Makes the next [`Store::rates`] see what was just written. If this never runs, the look of every second does the same.
fn look_again(store: &Store) {
    let rates = &store.inner.rates;
    let _loading = rates.loading.lock().unwrap_or_else(PoisonError::into_inner);
    match store.inner.reader.with(|conn| load(conn, store.inner.clock.now())) {
        Ok(table) => rates.current.store(Arc::new(table)),
        Err(err) => tracing::warn!(%err, "can't read the new rates; trying again within a second"),
    }
}

/// The table for `now`: the known one for another second where nothing was added and nothing was due.
fn refreshed(conn: &Connection, table: &RateTable, now: UnixMs) -> Result<RateTable> {
    let newest: Option<u32> = conn
        .prepare_cached("SELECT max(version) FROM rate_cards")?
        .query_row([], |row| row.get(0))
        .optional()?
        .flatten();
    if newest.unwrap_or(0) == table.newest_version() && table.unchanged_at(now) {
        Ok(table.looked_at(now))
    } else {
        load(conn, now)
    }
}

fn load(conn: &Connection, now: UnixMs) -> Result<RateTable> {
    let sql = "SELECT version, effective_from_ms, created_at_ms, models, source FROM rate_cards";
    Ok(RateTable::new(cards(conn, sql, [])?, now))
}

fn put(tx: &Transaction<'_>, now: UnixMs, actor: &Actor, version: NewVersion) -> Result<RateCard> {
    let NewVersion { effective_from, models, source, action, mut detail } = version;
    check(&models)?;
    let effective_from = effective_from.map_or(now, |from| from.max(now));
    tx.execute(
        "INSERT INTO rate_cards (effective_from_ms, created_at_ms, models, source) VALUES (?1, ?2, ?3, ?4)",
        params![effective_from.0, now.0, serde_json::to_string(&models)?, source.name()],
    )?;
    let version = u32::try_from(tx.last_insert_rowid())
        .map_err(|_| StoreError::Conflict("there are too many rate versions".to_owned()))?;
    let withdrawn: Vec<&String> = models.iter().filter(|(_, price)| price.is_none()).map(|(name, _)| name).collect();
    if let Some(detail) = detail.as_object_mut() {
        detail.insert("effective_from".to_owned(), effective_from.rfc3339().into());
        detail.insert("models".to_owned(), models.len().into());
        detail.insert("withdrawn".to_owned(), json!(withdrawn));
    }
    audit::record(tx, now, actor, &Entry { action, tenant: None, target: Some(&version.to_string()), detail })?;
    Ok(RateCard { version, effective_from, created_at: now, source, models })
}

fn check(models: &ModelPrices) -> Result<()> {
    if models.is_empty() || models.len() > MAX_MODELS {
        return Err(StoreError::invalid("models", format!("must list 1 to {MAX_MODELS} models")));
    }
    for (name, price) in models {
        model::check_pattern("models", name)?;
        if let Some(price) = price {
            price.check().map_err(|message| StoreError::invalid(format!("models.{name}"), message))?;
        }
    }
    Ok(())
}

fn cards(conn: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<Vec<RateCard>> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut cards = Vec::new();
    while let Some(row) = rows.next()? {
        cards.push(read(row)?);
    }
    Ok(cards)
}

fn read(row: &Row<'_>) -> Result<RateCard> {
    let (models, source): (String, String) = (row.get(3)?, row.get(4)?);
    Ok(RateCard {
        version: row.get(0)?,
        effective_from: UnixMs(row.get(1)?),
        created_at: UnixMs(row.get(2)?),
        source: serde_json::from_value(source.into())?,
        models: serde_json::from_str(&models)?,
    })
}
