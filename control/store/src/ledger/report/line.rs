//! The usage report at its finest: one line for each tenant, model, upstream, token and rate card.

use rusqlite::{Row, named_params};
use serde::Serialize;

use crate::error::Result;
use crate::id::TenantId;
use crate::ledger::report::{ROWS, SUMS, UsageKey, UsageQuery, UsageSums, check_tenant, sums, total};
use crate::money::NanoUsd;
use crate::store::Store;
use crate::window::day_name;

/// One line. Its fields are the CSV's columns, whose names and order never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageLine {
    /// The calendar day (`YYYY-MM-DD`, in the tenant's zone) where the lines are by day, else the query's own bound.
    pub period_start: String,
    /// The end of the same, exclusive.
    pub period_end: String,
    /// The tenant.
    pub tenant: String,
    /// Its name as it is now.
    pub tenant_name: String,
    /// The model that ran.
    pub model: String,
    /// Where it ran.
    pub upstream: String,
    /// The token's id.
    pub token: String,
    /// See [`UsageSums::requests`].
    pub requests: u64,
    /// See [`UsageSums::input_tokens`].
    pub input_tokens: u64,
    /// See [`UsageSums::cache_read_tokens`].
    pub cache_read_tokens: u64,
    /// See [`UsageSums::cache_write_tokens`].
    pub cache_write_tokens: u64,
    /// See [`UsageSums::output_tokens`].
    pub output_tokens: u64,
    /// See [`UsageSums::reasoning_tokens`].
    pub reasoning_tokens: u64,
    /// See [`UsageSums::tool_calls`].
    pub tool_calls: u64,
    /// See [`UsageSums::sandbox_seconds`].
    pub sandbox_seconds: u64,
    /// Bytes of storage times days; not metered yet.
    pub storage_byte_days: u64,
    /// The rate card version that priced it.
    pub rate_card: u32,
    /// Rows whose usage the gateway estimated.
    pub estimated_rows: u64,
    /// The cost.
    pub cost_usd: NanoUsd,
}

impl Store {
    /// Gives each line to `each`, by day too where `query` groups by day; its other groups don't matter here. Returns the
    /// sums over all of them, of the same moment. May take long: not for an async thread.
    ///
    /// # Errors
    /// [`crate::StoreError::NotFound`] when there never was such a tenant, and whatever `each` fails with.
    pub fn usage_lines(&self, query: &UsageQuery, each: &mut dyn FnMut(UsageLine) -> Result<()>) -> Result<UsageSums> {
        self.inner.reader.with(|conn| {
            let tx = conn.unchecked_transaction()?;
            check_tenant(&tx, query)?;
            let day = if query.group_by.contains(&UsageKey::Day) { "l.day" } else { "NULL" };
            let sql = format!(
                "SELECT {day}, (SELECT id FROM tenants WHERE row_id = l.tenant), (SELECT name FROM tenants WHERE row_id = l.tenant),
                    coalesce((SELECT name FROM names WHERE row_id = l.model), ''), coalesce((SELECT name FROM names WHERE row_id = l.upstream), ''),
                    coalesce((SELECT id FROM tokens WHERE row_id = l.token), ''), l.rate_card, sum(l.estimated), {SUMS} {ROWS}
                 GROUP BY 1, l.tenant, l.model, l.upstream, l.token, l.rate_card ORDER BY 1, 2, 4, 5, l.token, l.rate_card"
            );
            let mut statement = tx.prepare_cached(&sql)?;
            let params = named_params! {":tenant": query.tenant.as_ref().map(TenantId::as_str), ":from": query.from.0, ":to": query.to.0};
            let mut rows = statement.query(params)?;
            while let Some(row) = rows.next()? {
                each(line(query, row)?)?;
            }
            total(&tx, query)
        })
    }
}

fn line(query: &UsageQuery, row: &Row<'_>) -> rusqlite::Result<UsageLine> {
    let day: Option<i32> = row.get(0)?;
    let estimated_rows: i64 = row.get(7)?;
    let sums = sums(row, 8)?;
    Ok(UsageLine {
        period_start: day.map_or_else(|| query.from.rfc3339(), day_name),
        period_end: day.map_or_else(|| query.to.rfc3339(), |day| day_name(day.saturating_add(1))),
        tenant: row.get(1)?,
        tenant_name: row.get(2)?,
        model: row.get(3)?,
        upstream: row.get(4)?,
        token: row.get(5)?,
        requests: sums.requests,
        input_tokens: sums.input_tokens,
        cache_read_tokens: sums.cache_read_tokens,
        cache_write_tokens: sums.cache_write_tokens,
        output_tokens: sums.output_tokens,
        reasoning_tokens: sums.reasoning_tokens,
        tool_calls: sums.tool_calls,
        sandbox_seconds: sums.sandbox_seconds,
        storage_byte_days: 0,
        rate_card: row.get(6)?,
        estimated_rows: u64::try_from(estimated_rows)
            .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(7, estimated_rows))?,
        cost_usd: sums.cost_usd,
    })
}
