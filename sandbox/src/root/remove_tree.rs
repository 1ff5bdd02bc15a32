//! Removing a directory with all that a tenant may have put into it.
//!
//! Must never follow a link, cross into another mount, recurse, or hold more than a few descriptors:
//! a tree of 100,000 nested directories is one loop in a shell. Directories found below the top are
//! moved up beside their parent, so the tree gets flatter until it is empty.

use std::cell::Cell;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, RenameFlags};
use rustix::io::Errno;

use super::{beneath, unguessable};
use crate::PathError;

/// How many entries one call takes away before it gives the thread back.
const MAX_ENTRIES: u64 = 4_000_000;
/// How many passes in a row may find nothing to remove although the directory is not gone.
const MAX_IDLE_PASSES: u32 = 8;

/// Removes the directory `name` in `parent`, and all below it.
pub(super) fn remove_tree(parent: &OwnedFd, name: &OsStr) -> Result<(), PathError> {
    let top = beneath::readable_directory(parent, name).map_err(PathError::of)?;
    let removal = Removal::of(top, MAX_ENTRIES)?;
    let mut idle_passes = 0;
    loop {
        let before = removal.left.get();
        removal.pass()?;
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            // Somebody else finished it.
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            // Somebody put a file or a link where the directory was.
            Err(Errno::NOTDIR) => return Err(PathError::Conflict),
            Err(errno) => return Err(PathError::of(errno)),
        }
        idle_passes = if removal.left.get() == before { idle_passes + 1 } else { 0 };
        if idle_passes >= MAX_IDLE_PASSES {
            return Err(PathError::Conflict);
        }
    }
}

struct Removal {
    top: OwnedFd,
    mount: u64,
    left: Cell<u64>,
}

impl Removal {
    fn of(top: OwnedFd, left: u64) -> Result<Self, PathError> {
        let mount = device(&top)?;
        Ok(Self { top, mount, left: Cell::new(left) })
    }

    /// Empties the top directory by one level at least.
    fn pass(&self) -> Result<(), PathError> {
        let mut reader = Dir::read_from(&self.top).map_err(PathError::of)?;
        while let Some(entry) = reader.read() {
            let entry = entry.map_err(PathError::of)?;
            let name = entry.file_name();
            if is_dots(name) || self.unlink(self.top.as_fd(), name)? == Gone::Yes {
                continue;
            }
            self.flatten(name)?;
            match rustix::fs::unlinkat(&self.top, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => self.spend()?,
                // What was added or swapped in meanwhile is for the next pass; it is no progress.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                Err(errno) => return Err(PathError::of(errno)),
            }
        }
        Ok(())
    }

    /// Takes away what lies in the directory `name` of the top; directories in it move up to the top.
    fn flatten(&self, name: &CStr) -> Result<(), PathError> {
        let below = match beneath::readable_directory(&self.top, OsStr::from_bytes(name.to_bytes())) {
            Ok(below) => below,
            // Swapped for a file or a link, or gone: the next pass meets it again.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(PathError::of(errno)),
        };
        if device(&below)? != self.mount {
            return Err(PathError::Refused);
        }
        let mut reader = Dir::read_from(&below).map_err(PathError::of)?;
        while let Some(entry) = reader.read() {
            let entry = entry.map_err(PathError::of)?;
            let name = entry.file_name();
            if is_dots(name) || self.unlink(below.as_fd(), name)? == Gone::Yes {
                continue;
            }
            let up = format!(".removing-{:016x}", unguessable());
            match rustix::fs::renameat_with(&below, name, &self.top, up.as_str(), RenameFlags::NOREPLACE) {
                Ok(()) | Err(Errno::NOENT | Errno::EXIST) => self.spend()?,
                Err(errno) => return Err(PathError::of(errno)),
            }
        }
        Ok(())
    }

    /// Unlinks whatever is no directory.
    fn unlink(&self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Gone, PathError> {
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) => {
                self.spend()?;
                Ok(Gone::Yes)
            }
            Err(Errno::NOENT) => Ok(Gone::Yes),
            // The first is what Linux says of a directory, the second what others say.
            Err(Errno::ISDIR | Errno::PERM) => Ok(Gone::Directory),
            Err(errno) => Err(PathError::of(errno)),
        }
    }

    fn spend(&self) -> Result<(), PathError> {
        self.left.set(self.left.get().checked_sub(1).ok_or(PathError::TooMany)?);
        Ok(())
    }
}

#[derive(PartialEq, Eq)]
enum Gone {
    Yes,
    Directory,
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "the width of this field differs between systems"
)]
fn device(dir: &OwnedFd) -> Result<u64, PathError> {
    let stat = rustix::fs::fstat(dir).map_err(PathError::of)?;
    u64::try_from(stat.st_dev).map_err(|_| PathError::Refused)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::fs::{self, File};

    #[test]
    fn a_removal_stops_at_its_limit_and_the_next_one_goes_on() {
        let place = tempfile::tempdir().unwrap();
        for number in 0..10 {
            fs::write(place.path().join(number.to_string()), "").unwrap();
        }
        let top = || OwnedFd::from(File::open(place.path()).unwrap());
        assert!(matches!(Removal::of(top(), 6).unwrap().pass(), Err(PathError::TooMany)));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3);
        Removal::of(top(), 6).unwrap().pass().unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
