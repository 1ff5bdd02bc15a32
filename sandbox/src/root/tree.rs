//! Whole trees: what a backup reads and a restore makes.
//!
//! A sandbox may have made names that no [`RelPath`](crate::RelPath) may hold, and directories far deeper than one; a backup
//! has to have them all the same. [`TreePath`] is as strict where it matters: it can't leave the directory, and the kernel
//! checks again while it opens. Must never follow a link, open what is no regular file with one name, or replace anything.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::{DIRECTORY_MODE, FILE_MODE, Kind, Metadata, Root, beneath, kind_at, owner, usage};
use crate::path::write_encoded;
use crate::{PathError, RelPath};

/// The longest name, in bytes.
const MAX_COMPONENT_BYTES: usize = 255;
/// How deep a tree may be.
const MAX_DEPTH: usize = 4_096;
/// The longest path, in bytes.
const MAX_PATH_BYTES: usize = 64 << 10;
/// How much of a path is opened at once: the system takes less than 4,096 bytes.
const STEP_BYTES: usize = 3_000;

/// A path within a tree: names joined by `/`, none empty, `.` or `..`, none with a NUL; any other bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// Checks a path given as bytes.
    ///
    /// # Errors
    /// [`PathError::Empty`], [`PathError::Escape`], [`PathError::Forbidden`], [`PathError::TooLong`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Err(PathError::Empty);
        }
        if bytes.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        for (depth, component) in bytes.split(|byte| *byte == b'/').enumerate() {
            if matches!(component, b"" | b"." | b"..") {
                return Err(PathError::Escape);
            }
            if component.contains(&0) {
                return Err(PathError::Forbidden);
            }
            if component.len() > MAX_COMPONENT_BYTES || depth >= MAX_DEPTH {
                return Err(PathError::TooLong);
            }
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The path as the system takes it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory part, if there is one.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let cut = self.0.iter().rposition(|byte| *byte == b'/')?;
        self.0.get(..cut).map(|parent| Self(parent.to_vec()))
    }

    pub(super) fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default())
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_encoded(f, &self.0)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreePath({self})")
    }
}

impl From<&RelPath> for TreePath {
    fn from(path: &RelPath) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

/// One name of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Where it is.
    pub path: TreePath,
    /// What it is. What is neither file nor directory is seen, never opened.
    pub metadata: Metadata,
    /// Whether its owner may run it.
    pub executable: bool,
    /// What it takes of the disk; of a file with several names, this name's share.
    pub allocated_bytes: u64,
}

impl Root {
    /// Gives everything below to `each`: a directory before what is in it, the names of one in the order of their bytes. What
    /// vanishes meanwhile is left out. Memory follows the largest directory and the number of directories.
    ///
    /// # Errors
    /// Those of `each`; [`PathError::TooLong`] for a tree that is deeper than 4,096.
    pub fn walk(&self, each: &mut dyn FnMut(Walked) -> Result<(), PathError>) -> Result<(), PathError> {
        let mut pending: Vec<Option<TreePath>> = vec![None];
        while let Some(at) = pending.pop() {
            let dir = match self.tree_directory(at.as_ref()) {
                Err(PathError::NotFound | PathError::Refused) => continue,
                opened => opened?,
            };
            let mut below = Vec::new();
            for name in names(&dir)? {
                let stat = match rustix::fs::statat(&dir, OsStr::from_bytes(&name), AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => continue,
                    found => found.map_err(PathError::of)?,
                };
                let mut path = at.as_ref().map(|at| at.0.clone()).unwrap_or_default();
                if at.is_some() {
                    path.push(b'/');
                }
                path.extend_from_slice(&name);
                let (path, metadata) = (TreePath::parse(&path)?, Metadata::of(&stat));
                if metadata.kind == Kind::Directory {
                    below.push(Some(path.clone()));
                }
                let executable = Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR);
                let allocated_bytes = usage::allocated_bytes(&stat);
                each(Walked { path, metadata, executable, allocated_bytes })?;
            }
            pending.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// Opens a file of the tree for reading.
    ///
    /// # Errors
    /// [`PathError::NotFound`]; [`PathError::Refused`] for all but a regular file with one name.
    pub fn tree_read(&self, path: &TreePath) -> Result<File, PathError> {
        let dir = self.tree_directory(path.parent().as_ref())?;
        let opened = beneath::file(&dir, path.name(), OFlags::RDONLY, Mode::empty()).map_err(PathError::of)?;
        let stat = rustix::fs::fstat(&opened).map_err(PathError::of)?;
        if Metadata::of(&stat).kind == Kind::File { Ok(File::from(opened)) } else { Err(PathError::Refused) }
    }

    /// Makes a directory (0700), which must be new; the one that it is in must be there.
    ///
    /// # Errors
    /// [`PathError::Conflict`] if the name is taken; [`PathError::NotFound`]; [`PathError::NoSpace`].
    pub fn tree_make_dir(&self, path: &TreePath) -> Result<(), PathError> {
        let dir = self.tree_directory(path.parent().as_ref())?;
        rustix::fs::mkdirat(&dir, path.name(), DIRECTORY_MODE).map_err(PathError::of)?;
        owner::give_name(self.owner, &dir, path.name())
    }

    /// Makes a file (0600, or 0700 where it may be run), which must be new, and opens it for writing.
    ///
    /// # Errors
    /// [`PathError::Conflict`] if the name is taken; [`PathError::NotFound`]; [`PathError::NoSpace`].
    pub fn tree_make_file(&self, path: &TreePath, executable: bool) -> Result<File, PathError> {
        let dir = self.tree_directory(path.parent().as_ref())?;
        let mode = if executable { FILE_MODE | Mode::XUSR } else { FILE_MODE };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let made = beneath::file(&dir, path.name(), flags, mode).map_err(PathError::of)?;
        owner::give(self.owner, &made)?;
        Ok(File::from(made))
    }

    /// Makes `a` and `b`, which are both there, take each other's place at once.
    ///
    /// # Errors
    /// [`PathError::NotFound`]; [`PathError::Refused`] unless both are directories; [`PathError::Unsupported`].
    pub fn exchange(&self, a: &RelPath, b: &RelPath) -> Result<(), PathError> {
        let ((left, left_name), (right, right_name)) = (self.parent_of(a)?, self.parent_of(b)?);
        for (dir, name) in [(&left, left_name), (&right, right_name)] {
            if kind_at(dir, name)? != Kind::Directory {
                return Err(PathError::Refused);
            }
        }
        match rustix::fs::renameat_with(&left, left_name, &right, right_name, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS) => Err(PathError::Unsupported),
            exchanged => exchanged.map_err(PathError::of),
        }
    }

    /// The directory `path`, or the root itself, however deep it is.
    pub(super) fn tree_directory(&self, path: Option<&TreePath>) -> Result<OwnedFd, PathError> {
        let mut held: Option<OwnedFd> = None;
        for step in path.map(|path| steps(&path.0)).unwrap_or_default() {
            let at = held.as_ref().map_or(self.dir.as_fd(), AsFd::as_fd);
            held = Some(beneath::directory(at, OsStr::from_bytes(step)).map_err(PathError::of)?);
        }
        let at = held.as_ref().map_or(self.dir.as_fd(), AsFd::as_fd);
        beneath::readable_directory(at, OsStr::new(".")).map_err(PathError::of)
    }
}

/// Sets when a file's content changed last.
///
/// # Errors
/// [`PathError::Io`].
pub fn set_modified(file: &File, modified_at_ms: i64) -> Result<(), PathError> {
    let at = Timespec {
        tv_sec: modified_at_ms.div_euclid(1_000),
        tv_nsec: modified_at_ms.rem_euclid(1_000).saturating_mul(1_000_000),
    };
    rustix::fs::futimens(file, &Timestamps { last_access: at, last_modification: at }).map_err(PathError::of)
}

/// A directory's names, in the order of their bytes.
fn names(dir: &OwnedFd) -> Result<Vec<Vec<u8>>, PathError> {
    let mut names = Vec::new();
    let mut reader = Dir::read_from(dir).map_err(PathError::of)?;
    while let Some(entry) = reader.read() {
        let name: OsString = OsStr::from_bytes(entry.map_err(PathError::of)?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name.into_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A path in pieces that the system takes.
fn steps(path: &[u8]) -> Vec<&[u8]> {
    let mut steps = Vec::new();
    let mut rest = path;
    while rest.len() > STEP_BYTES {
        // A name is shorter than a step, so there is a separator in each.
        let Some(cut) = rest.get(..STEP_BYTES).and_then(|step| step.iter().rposition(|byte| *byte == b'/')) else {
            break;
        };
        let (step, tail) = rest.split_at(cut);
        steps.push(step);
        rest = tail.get(1..).unwrap_or_default();
    }
    steps.push(rest);
    steps
}
