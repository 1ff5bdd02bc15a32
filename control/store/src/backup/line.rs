//! Ledger rows as JSON lines: every column, and the names behind the keys. The form of the archive's files.

use rusqlite::{Connection, params_from_iter};
use serde_json::Value;

use crate::backup::table::{self, RowObject, number, text};
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::{LabelKey, ReservationId, TenantKey, TokenKey};
use crate::label::{Label, NewLabel};
use crate::ledger::ROW_COLUMNS;
use crate::ledger::rollup::USAGE_COLUMNS;
use crate::ledger::row::{LedgerRow, Outcome, Reservation, SANDBOX, Settlement};
use crate::money::{Markup, NanoUsd};
use crate::usage::{ServiceTier, Usage};

/// Gives each row that `filter` finds to `each`.
pub(super) fn each(
    conn: &Connection,
    filter: &str,
    parameters: &[i64],
    each: &mut dyn FnMut(RowObject) -> Result<()>,
) -> Result<()> {
    let mut statement = conn.prepare_cached(&format!("{ROW_COLUMNS} {filter}"))?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query(params_from_iter(parameters))?;
    while let Some(row) = rows.next()? {
        let mut object = table::object(&names, row)?;
        if let Some(tags) = object.get_mut("tags") {
            *tags = tags.as_str().map(serde_json::from_str).transpose()?.unwrap_or_default();
        }
        each(object)?;
    }
    Ok(())
}

/// Whose row a line is, in this store's own keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    pub(super) tenant: TenantKey,
    pub(super) token: TokenKey,
    pub(super) model: u32,
    pub(super) upstream: u32,
    pub(super) label: LabelKey,
}

/// The row of a line, under the id that it has there.
pub(super) fn row(line: &RowObject, keys: Keys) -> Result<LedgerRow> {
    let small = |name: &str| -> Result<u32> { fits(number(line, name)?, name) };
    let is_run = line.get("upstream_name").and_then(Value::as_str) == Some(SANDBOX);
    let reservation = Reservation {
        id: ReservationId(number(line, "id")?),
        request_id: text(line, "request_id")?.parse().map_err(|err| StoreError::Corrupt(format!("{err}")))?,
        attempt: fits(number(line, "attempt")?, "attempt")?,
        stream: number(line, "stream")? != 0,
        tenant: keys.tenant,
        token: keys.token,
        model: keys.model,
        upstream: keys.upstream,
        rate_card: small("rate_card")?,
        admitted_at: UnixMs(number(line, "admitted_at_ms")?),
        day: fits(number(line, "day")?, "day")?,
        month: fits(number(line, "month")?, "month")?,
        reserved: NanoUsd(number(line, "reserved_nanos")?),
        reserved_tokens: fits(number(line, "reserved_tokens")?, "reserved_tokens")?,
        input_bound: 0,
        sandbox_seconds: if is_run { small("input_ms")? / 1000 } else { 0 },
        service_tier: tier(line)?,
        label: keys.label,
        markup: Markup::from_ppm(small("markup_ppm")?),
        secret: None,
    };
    let outcome = Outcome::of_name(text(line, "outcome")?)
        .ok_or_else(|| StoreError::Corrupt("a ledger row's outcome is unknown".to_owned()))?;
    let mut counts = [0_u32; Usage::COUNTS];
    for (count, name) in counts.iter_mut().zip(USAGE_COLUMNS) {
        // A count that came with a later schema was nothing before.
        *count = if line.contains_key(name) { small(name)? } else { 0 };
    }
    let settlement = Settlement {
        outcome,
        http_status: fits(number(line, "http_status")?, "http_status")?,
        estimated: number(line, "estimated")? != 0,
        usage: Usage::from_counts(counts),
        service_tier: reservation.service_tier,
        first_byte_ms: small("first_byte_ms")?,
        duration_ms: small("duration_ms")?,
    };
    let row = LedgerRow {
        reservation,
        settlement,
        cost: NanoUsd(number(line, "cost_nanos")?),
        held: NanoUsd(number(line, "held_nanos")?),
        held_tokens: number(line, "held_tokens")?,
    };
    if row.markup().0 == number(line, "markup_nanos")? {
        Ok(row)
    } else {
        Err(StoreError::Corrupt("a ledger row's markup is not that of its cost".to_owned()))
    }
}

/// The label of a line, where it has one.
pub(super) fn label(line: &RowObject, tenant: TenantKey) -> Option<NewLabel> {
    let mut label = Label::default();
    label.set_user(line.get("user").and_then(Value::as_str).unwrap_or_default());
    for tag in line.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        label.add_tag(tag);
    }
    (label != Label::default()).then(|| NewLabel::new(tenant, &label))
}

fn tier(line: &RowObject) -> Result<ServiceTier> {
    let name = text(line, "service_tier")?;
    serde_json::from_value(Value::from(name)).map_err(|_| StoreError::Corrupt(format!("no service tier is `{name}`")))
}

fn fits<T: TryFrom<i64>>(value: i64, name: &str) -> Result<T> {
    T::try_from(value).map_err(|_| StoreError::Corrupt(format!("a ledger row's `{name}` is {value}")))
}
