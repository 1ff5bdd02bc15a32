//! What the new process does before it becomes bubblewrap.
//!
//! Until then it has the gateway's memory, of which it is one thread more: another may hold any lock. So nothing here may
//! allocate, lock, log or panic; it is system calls on numbers that were made ready before. The order matters: groups are
//! joined and limits set as the gateway's user, and the right to do so is given up afterwards.

#![allow(unsafe_code, reason = "the system calls that rustix has no safe form of")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::mounts::Mounts;
use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior};
use rustix::thread::{Gid, Uid};

/// All that the child does, as numbers.
#[derive(Debug)]
pub(super) struct Child {
    /// What is written to in order to join each group.
    pub(super) entrances: Vec<OwnedFd>,
    /// What becomes 0, 1 and 2.
    pub(super) stdio: [OwnedFd; 3],
    /// What bubblewrap gets besides.
    pub(super) inherited: Vec<OwnedFd>,
    /// Standard input is a terminal, to be controlled by it.
    pub(super) terminal: bool,
    pub(super) limits: Vec<(Resource, u64)>,
    /// What has to be mounted where the user to become can reach it.
    pub(super) mounts: Option<Mounts>,
    /// The user to become; absent where the gateway is not root.
    pub(super) user: Option<u32>,
}

/// A step that failed: its name, and why.
pub(super) type Failed = (&'static str, io::Error);

type Step = fn(&Child) -> io::Result<()>;

/// In this order.
const STEPS: [(&str, Step); 12] = [
    ("signals", Child::signals),
    ("input and output", Child::connect),
    ("joining the control groups", Child::join),
    ("a session of its own", Child::session),
    ("the controlling terminal", Child::control),
    ("resource limits", Child::limit),
    ("mounts of its own", Child::mount),
    ("giving up groups", Child::leave_groups),
    ("becoming the tenant's user", Child::become_user),
    ("no_new_privs", Child::no_new_privs),
    ("the death signal", Child::die_with_parent),
    ("closing descriptors", Child::close),
];

impl Child {
    /// All steps.
    pub(super) fn enter(&self) -> Result<(), Failed> {
        STEPS.iter().try_for_each(|(name, step)| step(self).map_err(|err| (*name, err)))
    }

    /// Each signal has its meaning again, and none is held back. Before, all were blocked: no handler of the gateway's ever runs
    /// in this process.
    fn signals(&self) -> io::Result<()> {
        for signal in 1..=64 {
            // SAFETY: the disposition is the default, no handler; numbers that can't be set are refused.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        super::spawn::set_mask(libc::sigemptyset)
    }

    fn connect(&self) -> io::Result<()> {
        for (fd, number) in self.stdio.iter().zip(0..) {
            // SAFETY: of this process's own table of descriptors, where nothing owns 0, 1 or 2.
            if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        rustix::process::chdir(c"/")?;
        Ok(())
    }

    fn join(&self) -> io::Result<()> {
        for entrance in &self.entrances {
            rustix::io::write(entrance, b"0")?;
        }
        Ok(())
    }

    fn session(&self) -> io::Result<()> {
        rustix::process::setsid()?;
        Ok(())
    }

    fn control(&self) -> io::Result<()> {
        if self.terminal {
            // SAFETY: descriptor 0 was put there by the parent and is open until this process ends.
            let stdin = unsafe { BorrowedFd::borrow_raw(0) };
            rustix::process::ioctl_tiocsctty(stdin)?;
        }
        Ok(())
    }

    fn limit(&self) -> io::Result<()> {
        for (resource, most) in &self.limits {
            rustix::process::setrlimit(*resource, Rlimit { current: Some(*most), maximum: Some(*most) })?;
        }
        rustix::process::umask(Mode::from_raw_mode(0o077));
        Ok(())
    }

    fn mount(&self) -> io::Result<()> {
        let Some(mounts) = &self.mounts else { return Ok(()) };
        // SAFETY: of the mounts alone, in a process of one thread: nothing else of it is shared with another afterwards either.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
        mounts.enter()
    }

    fn leave_groups(&self) -> io::Result<()> {
        if self.user.is_some() {
            rustix::thread::set_thread_groups(&[])?;
        }
        Ok(())
    }

    fn become_user(&self) -> io::Result<()> {
        let Some(id) = self.user else { return Ok(()) };
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        // Of this thread alone: those of the gateway, whose memory it has, stay who they are.
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        // Where `fs.suid_dumpable` is 1, becoming somebody else would let others of that name look in.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        Ok(())
    }

    fn no_new_privs(&self) -> io::Result<()> {
        rustix::thread::set_no_new_privs(true)?;
        Ok(())
    }

    fn die_with_parent(&self) -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    }

    /// Everything above 2 is closed when the program begins, but for what it is meant to have.
    fn close(&self) -> io::Result<()> {
        // SAFETY: the flag makes this mark descriptors and close none, so no owner loses one.
        let marked = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        if marked != 0 {
            return Err(io::Error::last_os_error());
        }
        for fd in &self.inherited {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    }
}
