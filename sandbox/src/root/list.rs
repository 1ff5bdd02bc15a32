//! Pages of a directory, however large it is.
//!
//! Must never hold more names than one page, and never hide one: what cannot be opened is listed as
//! [`Kind::Other`], so that its owner can see and remove it.

use std::collections::BinaryHeap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, Dir};
use rustix::io::Errno;

#[cfg(doc)]
use super::Kind;
use super::Metadata;
use crate::PathError;
use crate::path::write_encoded;

/// The largest page.
const MAX_PAGE: usize = 1000;

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name as the disk has it: any bytes, also such that no [`RelPath`](crate::RelPath) may hold.
    pub name: OsString,
    /// What it stands for.
    pub metadata: Metadata,
}

impl Entry {
    /// The name percent-encoded, as [`RelPath`](crate::RelPath) displays it.
    #[must_use]
    pub fn encoded_name(&self) -> String {
        let mut encoded = String::with_capacity(self.name.len());
        // Writing to a `String` cannot fail.
        let _ = write_encoded(&mut encoded, self.name.as_bytes());
        encoded
    }
}

/// One page of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries, in the order of their names' bytes.
    pub entries: Vec<Entry>,
    /// Where the next page begins: its `after`. `None` if this page is the last.
    pub next: Option<OsString>,
}

/// Reads the directory through once and keeps the smallest names after `after`. Sorted pages cost a
/// pass each; the kernel's own cursors would not, but they do not survive a rewrite of the directory.
pub(super) fn page(dir: OwnedFd, after: Option<&OsStr>, limit: usize) -> Result<Page, PathError> {
    let mut smallest = Smallest::new(after.map(OsStr::as_bytes), limit.clamp(1, MAX_PAGE));
    let mut reader = Dir::read_from(&dir).map_err(PathError::of)?;
    while let Some(entry) = reader.read() {
        smallest.offer(entry.map_err(PathError::of)?.file_name().to_bytes());
    }
    let (names, more) = smallest.into_sorted();
    let next = if more { names.last().cloned().map(OsString::from_vec) } else { None };
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        match rustix::fs::statat(&dir, OsStr::from_bytes(&name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => entries.push(Entry { name: OsString::from_vec(name), metadata: Metadata::of(&stat) }),
            // Removed since the pass: it is no longer in the directory, so not in its listing either.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(PathError::of(errno)),
        }
    }
    Ok(Page { entries, next })
}

/// The `limit` smallest names above a bound, and whether there were more.
struct Smallest<'a> {
    after: Option<&'a [u8]>,
    limit: usize,
    kept: BinaryHeap<Vec<u8>>,
    more: bool,
}

impl<'a> Smallest<'a> {
    fn new(after: Option<&'a [u8]>, limit: usize) -> Self {
        Self { after, limit, kept: BinaryHeap::with_capacity(limit), more: false }
    }

    fn offer(&mut self, name: &[u8]) {
        if name == b"." || name == b".." || self.after.is_some_and(|after| name <= after) {
            return;
        }
        if self.kept.len() < self.limit {
            self.kept.push(name.to_vec());
            return;
        }
        self.more = true;
        if let Some(mut largest) = self.kept.peek_mut()
            && name < largest.as_slice()
        {
            largest.clear();
            largest.extend_from_slice(name);
        }
    }

    fn into_sorted(self) -> (Vec<Vec<u8>>, bool) {
        (self.kept.into_sorted_vec(), self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_names_are_held_one_page_at_a_time() {
        let mut smallest = Smallest::new(Some(b"0000099"), 1000);
        // A step coprime to a million visits every number once, in no order.
        for turn in 0..1_000_000_u64 {
            smallest.offer(format!("{:07}", turn * 700_001 % 1_000_000).as_bytes());
            assert!(smallest.kept.len() <= 1000);
        }
        let (names, more) = smallest.into_sorted();
        let expected: Vec<Vec<u8>> = (100..1100).map(|number| format!("{number:07}").into_bytes()).collect();
        assert_eq!(names, expected);
        assert!(more);
    }

    #[test]
    fn the_last_page_says_that_it_is_the_last() {
        let mut smallest = Smallest::new(None, 2);
        for name in [".", "..", "b", "a"] {
            smallest.offer(name.as_bytes());
        }
        assert_eq!(smallest.into_sorted(), (vec![b"a".to_vec(), b"b".to_vec()], false));
    }
}
