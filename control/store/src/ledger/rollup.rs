//! The sums by day and key, kept in the transaction of the rows that they sum. Reports are made of these alone.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rusqlite::{Transaction, params_from_iter};

use crate::error::Result;
use crate::ledger::row::{LedgerRow, Outcome};
use crate::usage::Usage;

/// The columns of a row's key.
const KEYS: [&str; 8] = ["month", "tenant", "day", "model", "upstream", "token", "rate_card", "label"];
/// The sums before those of [`Usage::counts`].
const COUNTS: [&str; 3] = ["requests", "attempts", "estimated_rows"];
/// The sums of [`Usage::counts`], in its order.
pub(crate) const USAGE_COLUMNS: [&str; Usage::COUNTS] = [
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "tool_calls",
    "input_images",
    "output_images",
    "input_characters",
    "output_characters",
    "input_ms",
    "output_ms",
    "input_image_tokens",
    "output_image_tokens",
];
/// The sums of money.
const MONEY: [&str; 3] = ["cost_nanos", "markup_nanos", "held_nanos"];

const SUMS: usize = COUNTS.len() + USAGE_COLUMNS.len() + MONEY.len();

type Key = [i64; KEYS.len()];

static ADD: LazyLock<String> = LazyLock::new(|| {
    let sums = || COUNTS.iter().chain(&USAGE_COLUMNS).chain(&MONEY).copied();
    let columns: Vec<&str> = KEYS.iter().copied().chain(sums()).collect();
    let places = vec!["?"; columns.len()].join(", ");
    let added: Vec<String> = sums().map(|sum| format!("{sum} = {sum} + excluded.{sum}")).collect();
    format!(
        "INSERT INTO usage_days ({}) VALUES ({places}) ON CONFLICT ({}) DO UPDATE SET {}",
        columns.join(", "),
        KEYS.join(", "),
        added.join(", ")
    )
});

/// Adds rows of one tenant to the sums; calls `meanwhile` again and again: each of them may be of another user.
pub(super) fn add(tx: &Transaction<'_>, rows: &[&LedgerRow], meanwhile: &mut impl FnMut()) -> Result<()> {
    let mut added: BTreeMap<Key, [i64; SUMS]> = BTreeMap::new();
    for row in rows {
        let sums = added.entry(key(row)).or_insert([0; SUMS]);
        for (sum, value) in sums.iter_mut().zip(values(row)) {
            // Past 2^63 of anything a report would be wrong; no row of any age comes near.
            *sum = sum.saturating_add(value);
        }
    }
    let mut add = tx.prepare_cached(&ADD)?;
    for (key, sums) in added {
        meanwhile();
        add.execute(params_from_iter(key.into_iter().chain(sums)))?;
    }
    Ok(())
}

/// A row's key, in the order of the columns.
fn key(row: &LedgerRow) -> Key {
    let r = &row.reservation;
    [
        r.month.into(),
        r.tenant.0,
        r.day.into(),
        r.model.into(),
        r.upstream.into(),
        r.token.0,
        r.rate_card.into(),
        r.label.0,
    ]
}

/// What one row adds, in the order of the columns. An adjustment is no attempt of anybody.
fn values(row: &LedgerRow) -> impl Iterator<Item = i64> {
    let is_attempt = match row.settlement.outcome {
        Outcome::Complete | Outcome::Partial | Outcome::Void | Outcome::Recovered | Outcome::Abandoned => true,
        Outcome::Credit | Outcome::Resolved => false,
    };
    let counts = [is_attempt && row.reservation.attempt == 0, is_attempt, row.settlement.estimated].map(i64::from);
    let usage = row.settlement.usage.counts().map(i64::from);
    let money = [row.cost.0, row.markup().0, row.held.0];
    counts.into_iter().chain(usage).chain(money)
}
