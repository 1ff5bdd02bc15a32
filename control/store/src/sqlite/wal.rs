//! The write-ahead log after a failed sync.
//!
//! After a failed sync the kernel may have dropped what it could not write, and it reports that once: the next sync of the same
//! file succeeds over the hole. A commit that is merely tried again would be acknowledged and be lost with the next power cut.
//! So a log on which a sync failed is not appended to. Each commit in it, synced when it was made, is copied into the database
//! file by writes of its own and synced there; then the log is emptied, and the next commit begins it anew with bytes of its
//! own. Until all of that has succeeded nothing is acknowledged. A copy that fails begins anew too: SQLite counts a page as
//! copied only after the sync of the database file.
//!
//! A process that was killed may leave such a log to the next one, which can't know: every start empties the log first.

use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::error::{Result, StoreError};

/// How long a start waits for the readers of a process that is handing over. Its log is trusted then: it still runs.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether the log may be appended to.
#[derive(Debug, Default)]
pub(crate) struct Log {
    doubtful: bool,
}

impl Log {
    /// Empties a log on which a sync failed; does nothing to any other.
    pub(crate) fn renew(&mut self, conn: &Connection) -> Result<()> {
        if self.doubtful {
            if !empty(conn)? {
                return Err(StoreError::Unavailable("a log that could not be synced is still being read".to_owned()));
            }
            self.doubtful = false;
            tracing::warn!("the log that could not be synced was emptied into the database; writes are taken again");
        }
        Ok(())
    }

    /// Notes why a commit failed.
    pub(crate) fn failed(&mut self, err: rusqlite::Error) -> StoreError {
        self.doubtful |= err.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
        err.into()
    }
}

/// Empties what an earlier process left, before anything in it is relied on.
pub(crate) fn empty_at_start(conn: &Connection) -> Result<()> {
    let usual: u32 = conn.query_row("PRAGMA busy_timeout", [], |row| row.get(0))?;
    conn.busy_timeout(PATIENCE)?;
    let emptied = empty(conn)?;
    conn.busy_timeout(Duration::from_millis(usual.into()))?;
    if !emptied {
        tracing::info!("the log is in use by another process and was not emptied");
    }
    Ok(())
}

/// Copies every commit into the database and empties the log; false when somebody is using it.
fn empty(conn: &Connection) -> Result<bool> {
    Ok(conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))? == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::open;

    fn io_error() -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC), None)
    }

    fn full() -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None)
    }

    #[test]
    fn d_04_a_log_whose_sync_failed_is_emptied_before_it_is_used_again_and_a_full_disk_is_no_such_failure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let conn = open::writable(&path).unwrap();
        let log_bytes = || std::fs::metadata(dir.path().join("x.db-wal")).unwrap().len();
        conn.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1);").unwrap();
        let before = log_bytes();
        assert!(before > 0);
        let mut log = Log::default();
        log.failed(full());
        log.renew(&conn).unwrap();
        assert_eq!(log_bytes(), before, "nothing is wrong with this log");

        let reader = open::read_only(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM t;").unwrap();
        conn.busy_timeout(Duration::ZERO).unwrap();
        conn.execute("INSERT INTO t VALUES (2)", []).unwrap();
        log.failed(io_error());
        assert!(log.renew(&conn).is_err(), "its reader still needs it");
        drop(reader);
        log.renew(&conn).unwrap();
        assert_eq!(log_bytes(), 0);
        conn.execute("INSERT INTO t VALUES (3)", []).unwrap();
        let kept: i64 =
            open::read_only(&path).unwrap().query_row("SELECT sum(a) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 6);
    }
}
