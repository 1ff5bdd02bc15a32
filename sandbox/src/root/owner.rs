//! Whom a tenant's files belong to: where the gateway is root, each tenant has a user of the host to itself.
//!
//! Must never follow a link: the owner that is changed is the name's own.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Gid, Mode, Uid};
use rustix::io::Errno;

use super::{DIRECTORY_MODE, Root, beneath};
use crate::{HostUid, PathError};

impl Root {
    /// This root; what is made in it from now on belongs to `owner`. For root alone.
    #[must_use]
    pub fn owned_by(mut self, owner: HostUid) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Gives the directory, and all that is in it, to `owner` alone, unless the directory is `owner`'s already. It changes
    /// hands last, so that what broke off is begun anew.
    pub(crate) fn hand_to(&self, owner: HostUid) -> Result<(), PathError> {
        let top = beneath::readable_directory(&self.dir, OsStr::new(".")).map_err(PathError::of)?;
        let stat = rustix::fs::fstat(&top).map_err(PathError::of)?;
        if stat.st_uid != owner.get() {
            self.walk(&mut |walked| {
                let dir = self.tree_directory(walked.path.parent().as_ref())?;
                give_name(Some(owner), dir, walked.path.name())
            })?;
            give(Some(owner), &top)?;
        }
        if Mode::from_raw_mode(stat.st_mode) != DIRECTORY_MODE {
            rustix::fs::fchmod(&top, DIRECTORY_MODE).map_err(PathError::of)?;
        }
        Ok(())
    }

    /// A handle of the directory, to be handed to a child. On Linux no right to read comes with it.
    pub(crate) fn handle(&self) -> std::io::Result<OwnedFd> {
        self.dir.try_clone()
    }

    /// The directory's handle under the name that the system gives it; to be read as a link.
    pub(crate) fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_fd().as_raw_fd()))
    }
}

/// Gives what was opened to `owner`, if there is one.
pub(super) fn give(owner: Option<HostUid>, opened: impl AsFd) -> Result<(), PathError> {
    let Some(owner) = owner else { return Ok(()) };
    rustix::fs::fchown(opened, Some(Uid::from_raw(owner.get())), Some(Gid::from_raw(owner.get())))
        .map_err(PathError::of)
}

/// Gives a name in `dir` to `owner`, if there is one; a name that has gone meanwhile is nobody's.
pub(super) fn give_name(owner: Option<HostUid>, dir: impl AsFd, name: &OsStr) -> Result<(), PathError> {
    let Some(owner) = owner else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(owner.get()), Gid::from_raw(owner.get()));
    match rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(PathError::of(errno)),
    }
}
