//! The usage report as CSV, with columns that never change their names or order.

use std::io::Write;

use csv::{QuoteStyle, Terminator, Writer, WriterBuilder};
use rusqlite::{Row, named_params};

use crate::error::{Result, StoreError};
use crate::id::TenantId;
use crate::ledger::report::{ROWS, SUMS, UsageKey, UsageQuery, UsageSums, check_tenant, sums};
use crate::store::Store;
use crate::window::day_name;

const COLUMNS: [&str; 19] = [
    "period_start",
    "period_end",
    "tenant",
    "tenant_name",
    "model",
    "upstream",
    "token",
    "requests",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "tool_calls",
    "sandbox_seconds",
    "storage_byte_days",
    "rate_card",
    "estimated_rows",
    "cost_usd",
];

impl Store {
    /// Writes one CSV line for each tenant, model, upstream, token and rate card, and for each day where `query` groups
    /// by day. Its other groups don't matter here: the columns are always filled.
    ///
    /// The period is the calendar day and the next one (`YYYY-MM-DD`, in the tenant's zone) where the lines are by day,
    /// else the query's own bounds (RFC 3339); its end is exclusive. May take long: not for an async thread.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there never was such a tenant, [`StoreError::Unavailable`] when `to` refuses.
    pub fn usage_csv(&self, query: &UsageQuery, to: &mut dyn Write) -> Result<()> {
        let mut csv =
            WriterBuilder::new().quote_style(QuoteStyle::Necessary).terminator(Terminator::CRLF).from_writer(to);
        csv.write_record(COLUMNS).map_err(|err| refused(&err))?;
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
                write(&mut csv, query, row)?;
            }
            Ok(())
        })?;
        csv.flush().map_err(|err| refused(&err.into()))
    }
}

fn write(csv: &mut Writer<&mut dyn Write>, query: &UsageQuery, row: &Row<'_>) -> Result<()> {
    let day: Option<i32> = row.get(0)?;
    let text = |column: usize| -> Result<String> { Ok(neutral(row.get(column)?)) };
    let number = |column: usize| -> Result<String> { Ok(row.get::<_, i64>(column)?.to_string()) };
    let UsageSums {
        requests,
        input_tokens,
        cache_read_tokens,
        cache_write_tokens,
        output_tokens,
        reasoning_tokens,
        tool_calls,
        sandbox_seconds,
        cost_usd,
    } = sums(row, 8)?;
    csv.write_record([
        day.map_or_else(|| query.from.rfc3339(), day_name),
        day.map_or_else(|| query.to.rfc3339(), |day| day_name(day.saturating_add(1))),
        text(1)?,
        text(2)?,
        text(3)?,
        text(4)?,
        text(5)?,
        requests.to_string(),
        input_tokens.to_string(),
        cache_read_tokens.to_string(),
        cache_write_tokens.to_string(),
        output_tokens.to_string(),
        reasoning_tokens.to_string(),
        tool_calls.to_string(),
        sandbox_seconds.to_string(),
        // Storage is not metered here yet.
        "0".to_owned(),
        number(6)?,
        number(7)?,
        cost_usd.to_string(),
    ])
    .map_err(|err| refused(&err))
}

/// A cell that a spreadsheet would run as a formula gets an apostrophe before it (owasp.org, CSV injection).
fn neutral(cell: String) -> String {
    const STARTS: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
    let runs = cell.starts_with(['\t', '\r', '\n']) || cell.trim_start().starts_with(STARTS);
    if runs { format!("'{cell}") } else { cell }
}

fn refused(err: &csv::Error) -> StoreError {
    StoreError::Unavailable(format!("the report can't be written: {err}"))
}
