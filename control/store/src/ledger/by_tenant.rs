//! The ledger by tenant and time: an entry for each row, put in by batch in the order of its key.

use rusqlite::{Transaction, params};

use crate::error::Result;
use crate::ledger::row::LedgerRow;

/// Rows as `l`, found by the tenant and the time of their entry `b`.
pub(crate) const ROWS: &str = "ledger_by_tenant b CROSS JOIN ledger l ON l.id = b.id";
/// The ids of the rows of tenant `?1`.
pub(crate) const IDS: &str = "(SELECT id FROM ledger_by_tenant WHERE tenant = ?1)";

const INSERT: &str = "INSERT INTO ledger_by_tenant (tenant, admitted_at_ms, id) VALUES (?1, ?2, ?3)";

/// The entries of a batch.
#[derive(Default)]
pub(super) struct Entries(Vec<(i64, i64, i64)>);

impl Entries {
    pub(super) fn add(&mut self, row: &LedgerRow) {
        let r = &row.reservation;
        self.0.push((r.tenant.0, r.admitted_at.0, r.id.0));
    }

    /// The rows' ids.
    pub(super) fn ids(&self) -> impl Iterator<Item = i64> {
        self.0.iter().map(|&(.., id)| id)
    }

    /// Adds them to what there is; calls `meanwhile` again and again.
    pub(super) fn write(mut self, tx: &Transaction<'_>, meanwhile: &mut impl FnMut()) -> Result<()> {
        self.0.sort_unstable();
        let mut insert = tx.prepare_cached(INSERT)?;
        for (tenant, at, id) in self.0 {
            meanwhile();
            insert.execute(params![tenant, at, id])?;
        }
        Ok(())
    }
}
