//! The one place where a name below a directory becomes a descriptor.
//!
//! Must never follow a symbolic link, leave the directory it starts from, block on a pipe, take a
//! controlling terminal, or hand a descriptor on to a child process.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Result;

/// What a handle for looking things up is opened with: on Linux no right to read comes with it.
#[cfg(target_os = "linux")]
pub(super) const LOOKUP: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
pub(super) const LOOKUP: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// A directory to look names up in.
pub(super) fn directory(dir: impl AsFd, path: &OsStr) -> Result<OwnedFd> {
    open(dir, path, LOOKUP | OFlags::DIRECTORY, Mode::empty())
}

/// A directory to list or to sync.
pub(super) fn readable_directory(dir: impl AsFd, path: &OsStr) -> Result<OwnedFd> {
    open(dir, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// A file for reading or writing; what it turned out to be is for the caller to check.
/// `NONBLOCK` so that a planted pipe does not hang the caller; it does nothing to a regular file.
pub(super) fn file(dir: impl AsFd, path: &OsStr, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    open(dir, path, flags | OFlags::NONBLOCK | OFlags::NOCTTY, mode)
}

#[cfg(all(target_os = "linux", not(feature = "walk")))]
pub(super) fn open(dir: impl AsFd, path: &OsStr, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve)
}

#[cfg(any(not(target_os = "linux"), feature = "walk"))]
pub(super) use walk::open;

/// The same promise without `openat2`: one component at a time, none of them followed. It holds
/// because a checked path has no `..`; it costs one system call a component. Compiled for tests on Linux too, so that
/// it is run where the tests run, and for Valgrind, which does not know `openat2`.
#[cfg(any(test, not(target_os = "linux"), feature = "walk"))]
pub(super) mod walk {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    /// Opens `path` below `dir` without `openat2`.
    pub(in super::super) fn open(dir: impl AsFd, path: &OsStr, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let step = super::LOOKUP | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut names = path.as_bytes().split(|byte| *byte == b'/').map(OsStr::from_bytes);
        let mut name = names.next().unwrap_or_default();
        let mut held: Option<OwnedFd> = None;
        for next in names {
            let at = held.as_ref().map_or(dir.as_fd(), AsFd::as_fd);
            held = Some(rustix::fs::openat(at, name, step, Mode::empty())?);
            name = next;
        }
        let at = held.as_ref().map_or(dir.as_fd(), AsFd::as_fd);
        rustix::fs::openat(at, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::fs::{self, File};
    use std::io::Read;
    use std::os::unix::fs::symlink;

    type Open = fn(&File, &OsStr, OFlags, Mode) -> Result<OwnedFd>;
    const BOTH: [(&str, Open); 2] =
        [("system", |d, p, f, m| open(d, p, f, m)), ("walk", |d, p, f, m| walk::open(d, p, f, m))];

    #[test]
    fn p02_both_ways_to_open_refuse_links_and_open_files() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(place.path().join("out")).unwrap();
        fs::write(place.path().join("out/f"), "outside").unwrap();
        fs::write(root.join("a/b/f"), "inside").unwrap();
        symlink("../../out", root.join("a/dirlink")).unwrap();
        symlink("b/f", root.join("a/filelink")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        let dir = File::open(&root).unwrap();
        for (way, open) in BOTH {
            let mut text = String::new();
            let good = open(&dir, OsStr::new("a/b/f"), OFlags::RDONLY, Mode::empty()).unwrap();
            File::from(good).read_to_string(&mut text).unwrap();
            assert_eq!(text, "inside", "{way}");
            for bad in ["a/dirlink/f", "a/dirlink", "a/filelink", "magic", "magic/etc/passwd", "a/b/f/x", "a/none"] {
                assert!(open(&dir, OsStr::new(bad), OFlags::RDONLY, Mode::empty()).is_err(), "{way} {bad}");
            }
        }
    }
}
