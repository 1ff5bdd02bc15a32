//! A hard limit of what a directory takes of the disk: a project quota, where the file system has them (ext4 and XFS, mounted with
//! `prjquota`).
//!
//! Each file carries the number of a project, and what is made in a directory gets that directory's. The file system counts a project's
//! blocks and refuses more than its limit, whoever writes, but for a process with the right to pass quotas, which no tenant's has.
//! Nothing is mounted for it, so that directories are renamed, removed, backed up and restored as ever; one that comes
//! back has no number, and gets it when it is held again. A number must be one directory's alone on its file system.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::{Root, beneath};
use crate::{PathError, RelPath, TreePath};

/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR` (linux/fs.h), which are alike on every processor that this runs on.
const GET_ATTRIBUTES: libc::c_ulong = 0x801c_581f;
const SET_ATTRIBUTES: libc::c_ulong = 0x401c_5820;
/// What is made in the directory belongs to its project.
const INHERITED: u32 = 0x200;
/// `QCMD(Q_SETQUOTA, PRJQUOTA)` (linux/quota.h).
const SET_PROJECT_QUOTA: libc::c_int = (0x80_0008 << 8) | 2;
/// The limits of blocks are given, in units of this many bytes.
const BLOCK_LIMITS: u32 = 1;
const BLOCK_BYTES: u64 = 1024;
/// A project that no directory has but that of a proof.
const PROOF_PROJECT: u32 = 0x7fff_fffd;
/// The limit of a proof, and how much it wants to write.
const PROOF_BYTES: u64 = 64 << 10;
const PROOF_WANTED: usize = 1 << 20;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copied_extent_size: u32,
    padding: [u8; 8],
}

impl Root {
    /// Whether the file system holds project quotas here: tried with one, by a thread that has no right to pass it.
    ///
    /// # Errors
    /// Why not: the step that failed, and what the system said.
    pub fn prove_quota(&self) -> io::Result<()> {
        let name = format!(".quota-proof-{}", std::process::id());
        let of = |err: PathError| io::Error::other(err.to_string());
        let path = RelPath::parse(name.as_bytes()).map_err(of)?;
        self.create_dir_all(&path).map_err(of)?;
        let proved = self.descend(&path).map_err(of).and_then(|dir| prove(&dir));
        let removed = self.remove_tree(&path).map_err(of);
        proved.and(removed)
    }

    /// Holds the directory, as project number `project`, to `bytes`; lifts the limit where there are none to hold it to.
    ///
    /// # Errors
    /// Why it is not held: the file system has no quotas, or this process may not set them.
    pub(crate) fn hold(&self, project: u32, bytes: Option<u64>) -> io::Result<()> {
        let top = beneath::readable_directory(&self.dir, OsStr::new("."))?;
        let is_numbered = attributes(top.as_fd()).is_ok_and(|found| found.project == project);
        if bytes.is_none() && !is_numbered {
            return Ok(());
        }
        // The limit first: what gets the number is held by it at once.
        limit(top.as_fd(), project, bytes.map_or(0, |bytes| (bytes / BLOCK_BYTES).max(1)))?;
        if is_numbered {
            return Ok(());
        }
        // The top last, so that what broke off is begun anew; and what was made meanwhile in a second turn.
        self.number(project)?;
        assign(top.as_fd(), project, true)?;
        self.number(project)
    }

    /// Gives all that is below the number.
    fn number(&self, project: u32) -> io::Result<()> {
        let numbered = self.walk(&mut |walked| {
            let one = self.number_one(&walked.path, project);
            one.map_err(PathError::Io)
        });
        numbered.map_err(|err| io::Error::other(err.to_string()))
    }

    /// Links, pipes and sockets carry no number that could be set; nor do they take anything.
    fn number_one(&self, path: &TreePath, project: u32) -> io::Result<()> {
        let dir = match self.tree_directory(path.parent().as_ref()) {
            Err(PathError::NotFound | PathError::Refused) => return Ok(()),
            opened => opened.map_err(|err| io::Error::other(err.to_string()))?,
        };
        let kind = match rustix::fs::statat(&dir, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            found => FileType::from_raw_mode(found?.st_mode),
        };
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return Ok(());
        }
        match beneath::file(&dir, path.name(), OFlags::RDONLY, Mode::empty()) {
            // Gone, or swapped for a link.
            Err(Errno::NOENT | Errno::LOOP) => Ok(()),
            opened => assign(opened?.as_fd(), project, kind == FileType::Directory),
        }
    }
}

fn prove(dir: &Root) -> io::Result<()> {
    dir.hold(PROOF_PROJECT, Some(PROOF_BYTES))?;
    let path = RelPath::parse(b"file").map_err(|err| io::Error::other(err.to_string()))?;
    let mut file = dir.append(&path).map_err(|err| io::Error::other(err.to_string()))?;
    // Rights are a thread's own: this one's end with it.
    let writing = std::thread::Builder::new().name("quota-proof".to_owned()).spawn(move || {
        let mut sets = capabilities(None)?;
        sets.effective.remove(CapabilitySet::SYS_RESOURCE);
        set_capabilities(None, sets)?;
        file.write_all(&vec![b'x'; PROOF_WANTED])
    })?;
    match writing.join() {
        Ok(Err(err)) if err.kind() == io::ErrorKind::QuotaExceeded => Ok(()),
        Ok(Err(err)) => Err(told("writing", &err)),
        Ok(Ok(())) => Err(io::Error::other("a quota was set and did not hold: mount with prjquota")),
        Err(_) => Err(io::Error::other("the proof broke off")),
    }
}

fn told(step: &str, err: &io::Error) -> io::Error {
    io::Error::new(err.kind(), format!("{step}: {err}"))
}

fn attributes(file: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut found = MaybeUninit::<Attributes>::zeroed();
    #[expect(unsafe_code, reason = "no crate here has this call")]
    // SAFETY: the descriptor is open for the call, and the kernel writes one `struct fsxattr`, which `found` has room for; zeroes are
    // a value of it too.
    let (code, found) = unsafe {
        let code = libc::ioctl(file.as_raw_fd(), GET_ATTRIBUTES as _, found.as_mut_ptr());
        (code, found.assume_init())
    };
    if code == 0 { Ok(found) } else { Err(told("FS_IOC_FSGETXATTR", &io::Error::last_os_error())) }
}

/// Gives an open file or directory the number, with what will be made in it.
fn assign(file: BorrowedFd<'_>, project: u32, is_directory: bool) -> io::Result<()> {
    let before = attributes(file)?;
    let flags = if is_directory { before.flags | INHERITED } else { before.flags };
    if (before.project, before.flags) == (project, flags) {
        return Ok(());
    }
    let after = Attributes { project, flags, ..before };
    #[expect(unsafe_code, reason = "no crate here has this call")]
    // SAFETY: the descriptor is open for the call, and the kernel reads one `struct fsxattr` at a pointer to one.
    let code = unsafe { libc::ioctl(file.as_raw_fd(), SET_ATTRIBUTES as _, &raw const after) };
    if code == 0 { Ok(()) } else { Err(told("FS_IOC_FSSETXATTR", &io::Error::last_os_error())) }
}

/// Sets a project's limit on the file system that `file` is on; 0 is none.
fn limit(file: BorrowedFd<'_>, project: u32, blocks: u64) -> io::Result<()> {
    #[expect(unsafe_code, reason = "no crate here has this call")]
    // SAFETY: `dqblk` is made of integers, of which zeroes are a value; the descriptor is open for the call, and the kernel reads one
    // `struct if_dqblk` at a pointer to one.
    let code = unsafe {
        let mut quota: libc::dqblk = std::mem::zeroed();
        quota.dqb_bhardlimit = blocks;
        quota.dqb_valid = BLOCK_LIMITS;
        libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), SET_PROJECT_QUOTA, project, &raw const quota)
    };
    if code == 0 { Ok(()) } else { Err(told("quotactl_fd Q_SETQUOTA", &io::Error::last_os_error())) }
}
