//! Where bubblewrap finds what it is to bind, as a user who can reach none of it.
//!
//! Bubblewrap looks a descriptor's path up anew, as the tenant's user, and that user has no way through the gateway's
//! directories. So the new process, while it is root, gets mounts of its own: a small file system that nobody else sees, with
//! the workspace and the egress socket mounted in it by their handles. It also means that no path is looked up twice.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags};

/// Directories that every system has, for anybody to go through, and that nothing of a run lies below.
const PLACES: [&str; 4] = ["/mnt", "/media", "/srv", "/opt"];

/// The place on this machine, and the names in it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    top: CString,
    workspace: CString,
    egress: CString,
}

/// What is mounted there: handles of detached mounts.
#[derive(Debug)]
pub(super) struct Mounts {
    place: Place,
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
            workspace: name(format!("{top}/workspace"))?,
            egress: name(format!("{top}/egress.sock"))?,
        })
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
    /// Takes mounts of the two, which are nowhere yet.
    pub(super) fn take(place: &Place, workspace: impl AsFd, egress: Option<impl AsFd>) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let workspace = rustix::mount::open_tree(workspace, c"", flags)?;
        let egress = egress.map(|socket| rustix::mount::open_tree(socket, c"", flags)).transpose()?;
        Ok(Self { place: place.clone(), workspace, egress })
    }

    /// Mounts them, in a namespace that this process shares with nobody: its changes go nowhere else. System calls alone.
    pub(super) fn enter(&self) -> io::Result<()> {
        let down = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", down)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let (top, options) = (self.place.top.as_c_str(), c"mode=0755,size=64k");
        rustix::mount::mount(c"tmpfs", top, c"tmpfs", flags, options)?;
        rustix::fs::mkdir(self.place.workspace.as_c_str(), Mode::RWXU)?;
        put(&self.workspace, &self.place.workspace)?;
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
