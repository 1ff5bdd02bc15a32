//! The table of batches.

use rusqlite::{Connection, Row, Transaction, params};

use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::{LabelKey, ReservationId, TenantKey, TokenKey};
use crate::ledger::batch::Batch;
use crate::ledger::row::{Reservation, signed, unsigned};
use crate::money::{Markup, NanoUsd};
use crate::usage::ServiceTier;

/// Keeps a batch that is about to be asked for.
pub(super) fn insert(tx: &Transaction<'_>, batch: &Batch) -> Result<()> {
    let admitted = &batch.reservation;
    let sql = "INSERT INTO batches (hold, id, tenant, upstream, own_key, input_file, sent_file, token, model, upstream_key, rate_card,
             label, request_id, attempt, admitted_at_ms, day, month, reserved_nanos, reserved_tokens, markup_ppm, ended_at_ms)
         VALUES (?1, NULL, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, NULL)";
    tx.prepare_cached(sql)?.execute(params![
        admitted.id.0,
        admitted.tenant.0,
        batch.upstream,
        batch.own_key,
        batch.input_file,
        batch.sent_file,
        admitted.token.0,
        admitted.model,
        admitted.upstream,
        admitted.rate_card,
        admitted.label.0,
        admitted.request_id.to_string(),
        admitted.attempt,
        admitted.admitted_at.0,
        admitted.day,
        admitted.month,
        admitted.reserved.0,
        signed(admitted.reserved_tokens),
        admitted.markup.ppm(),
    ])?;
    Ok(())
}

/// What [`read`] reads.
pub(super) const SELECT: &str = "SELECT (SELECT id FROM tenants WHERE row_id = b.tenant), b.id, b.upstream, b.own_key, b.input_file, b.sent_file,
     b.ended_at_ms IS NOT NULL, EXISTS (SELECT 1 FROM adjustments WHERE resolves = b.hold), b.hold, b.request_id, b.attempt, b.tenant,
     b.token, b.model, b.upstream_key, b.rate_card, b.admitted_at_ms, b.day, b.month, b.reserved_nanos, b.reserved_tokens, b.label,
     b.markup_ppm FROM batches b";

/// A row of [`SELECT`].
pub(super) fn read(row: &Row<'_>) -> Result<Batch> {
    Ok(Batch {
        tenant: row.get::<_, String>(0)?.parse().map_err(|err| StoreError::Corrupt(format!("{err}")))?,
        id: row.get(1)?,
        upstream: row.get(2)?,
        own_key: row.get(3)?,
        input_file: row.get(4)?,
        sent_file: row.get(5)?,
        ended: row.get(6)?,
        resolved: row.get(7)?,
        reservation: Reservation {
            id: ReservationId(row.get(8)?),
            request_id: row.get::<_, String>(9)?.parse().map_err(|err| StoreError::Corrupt(format!("{err}")))?,
            attempt: row.get(10)?,
            stream: false,
            tenant: TenantKey(row.get(11)?),
            token: TokenKey(row.get(12)?),
            model: row.get(13)?,
            upstream: row.get(14)?,
            rate_card: row.get(15)?,
            admitted_at: UnixMs(row.get(16)?),
            day: row.get(17)?,
            month: row.get(18)?,
            reserved: NanoUsd(row.get(19)?),
            reserved_tokens: unsigned(row, 20)?,
            input_bound: 0,
            sandbox_seconds: 0,
            service_tier: ServiceTier::Batch,
            label: LabelKey(row.get(21)?),
            markup: Markup::from_ppm(row.get(22)?),
            secret: None,
        },
    })
}

/// Whether a batch that was admitted in this month or before it has not ended.
pub(in crate::ledger) fn runs_since(conn: &Connection, month: i32) -> Result<bool> {
    Ok(conn.prepare_cached("SELECT 1 FROM batches WHERE ended_at_ms IS NULL AND month <= ?1")?.exists([month])?)
}
