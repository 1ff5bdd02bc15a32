//! Checkpoints on a connection and thread of their own, so that the writer never pays for one. The same thread looks whether the
//! database's file is still where it was: SQLite goes on writing to one that was removed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Result, StoreError};
use crate::sqlite::open;

/// Pause between two looks at the WAL.
const EVERY: Duration = Duration::from_secs(1);
/// A WAL larger than this is truncated at the next quiet moment, in bytes.
const TRUNCATE_ABOVE_BYTES: u64 = 64 << 20;

/// The checkpoint thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread; `tell` hears whether the file is gone, whenever that changes.
    pub(crate) fn start(database: PathBuf, tell: impl Fn(bool) + Send + 'static) -> Result<Self> {
        let conn = open::writable(&database)?;
        let (place, file) = (database.clone(), identity(&database));
        // Truncation waits for readers: give up soon and try again later.
        conn.busy_timeout(Duration::from_millis(50))?;
        let mut wal = database.into_os_string();
        wal.push("-wal");
        let wal = PathBuf::from(wal);
        let (stop, stopped) = channel();
        let run = move || {
            let (mut seen, mut was_gone) = (None, false);
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                let is_gone = identity(&place) != file;
                if is_gone != was_gone {
                    was_gone = is_gone;
                    tell(is_gone);
                    note(&place, is_gone);
                }
                let state = std::fs::metadata(&wal).ok().map(|meta| (meta.len(), meta.modified().ok()));
                if state == seen {
                    continue;
                }
                let large = state.is_some_and(|(bytes, _)| bytes > TRUNCATE_ABOVE_BYTES);
                let pragma = if large { "PRAGMA wal_checkpoint(TRUNCATE)" } else { "PRAGMA wal_checkpoint(PASSIVE)" };
                match conn.query_row(pragma, [], |row| row.get::<_, i64>(0)) {
                    Ok(0) => seen = std::fs::metadata(&wal).ok().map(|meta| (meta.len(), meta.modified().ok())),
                    Ok(_) => {}
                    Err(err) => tracing::warn!(%err, "checkpoint failed; the next one tries again"),
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(run)
            .map_err(|err| StoreError::Unavailable(format!("can't start a thread: {err}")))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
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
