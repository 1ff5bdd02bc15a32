//! Where bubblewrap finds what it is to bind, as a user who can reach none of it.
//!
//! Bubblewrap looks a descriptor's path up anew, as the tenant's user, and that user has no way through the gateway's
//! directories. So the new process, while it is root, gets mounts of its own: a small file system that nobody else sees, with
//! `/etc`, the workspace and the egress socket mounted in it by their handles. It also means that no path is looked up twice.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

/// Directories that every system has, for anybody to go through, and that nothing of a run lies below.
const PLACES: [&str; 4] = ["/mnt", "/media", "/srv", "/opt"];

/// The place on this machine, and the names in it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    top: CString,
    etc: CString,
    workspace: CString,
    egress: CString,
}

/// What is mounted there: handles of detached mounts.
#[derive(Debug)]
pub(super) struct Mounts {
    place: Place,
    etc: OwnedFd,
    workspace: OwnedFd,
    egress: Option<OwnedFd>,
}

impl Place {
    /// One that covers nothing that `used` lies below.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn find(used: &[&Path]) -> io::Result<Self> {
        let free = |place: &&str| Path::new(*place).is_dir() && !used.iter().any(|path| path.starts_with(*place));
        let top = PLACES
            .into_iter()
            .find(free)
            .ok_or_else(|| io::Error::other("none of /mnt, /media, /srv, /opt can be used"))?;
        let name = |path: String| CString::new(path).map_err(io::Error::other);
        Ok(Self {
            top: name(top.to_owned())?,
            etc: name(format!("{top}/etc"))?,
            workspace: name(format!("{top}/workspace"))?,
            egress: name(format!("{top}/egress.sock"))?,
        })
    }

    pub(super) fn etc(&self) -> PathBuf {
        path(&self.etc)
    }

    pub(super) fn workspace(&self) -> PathBuf {
        path(&self.workspace)
    }

    pub(super) fn egress(&self) -> PathBuf {
        path(&self.egress)
    }
}

fn path(name: &CStr) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

impl Mounts {
    /// Takes mounts of `/etc`, of the workspace, and of the egress socket, which are nowhere yet.
    pub(super) fn take(place: &Place, [etc, workspace]: [OwnedFd; 2], egress: Option<OwnedFd>) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let mount = |of: OwnedFd| rustix::mount::open_tree(of, c"", flags);
        let (etc, workspace) = (mount(etc)?, mount(workspace)?);
        Ok(Self { place: place.clone(), etc, workspace, egress: egress.map(mount).transpose()? })
    }

    /// Mounts them, in a namespace that this process shares with nobody: its changes go nowhere else. System calls alone.
    pub(super) fn enter(&self) -> io::Result<()> {
        let down = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", down)?;
        // Bubblewrap reads the list of all mounts for each that it makes, and a good part of them are below this, which no run
        // has anyway. Where it is no mount there is nothing to take away.
        let _no_mount = rustix::mount::unmount(c"/sys", UnmountFlags::DETACH);
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let (top, options) = (self.place.top.as_c_str(), c"mode=0755,size=64k");
        rustix::mount::mount(c"tmpfs", top, c"tmpfs", flags, options)?;
        for (mount, at) in [(&self.etc, &self.place.etc), (&self.workspace, &self.place.workspace)] {
            rustix::fs::mkdir(at.as_c_str(), Mode::RWXU)?;
            put(mount, at)?;
        }
        if let Some(egress) = &self.egress {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            drop(rustix::fs::open(self.place.egress.as_c_str(), flags, Mode::RUSR)?);
            put(egress, &self.place.egress)?;
        }
        Ok(())
    }
}

fn put(mount: &OwnedFd, at: &CStr) -> io::Result<()> {
    Ok(rustix::mount::move_mount(mount, c"", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}
