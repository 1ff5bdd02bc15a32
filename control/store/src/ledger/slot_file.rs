//! The file of an in-flight table: reserves the blocks of slots, and puts bytes into them.
//!
//! Where the file system changes a file's blocks in place, slots are stored through shared memory: no system call, and the
//! page cache keeps them all the same, so that a killed process leaves a prefix of the stores that [`slot::stores`] puts in
//! order. Where changing a block may take a new one (copy on write), or that is not known, they are written: a full disk is an
//! error of a write, but the end of a process that stores.
//!
//! What may still end a process that stores is a disk that fails, or on XFS a full one after somebody cloned the file (`cp` does):
//! the table is then read as after any other death.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use openclawmu_mapped::{Mapped, WORD_BYTES};

use crate::error::{Result, StoreError};
use crate::ledger::slot::{self, SLOT_BYTES, TAIL_AT};
use crate::sqlite::lock::FileLock;

/// Words of a slot.
const SLOT_WORDS: usize = SLOT_BYTES / WORD_BYTES;

/// The file of slots, locked by the process that owns it.
#[derive(Debug)]
pub(crate) struct SlotFile {
    lock: FileLock,
    mapped: Option<Mapped>,
    /// Slots whose blocks are there. A store beyond them would end the process.
    reserved: AtomicU32,
}

/// How bytes get into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through shared memory.
    Mapped,
    /// By `pwrite`.
    Written,
}

impl SlotFile {
    /// Creates the file of at most `most` slots, none of them reserved yet, in the way that its file system allows.
    pub(crate) fn create(path: &Path, most: u32) -> Result<Self> {
        let lock = Self::lock(path)?;
        let way = way_of(lock.file()).map_err(|err| StoreError::DataDir {
            path: path.to_owned(),
            reason: format!("its file system can't be told: {err}; put the data directory on a local disk"),
        })?;
        if way == Way::Written {
            tracing::info!(path = %path.display(), "the in-flight table is written slot by slot: its file system is none that changes files in place");
        }
        Self::of(lock, path, most, way)
    }

    /// [`SlotFile::create`], in this way.
    #[cfg(test)]
    pub(crate) fn create_in_way(path: &Path, most: u32, way: Way) -> Result<Self> {
        Self::of(Self::lock(path)?, path, most, way)
    }

    fn lock(path: &Path) -> Result<FileLock> {
        FileLock::take(path, Duration::ZERO)?.ok_or_else(|| StoreError::Locked(path.to_owned()))
    }

    fn of(lock: FileLock, path: &Path, most: u32, way: Way) -> Result<Self> {
        let mapped = match way {
            Way::Mapped => Some(map(lock.file(), path, words_before(most).unwrap_or(usize::MAX))?),
            Way::Written => None,
        };
        Ok(Self { lock, mapped, reserved: AtomicU32::new(0) })
    }

    /// The file itself.
    pub(crate) fn file(&self) -> &File {
        self.lock.file()
    }

    /// Reserves the blocks of the slots from `from` to before `to`, which read as zeros. Those before are there already.
    pub(crate) fn reserve(&self, from: u32, to: u32) -> std::io::Result<()> {
        allocate(self.file(), from, to)?;
        self.reserved.store(to, Ordering::Release);
        Ok(())
    }

    /// Puts a new reservation into a slot that was clear.
    pub(crate) fn put(&self, index: u32, bytes: &[u8; SLOT_BYTES]) -> std::io::Result<()> {
        self.put_at(index, 0, bytes)
    }

    /// Puts another tail to a slot's head.
    pub(crate) fn put_tail(&self, index: u32, bytes: &[u8; SLOT_BYTES - TAIL_AT]) -> std::io::Result<()> {
        self.put_at(index, TAIL_AT, bytes)
    }

    /// Clears slots that are neighbours, in their order.
    pub(crate) fn clear(&self, run: &[u32]) -> std::io::Result<()> {
        match (&self.mapped, run.first()) {
            (None, Some(first)) => self.file().write_all_at(&vec![0; run.len() * SLOT_BYTES], offset(*first)),
            _ => run.iter().try_for_each(|index| self.put(*index, &[0; SLOT_BYTES])),
        }
    }

    fn put_at(&self, index: u32, at: usize, bytes: &[u8]) -> std::io::Result<()> {
        let Some(mapped) = &self.mapped else {
            return self.file().write_all_at(bytes, offset(index) + at as u64);
        };
        let words = words_before(index)
            .filter(|_| index < self.reserved.load(Ordering::Acquire))
            .and_then(|before| mapped.words(before + at / WORD_BYTES, bytes.len() / WORD_BYTES))
            .ok_or_else(|| std::io::Error::other(format!("slot {index} is not reserved")))?;
        // Not a `for`: a chain that is driven from inside takes a third of the instructions.
        slot::stores(bytes).for_each(|(nth, value)| {
            if let Some(word) = words.get(nth) {
                word.store(value, Ordering::Release);
            }
        });
        Ok(())
    }
}

fn offset(index: u32) -> u64 {
    u64::from(index) * SLOT_BYTES as u64
}

fn words_before(index: u32) -> Option<usize> {
    usize::try_from(index).ok()?.checked_mul(SLOT_WORDS)
}

fn map(file: &File, path: &Path, words: usize) -> Result<Mapped> {
    Mapped::of(file, words).map_err(|err| StoreError::DataDir {
        path: path.to_owned(),
        reason: format!(
            "can't be mapped: {err}; put the data directory on a local disk, and raise the process's limit of address space (`ulimit -v`)"
        ),
    })
}

/// How slots get into this file: a block that is reserved is enough where it is changed in place, and where the file system
/// would want another one, a store that finds none could not be refused.
#[cfg(target_os = "linux")]
fn way_of(file: &File) -> std::io::Result<Way> {
    /// `f_type` of statfs(2): ext2 to ext4, XFS, tmpfs.
    const IN_PLACE: [i64; 3] = [0xef53, 0x5846_5342, 0x0102_1994];
    let kind: i64 = rustix::fs::fstatfs(file)?.f_type;
    Ok(if IN_PLACE.contains(&kind) { Way::Mapped } else { Way::Written })
}

/// Elsewhere a sync need not reach what is mapped.
#[cfg(not(target_os = "linux"))]
fn way_of(_file: &File) -> std::io::Result<Way> {
    Ok(Way::Written)
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, from: u32, to: u32) -> std::io::Result<()> {
    let flags = rustix::fs::FallocateFlags::empty();
    Ok(rustix::fs::fallocate(file, flags, offset(from), offset(to).saturating_sub(offset(from)))?)
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, from: u32, to: u32) -> std::io::Result<()> {
    (from..to).try_for_each(|index| file.write_all_at(&[0; SLOT_BYTES], offset(index)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NanoUsd;
    use crate::ledger::row::Outcome;
    use crate::ledger::slot::tests::{reservation, settlement};
    use crate::usage::Usage;

    fn in_way(dir: &Path, way: Way, slots: u32) -> SlotFile {
        let file = SlotFile::create_in_way(&dir.join(format!("{way:?}")), 64, way).unwrap();
        file.reserve(0, slots).unwrap();
        file
    }

    #[test]
    fn both_ways_make_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let after = |way| {
            let file = in_way(dir.path(), way, 8);
            for index in 0..8 {
                let usage = Usage { input: index, ..Usage::default() };
                file.put(index, &slot::encode(&reservation(i64::from(index) + 1), &usage)).unwrap();
            }
            let end = settlement(Outcome::Partial);
            file.put_tail(2, &slot::encode_settled(reservation(3).id, &end, NanoUsd(5))).unwrap();
            file.clear(&[4, 5, 6]).unwrap();
            std::fs::read(dir.path().join(format!("{way:?}"))).unwrap()
        };
        let (mapped, written) = (after(Way::Mapped), after(Way::Written));
        assert_eq!(mapped.len(), 8 * SLOT_BYTES);
        assert!(mapped == written);
        let (slots, _) = mapped.as_chunks::<SLOT_BYTES>();
        assert_eq!(slots.iter().filter_map(slot::decode).count(), 5);
    }

    /// The positive twin is every other test.
    #[test]
    fn a_store_beyond_the_reserved_blocks_is_an_error_and_not_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = in_way(dir.path(), Way::Mapped, 2);
        let bytes = slot::encode(&reservation(1), &Usage::default());
        file.put(1, &bytes).unwrap();
        for index in [2, 63, 64, u32::MAX] {
            assert!(file.put(index, &bytes).is_err(), "{index}");
            assert!(file.clear(&[index]).is_err(), "{index}");
        }
        assert!(file.clear(&[1, 2]).is_err());
        file.reserve(2, 64).unwrap();
        file.put(63, &bytes).unwrap();
        assert!(file.put(64, &bytes).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_changes_files_in_place_is_mapped_and_one_that_is_not_known_is_written_to() {
        let memory = tempfile::tempfile_in("/dev/shm").unwrap();
        assert_eq!(way_of(&memory).unwrap(), Way::Mapped);
        assert_eq!(way_of(&File::open("/proc/self/status").unwrap()).unwrap(), Way::Written);
    }

    #[test]
    fn a_file_that_cannot_be_mapped_is_refused_with_a_hint() {
        let err =
            map(&tempfile::tempfile().unwrap(), Path::new("data/inflight/1"), usize::MAX).unwrap_err().to_string();
        assert!(err.contains("data/inflight/1") && err.contains("local disk"), "{err}");
    }
}
