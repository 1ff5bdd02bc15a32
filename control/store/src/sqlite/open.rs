//! Opens connections with the settings that the durability rules rest on.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::{Result, StoreError};

/// The oldest SQLite whose WAL is free of the WAL-reset bug (sqlite.org/wal.html).
const OLDEST_SQLITE: i32 = 3_051_003;
/// How long a connection waits for another process's write to end.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Pages that one transaction may change before they are written ahead of its end, some of them over and over: what a large
/// batch of rows changes. Between transactions SQLite keeps as few as ever.
const SPILL_PAGES: u32 = 8_192;

/// Refuses a linked SQLite that can corrupt a WAL database.
pub(crate) fn check_version(number: i32, name: &str) -> Result<()> {
    if number < OLDEST_SQLITE { Err(StoreError::SqliteTooOld(name.to_owned())) } else { Ok(()) }
}

/// A connection that may write. WAL, FULL sync, no automatic checkpoint.
pub(crate) fn writable(path: &Path) -> Result<Connection> {
    check_version(rusqlite::version_number(), rusqlite::version())?;
    let conn = Connection::open(path).map_err(|err| data_dir(path, &err))?;
    configure(&conn).map_err(|err| data_dir(path, &err))?;
    Ok(conn)
}

/// A connection that can't write.
pub(crate) fn read_only(path: &Path) -> Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    keep_plans(&conn)?;
    Ok(conn)
}

fn configure(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "cache_spill", SPILL_PAGES)?;
    keep_plans(conn)
}

/// Prepares each statement once. Without the query planner's stability guarantee a statement whose plan could depend on
/// a parameter is prepared again whenever that parameter changes, which makes a point SELECT several times as dear.
fn keep_plans(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn data_dir(path: &Path, err: &rusqlite::Error) -> StoreError {
    let reason =
        format!("can't open the database ({err}); check that the directory exists, is writable and has free space");
    StoreError::DataDir { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_08_an_old_sqlite_is_refused_and_the_bundled_one_is_not() {
        assert!(matches!(check_version(3_051_002, "3.51.2"), Err(StoreError::SqliteTooOld(_))));
        assert!(check_version(rusqlite::version_number(), rusqlite::version()).is_ok());
    }

    #[test]
    fn d_01_what_a_writer_commits_is_synced_to_a_log_that_only_the_checkpointer_empties() {
        let dir = tempfile::tempdir().unwrap();
        let conn = writable(&dir.path().join("x.db")).unwrap();
        let number =
            |pragma: &str| conn.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(
            (number("synchronous"), number("wal_autocheckpoint"), number("foreign_keys")),
            (2, 0, 1),
            "2 is FULL"
        );
        let mode: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn a_read_only_connection_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        writable(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        assert!(read_only(&path).unwrap().execute("INSERT INTO t VALUES (1)", []).is_err());
    }
}
