//! Sums of ledger rows: what was used and what it cost, as JSON rows or CSV.
//!
//! Sums are made by the engine, in integers, on a reader; nothing here is on a request's path. The token columns are
//! disjoint: `output_tokens` is without the reasoning; audio counts as input and output; `cache_write_tokens` is both
//! kinds of cache write. `requests` counts distinct client requests, whatever came of them, so a request with a fallback
//! counts once in each row that it touches and once in the total: the total may be less than the rows' sum.

mod csv;
mod line;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::Serialize;

use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::TenantId;
use crate::money::NanoUsd;
use crate::store::Store;
use crate::window::day_name;

pub use line::UsageLine;

/// Which rows to sum, and how to group them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    /// One tenant's, also after its end; `None` is all tenants'.
    pub tenant: Option<TenantId>,
    /// Admitted at this instant or later.
    pub from: UnixMs,
    /// Admitted before this instant.
    pub to: UnixMs,
    /// One row for each combination of these; empty is one row.
    pub group_by: BTreeSet<UsageKey>,
}

/// What usage is grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsageKey {
    /// The tenant's calendar day that admitted the request.
    Day,
    /// The model.
    Model,
    /// The token.
    Token,
}

impl UsageKey {
    const ALL: [Self; 3] = [Self::Day, Self::Model, Self::Token];
}

impl FromStr for UsageKey {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "day" => Ok(Self::Day),
            "model" => Ok(Self::Model),
            "token" => Ok(Self::Token),
            other => Err(StoreError::invalid("group_by", format!("`{other}` is not one of day, model, token"))),
        }
    }
}

/// One row of a usage report. A key that the report is not grouped by is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UsageRow {
    /// `YYYY-MM-DD` in the tenant's time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// The model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The token's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The sums.
    #[serde(flatten)]
    pub sums: UsageSums,
}

/// The sums of some ledger rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UsageSums {
    /// Distinct client requests.
    pub requests: u64,
    /// Uncached prompt tokens, audio too.
    pub input_tokens: u64,
    /// Prompt tokens read from a cache.
    pub cache_read_tokens: u64,
    /// Prompt tokens written to a cache, of any lifetime.
    pub cache_write_tokens: u64,
    /// Answer tokens without the reasoning, audio too.
    pub output_tokens: u64,
    /// Reasoning tokens.
    pub reasoning_tokens: u64,
    /// Tool calls.
    pub tool_calls: u64,
    /// Seconds of sandbox run time.
    pub sandbox_seconds: u64,
    /// The cost.
    pub cost_usd: NanoUsd,
}

/// A usage report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UsageReport {
    /// One row for each group, ordered by its keys.
    pub rows: Vec<UsageRow>,
    /// The sums over all of them.
    pub total: UsageSums,
}

/// The columns of [`UsageSums`], in its order. A sum past 2^63 is an error of the engine, not a wrong number.
const SUMS: &str = "count(DISTINCT l.request_id), coalesce(sum(l.input_tokens + l.input_audio_tokens), 0), coalesce(sum(l.cache_read_tokens), 0),
    coalesce(sum(l.cache_write_tokens + l.cache_write_1h_tokens), 0), coalesce(sum(l.output_tokens + l.output_audio_tokens), 0),
    coalesce(sum(l.reasoning_tokens), 0), coalesce(sum(l.tool_calls), 0), 0, coalesce(sum(l.cost_nanos), 0)";

/// The `IN` lets the engine use the index of (tenant, admitted_at_ms) for one tenant and for all.
const ROWS: &str = "FROM ledger l WHERE l.tenant IN (SELECT row_id FROM tenants WHERE :tenant IS NULL OR id = :tenant)
    AND l.admitted_at_ms >= :from AND l.admitted_at_ms < :to";

impl Store {
    /// Sums what `query` asks for. May take long: not for an async thread.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there never was such a tenant.
    pub fn usage(&self, query: &UsageQuery) -> Result<UsageReport> {
        self.inner.reader.with(|conn| {
            // One transaction, so that the total is that of the rows.
            let tx = conn.unchecked_transaction()?;
            check_tenant(&tx, query)?;
            let rows = grouped(&tx, query)?;
            Ok(UsageReport { rows, total: total(&tx, query)? })
        })
    }
}

fn total(conn: &Connection, query: &UsageQuery) -> Result<UsageSums> {
    let sql = format!("SELECT {SUMS} {ROWS}");
    let params = named_params! {":tenant": query.tenant.as_ref().map(TenantId::as_str), ":from": query.from.0, ":to": query.to.0};
    Ok(conn.prepare_cached(&sql)?.query_row(params, |row| sums(row, 0))?)
}

fn grouped(conn: &Connection, query: &UsageQuery) -> Result<Vec<UsageRow>> {
    let grouped_by = |key| query.group_by.contains(&key);
    let keys = UsageKey::ALL.map(|key| match (grouped_by(key), key) {
        (false, _) => "NULL",
        (true, UsageKey::Day) => "l.day",
        (true, UsageKey::Model) => "coalesce((SELECT name FROM names WHERE row_id = l.model), '')",
        (true, UsageKey::Token) => "coalesce((SELECT id FROM tokens WHERE row_id = l.token), '')",
    });
    let sql = format!("SELECT {}, {SUMS} {ROWS} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3", keys.join(", "));
    let mut statement = conn.prepare_cached(&sql)?;
    let params = named_params! {":tenant": query.tenant.as_ref().map(TenantId::as_str), ":from": query.from.0, ":to": query.to.0};
    let rows = statement.query_map(params, |row| {
        let day: Option<i32> = row.get(0)?;
        Ok(UsageRow { day: day.map(day_name), model: row.get(1)?, token: row.get(2)?, sums: sums(row, 3)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Reads [`SUMS`], which begin at column `first`.
fn sums(row: &Row<'_>, first: usize) -> rusqlite::Result<UsageSums> {
    let count = |at: usize| {
        let sum: i64 = row.get(first + at)?;
        u64::try_from(sum).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(first + at, sum))
    };
    Ok(UsageSums {
        requests: count(0)?,
        input_tokens: count(1)?,
        cache_read_tokens: count(2)?,
        cache_write_tokens: count(3)?,
        output_tokens: count(4)?,
        reasoning_tokens: count(5)?,
        tool_calls: count(6)?,
        sandbox_seconds: count(7)?,
        cost_usd: NanoUsd(row.get(first + 8)?),
    })
}

/// A tenant that is gone has its ledger rows still; one that never was is a mistake.
fn check_tenant(conn: &Connection, query: &UsageQuery) -> Result<()> {
    let Some(tenant) = &query.tenant else { return Ok(()) };
    let known = conn
        .prepare_cached("SELECT 1 FROM tenants WHERE id = ?1")?
        .query_row([tenant.as_str()], |_| Ok(()))
        .optional()?;
    known.ok_or(StoreError::NotFound("tenant"))
}
