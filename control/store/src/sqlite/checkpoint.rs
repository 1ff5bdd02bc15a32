//! Checkpoints on a connection and thread of their own, so that the writer never pays for one. The same thread looks whether the
//! database's file is still where it was: SQLite goes on writing to one that was removed.
//!
//! The log is copied into the database while others read and write (PASSIVE). A writer begins it anew in a transaction that
//! began after all of it was copied, which is never so while one commit follows the other: it would grow by gigabytes, and be searched
//! for each page. SQLite's remedy (RESTART, TRUNCATE) copies while it keeps the writer out, for seconds. Here the writer is asked to put
//! rows off, which it can do safely (`defer`), until the log is copied; whoever waits for a commit is not held up by that.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use crate::error::{Result, StoreError};
use crate::sqlite::open;
use crate::sqlite::writer::Writer;

/// Pause between two looks at the log.
const EVERY: Duration = Duration::from_secs(1);
/// Bytes of a frame in the log: a page and its head (sqlite.org/fileformat2.html, 4.1).
const FRAME_BYTES: u64 = 4_096 + 24;
/// A log with more than this in it is to be begun anew, in bytes.
const LONG_BYTES: u64 = 256 << 20;
/// A file larger than this is given back to the file system once nothing is written to it: cutting it keeps the writer out, and takes
/// seconds for gigabytes.
const LARGE_BYTES: u64 = 64 << 20;
/// What is copied soon enough to put rows off meanwhile, in bytes.
const SHORT_BYTES: u64 = 16 << 20;
/// Rounds in which so little is to be left.
const ROUNDS: usize = 3;

/// The checkpoint thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    log_bytes: Arc<AtomicU64>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread, which tells `writer` whenever the file is gone or back, and when to put rows off.
    pub(crate) fn start(database: PathBuf, writer: Arc<Writer>) -> Result<Self> {
        let conn = open::writable(&database)?;
        let (place, file) = (database.clone(), identity(&database));
        // Truncation waits for readers: give up soon and try again later.
        conn.busy_timeout(Duration::from_millis(50))?;
        let log = Log::of(database, conn);
        let log_bytes = Arc::clone(&log.bytes);
        let (stop, stopped) = channel();
        let run = move || {
            let (mut seen, mut was_gone) = (None, false);
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                let is_gone = identity(&place) != file;
                if is_gone != was_gone {
                    was_gone = is_gone;
                    writer.set_gone(is_gone);
                    note(&place, is_gone);
                }
                let state = log.state();
                let tidied = if state == seen { log.give_back() } else { log.tidy(|held| writer.set_held(held)) };
                match tidied {
                    Ok(true) => seen = state,
                    Ok(false) => {}
                    Err(err) => tracing::warn!(%err, "checkpoint failed; the next one tries again"),
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(run)
            .map_err(|err| StoreError::Unavailable(format!("can't start a thread: {err}")))?;
        Ok(Self { log_bytes, stop: Some(stop), thread: Some(thread) })
    }

    /// What the log held when it was last looked at, in bytes; its file may be larger.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }
}

/// The log of a database.
struct Log {
    conn: Connection,
    path: PathBuf,
    long_bytes: u64,
    large_bytes: u64,
    /// What it held at the last copy.
    bytes: Arc<AtomicU64>,
}

impl Log {
    fn of(database: PathBuf, conn: Connection) -> Self {
        let mut path = database.into_os_string();
        path.push("-wal");
        Self { conn, path: path.into(), long_bytes: LONG_BYTES, large_bytes: LARGE_BYTES, bytes: Arc::default() }
    }

    /// What differs once something was written.
    fn state(&self) -> Option<(u64, Option<std::time::SystemTime>)> {
        std::fs::metadata(&self.path).ok().map(|file| (file.len(), file.modified().ok()))
    }

    /// Copies the log, as far as its readers let it; true when that was all of it. The end of a long one is copied while rows are put
    /// off, as `hold` is told, so that the next commit begins it anew: it would not if it had begun before all was copied.
    fn tidy(&self, hold: impl Fn(bool)) -> rusqlite::Result<bool> {
        let mut copied = self.copy()?;
        if copied.bytes <= self.long_bytes {
            return Ok(copied.is_whole);
        }
        // What was committed meanwhile is left, and less of it each time.
        for _ in 0..ROUNDS {
            let next = self.copy()?;
            let came = next.bytes.saturating_sub(copied.bytes);
            copied = next;
            if came <= SHORT_BYTES {
                break;
            }
        }
        hold(true);
        let is_whole = self.copy_to_its_end();
        hold(false);
        is_whole
    }

    /// Copies all there is; false where a reader needs it, or commits go on.
    fn copy_to_its_end(&self) -> rusqlite::Result<bool> {
        let first = self.copy()?;
        let second = self.copy()?;
        Ok(second.is_whole && second.bytes == first.bytes)
    }

    /// Copies what there is; nobody waits for that.
    fn copy(&self) -> rusqlite::Result<Copied> {
        self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            let (busy, frames, copied): (bool, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let bytes = u64::try_from(frames).unwrap_or_default() * FRAME_BYTES;
            self.bytes.store(bytes, Ordering::Relaxed);
            Ok(Copied { bytes, is_whole: !busy && copied >= frames })
        })
    }

    /// Empties a large file, of which all is copied; false where somebody reads it or writes to it.
    fn give_back(&self) -> rusqlite::Result<bool> {
        if self.state().is_none_or(|(bytes, _)| bytes <= self.large_bytes) {
            return Ok(true);
        }
        let is_cut = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(!row.get::<_, bool>(0)?))?;
        if is_cut {
            self.bytes.store(0, Ordering::Relaxed);
        }
        Ok(is_cut)
    }
}

/// What a checkpoint says.
struct Copied {
    /// What the log holds, whether it is copied or not.
    bytes: u64,
    is_whole: bool,
}

/// Which file there is, if any.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn note(database: &Path, is_gone: bool) {
    let path = database.display();
    if is_gone {
        tracing::error!(%path, "the database was moved or removed; paid requests are refused until it is back, or this is started again");
    } else {
        tracing::info!(%path, "the database is back");
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicI64};

    use super::*;

    /// A database with one row, and its log, which is long and large from the first frame on.
    fn log(dir: &Path) -> (Connection, Log) {
        let database = dir.join("x.db");
        let conn = open::writable(&database).unwrap();
        conn.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (0)").unwrap();
        let log = Log::of(database.clone(), open::writable(&database).unwrap());
        (conn, Log { long_bytes: 0, large_bytes: 0, ..log })
    }

    fn commit(conn: &Connection) {
        conn.execute("UPDATE t SET a = a + 1", []).unwrap();
    }

    fn file_bytes(log: &Log) -> u64 {
        log.state().unwrap().0
    }

    fn told_bytes(log: &Log) -> u64 {
        log.bytes.load(Ordering::Relaxed)
    }

    /// Counts how often the log was begun anew (sqlite.org/fileformat2.html, 4.1).
    fn sequence(log: &Log) -> u32 {
        u32::from_be_bytes(std::fs::read(&log.path).unwrap()[12..16].try_into().unwrap())
    }

    /// Says so once this is over, however it ends.
    struct Over<'a>(&'a AtomicBool);

    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }

    #[test]
    fn a_log_is_begun_anew_though_commits_never_cease() {
        let dir = tempfile::tempdir().unwrap();
        let (conn, log) = log(dir.path());
        let (held, over, conn) = (AtomicBool::new(false), AtomicBool::new(false), Mutex::new(conn));
        let commits = AtomicI64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    std::thread::yield_now();
                    let conn = conn.lock().unwrap();
                    if !held.load(Ordering::Acquire) {
                        commit(&conn);
                        commits.fetch_add(1, Ordering::AcqRel);
                    }
                }
            });
            let _end = Over(&over);
            for _ in 0..20 {
                let before = sequence(&log);
                let is_whole = log.tidy(|hold| {
                    held.store(hold, Ordering::Release);
                    if hold {
                        drop(conn.lock().unwrap());
                    }
                });
                assert!(is_whole.unwrap());
                let so_far = commits.load(Ordering::Acquire);
                while commits.load(Ordering::Acquire) < so_far + 2 {
                    std::thread::yield_now();
                }
                assert!(sequence(&log) > before);
            }
        });
        let conn = conn.into_inner().unwrap();
        let stored: i64 = conn.query_row("SELECT a FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(stored, commits.into_inner());
    }

    #[test]
    fn what_is_told_is_what_the_log_holds_and_not_what_its_file_has_room_for() {
        let dir = tempfile::tempdir().unwrap();
        let (conn, log) = log(dir.path());
        for _ in 0..20 {
            commit(&conn);
        }
        assert!(log.copy().unwrap().is_whole);
        let long = told_bytes(&log);
        assert_eq!(long + 32, file_bytes(&log), "frames, and the log's own head");
        commit(&conn);
        assert!(log.copy().unwrap().is_whole);
        assert_eq!((told_bytes(&log), file_bytes(&log)), (FRAME_BYTES, long + 32), "begun anew, in its place");
    }

    #[test]
    fn nobody_is_held_up_while_a_log_is_short() {
        let dir = tempfile::tempdir().unwrap();
        let (conn, mut log) = log(dir.path());
        commit(&conn);
        log.long_bytes = log.copy().unwrap().bytes;
        assert!(log.tidy(|_| panic!("held")).unwrap());
        log.long_bytes -= 1;
        let holds = std::cell::RefCell::new(Vec::new());
        assert!(log.tidy(|held| holds.borrow_mut().push(held)).unwrap());
        assert_eq!(*holds.borrow(), [true, false]);
    }

    #[test]
    fn a_large_file_is_given_back_once_nobody_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let (conn, mut log) = log(dir.path());
        log.conn.busy_timeout(Duration::ZERO).unwrap();
        let reader = open::read_only(&dir.path().join("x.db")).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
        commit(&conn);
        assert!(!log.tidy(|_| ()).unwrap(), "its reader needs what was before the last commit");
        assert!(!log.give_back().unwrap());
        drop(reader);
        assert!(log.tidy(|_| ()).unwrap());
        log.large_bytes = file_bytes(&log);
        assert!(log.give_back().unwrap());
        assert!(file_bytes(&log) > 0, "not large");
        log.large_bytes -= 1;
        assert!(log.give_back().unwrap());
        assert_eq!((file_bytes(&log), told_bytes(&log)), (0, 0));
        commit(&conn);
        let stored: i64 = conn.query_row("SELECT a FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(stored, 2);
    }
}
