//! Ledger rows that no segment of the backup has yet.
//!
//! A row's id says when it was admitted, not when it was written, so a cursor would miss rows. Each row that is inserted
//! is noted, and whoever has shipped it takes the note away.

use rusqlite::Transaction;

use crate::backup::line;
use crate::backup::table::{RowObject, number};
use crate::error::Result;
use crate::store::Store;

const IS_ON: &str = "SELECT 1 FROM backup_state WHERE name = 'feed'";

/// Notes rows that are inserted, in their transaction, where that is on; calls `meanwhile` again and again.
pub(crate) fn note(tx: &Transaction<'_>, ids: impl Iterator<Item = i64>, meanwhile: &mut impl FnMut()) -> Result<()> {
    if !tx.prepare_cached(IS_ON)?.exists([])? {
        return Ok(());
    }
    let mut insert = tx.prepare_cached("INSERT INTO ledger_feed (id) VALUES (?1)")?;
    for id in ids {
        meanwhile();
        insert.execute([id])?;
    }
    Ok(())
}

impl Store {
    /// Has every ledger row noted from now on, or none. What was noted before stays until it is shipped.
    ///
    /// # Errors
    /// [`crate::StoreError::Unavailable`].
    pub async fn feed_ledger(&self, on: bool) -> Result<()> {
        if self.inner.reader.with(|conn| Ok(conn.prepare_cached(IS_ON)?.exists([])?))? == on {
            return Ok(());
        }
        let set = move |tx: &Transaction<'_>| {
            let sql = if on {
                "INSERT INTO backup_state (name, value) VALUES ('feed', 'on') ON CONFLICT DO NOTHING"
            } else {
                "DELETE FROM backup_state WHERE name = 'feed'"
            };
            tx.execute(sql, [])?;
            Ok(())
        };
        self.inner.writer().run_aside(set).await
    }

    /// At most `limit` rows that were noted, oldest admission first. Blocks.
    ///
    /// # Errors
    /// [`crate::StoreError::Unavailable`].
    pub fn fed_ledger(&self, limit: u32) -> Result<Vec<RowObject>> {
        self.inner.reader.with(|conn| {
            let mut rows = Vec::new();
            let filter = "JOIN ledger_feed f ON f.id = l.id ORDER BY f.id LIMIT ?1";
            line::each(conn, filter, &[limit.into()], &mut |row| {
                rows.push(row);
                Ok(())
            })?;
            Ok(rows)
        })
    }

    /// These rows have been shipped.
    ///
    /// # Errors
    /// [`crate::StoreError::Unavailable`]: they are shipped again, which changes nothing.
    pub async fn ledger_shipped(&self, rows: &[RowObject]) -> Result<()> {
        let ids = rows.iter().map(|row| number(row, "id")).collect::<Result<Vec<_>>>()?;
        let take = move |tx: &Transaction<'_>| {
            let mut statement = tx.prepare_cached("DELETE FROM ledger_feed WHERE id = ?1")?;
            for id in ids {
                statement.execute([id])?;
            }
            Ok(())
        };
        self.inner.writer().run_aside(take).await
    }

    /// How many rows are noted.
    ///
    /// # Errors
    /// [`crate::StoreError::Unavailable`].
    pub fn ledger_unshipped(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM ledger_feed";
        let count: i64 =
            self.inner.reader.with(|conn| Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?))?;
        Ok(count.unsigned_abs())
    }
}
