//! What tenants' files take of the disk, summed over time: byte-days, by each tenant's own calendar days.
//!
//! Files are looked at now and then. Between two looks they count as what the earlier one found: what is written counts from the
//! look that sees it, what is removed counts until then. Each look moves the moment up to which a tenant's files are summed, in
//! the transaction of its sums, so that neither a second process, a restart nor a clock that goes back counts any time twice; time
//! in which no gateway ran counts, since the files were there.
//!
//! A byte-day is one byte for 24 hours. Sums are exact, in integers; a day's are shown rounded down, once, so that the sum of any
//! days and tenants is that of what is shown of each.

use rusqlite::{OptionalExtension, Transaction, params};

use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::TenantKey;
use crate::store::Store;
use crate::window::{Windows, Zone};

/// Milliseconds of 24 hours, which are a byte-day of one byte.
const BYTE_DAY_MS: i128 = 86_400_000;

/// What a look at a tenant's files found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageLook {
    /// Whose.
    pub tenant: TenantKey,
    /// What they take of the disk.
    pub bytes: u64,
    /// When.
    pub at: UnixMs,
}

impl Store {
    /// Adds the time since the last look at each tenant's files to its sums. A tenant that has been deleted stays as it ended.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; then nothing of it is noted, and the next look makes up for it.
    pub async fn note_storage(&self, looks: Vec<StorageLook>) -> Result<()> {
        let note = move |tx: &Transaction<'_>| looks.iter().try_for_each(|look| note(tx, look));
        self.inner.writer().run_aside(note).await
    }
}

fn note(tx: &Transaction<'_>, look: &StorageLook) -> Result<()> {
    let sql = "SELECT timezone FROM tenants WHERE row_id = ?1 AND status <> 'deleted'";
    let zone: Option<String> = tx.prepare_cached(sql)?.query_row([look.tenant.0], |row| row.get(0)).optional()?;
    let Some(zone) = zone else { return Ok(()) };
    let bytes = i64::try_from(look.bytes).unwrap_or(i64::MAX);
    let last = last(tx, look.tenant)?;
    // Nothing for any time is nothing: tenants without files have no row, and cost no write.
    if bytes == 0 && last.is_none_or(|(bytes, _)| bytes == 0) {
        return Ok(());
    }
    let zone = Zone::parse(&zone).map_err(StoreError::Corrupt)?;
    let mut until = look.at;
    if let Some((bytes, from)) = last {
        add(tx, look.tenant, &zone, (bytes, from, look.at))?;
        until = UnixMs(until.0.max(from.0));
    }
    let sql = "INSERT INTO storage_looks (tenant, bytes, at_ms) VALUES (?1, ?2, ?3)
        ON CONFLICT (tenant) DO UPDATE SET bytes = excluded.bytes, at_ms = excluded.at_ms";
    tx.prepare_cached(sql)?.execute(params![look.tenant.0, bytes, until.0])?;
    Ok(())
}

/// A tenant's files end with it.
pub(crate) fn end(tx: &Transaction<'_>, tenant: TenantKey, zone: &str, now: UnixMs) -> Result<()> {
    if let Some((bytes, from)) = last(tx, tenant)? {
        let zone = Zone::parse(zone).map_err(StoreError::Corrupt)?;
        add(tx, tenant, &zone, (bytes, from, now))?;
        tx.execute("DELETE FROM storage_looks WHERE tenant = ?1", [tenant.0])?;
    }
    Ok(())
}

/// How much the last look found, and when.
fn last(tx: &Transaction<'_>, tenant: TenantKey) -> Result<Option<(i64, UnixMs)>> {
    let sql = "SELECT bytes, at_ms FROM storage_looks WHERE tenant = ?1";
    let found = tx.prepare_cached(sql)?.query_row([tenant.0], |row| Ok((row.get(0)?, UnixMs(row.get(1)?))));
    Ok(found.optional()?)
}

/// Adds `bytes` from one moment to another to the days that they are in.
fn add(
    tx: &Transaction<'_>,
    tenant: TenantKey,
    zone: &Zone,
    (bytes, mut from, to): (i64, UnixMs, UnixMs),
) -> Result<()> {
    while bytes > 0 && from < to {
        let Windows { day, day_ends_at, .. } = Windows::at(from, zone);
        let until = day_ends_at.min(to);
        // The calendar has an end, in the year 9999.
        if until <= from {
            return Ok(());
        }
        add_to_day(tx, tenant, day, i128::from(bytes) * i128::from(until.0 - from.0))?;
        from = until;
    }
    Ok(())
}

fn add_to_day(tx: &Transaction<'_>, tenant: TenantKey, day: i32, byte_ms: i128) -> Result<()> {
    let key = params![Windows::month_of_day(day), tenant.0, day];
    let sql = "SELECT byte_days, rest_byte_ms FROM storage_days WHERE month = ?1 AND tenant = ?2 AND day = ?3";
    let found = tx.prepare_cached(sql)?.query_row(key, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
    let (whole, rest) = found.optional()?.unwrap_or_default();
    let byte_ms = byte_ms + i128::from(rest);
    let whole = i64::try_from(i128::from(whole) + byte_ms / BYTE_DAY_MS);
    let rest = i64::try_from(byte_ms % BYTE_DAY_MS);
    let (Ok(whole), Ok(rest)) = (whole, rest) else {
        return Err(StoreError::Corrupt("a day's storage is past any number".to_owned()));
    };
    let sql = "INSERT INTO storage_days (month, tenant, day, byte_days, rest_byte_ms) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (month, tenant, day) DO UPDATE SET byte_days = excluded.byte_days, rest_byte_ms = excluded.rest_byte_ms";
    tx.prepare_cached(sql)?.execute(params![Windows::month_of_day(day), tenant.0, day, whole, rest])?;
    Ok(())
}

#[cfg(test)]
mod tests;
