//! [`Staged`]: a file that is written beside its place and appears there by one rename.
//!
//! Must never show a half-written file under its real name, nor write through a name it did not
//! make itself. The directory handle is kept: a directory swapped meanwhile changes nothing.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{FILE_MODE, Kind, beneath, kind_at, unguessable};
use crate::PathError;

/// A file in the making. Dropped without a commit, it leaves nothing behind; a crash leaves a file
/// whose name begins with `.staged-`.
#[derive(Debug)]
#[must_use = "a staged file that is not committed is removed"]
pub struct Staged {
    dir: OwnedFd,
    file: File,
    /// The name in the making; `None` once it has become the real one.
    made: Option<OsString>,
    name: OsString,
}

impl Staged {
    pub(super) fn begin(dir: OwnedFd, name: &OsStr) -> Result<Self, PathError> {
        match kind_at(&dir, name) {
            Ok(Kind::File) | Err(PathError::NotFound) => {}
            Ok(Kind::Directory) => return Err(PathError::Conflict),
            Ok(Kind::Other) => return Err(PathError::Refused),
            Err(error) => return Err(error),
        }
        let made = OsString::from(format!(".staged-{:016x}", unguessable()));
        let opened = beneath::file(&dir, &made, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, FILE_MODE);
        let file = File::from(opened.map_err(PathError::of)?);
        Ok(Self { dir, file, made: Some(made), name: name.to_owned() })
    }

    /// The file in the making.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Puts the file in its place, over the one that was there, and returns when the disk has both.
    ///
    /// # Errors
    /// [`PathError::NoSpace`]; [`PathError::Conflict`] if a directory has taken the name; then nothing has changed.
    pub fn commit(self) -> Result<(), PathError> {
        self.settle(RenameFlags::empty())
    }

    /// Puts the file in its place if nothing has the name.
    ///
    /// # Errors
    /// [`PathError::Conflict`] if the name is taken, and those of [`Staged::commit`].
    pub fn commit_new(self) -> Result<(), PathError> {
        self.settle(RenameFlags::NOREPLACE)
    }

    fn settle(mut self, flags: RenameFlags) -> Result<(), PathError> {
        self.file.sync_all().map_err(PathError::of_io)?;
        if let Some(made) = &self.made {
            match rustix::fs::renameat_with(&self.dir, made, &self.dir, &self.name, flags) {
                Err(Errno::ISDIR) => return Err(PathError::Conflict),
                renamed => renamed.map_err(PathError::of)?,
            }
        }
        self.made = None;
        rustix::fs::fsync(&self.dir).map_err(PathError::of)
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(made) = self.made.take() {
            // Nobody is left to tell; the name stays visible in listings and can be removed there.
            let _ = rustix::fs::unlinkat(&self.dir, &made, AtFlags::empty());
        }
    }
}
