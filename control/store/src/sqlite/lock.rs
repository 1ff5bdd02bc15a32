//! One process owns a data directory's ledger; the kernel drops the lock with the process, however it ends.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Result, StoreError};

/// Pause between two tries while the old process hands over.
const RETRY: Duration = Duration::from_millis(5);

/// An exclusive lock on a file, held until it is dropped.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock, waiting for at most `patience`; `None` when another process kept it.
    pub(crate) fn take(path: &Path, patience: Duration) -> Result<Option<Self>> {
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path).map_err(
                |err| StoreError::DataDir {
                    path: path.to_owned(),
                    reason: format!("{err}; check that the directory exists and is writable for this user"),
                },
            )?;
        let deadline = Instant::now() + patience;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self { file })),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() >= deadline => return Ok(None),
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(RETRY),
                Err(err) => {
                    return Err(StoreError::DataDir {
                        path: path.to_owned(),
                        reason: format!("can't be locked: {err}"),
                    });
                }
            }
        }
    }

    /// The locked file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for FileLock {
    /// Said, not left to the closing: a child that was forked meanwhile has the file open until it is another program.
    fn drop(&mut self) {
        if let Err(err) = flock(&self.file, FlockOperation::Unlock) {
            tracing::warn!(%err, "a lock is let go of with its file alone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_05_a_second_owner_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = FileLock::take(&path, Duration::ZERO).unwrap().unwrap();
        assert!(FileLock::take(&path, Duration::ZERO).unwrap().is_none());
        drop(first);
        assert!(FileLock::take(&path, Duration::ZERO).unwrap().is_some());
    }

    /// What a fork leaves for a moment: another descriptor of the same opened file.
    #[test]
    fn d_05_a_lock_is_let_go_of_while_a_fork_still_has_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = FileLock::take(&path, Duration::ZERO).unwrap().unwrap();
        let forked = first.file().try_clone().unwrap();
        drop(first);
        assert!(FileLock::take(&path, Duration::ZERO).unwrap().is_some());
        drop(forked);
    }
}
