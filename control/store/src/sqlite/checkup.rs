//! How a data directory's database is, seen from outside: nothing is written, and a running owner is not disturbed.

use std::path::Path;
use std::time::Duration;

use crate::error::Result;
use crate::sqlite::{migrate, open};

/// The most faults that are named.
const FAULTS: usize = 10;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkup {
    /// The version of the schema.
    pub schema: i64,
    /// The version that this program brings a database to.
    pub newest: i64,
    /// Whether the database is in WAL mode, on which its durability rests.
    pub wal: bool,
    /// Bytes of the write-ahead log.
    pub wal_bytes: u64,
    /// What `PRAGMA quick_check` says: nothing is good; `None` where it was not done in time.
    pub faults: Option<Vec<String>>,
}

/// Looks at the database in `dir`; `None` when there is none yet.
///
/// # Errors
/// When it can't be opened or is no database.
pub fn check_up(dir: &Path, patience: Duration) -> Result<Option<Checkup>> {
    let path = dir.join("openclawmu.db");
    if !path.exists() {
        return Ok(None);
    }
    let conn = open::read_only(&path)?;
    let schema = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let mode: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    let wal_bytes = std::fs::metadata(dir.join("openclawmu.db-wal")).map_or(0, |file| file.len());
    let faults = quick_check(&conn, patience)?;
    Ok(Some(Checkup { schema, newest: migrate::newest(), wal: mode == "wal", wal_bytes, faults }))
}

fn quick_check(conn: &rusqlite::Connection, patience: Duration) -> Result<Option<Vec<String>>> {
    let interrupt = conn.get_interrupt_handle();
    let (done, over) = std::sync::mpsc::channel::<()>();
    let found = std::thread::scope(|scope| {
        scope.spawn(move || {
            if over.recv_timeout(patience) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
        let found = conn.prepare(&format!("PRAGMA quick_check({FAULTS})")).and_then(|mut check| {
            let said = check.query_map([], |row| row.get::<_, String>(0))?;
            said.collect::<rusqlite::Result<Vec<String>>>()
        });
        drop(done);
        found
    });
    match found {
        Ok(said) if said == ["ok"] => Ok(Some(Vec::new())),
        Ok(faults) => Ok(Some(faults)),
        Err(rusqlite::Error::SqliteFailure(err, _)) if err.code == rusqlite::ErrorCode::OperationInterrupted => {
            Ok(None)
        }
        Err(err) => Err(err.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::migrate;

    #[test]
    fn a_good_database_has_no_faults_and_a_damaged_one_has() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check_up(dir.path(), Duration::from_secs(10)).unwrap(), None);
        let path = dir.path().join("openclawmu.db");
        let mut conn = open::writable(&path).unwrap();
        migrate::run(&mut conn).unwrap();
        conn.execute_batch("CREATE TABLE t (a TEXT); CREATE INDEX i ON t (a)").unwrap();
        for number in 0..2_000 {
            conn.execute("INSERT INTO t VALUES (?1)", [format!("{number:0>200}")]).unwrap();
        }
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let good = check_up(dir.path(), Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!((good.schema, good.wal, good.faults), (good.newest, true, Some(Vec::new())));
        drop(conn);
        let mut bytes = std::fs::read(&path).unwrap();
        let pages = bytes.len() / 4096;
        for page in (pages / 2)..(pages - 1) {
            bytes[page * 4096..page * 4096 + 64].fill(0xff);
        }
        std::fs::write(&path, bytes).unwrap();
        let damaged = check_up(dir.path(), Duration::from_secs(60)).unwrap().unwrap();
        assert!(!damaged.faults.unwrap().is_empty());
        std::fs::write(&path, b"this is no database, whatever its name says").unwrap();
        assert!(check_up(dir.path(), Duration::from_secs(60)).is_err());
    }
}
