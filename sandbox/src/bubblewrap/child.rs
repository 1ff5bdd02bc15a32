//! What happens in the new process between `fork` and bubblewrap.
//!
//! The process is a copy of one with many threads, of which it has one: another may have held any lock. So nothing here may
//! allocate, lock, log or panic; it is system calls on numbers that were made ready before. The order matters: groups are
//! joined and limits set as the gateway's user, and the right to do so is given up afterwards.

#![allow(unsafe_code, reason = "pre_exec, and the system calls that rustix has no safe form of")]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::mounts::Mounts;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::{Gid, Uid};

/// All that the child does, as numbers.
#[derive(Debug)]
pub(super) struct Child {
    /// What is written to in order to join each group.
    pub(super) entrances: Vec<OwnedFd>,
    /// What bubblewrap gets besides 0, 1 and 2.
    pub(super) inherited: Vec<OwnedFd>,
    /// Standard input is a terminal, to be controlled by it.
    pub(super) terminal: bool,
    pub(super) limits: Vec<(Resource, u64)>,
    /// What has to be mounted where the user to become can reach it.
    pub(super) mounts: Option<Mounts>,
    /// The user to become; absent where the gateway is not root.
    pub(super) user: Option<u32>,
    /// Where the step that failed is written to.
    pub(super) report: OwnedFd,
}

/// The steps, by the number that is reported of the one that failed.
pub(super) const STEPS: [&str; 10] = [
    "joining the control groups",
    "a session of its own",
    "the controlling terminal",
    "resource limits",
    "mounts of its own",
    "giving up groups",
    "becoming the tenant's user",
    "no_new_privs",
    "the death signal",
    "closing descriptors",
];

impl Child {
    /// Makes the child of `command` do all this before it becomes the program.
    pub(super) fn prepare(self, command: &mut Command) {
        // SAFETY: `enter` makes system calls on values that were made before the fork; it takes no lock and allocates nothing.
        unsafe { command.pre_exec(move || self.enter()) };
    }

    fn enter(&self) -> io::Result<()> {
        for (number, step) in STEPS_OF.iter().enumerate() {
            if let Err(err) = step(self) {
                let told = [u8::try_from(number).unwrap_or(u8::MAX)];
                // Nothing can be done about a report that can't be written; the error number goes its own way.
                let _ = rustix::io::write(&self.report, &told);
                return Err(err);
            }
        }
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
        // Of this thread: the process has no other.
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
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

type Step = fn(&Child) -> io::Result<()>;

/// In this order; see [`STEPS`] for their names.
const STEPS_OF: [Step; STEPS.len()] = [
    Child::join,
    Child::session,
    Child::control,
    Child::limit,
    Child::mount,
    Child::leave_groups,
    Child::become_user,
    Child::no_new_privs,
    Child::die_with_parent,
    Child::close,
];
