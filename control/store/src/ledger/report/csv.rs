//! The usage report as CSV, with columns that never change their names or order.

use std::io::Write;

use csv::{QuoteStyle, Terminator, WriterBuilder};

use crate::error::{Result, StoreError};
use crate::ledger::report::{UsageLine, UsageQuery};
use crate::store::Store;

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
    /// Writes [`Store::usage_lines`] as CSV, safe to open in a spreadsheet. May take long: not for an async thread.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there never was such a tenant, [`StoreError::Unavailable`] when `to` refuses.
    pub fn usage_csv(&self, query: &UsageQuery, to: &mut dyn Write) -> Result<()> {
        let mut csv = WriterBuilder::new()
            .quote_style(QuoteStyle::Necessary)
            .terminator(Terminator::CRLF)
            .has_headers(false) // an empty report has its headings too
            .from_writer(to);
        csv.write_record(COLUMNS).map_err(|err| refused(&err))?;
        self.usage_lines(query, &mut |line| csv.serialize(harmless(line)).map_err(|err| refused(&err)))?;
        csv.flush().map_err(|err| refused(&err.into()))
    }
}

/// The line with every text that somebody chose made harmless.
fn harmless(line: UsageLine) -> UsageLine {
    UsageLine {
        tenant: neutral(line.tenant),
        tenant_name: neutral(line.tenant_name),
        model: neutral(line.model),
        upstream: neutral(line.upstream),
        token: neutral(line.token),
        ..line
    }
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
