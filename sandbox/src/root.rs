//! [`Root`]: the only code that opens a tenant's paths.
//!
//! A directory is opened once; whatever is wanted below it is reached from that handle and checked
//! by the kernel while it is opened (`beneath`), then looked at again: regular files with one name
//! only. Must never turn a handle back into text, compare path prefixes, follow a link, or open a
//! name that did not come through [`RelPath`].
//!
//! Every call blocks on the disk: an async caller moves it to a blocking thread.

mod beneath;
mod list;
mod owner;
#[cfg(target_os = "linux")]
mod quota;
mod remove_tree;
mod staged;
mod tree;
mod usage;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

pub use list::{Entry, Page};
pub use staged::Staged;
pub use tree::{TreePath, Walked, set_modified};
pub use usage::DiskUsage;

use crate::{HostUid, PathError, RelPath};

/// Of files that are made: for the owner alone.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Of directories that are made: for the owner alone.
const DIRECTORY_MODE: Mode = Mode::RWXU;

/// A directory, opened once, beneath which everything else is opened.
///
/// It keeps pointing at the same directory when that is renamed, and knows no path of its own.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    /// Whom what is made in it belongs to; absent: to this process.
    owner: Option<HostUid>,
}

/// What a name stands for, as far as a caller may care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file with one name: it can be opened.
    File,
    /// A directory.
    Directory,
    /// A link, a hard link, a pipe, a socket, a device: it is seen and can be removed, never opened.
    Other,
}

/// What is known of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// The size of a file in bytes; 0 of anything else.
    pub size_bytes: u64,
    /// When the content changed last, in milliseconds since 1970.
    pub modified_at_ms: i64,
}

impl Root {
    /// Opens the directory `dir`, which the operator names. Links on the way to it are the operator's own;
    /// its last component may be none.
    ///
    /// # Errors
    /// [`PathError::NotFound`] if it is missing or not a directory; [`PathError::Refused`] if it is a link or the
    /// path ends in no name (`/`, `..`); [`PathError::Unsupported`] if the kernel cannot keep paths beneath it.
    pub fn open(dir: &Path) -> Result<Self, PathError> {
        let (parent, name) = operator_split(dir)?;
        let dir = beneath::directory(parent, name).map_err(PathError::of)?;
        Ok(Self { dir, owner: None })
    }

    /// Makes the directory `dir`, mode 0700, and opens it. Its parent must exist.
    ///
    /// # Errors
    /// [`PathError::Conflict`] if the name is taken, and those of [`Root::open`].
    pub fn create(dir: &Path) -> Result<Self, PathError> {
        let (parent, name) = operator_split(dir)?;
        rustix::fs::mkdirat(&parent, name, DIRECTORY_MODE).map_err(PathError::of)?;
        let dir = beneath::directory(parent, name).map_err(PathError::of)?;
        Ok(Self { dir, owner: None })
    }

    /// The directory `path` as a root of its own: nothing above it can be reached from there.
    ///
    /// # Errors
    /// [`PathError::NotFound`], [`PathError::Refused`] for a link.
    pub fn descend(&self, path: &RelPath) -> Result<Self, PathError> {
        let dir = beneath::directory(&self.dir, path.as_os_str()).map_err(PathError::of)?;
        Ok(Self { dir, owner: self.owner })
    }

    /// One more handle of the same directory.
    ///
    /// # Errors
    /// [`PathError::Io`] if this process may open nothing more.
    pub fn again(&self) -> Result<Self, PathError> {
        let dir = self.dir.try_clone().map_err(PathError::of_io)?;
        Ok(Self { dir, owner: self.owner })
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`PathError::NotFound`]; [`PathError::Refused`] for all but a regular file with one name.
    pub fn read(&self, path: &RelPath) -> Result<File, PathError> {
        self.open_file(path, OFlags::RDONLY)
    }

    /// Opens a file for writing at its end, and makes it (0600) if it is missing.
    ///
    /// # Errors
    /// Those of [`Root::read`]; [`PathError::NoSpace`].
    pub fn append(&self, path: &RelPath) -> Result<File, PathError> {
        self.open_file(path, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
    }

    /// Starts a file whose content appears under `path` all at once, when it is committed, or never.
    ///
    /// # Errors
    /// [`PathError::NotFound`] if the directory is missing; [`PathError::Refused`] if it is reached over a link or
    /// if `path` is something else than a regular file with one name; [`PathError::NoSpace`].
    pub fn stage(&self, path: &RelPath) -> Result<Staged, PathError> {
        let (parent, name) = path.split();
        let parent =
            beneath::readable_directory(&self.dir, parent.unwrap_or(OsStr::new("."))).map_err(PathError::of)?;
        let staged = Staged::begin(parent, name)?;
        owner::give(self.owner, staged.file())?;
        Ok(staged)
    }

    /// Writes a file whole; the one of that name before it is there until the new one is complete.
    ///
    /// # Errors
    /// Those of [`Root::stage`] and [`Staged::commit`].
    pub fn replace(&self, path: &RelPath, content: &[u8]) -> Result<(), PathError> {
        let mut staged = self.stage(path)?;
        staged.write_all(content).map_err(PathError::of_io)?;
        staged.commit()
    }

    /// Writes a file whole, under a name that nothing has yet.
    ///
    /// # Errors
    /// [`PathError::Conflict`] if the name is taken, and those of [`Root::stage`].
    pub fn create_new(&self, path: &RelPath, content: &[u8]) -> Result<(), PathError> {
        let mut staged = self.stage(path)?;
        staged.write_all(content).map_err(PathError::of_io)?;
        staged.commit_new()
    }

    /// Makes the directory `path` (0700) and those on the way to it; what is there stays as it is.
    ///
    /// # Errors
    /// [`PathError::Conflict`] if a component is a file; [`PathError::Refused`] if one is a link; [`PathError::NoSpace`].
    pub fn create_dir_all(&self, path: &RelPath) -> Result<(), PathError> {
        let mut held: Option<OwnedFd> = None;
        for name in path.components() {
            let at = held.as_ref().map_or(self.dir.as_fd(), AsFd::as_fd);
            match rustix::fs::mkdirat(at, name, DIRECTORY_MODE) {
                Ok(()) => owner::give_name(self.owner, at, name)?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(PathError::of(errno)),
            }
            let below = match beneath::directory(at, name) {
                Err(Errno::NOTDIR) => return Err(PathError::Conflict),
                opened => opened.map_err(PathError::of)?,
            };
            held = Some(below);
        }
        Ok(())
    }

    /// Gives a file or a directory another name; nothing is ever replaced by it.
    ///
    /// # Errors
    /// [`PathError::NotFound`]; [`PathError::Refused`] if `from` is neither a regular file with one name nor a
    /// directory; [`PathError::Conflict`] if `to` is taken or lies below `from`.
    pub fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), PathError> {
        let (source, source_name) = self.parent_of(from)?;
        let (target, target_name) = self.parent_of(to)?;
        if kind_at(&source, source_name)? == Kind::Other {
            return Err(PathError::Refused);
        }
        match rustix::fs::renameat_with(&source, source_name, &target, target_name, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL) => Err(PathError::Conflict),
            renamed => renamed.map_err(PathError::of),
        }
    }

    /// Removes one name that is no directory. A link or a pipe goes too: the name, never what it points at.
    ///
    /// # Errors
    /// [`PathError::NotFound`]; [`PathError::Refused`] if it is a directory or reached over a link.
    pub fn remove_file(&self, path: &RelPath) -> Result<(), PathError> {
        let (parent, name) = self.parent_of(path)?;
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            // What Linux calls ISDIR others call PERM; which of the two it is decides who is to blame.
            Err(Errno::PERM) if kind_at(&parent, name)? == Kind::Directory => Err(PathError::Refused),
            removed => removed.map_err(PathError::of),
        }
    }

    /// Removes a directory and all below it, however deep; links in it are removed, not followed.
    ///
    /// # Errors
    /// [`PathError::NotFound`] if it is no directory; [`PathError::Refused`] if it is a link, or a mount lies in it;
    /// [`PathError::Conflict`] if others keep changing it; [`PathError::TooMany`] after four million entries: call again.
    pub fn remove_tree(&self, path: &RelPath) -> Result<(), PathError> {
        let (parent, name) = self.parent_of(path)?;
        remove_tree::remove_tree(&parent, name)
    }

    /// One page of the directory `dir` (the root itself if `None`): at most `limit` names (1 to 1,000) after the
    /// name `after`, in the order of their bytes. Memory follows the page, never the directory.
    ///
    /// # Errors
    /// [`PathError::NotFound`]; [`PathError::Refused`] for a link.
    pub fn list(&self, dir: Option<&RelPath>, after: Option<&OsStr>, limit: usize) -> Result<Page, PathError> {
        let path = dir.map_or(OsStr::new("."), RelPath::as_os_str);
        let dir = beneath::readable_directory(&self.dir, path).map_err(PathError::of)?;
        list::page(dir, after, limit)
    }

    /// What is known of a file or a directory, without opening it.
    ///
    /// # Errors
    /// [`PathError::NotFound`]; [`PathError::Refused`] for all but directories and regular files with one name.
    pub fn metadata(&self, path: &RelPath) -> Result<Metadata, PathError> {
        let found =
            beneath::open(&self.dir, path.as_os_str(), beneath::LOOKUP, Mode::empty()).map_err(PathError::of)?;
        let metadata = Metadata::of(&rustix::fs::fstat(found).map_err(PathError::of)?);
        if metadata.kind == Kind::Other { Err(PathError::Refused) } else { Ok(metadata) }
    }

    fn open_file(&self, path: &RelPath, flags: OFlags) -> Result<File, PathError> {
        let mode = if flags.contains(OFlags::CREATE) { FILE_MODE } else { Mode::empty() };
        let opened = beneath::file(&self.dir, path.as_os_str(), flags, mode).map_err(PathError::of)?;
        let stat = rustix::fs::fstat(&opened).map_err(PathError::of)?;
        if Metadata::of(&stat).kind != Kind::File {
            return Err(PathError::Refused);
        }
        if flags.contains(OFlags::CREATE) {
            owner::give(self.owner, &opened)?;
        }
        Ok(File::from(opened))
    }

    /// A handle of the directory that holds `path`, and the name in it. Calls that take a name in a handle
    /// (unlink, rename, mkdir) do not follow it.
    fn parent_of<'p>(&self, path: &'p RelPath) -> Result<(OwnedFd, &'p OsStr), PathError> {
        let (parent, name) = path.split();
        let parent = beneath::directory(&self.dir, parent.unwrap_or(OsStr::new("."))).map_err(PathError::of)?;
        Ok((parent, name))
    }
}

impl Metadata {
    fn of(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile if stat.st_nlink == 1 => Kind::File,
            FileType::RegularFile
            | FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Kind::Other,
        };
        let size_bytes = if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        Self { kind, size_bytes, modified_at_ms: modified_at_ms(stat) }
    }
}

#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "the width of these fields differs between systems"
)]
fn modified_at_ms(stat: &Stat) -> i64 {
    let seconds = i64::try_from(stat.st_mtime).unwrap_or(0);
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000)
}

/// What the name itself stands for; a link is not followed.
fn kind_at(dir: impl AsFd, name: &OsStr) -> Result<Kind, PathError> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(PathError::of)?;
    Ok(Metadata::of(&stat).kind)
}

/// Splits the operator's path so that the last name can be opened without following it. Done on components
/// because `link/` would be followed in spite of every flag.
fn operator_split(dir: &Path) -> Result<(OwnedFd, &OsStr), PathError> {
    let name = dir.file_name().ok_or(PathError::Refused)?;
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let flags = beneath::LOOKUP | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(CWD, parent, flags, Mode::empty()).map_err(PathError::of)?;
    Ok((parent, name))
}

/// A number nobody can guess or plant beforehand, from the seed that `std` draws for its hash maps.
fn unguessable() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
