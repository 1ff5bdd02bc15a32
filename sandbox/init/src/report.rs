//! What the outside is told, a line each: how the command is isolated, as seen from inside and before it runs, and how it ended.
//!
//!     uid_map 1000 0 1
//!     seccomp 2
//!     no_new_privs 1
//!     cap_eff 0000000000000000
//!     started             | exec_failed ERRNO | refused REASON
//!     cpu_us 1500         memory_peak 4096      refused_processes 0      oom_kills 0       (what its control groups tell inside)
//!     exited 3            | signalled 9
//!
//! Where the last line is missing, the run was ended from outside. More than one range of user ids are joined by `;`.

use std::fmt::Display;
use std::fs;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::args::Status;

/// The way to the outside; each write is one line.
pub(crate) enum Report {
    /// Nobody asked.
    Nobody,
    /// A descriptor that was inherited.
    Pipe(File),
    /// A socket.
    Socket(UnixStream),
}

impl Report {
    /// Opens it. To be called once.
    pub(crate) fn open(status: &Status) -> io::Result<Self> {
        Ok(match status {
            Status::Nowhere => Self::Nobody,
            Status::Socket(path) => Self::Socket(UnixStream::connect(path)?),
            Status::Descriptor(fd) => {
                #[allow(unsafe_code, reason = "an inherited descriptor is known by its number alone")]
                // SAFETY: nothing else of this process uses a descriptor that it inherited, this is called once, and a
                // number that is not open is refused by the check below before anything is done with it.
                let owned = unsafe { OwnedFd::from_raw_fd(*fd) };
                if let Err(errno) = rustix::io::fcntl_getfd(&owned) {
                    // Not open: there is nothing to close either.
                    std::mem::forget(owned);
                    return Err(errno.into());
                }
                Self::Pipe(File::from(owned))
            }
        })
    }

    /// The way itself, to see whether somebody listens still.
    pub(crate) fn other_end(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Nobody => None,
            Self::Pipe(pipe) => Some(pipe.as_fd()),
            Self::Socket(socket) => Some(socket.as_fd()),
        }
    }

    /// Waits until the other end is closed, this long at most.
    pub(crate) fn wait_until_nobody_listens(&self, most: Duration) {
        let Some(end) = self.other_end() else { return };
        let most = Timespec { tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
        // Asked for nothing, the kernel tells of the other end alone. Signals are blocked, so it is not interrupted.
        let _closed_or_too_late = poll(&mut [PollFd::from_borrowed_fd(end, PollFlags::empty())], Some(&most));
    }

    /// Says what the run used, as far as its control groups can be seen from inside.
    pub(crate) fn say_usage(&mut self) {
        if matches!(self, Self::Nobody) {
            return;
        }
        let groups = Path::new("/sys/fs/cgroup");
        let read = |name: &str| fs::read_to_string(groups.join(name)).ok();
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let of = |name: &str, key: &str| entry(&read(name)?, key);
        // The second version's files first, then the first's.
        let cpu = of("cpu.stat", "usage_usec").or_else(|| Some(number("cpuacct/cpuacct.usage")? / 1000));
        let peak = number("memory.peak").or_else(|| number("memory/memory.max_usage_in_bytes"));
        let refused = of("pids.events", "max").or_else(|| of("pids/pids.events", "max"));
        let killed = of("memory.events", "oom_kill").or_else(|| of("memory/memory.oom_control", "oom_kill"));
        for (key, value) in
            [("cpu_us", cpu), ("memory_peak", peak), ("refused_processes", refused), ("oom_kills", killed)]
        {
            if let Some(value) = value {
                self.say(key, value);
            }
        }
    }

    /// Says that the command runs.
    pub(crate) fn say_started(&mut self) {
        self.line("started\n");
    }

    /// Says one line.
    pub(crate) fn say(&mut self, key: &str, value: impl Display) {
        self.line(&format!("{key} {value}\n"));
    }

    /// Nobody listening is no reason to end differently.
    fn line(&mut self, line: &str) {
        let _ended_too = match self {
            Self::Nobody => Ok(()),
            Self::Pipe(pipe) => pipe.write_all(line.as_bytes()),
            Self::Socket(socket) => socket.write_all(line.as_bytes()),
        };
    }

    /// Says how this process is isolated.
    pub(crate) fn say_isolation(&mut self) {
        if matches!(self, Self::Nobody) {
            return;
        }
        let ranges = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let ranges: Vec<String> =
            ranges.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        self.say("uid_map", ranges.join(";"));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (name, key) in [("Seccomp", "seccomp"), ("NoNewPrivs", "no_new_privs"), ("CapEff", "cap_eff")] {
            if let Some(value) = field(&status, name) {
                self.say(key, value);
            }
        }
    }
}

/// An entry of a file that has a key and a number on each line.
fn entry(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A field of `/proc/<pid>/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "Seccomp_filters:\t9\nSeccomp:\t2\nCapEff:\t0000000000000000\n";
        assert_eq!(field(status, "Seccomp"), Some("2"));
        assert_eq!(field(status, "CapEff"), Some("0000000000000000"));
        assert_eq!(field(status, "NoNewPrivs"), None);
    }

    #[test]
    fn an_entry_is_found_by_its_whole_key() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(entry(text, "oom_kill"), Some(3));
        assert_eq!(entry(text, "oom"), None);
        assert_eq!(entry("max\n", "max"), None);
    }
}
