//! Usage reports: what was used and what it cost, as JSON rows, CSV or FOCUS.
//!
//! Reports are made of `usage_days`, the sums that are kept beside the rows, never of the rows themselves; only a range that
//! begins or ends within a tenant's day is summed from rows. Sums are made by the engine, in integers, on a reader; nothing
//! here is on a request's path, and nothing here holds a report in memory: each row is given away as it is read.
//!
//! What files took of the disk (`storage`) stands in rows of its own, beside them.
//!
//! What a row shows is pinned: costs, counts, rate card, and the names of models, upstreams, tokens, users and tags never
//! change. The one exception is a tenant's display name, which is what it is called now.

mod csv;
mod focus;
mod group;
mod line;
mod range;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::str::FromStr;

use rusqlite::Connection;
use serde::Serialize;

use crate::error::{Result, StoreError};
use crate::id::TenantId;
use crate::ledger::report::group::{Dimension, Group};
use crate::ledger::report::range::Source;
use crate::money::NanoUsd;
use crate::store::Store;
use crate::window::day_name;

pub use csv::CsvColumns;
pub(crate) use csv::{neutral, refused, writer};
pub use line::UsageLine;
pub use range::{UsageRange, UsageSpan};
pub(crate) use range::{check_archives, tenant_row};

/// Which rows to sum, and how to group them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    /// One tenant's, also after its end; `None` is all tenants'.
    pub tenant: Option<TenantId>,
    /// Which time.
    pub range: UsageRange,
    /// One row for each combination of these; empty is one row.
    pub group_by: BTreeSet<UsageKey>,
}

/// What usage is grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsageKey {
    /// The tenant's calendar day that admitted the request.
    Day,
    /// The model; what a credit gave back is under the name `credit`.
    Model,
    /// The token.
    Token,
    /// The end user that the client named.
    User,
    /// A tag that the client gave. A request with several tags is in the row of each; one without is in that of the empty
    /// tag. The total counts each request once.
    Tag,
}

impl FromStr for UsageKey {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "day" => Ok(Self::Day),
            "model" => Ok(Self::Model),
            "token" => Ok(Self::Token),
            "user" => Ok(Self::User),
            "tag" => Ok(Self::Tag),
            other => {
                Err(StoreError::invalid("group_by", format!("`{other}` is not one of day, model, token, user, tag")))
            }
        }
    }
}

/// One row of a usage report. A key that the report is not grouped by is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
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
    /// The end user; empty where none was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// One tag; empty for what has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The sums.
    #[serde(flatten)]
    pub sums: UsageSums,
}

/// The sums of some ledger rows. The token counts are disjoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct UsageSums {
    /// Client requests, whatever came of them. In a row of one model or upstream the attempts that it made: a request that
    /// fell back is in the row of each model that it tried, and once in the total, which may be less than the rows' sum.
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
    /// Bytes of the tenant's files times days, each day's rounded down: in rows of the model `storage`, of whole days alone. An
    /// hour or so of the newest is still to come.
    pub storage_byte_days: u64,
    /// The cost: what providers charge, less what was credited. Budgets count this.
    pub cost_usd: NanoUsd,
    /// What the operator adds to it.
    pub markup_usd: NanoUsd,
    /// Both together: what the tenant is billed.
    pub billed_usd: NanoUsd,
}

impl UsageSums {
    /// All tokens.
    pub(crate) fn tokens(&self) -> u64 {
        let counts = [
            self.input_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
            self.output_tokens,
            self.reasoning_tokens,
        ];
        counts.into_iter().fold(0, u64::saturating_add)
    }
}

/// The sums over all lines of a report, which has more columns than [`UsageSums`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct UsageTotal {
    /// The sums.
    #[serde(flatten)]
    pub sums: UsageSums,
    /// Rows whose usage the gateway estimated.
    pub estimated_rows: u64,
}

/// A usage report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UsageReport {
    /// One row for each group, ordered by its keys.
    pub rows: Vec<UsageRow>,
    /// The sums over all of them.
    pub total: UsageSums,
}

impl Store {
    /// Sums what `query` asks for, all rows at once: for reports that are known to be small. May take long: not for an
    /// async thread.
    ///
    /// # Errors
    /// Those of [`Store::usage_rows`].
    pub fn usage(&self, query: &UsageQuery) -> Result<UsageReport> {
        let mut rows = Vec::new();
        let total = self.usage_rows(query, &mut |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(UsageReport { rows, total })
    }

    /// Gives each row of the report to `each`, in order, and returns the sums over all of them, of the same moment. May take
    /// long: not for an async thread.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there never was such a tenant, [`StoreError::Invalid`] when the range's detail is
    /// archived, and whatever `each` fails with.
    pub fn usage_rows(&self, query: &UsageQuery, each: &mut dyn FnMut(UsageRow) -> Result<()>) -> Result<UsageSums> {
        self.read_report(query, |conn, source| {
            let by: BTreeSet<Dimension> = query.group_by.iter().map(|key| Dimension::from(*key)).collect();
            group::read(conn, source, &by, &mut |group| each(row(group)))?;
            Ok(group::total(conn, source)?.sums)
        })
    }

    /// Reads in one transaction, so that the total is that of the rows.
    fn read_report<T>(&self, query: &UsageQuery, read: impl FnOnce(&Connection, &Source) -> Result<T>) -> Result<T> {
        self.inner.reader.with(|conn| {
            let tx = conn.unchecked_transaction()?;
            let source = Source::of(&tx, query.tenant.as_ref(), query.range)?;
            read(&tx, &source)
        })
    }
}

impl From<UsageKey> for Dimension {
    fn from(key: UsageKey) -> Self {
        match key {
            UsageKey::Day => Self::Day,
            UsageKey::Model => Self::Model,
            UsageKey::Token => Self::Token,
            UsageKey::User => Self::User,
            UsageKey::Tag => Self::Tag,
        }
    }
}

fn row(group: Group) -> UsageRow {
    let Group { day, model, token, user, tag, sums, .. } = group;
    UsageRow { day: day.map(day_name), model, token, user, tag, sums }
}
