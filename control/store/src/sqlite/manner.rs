//! How the writer's connection is set: for anything, or for rows alone in large numbers.
//!
//! A batch of many rows changes far more pages than SQLite keeps by itself, and would read them anew for each row; and it names
//! each tenant many times, which is looked up once by whoever writes the batch instead of once for each row.

use rusqlite::Connection;

use crate::error::{Result, StoreError};

/// The memory of a connection's pages, in KiB, as SQLite has it: below zero.
const USUAL_CACHE_KIB: i32 = -2_000;
/// The same for many rows, kept as long as they keep coming: the next batch changes much the same pages.
const LARGE_CACHE_KIB: i32 = -49_152;

/// What the connection is set to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Manner {
    /// References are checked by the engine.
    #[default]
    Usual,
    /// They are not: whoever inserts rows has checked their tenants.
    ManyRows,
}

impl Manner {
    /// Sets the connection, outside a transaction. Does nothing where it is set so already.
    ///
    /// # Errors
    /// Where the engine does not follow: nothing may be written then, and this is to be called again.
    pub(super) fn set(&mut self, conn: &Connection, manner: Self) -> Result<()> {
        if *self == manner {
            return Ok(());
        }
        let (cache, checks) = match manner {
            Self::Usual => (USUAL_CACHE_KIB, true),
            Self::ManyRows => (LARGE_CACHE_KIB, false),
        };
        conn.pragma_update(None, "cache_size", cache)?;
        conn.pragma_update(None, "foreign_keys", checks)?;
        // Within a transaction the engine ignores this, and says nothing.
        let is_set: bool = conn.pragma_query_value(None, "foreign_keys", |row| row.get(0))?;
        if is_set != checks {
            return Err(StoreError::Unavailable("SQLite's checks of references can't be set".to_owned()));
        }
        *self = manner;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::open;

    #[test]
    fn references_are_checked_again_before_anything_but_rows_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let conn = open::writable(&dir.path().join("x.db")).unwrap();
        conn.execute_batch("CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (a REFERENCES a (id))").unwrap();
        let orphan = || conn.execute("INSERT INTO b VALUES (7)", []).is_ok();
        let mut manner = Manner::default();
        assert!(!orphan());
        manner.set(&conn, Manner::ManyRows).unwrap();
        assert!(orphan());
        conn.execute_batch("BEGIN").unwrap();
        assert!(manner.set(&conn, Manner::Usual).is_err(), "the engine does not follow in a transaction");
        assert_eq!(manner, Manner::ManyRows);
        conn.execute_batch("ROLLBACK").unwrap();
        manner.set(&conn, Manner::Usual).unwrap();
        assert!(!orphan());
    }
}
