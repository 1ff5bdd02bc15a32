//! The in-flight table: a preallocated file of slots in the page cache, locked by the process that owns it.
//!
//! A slot is put there at admission, its tail again now and then while a stream is relayed and at settle, by stores to shared
//! memory (see `slot_file`). No system call, no sync and no await, and nothing is lost by `kill -9`, since the page cache
//! outlives the process. Power loss is `durability`'s matter.
//!
//! The file begins small and doubles when no slot is free. A slot's blocks are reserved before it is handed out: a full disk
//! never fails the settlement of what it let in.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_queue::ArrayQueue;

use crate::error::{Result, StoreError};
use crate::id::ReservationId;
use crate::ledger::journal::{self, Journal};
use crate::ledger::label_file::{self, LabelFile};
use crate::ledger::row::{Reservation, Settlement};
use crate::ledger::slot::{self, Progress, SLOT_BYTES};
use crate::ledger::slot_file::SlotFile;
use crate::money::NanoUsd;
use crate::usage::Usage;

/// Attempts that may be in flight at once, and so the most slots of a table.
pub(crate) const CAPACITY: u32 = 65_536;
/// Slots of a table that has not grown yet.
const FIRST_SLOTS: u32 = 4_096;

/// The name of the folder of in-flight tables in the data directory.
pub(crate) const FOLDER: &str = "inflight";

/// This process's table.
#[derive(Debug)]
pub(crate) struct InflightTable {
    file: SlotFile,
    free: ArrayQueue<u32>,
    size: Mutex<Size>,
    path: PathBuf,
}

/// How far the table has grown.
#[derive(Debug)]
struct Size {
    slots: u32,
    most: u32,
    /// The disk refused the last growth: said once.
    refused: bool,
}

impl InflightTable {
    /// Creates the table of owner `epoch`, every slot free; it grows to at most `most` slots.
    pub(crate) fn create(folder: &Path, epoch: u32, most: u32) -> Result<Self> {
        let path = folder.join(epoch.to_string());
        std::fs::create_dir_all(folder).map_err(|err| no_room(&path, &err))?;
        Self::of(SlotFile::create(&path, most)?, path, most)
    }

    fn of(file: SlotFile, path: PathBuf, most: u32) -> Result<Self> {
        let slots = FIRST_SLOTS.min(most);
        file.reserve(0, slots).map_err(|err| no_room(&path, &err))?;
        let free = ArrayQueue::new(usize::try_from(most).unwrap_or(usize::MAX).max(1));
        let table = Self { file, free, size: Mutex::new(Size { slots, most, refused: false }), path };
        (0..slots).for_each(|index| table.give_back(index));
        Ok(table)
    }

    /// Writes a reservation into a free slot; `None` when there is none, and the table or the disk has no room for more.
    pub(crate) fn reserve(&self, reservation: &Reservation, prompt: &Usage) -> Result<Option<u32>> {
        let Some(index) = self.free.pop().or_else(|| self.grow()) else { return Ok(None) };
        match self.file.put(index, &slot::encode(reservation, prompt)) {
            Ok(()) => Ok(Some(index)),
            Err(err) => {
                self.give_back(index);
                Err(StoreError::Unavailable(format!("in-flight table: {err}")))
            }
        }
    }

    /// Doubles the table and takes the first of its new slots. Others that find no slot meanwhile wait here for theirs.
    fn grow(&self) -> Option<u32> {
        let mut size = self.size();
        if let Some(index) = self.free.pop() {
            return Some(index); // grown, or given back, while this waited
        }
        let (old, new) = (size.slots, size.slots.saturating_mul(2).min(size.most));
        if new == old {
            return None;
        }
        if let Err(err) = self.file.reserve(old, new) {
            if !std::mem::replace(&mut size.refused, true) {
                tracing::error!(%err, slots = old, "the in-flight table is full and the disk has no room for a larger one");
            }
            return None;
        }
        (size.slots, size.refused) = (new, false);
        (old.saturating_add(1)..new).for_each(|index| self.give_back(index));
        Some(old)
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how far an attempt has come.
    pub(crate) fn progress(&self, index: u32, id: ReservationId, usage: &Usage) -> std::io::Result<()> {
        self.file.put_tail(index, &slot::encode_open(id, usage))
    }

    /// Notes an attempt's exact end.
    pub(crate) fn settle(
        &self,
        index: u32,
        id: ReservationId,
        settlement: &Settlement,
        cost: NanoUsd,
    ) -> std::io::Result<()> {
        self.file.put_tail(index, &slot::encode_settled(id, settlement, cost))
    }

    /// Frees slots whose rows are durable. Neighbours are cleared at once: slots are handed out in turn, so those of one commit
    /// mostly are.
    pub(crate) fn free(&self, mut indices: Vec<u32>) {
        indices.sort_unstable();
        for run in indices.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            if let Err(err) = self.file.clear(run) {
                // The rows are durable and their keys make a second recovery harmless.
                tracing::warn!(%err, slots = run.len(), "slots of the in-flight table could not be cleared");
            }
        }
        for index in indices {
            self.give_back(index);
        }
    }

    /// Where labels are kept that reservations of this table refer to.
    pub(crate) fn label_file(&self) -> LabelFile {
        LabelFile::beside(&self.path)
    }

    /// Where rows of this table are that are settled and not committed yet.
    pub(crate) fn journals(&self) -> [Journal; 2] {
        Journal::beside(&self.path)
    }

    /// Makes the file itself survive a power loss: its size and its name, so that [`InflightTable::sync`] has something to sync.
    pub(crate) fn persist(&self) -> std::io::Result<()> {
        self.file.file().sync_all()?;
        self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }

    /// Makes everything written so far survive a power loss.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.file.file().sync_data()
    }

    /// Slots in use.
    pub(crate) fn in_use(&self) -> usize {
        // Under the lock, so that a growth is seen as a whole.
        let size = self.size();
        usize::try_from(size.slots).unwrap_or(usize::MAX).saturating_sub(self.free.len())
    }

    /// Removes the file, when nothing is in flight any more.
    pub(crate) fn remove_if_empty(&self) {
        if self.in_use() == 0
            && let Err(err) = journal::remove(&self.path)
        {
            tracing::warn!(%err, "committed rows could not be removed; the next start does it");
            return;
        }
        if self.in_use() == 0
            && let Err(err) = std::fs::remove_file(&self.path)
            && err.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%err, path = %self.path.display(), "the empty in-flight table could not be removed; the next start does it");
        }
        if self.in_use() == 0 {
            label_file::remove(&self.path); // no row is left that could need them
        }
    }

    fn give_back(&self, index: u32) {
        if self.free.push(index).is_err() {
            tracing::error!(index, "a slot of the in-flight table was freed twice");
        }
    }
}

/// The table files in a folder, by whoever owns them. A power loss may have left a table's journal alone; then its table is
/// named all the same.
pub(crate) fn tables(folder: &Path) -> Result<Vec<PathBuf>> {
    let fail =
        |err: std::io::Error| StoreError::DataDir { path: folder.to_owned(), reason: format!("can't be read: {err}") };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(fail(err)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(fail)).collect::<Result<Vec<_>>>()?;
    let tables = paths.into_iter().map(|path| journal::table_of(&path).unwrap_or(path));
    let tables: BTreeSet<PathBuf> = tables.filter(|path| table_number(path).is_some()).collect();
    Ok(tables.into_iter().collect())
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

fn no_room(path: &Path, err: &std::io::Error) -> StoreError {
    StoreError::DataDir { path: path.to_owned(), reason: format!("{err}; check free space and permissions") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::row::Outcome;
    use crate::ledger::slot::tests::{reservation, settlement};
    use crate::ledger::slot_file::Way;

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

    #[test]
    fn a_table_doubles_until_its_bound_and_is_read_back_at_whatever_size() {
        [Way::Mapped, Way::Written].into_iter().for_each(doubles);
    }

    fn doubles(way: Way) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1");
        let most = FIRST_SLOTS * 3;
        let file = SlotFile::create_in_way(&path, most, way).unwrap();
        let table = InflightTable::of(file, path.clone(), most).unwrap();
        let bytes = |slots: u32| u64::from(slots) * SLOT_BYTES as u64;
        let mut taken = Vec::new();
        for (until, size) in [(FIRST_SLOTS, FIRST_SLOTS), (FIRST_SLOTS + 1, FIRST_SLOTS * 2), (most, most)] {
            let from = i64::try_from(taken.len()).unwrap();
            for id in from..until.into() {
                taken.push(table.reserve(&reservation(id + 1), &Usage::default()).unwrap().unwrap());
            }
            assert_eq!(table.in_use(), taken.len());
            let meta = std::fs::metadata(&path).unwrap();
            assert_eq!(meta.len(), bytes(size));
            assert!(std::os::unix::fs::MetadataExt::blocks(&meta) * 512 >= bytes(size), "every slot's block is there");
            assert_eq!(read_all(&path).unwrap().len(), taken.len());
        }
        assert_eq!(table.reserve(&reservation(1), &Usage::default()).unwrap(), None);
        let mut distinct = taken.clone();
        distinct.sort_unstable();
        assert_eq!(distinct, (0..most).collect::<Vec<_>>(), "each slot was given once");
        table.free(taken);
        assert_eq!(table.in_use(), 0);
        assert!(read_all(&path).unwrap().is_empty());
        table.remove_if_empty();
        assert!(!path.exists());
    }

    #[test]
    fn a_table_that_many_find_full_at_once_grows_once_for_all() {
        let dir = tempfile::tempdir().unwrap();
        let table = InflightTable::create(dir.path(), 1, FIRST_SLOTS * 4).unwrap();
        let taken: Vec<u32> = std::thread::scope(|scope| {
            let table = &table;
            let take = move || {
                let each = 0..FIRST_SLOTS / 2;
                each.map(|_| table.reserve(&reservation(1), &Usage::default()).unwrap().unwrap()).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(take)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let mut distinct = taken.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), taken.len(), "no slot was given twice");
        assert_eq!(table.size().slots, FIRST_SLOTS * 4);
    }
}
