//! The in-flight table: a preallocated file of slots in the page cache, locked by the process that owns it.
//!
//! One `pwrite` at admission, one now and then while a stream is relayed, one at settle. No sync and no await, and nothing is
//! lost by `kill -9`, since the page cache outlives the process. Power loss is `durability`'s matter.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use crate::error::{Result, StoreError};
use crate::id::ReservationId;
use crate::ledger::row::{Reservation, Settlement};
use crate::ledger::slot::{self, Progress, SLOT_BYTES, TAIL_AT};
use crate::money::NanoUsd;
use crate::sqlite::lock::FileLock;
use crate::usage::Usage;

/// Attempts that may be in flight at once, and so slots of a table.
pub(crate) const CAPACITY: u32 = 65_536;

/// The name of the folder of in-flight tables in the data directory.
pub(crate) const FOLDER: &str = "inflight";

/// This process's table.
#[derive(Debug)]
pub(crate) struct InflightTable {
    lock: FileLock,
    free: ArrayQueue<u32>,
    path: PathBuf,
}

impl InflightTable {
    /// Creates the table of owner `epoch`, every slot free.
    pub(crate) fn create(folder: &Path, epoch: u32, capacity: u32) -> Result<Self> {
        let path = folder.join(epoch.to_string());
        let fail = |err: &dyn std::fmt::Display| StoreError::DataDir {
            path: path.clone(),
            reason: format!("{err}; check free space and permissions"),
        };
        std::fs::create_dir_all(folder).map_err(|err| fail(&err))?;
        let lock = FileLock::take(&path, Duration::ZERO)?.ok_or_else(|| StoreError::Locked(path.clone()))?;
        let bytes = u64::from(capacity) * SLOT_BYTES as u64;
        allocate(&lock, bytes).map_err(|err| fail(&err))?;
        let free = ArrayQueue::new(usize::try_from(capacity).unwrap_or(usize::MAX).max(1));
        for index in 0..capacity {
            if free.push(index).is_err() {
                break;
            }
        }
        Ok(Self { lock, free, path })
    }

    /// Writes a reservation into a free slot; `None` when there is none.
    pub(crate) fn reserve(&self, reservation: &Reservation, prompt: &Usage) -> Result<Option<u32>> {
        let Some(index) = self.free.pop() else { return Ok(None) };
        match self.lock.file().write_all_at(&slot::encode(reservation, prompt), offset(index)) {
            Ok(()) => Ok(Some(index)),
            Err(err) => {
                self.give_back(index);
                Err(StoreError::Unavailable(format!("in-flight table: {err}")))
            }
        }
    }

    /// Notes how far an attempt has come.
    pub(crate) fn progress(&self, index: u32, id: ReservationId, usage: &Usage) -> std::io::Result<()> {
        self.lock.file().write_all_at(&slot::encode_open(id, usage), offset(index) + TAIL_AT as u64)
    }

    /// Notes an attempt's exact end.
    pub(crate) fn settle(
        &self,
        index: u32,
        id: ReservationId,
        settlement: &Settlement,
        cost: NanoUsd,
    ) -> std::io::Result<()> {
        self.lock.file().write_all_at(&slot::encode_settled(id, settlement, cost), offset(index) + TAIL_AT as u64)
    }

    /// Frees slots whose rows are durable. Neighbours are cleared in one write: slots are handed out in turn, so those of
    /// one commit mostly are.
    pub(crate) fn free(&self, mut indices: Vec<u32>) {
        indices.sort_unstable();
        for run in indices.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            let (Some(first), zeros) = (run.first(), vec![0; run.len() * SLOT_BYTES]) else { continue };
            if let Err(err) = self.lock.file().write_all_at(&zeros, offset(*first)) {
                // The rows are durable and their keys make a second recovery harmless.
                tracing::warn!(%err, slots = run.len(), "slots of the in-flight table could not be cleared");
            }
        }
        for index in indices {
            self.give_back(index);
        }
    }

    /// Makes the file itself survive a power loss: its size and its name, so that [`InflightTable::sync`] has something to sync.
    pub(crate) fn persist(&self) -> std::io::Result<()> {
        self.lock.file().sync_all()?;
        self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }

    /// Makes everything written so far survive a power loss.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.lock.file().sync_data()
    }

    /// Slots in use.
    pub(crate) fn in_use(&self) -> usize {
        self.free.capacity() - self.free.len()
    }

    /// Removes the file, when nothing is in flight any more.
    pub(crate) fn remove_if_empty(&self) {
        if self.in_use() == 0
            && let Err(err) = std::fs::remove_file(&self.path)
            && err.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%err, path = %self.path.display(), "the empty in-flight table could not be removed; the next start does it");
        }
    }

    fn give_back(&self, index: u32) {
        if self.free.push(index).is_err() {
            tracing::error!(index, "a slot of the in-flight table was freed twice");
        }
    }
}

/// The table files in a folder, by whoever owns them.
pub(crate) fn tables(folder: &Path) -> Result<Vec<PathBuf>> {
    let fail =
        |err: std::io::Error| StoreError::DataDir { path: folder.to_owned(), reason: format!("can't be read: {err}") };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(fail(err)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(fail)).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| table_number(path).is_some()).collect())
}

/// The epoch of a table's owner; `None` for a file that is not a table.
pub(crate) fn table_number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.parse().ok()
}

/// Every occupied slot of a table file, by whoever owns it.
pub(crate) fn read_all(path: &Path) -> Result<Vec<(Reservation, Progress)>> {
    let unreadable = |err| StoreError::DataDir { path: path.to_owned(), reason: format!("can't be read: {err}") };
    read_open(&File::open(path).map_err(unreadable)?).map_err(unreadable)
}

/// [`read_all`] of a file that is open, whatever its name points to by now.
pub(crate) fn read_open(mut file: &File) -> std::io::Result<Vec<(Reservation, Progress)>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let (slots, _) = bytes.as_chunks::<SLOT_BYTES>();
    Ok(slots.iter().filter_map(slot::decode).collect())
}

fn offset(index: u32) -> u64 {
    u64::from(index) * SLOT_BYTES as u64
}

#[cfg(target_os = "linux")]
fn allocate(lock: &FileLock, bytes: u64) -> std::io::Result<()> {
    Ok(rustix::fs::fallocate(lock.file(), rustix::fs::FallocateFlags::empty(), 0, bytes)?)
}

#[cfg(not(target_os = "linux"))]
fn allocate(lock: &FileLock, bytes: u64) -> std::io::Result<()> {
    let zeros = [0; SLOT_BYTES];
    for index in 0..bytes / SLOT_BYTES as u64 {
        lock.file().write_all_at(&zeros, index * SLOT_BYTES as u64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::row::Outcome;
    use crate::ledger::slot::tests::{reservation, settlement};

    #[test]
    fn a_table_is_read_back_as_it_was_when_its_process_died() {
        let dir = tempfile::tempdir().unwrap();
        let table = InflightTable::create(dir.path(), 1, 4).unwrap();
        let prompt = Usage { input: 1, ..Usage::default() };
        let open = table.reserve(&reservation(1), &prompt).unwrap().unwrap();
        let settled = table.reserve(&reservation(2), &prompt).unwrap().unwrap();
        let freed = table.reserve(&reservation(3), &prompt).unwrap().unwrap();
        let relayed = Usage { input: 1, output: 9, ..Usage::default() };
        table.progress(open, ReservationId(1), &relayed).unwrap();
        table.settle(settled, ReservationId(2), &settlement(Outcome::Complete), NanoUsd(5)).unwrap();
        table.free(vec![freed]);

        let mut found = read_all(&dir.path().join("1")).unwrap();
        found.sort_by_key(|(reservation, _)| reservation.id);
        let expected = vec![
            (reservation(1), Progress::Open(relayed)),
            (reservation(2), Progress::Settled(settlement(Outcome::Complete), NanoUsd(5))),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_full_table_refuses_and_a_freed_slot_serves_again() {
        let dir = tempfile::tempdir().unwrap();
        let table = InflightTable::create(dir.path(), 1, 2).unwrap();
        let first = table.reserve(&reservation(1), &Usage::default()).unwrap().unwrap();
        assert!(table.reserve(&reservation(2), &Usage::default()).unwrap().is_some());
        assert_eq!(table.reserve(&reservation(3), &Usage::default()).unwrap(), None);
        table.free(vec![first]);
        assert_eq!(table.reserve(&reservation(3), &Usage::default()).unwrap(), Some(first));
    }
}
