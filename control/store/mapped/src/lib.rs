//! A file as words of shared memory: what is stored there is in the page cache, with no system call, and outlives the process
//! that stored it.
//!
//! Words are atomics, so that whoever stores to one while another does, in this process or not, gets one value or the other
//! and never undefined behaviour.
//!
//! # Map
//!
//! [`Mapped::of`] maps a file, [`Mapped::words`] gives some of its words; that is all.
//!
//! # Invariants of absence
//!
//! - Holds the only unsafe block of the store, and nothing else that one would have to read to judge it.
//! - Never gives bytes, or anything that is not atomic: the file may change under whoever looks.
//! - Knows nothing of what the words mean, nor in which order they must be stored.
//! - Never extends a file, reserves its blocks or syncs it. Touching a word that the file does not reach, or that the file system
//!   finds no block for, ends the process by `SIGBUS`: that there is one is for the caller to see to.

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};

/// Bytes of one word.
pub const WORD_BYTES: usize = size_of::<AtomicU64>();

/// The beginning of a file as shared memory, until this is dropped.
#[derive(Debug)]
pub struct Mapped {
    map: MmapRaw,
    words: usize,
}

impl Mapped {
    /// Maps the first `words` words of `file`, which was opened for reading and writing and may be shorter by now: it may
    /// grow into them.
    ///
    /// # Errors
    /// The system's, where the file system can't share memory, or the address space is used up.
    pub fn of(file: &File, words: usize) -> io::Result<Self> {
        let bytes = words.checked_mul(WORD_BYTES).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { map: MmapOptions::new().len(bytes).map_raw(file)?, words })
    }

    /// `count` words from word `from` on; `None` when they are not all mapped.
    #[must_use]
    pub fn words(&self, from: usize, count: usize) -> Option<&[AtomicU64]> {
        if from.checked_add(count)? > self.words {
            return None;
        }
        let first = self.map.as_mut_ptr().cast::<AtomicU64>();
        // SAFETY: The mapping is `words` words long, which was checked when it was made and covers `from + count`; it begins
        // at a page, so every word is aligned; it stays until `self` is dropped, which the result borrows. Each bit pattern is
        // a valid word. Nothing in this process refers to this memory but by atomics, since the pointer leaves this crate
        // nowhere else; what other processes and the kernel do to the file is as a store by another thread. A page that the file
        // does not reach can't be read as something else: touching it is a signal that ends the process.
        #[expect(unsafe_code, reason = "a pointer to memory that is mapped becomes a slice of atomics")]
        let words = unsafe { std::slice::from_raw_parts(first.add(from), count) };
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::Ordering::Relaxed;

    /// A file that reaches over `words` words.
    fn file(words: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(words * 8).unwrap();
        file
    }

    fn bytes_at(file: &File, word: u64) -> [u8; 8] {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, word * 8).unwrap();
        bytes
    }

    #[test]
    fn what_is_stored_is_what_the_file_reads_as_and_the_other_way_round() {
        let file = file(1024);
        let mapped = Mapped::of(&file, 1024).unwrap();
        for word in [0, 511, 512, 1023] {
            mapped.words(word, 1).unwrap()[0].store(u64::from_ne_bytes(*b"in order"), Relaxed);
            assert_eq!(&bytes_at(&file, word as u64), b"in order");
        }
        file.write_all_at(b"otherway", 8 * 700).unwrap();
        assert_eq!(mapped.words(699, 3).unwrap()[1].load(Relaxed).to_ne_bytes(), *b"otherway");
        drop(mapped);
        assert_eq!(&bytes_at(&file, 1023), b"in order", "and it stays");
    }

    #[test]
    fn words_are_given_to_the_last_and_not_one_beyond() {
        let mapped = Mapped::of(&file(16), 16).unwrap();
        assert_eq!(mapped.words(0, 16).unwrap().len(), 16);
        assert_eq!(mapped.words(15, 1).unwrap().len(), 1);
        assert_eq!(mapped.words(16, 0).unwrap().len(), 0);
        for (from, count) in [(0, 17), (15, 2), (16, 1), (17, 0), (usize::MAX, 1), (1, usize::MAX)] {
            assert!(mapped.words(from, count).is_none(), "{from} {count}");
        }
        assert!(Mapped::of(&file(1), usize::MAX).is_err());
    }

    #[test]
    fn a_file_may_grow_into_what_is_mapped() {
        let file = file(1);
        let mapped = Mapped::of(&file, 4096).unwrap();
        file.set_len(4096 * 8).unwrap();
        mapped.words(4095, 1).unwrap()[0].store(7, Relaxed);
        assert_eq!(bytes_at(&file, 4095), 7_u64.to_ne_bytes());
    }

    #[test]
    fn a_file_that_may_not_be_written_is_an_error() {
        let there = tempfile::NamedTempFile::new().unwrap();
        assert!(Mapped::of(&File::open(there.path()).unwrap(), 1).is_err());
        assert!(Mapped::of(there.as_file(), 1).is_ok());
    }

    #[test]
    fn many_may_store_to_one_word_at_once() {
        let file = file(2);
        let mapped = Mapped::of(&file, 2).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| _ = mapped.words(1, 1).unwrap()[0].fetch_add(1, Relaxed)));
            }
        });
        assert_eq!(bytes_at(&file, 1), 4000_u64.to_ne_bytes());
        assert_eq!(bytes_at(&file, 0), [0; 8]);
    }
}
