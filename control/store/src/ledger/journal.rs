//! Settled rows on their way to the database: synced to a file of their own within milliseconds, committed in large batches.
//!
//! A commit costs by the pages that it changes, and each tenant has its own: of many tenants that ask at once, a batch of a few
//! milliseconds would change nearly as many pages as it has rows. So while rows come fast they are appended here, synced, and
//! committed together later. The database holds a row with its sums or neither, as ever; this file is only what a power loss
//! must not take meanwhile. A killed process needs it not, since the in-flight table has the rows until they are committed.
//!
//! There are two files of a table: while the rows of one are committed, which takes long, what comes meanwhile goes to the other.
//!
//! A file is frames, each with a head and its rows as slots of the in-flight table. All frames since the last
//! [`Journal::clear`] carry one number, so that what an earlier round left behind them is never read: its rows may have been
//! archived since. Torn frames are told by their checksum; they and what follows were never acknowledged.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::{Result, StoreError};
use crate::ledger::row::LedgerRow;
use crate::ledger::slot::{self, Progress, SLOT_BYTES, TAIL_AT};
use crate::ledger::ticket::settled_row;

/// What a frame begins with: `OCMUROWS`.
const MAGIC: U64 = U64::from_bytes(*b"OCMUROWS");
/// What stands behind the number of the table's owner in the files' names.
const EXTENSIONS: [&str; 2] = ["settled-0", "settled-1"];

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Head {
    magic: U64,
    /// Which round it belongs to.
    round: U64,
    /// Rows that follow.
    rows: U32,
    /// CRC-32 of what stands before it and of the rows.
    crc: U32,
}

const HEAD_BYTES: usize = size_of::<Head>();

/// One of this process's files; made by its first rows.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    state: State,
    round: u64,
    end: u64,
    frame: Vec<u8>,
}

#[derive(Debug)]
enum State {
    None,
    Open(File),
    /// What a failed sync left is not known, and a later one that succeeds would not tell: not appended to.
    Doubtful,
}

impl Journal {
    /// The two files beside an in-flight table.
    pub(crate) fn beside(table: &Path) -> [Self; 2] {
        paths_of(table).map(|path| Self { path, state: State::None, round: 1, end: 0, frame: Vec::new() })
    }

    /// Appends rows, none of which holds anything, and returns once they survive a power loss.
    ///
    /// # Errors
    /// Those of the file system: then the rows must be committed instead.
    pub(crate) fn append<'a>(&mut self, rows: impl Iterator<Item = &'a LedgerRow>) -> std::io::Result<()> {
        let file = match &self.state {
            State::Open(file) => file,
            State::None => {
                self.state = State::Open(create(&self.path)?);
                return self.append(rows);
            }
            State::Doubtful => return Err(std::io::Error::other("an earlier sync failed")),
        };
        encode(rows, self.round, &mut self.frame);
        // What was written of a frame that is not whole is written over by the next one.
        file.write_all_at(&self.frame, self.end)?;
        if let Err(err) = file.sync_data() {
            self.state = State::Doubtful;
            return Err(err);
        }
        self.end += self.frame.len() as u64;
        Ok(())
    }

    /// Forgets all rows: they are committed.
    ///
    /// Synced as well, so that no power loss brings rows back once they have been archived.
    pub(crate) fn clear(&mut self) {
        let is_empty = self.end == 0;
        (self.round, self.end, self.frame) = (self.round.wrapping_add(1), 0, Vec::new());
        let cleared = match &self.state {
            State::None => return,
            State::Open(_) if is_empty => return,
            State::Open(file) => file.write_all_at(&[0; HEAD_BYTES], 0).and_then(|()| file.sync_data()).is_ok(),
            State::Doubtful => false,
        };
        if cleared {
            return;
        }
        // A new file owes nothing to what became of this one.
        self.state = match remove_file(&self.path) {
            Ok(()) => State::None,
            Err(err) => {
                tracing::error!(%err, "rows that are committed could not be cleared: remove that file before any month is archived");
                State::Doubtful
            }
        };
    }
}

/// Makes a frame of rows.
fn encode<'a>(rows: impl Iterator<Item = &'a LedgerRow>, round: u64, frame: &mut Vec<u8>) {
    frame.clear();
    frame.resize(HEAD_BYTES, 0);
    let mut count = 0_u32;
    for LedgerRow { reservation, settlement, cost, .. } in rows {
        count += 1;
        let slot = slot::encode(reservation, &settlement.usage);
        frame.extend_from_slice(slot.get(..TAIL_AT).unwrap_or_default());
        frame.extend_from_slice(&slot::encode_settled(reservation.id, settlement, *cost));
    }
    let mut head = Head { magic: MAGIC, round: round.into(), rows: count.into(), crc: U32::ZERO };
    head.crc = checksum(&head, frame.get(HEAD_BYTES..).unwrap_or_default()).into();
    if let Some(room) = frame.first_chunk_mut::<HEAD_BYTES>() {
        *room = zerocopy::transmute!(head);
    }
}

/// A new file that survives a power loss, its name too.
fn create(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
    Ok(file)
}

fn checksum(head: &Head, rows: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head.as_bytes().get(..HEAD_BYTES - size_of::<U32>()).unwrap_or_default());
    crc.update(rows);
    crc.finalize()
}

/// The rows that the owner of a table had synced and not committed.
pub(crate) fn read(table: &Path) -> Result<Vec<LedgerRow>> {
    let mut rows = Vec::new();
    for path in paths_of(table) {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => continue,
            Err(err) => return Err(StoreError::DataDir { path, reason: format!("can't be read: {err}") }),
        };
        rows.append(&mut decode(&bytes).ok_or_else(|| {
            let path = path.display();
            StoreError::Corrupt(format!(
                "{path} holds rows that this version can't read: start the one that wrote them"
            ))
        })?);
    }
    Ok(rows)
}

/// The rows of whole frames; `None` where a whole frame holds what is none.
fn decode(mut bytes: &[u8]) -> Option<Vec<LedgerRow>> {
    let (mut found, mut round) = (Vec::new(), None);
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
        let head: Head = zerocopy::transmute!(*head);
        let size = usize::try_from(head.rows.get()).ok().and_then(|rows| rows.checked_mul(SLOT_BYTES));
        let Some((rows, after)) = size.and_then(|size| rest.split_at_checked(size)) else { break };
        let is_next = *round.get_or_insert(head.round) == head.round;
        if head.magic != MAGIC || !is_next || head.crc.get() != checksum(&head, rows) {
            break;
        }
        let (slots, _) = rows.as_chunks::<SLOT_BYTES>();
        for slot in slots {
            let (reservation, Progress::Settled(settlement, cost)) = slot::decode(slot)? else { return None };
            found.push(settled_row(reservation, settlement, cost));
        }
        bytes = after;
    }
    Some(found)
}

/// Removes the files of a table whose rows are all committed.
pub(crate) fn remove(table: &Path) -> Result<()> {
    paths_of(table).iter().try_for_each(|path| remove_file(path))
}

fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::DataDir { path: path.to_owned(), reason: format!("can't be removed: {err}") })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Keeps the files of a table for a person to look at, if there are any.
pub(crate) fn set_aside(table: &Path) -> std::io::Result<()> {
    paths_of(table).iter().zip(EXTENSIONS).try_for_each(|(path, extension)| {
        match std::fs::rename(path, table.with_extension(format!("{extension}-orphans"))) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(()),
            renamed => renamed,
        }
    })
}

/// The table that a file belongs to; `None` for a file of another kind.
pub(crate) fn table_of(path: &Path) -> Option<PathBuf> {
    let extension = path.extension()?;
    EXTENSIONS.iter().any(|known| extension == *known).then(|| path.with_extension(""))
}

fn paths_of(table: &Path) -> [PathBuf; 2] {
    EXTENSIONS.map(|extension| table.with_extension(extension))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::row::Outcome;
    use crate::ledger::slot::tests::{reservation, settlement};
    use crate::money::NanoUsd;

    fn row(id: i64) -> LedgerRow {
        settled_row(reservation(id), settlement(Outcome::Partial), NanoUsd(id * 3))
    }

    fn rows(ids: std::ops::RangeInclusive<i64>) -> Vec<LedgerRow> {
        ids.map(row).collect()
    }

    #[test]
    fn rows_cut_at_any_byte_are_read_back_as_whole_frames() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("7");
        assert_eq!(read(&table).unwrap(), []);
        let [mut journal, _] = Journal::beside(&table);
        assert!(!journal.path.exists(), "nothing is made for nothing");
        journal.append(rows(1..=2).iter()).unwrap();
        journal.append(rows(3..=3).iter()).unwrap();
        let whole = std::fs::read(&journal.path).unwrap();
        assert_eq!(decode(&whole).unwrap(), rows(1..=3));
        let first = HEAD_BYTES + 2 * SLOT_BYTES;
        for cut in 0..whole.len() {
            let expected = if cut < first { 0 } else { 2 };
            assert_eq!(decode(&whole[..cut]).unwrap(), rows(1..=expected), "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 0x40;
            let expected = if at < first { 0 } else { 2 };
            assert_eq!(decode(&torn).unwrap(), rows(1..=expected), "torn at {at}");
        }
    }

    #[test]
    fn the_two_files_are_cleared_each_by_itself_and_read_together() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("7");
        let [mut one, mut other] = Journal::beside(&table);
        one.append(rows(1..=2).iter()).unwrap();
        other.append(rows(3..=3).iter()).unwrap();
        assert_eq!(read(&table).unwrap(), rows(1..=3));
        one.clear();
        assert_eq!(read(&table).unwrap(), rows(3..=3));
        remove(&table).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_committed_is_never_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("7");
        let [mut journal, _] = Journal::beside(&table);
        (1..=4).for_each(|id| journal.append(rows(id..=id).iter()).unwrap());
        journal.clear();
        assert_eq!(read(&table).unwrap(), [], "cleared");
        // The second round's frames stand just where the first one's did.
        journal.append(rows(5..=5).iter()).unwrap();
        assert_eq!(read(&table).unwrap(), rows(5..=5));
        journal.append(rows(6..=6).iter()).unwrap();
        assert_eq!(read(&table).unwrap(), rows(5..=6));
        remove(&table).unwrap();
        remove(&table).unwrap();
        assert_eq!(read(&table).unwrap(), []);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_not_passed_over() {
        let mut frame = Vec::new();
        encode(rows(1..=2).iter(), 1, &mut frame);
        // An end that this version does not know, its checksums right.
        let tail = HEAD_BYTES + SLOT_BYTES + TAIL_AT;
        frame[tail + 4] = 250;
        let crc = crc32fast::hash(&frame[tail + 4..tail + SLOT_BYTES - TAIL_AT]);
        frame[tail..tail + 4].copy_from_slice(&crc.to_le_bytes());
        let head = Head::read_from_bytes(&frame[..HEAD_BYTES]).unwrap();
        let crc = checksum(&head, &frame[HEAD_BYTES..]);
        frame[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode(&frame), None);
    }

    #[test]
    fn a_file_that_can_be_neither_made_nor_written_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("inflight");
        let table = folder.join("7");
        let [mut journal, _] = Journal::beside(&table);
        assert!(journal.append(rows(1..=1).iter()).is_err(), "there is no such folder");
        journal.clear();
        std::fs::create_dir(&folder).unwrap();
        journal.append(rows(1..=1).iter()).unwrap();
        let State::Open(file) = std::mem::replace(&mut journal.state, State::Open(open("/dev/full"))) else { panic!() };
        assert!(journal.append(rows(2..=2).iter()).is_err(), "the disk is full");
        journal.state = State::Open(file);
        journal.append(rows(3..=3).iter()).unwrap();
        assert_eq!(read(&table).unwrap(), [row(1), row(3)]);
    }

    #[test]
    fn after_a_failed_sync_there_is_a_new_file_and_what_was_in_the_old_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("7");
        let [mut journal, _] = Journal::beside(&table);
        journal.append(rows(1..=1).iter()).unwrap();
        // It takes every byte and can't be synced.
        journal.state = State::Open(open("/dev/null"));
        assert!(journal.append(rows(2..=2).iter()).is_err());
        assert!(journal.append(rows(2..=2).iter()).is_err(), "not trusted though it would be taken");
        assert_eq!(read(&table).unwrap(), [row(1)], "what was safe stays safe until it is committed");
        journal.clear();
        assert!(!journal.path.exists());
        journal.append(rows(3..=3).iter()).unwrap();
        assert_eq!(read(&table).unwrap(), [row(3)]);
        // Committed rows that can't be cleared are removed.
        journal.state = State::Open(open("/dev/null"));
        journal.clear();
        assert!(!journal.path.exists());
    }

    fn open(path: &str) -> File {
        OpenOptions::new().write(true).open(path).unwrap()
    }

    #[test]
    fn a_file_tells_its_table() {
        for path in paths_of(Path::new("inflight/12")) {
            assert_eq!(table_of(&path).as_deref(), Some(Path::new("inflight/12")));
        }
        assert_eq!(table_of(Path::new("inflight/12")), None);
        assert_eq!(table_of(Path::new("inflight/12.labels")), None);
    }
}
