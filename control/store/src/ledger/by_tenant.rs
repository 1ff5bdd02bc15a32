//! The ledger by tenant and time: an entry for each row, put in by batch in the order of its key.

use rusqlite::{Transaction, params};

use crate::error::Result;
use crate::ledger::row::LedgerRow;

/// Rows as `l`, found by the tenant and the time of their entry `b`.
pub(crate) const ROWS: &str = "ledger_by_tenant b CROSS JOIN ledger l ON l.id = b.id";
/// The ids of the rows of tenant `?1`.
pub(crate) const IDS: &str = "(SELECT id FROM ledger_by_tenant WHERE tenant = ?1)";

const INSERT: &str = "INSERT INTO ledger_by_tenant (tenant, admitted_at_ms, id) VALUES (?1, ?2, ?3)";

/// A row's key, in the order of the columns.
pub(super) fn key(row: &LedgerRow) -> (i64, i64, i64) {
    let r = &row.reservation;
    (r.tenant.0, r.admitted_at.0, r.id.0)
}

/// Adds the entries of rows in their order; calls `meanwhile` again and again.
pub(super) fn insert(tx: &Transaction<'_>, rows: &[&LedgerRow], meanwhile: &mut impl FnMut()) -> Result<()> {
    let mut insert = tx.prepare_cached(INSERT)?;
    for row in rows {
        meanwhile();
        let (tenant, at, id) = key(row);
        insert.execute(params![tenant, at, id])?;
    }
    Ok(())
}
