//! The usage report as CSV, with columns that never change their names or order.

use std::io::Write;

use csv::{QuoteStyle, Terminator, Writer, WriterBuilder};

use crate::error::{Result, StoreError};
use crate::ledger::report::line::{dimensions, line};
use crate::ledger::report::{UsageKey, UsageLine, UsageQuery, group};
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

/// Which columns a CSV report has. Those for users and tags come with their groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CsvColumns {
    /// The stable ones.
    #[default]
    Cost,
    /// Those, and the markup and what is billed.
    CostAndMarkup,
}

impl Store {
    /// Writes the lines of [`Store::usage_lines`] as CSV, safe to open in a spreadsheet. May take long: not for an async
    /// thread.
    ///
    /// # Errors
    /// Those of [`Store::usage_rows`], [`StoreError::Unavailable`] when `to` refuses.
    pub fn usage_csv(&self, query: &UsageQuery, columns: CsvColumns, to: &mut dyn Write) -> Result<()> {
        let mut csv = writer(to);
        let added: Vec<Added> = Added::ALL.into_iter().filter(|added| added.is_in(query, columns)).collect();
        let headings = COLUMNS.into_iter().chain(added.iter().map(|added| added.heading()));
        csv.write_record(headings).map_err(|err| refused(&err))?;
        self.read_report(query, |conn, source| {
            let period = query.range.shown();
            group::read(conn, source, &dimensions(query), &mut |group| {
                let line = line(&period, group);
                let more: Vec<String> = added.iter().map(|added| added.cell(&line)).collect();
                csv.write_record(cells(line).into_iter().chain(more)).map_err(|err| refused(&err))
            })
        })?;
        csv.flush().map_err(|err| refused(&err.into()))
    }
}

/// A column behind the stable ones.
#[derive(Clone, Copy)]
enum Added {
    User,
    Tag,
    Markup,
    Billed,
}

impl Added {
    const ALL: [Self; 4] = [Self::User, Self::Tag, Self::Markup, Self::Billed];

    fn is_in(self, query: &UsageQuery, columns: CsvColumns) -> bool {
        match self {
            Self::User => query.group_by.contains(&UsageKey::User),
            Self::Tag => query.group_by.contains(&UsageKey::Tag),
            Self::Markup | Self::Billed => columns == CsvColumns::CostAndMarkup,
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Tag => "tag",
            Self::Markup => "markup_usd",
            Self::Billed => "billed_usd",
        }
    }

    fn cell(self, line: &UsageLine) -> String {
        match self {
            Self::User => neutral(line.user.clone().unwrap_or_default()),
            Self::Tag => neutral(line.tag.clone().unwrap_or_default()),
            Self::Markup => line.markup_usd.to_string(),
            Self::Billed => line.billed_usd.to_string(),
        }
    }
}

/// The stable columns; every text that somebody chose is made harmless.
fn cells(line: UsageLine) -> [String; COLUMNS.len()] {
    [
        line.period_start,
        line.period_end,
        neutral(line.tenant),
        neutral(line.tenant_name),
        neutral(line.model),
        neutral(line.upstream),
        neutral(line.token),
        line.requests.to_string(),
        line.input_tokens.to_string(),
        line.cache_read_tokens.to_string(),
        line.cache_write_tokens.to_string(),
        line.output_tokens.to_string(),
        line.reasoning_tokens.to_string(),
        line.tool_calls.to_string(),
        line.sandbox_seconds.to_string(),
        line.storage_byte_days.to_string(),
        line.rate_card.to_string(),
        line.estimated_rows.to_string(),
        line.cost_usd.to_string(),
    ]
}

/// A writer of CSV as RFC 4180 has it.
pub(crate) fn writer<W: Write>(to: W) -> Writer<W> {
    WriterBuilder::new()
        .quote_style(QuoteStyle::Necessary)
        .terminator(Terminator::CRLF)
        .has_headers(false)
        .from_writer(to)
}

/// A cell that a spreadsheet would run as a formula gets an apostrophe before it (owasp.org, CSV injection).
pub(crate) fn neutral(cell: String) -> String {
    const STARTS: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
    let runs = cell.starts_with(['\t', '\r', '\n']) || cell.trim_start().starts_with(STARTS);
    if runs { format!("'{cell}") } else { cell }
}

pub(crate) fn refused(err: &csv::Error) -> StoreError {
    StoreError::Unavailable(format!("the report can't be written: {err}"))
}
