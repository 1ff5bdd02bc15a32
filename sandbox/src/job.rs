//! What is run: [`Job`] and its [`Limits`].
//!
//! A job is complete: a backend adds nothing to it that a tenant could have chosen, and takes nothing from the gateway's
//! own environment.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::{RelPath, Root, SandboxError, Terminal};

/// The lowest host user that code may run as: below it are the system's own and people.
const LOWEST_HOST_UID: u32 = 100_000;
/// The highest one: beyond it lie values that the kernel and older programs take for negative numbers.
const HIGHEST_HOST_UID: u32 = 0x7fff_fffe;
/// What the arguments and the environment of one command may come to.
const MAX_COMMAND_BYTES: usize = 1 << 20;

/// One run of untrusted code.
#[derive(Debug)]
pub struct Job {
    /// Names the run's control group, container and sockets, so that a later start finds what was left of it.
    pub id: RunId,
    /// The program and its arguments. It is looked up in `PATH` inside.
    pub command: Vec<OsString>,
    /// Variables besides `PATH`, `HOME`, `LANG` and `TERM`, which are set by the backend and may be set anew here.
    pub env: Vec<(OsString, OsString)>,
    /// Where below the workspace the command starts; the workspace itself if absent.
    pub cwd: Option<RelPath>,
    /// What is connected to the command.
    pub stdio: Stdio,
    /// What it may use.
    pub limits: Limits,
    /// The only place whose changes outlive the run.
    pub workspace: Workspace,
    /// The host's end of the egress allow-list, a Unix socket made for this run alone; no network at all if absent.
    pub egress: Option<PathBuf>,
}

/// The name of one run: 1 to 64 of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunId(String);

/// What the command reads and writes.
#[derive(Debug)]
pub enum Stdio {
    /// Pipes: it reads these bytes and then the end; what it writes is captured.
    Piped(Vec<u8>),
    /// A terminal's inner end, which becomes its controlling terminal; nothing is captured.
    Terminal(Terminal),
}

/// What one run may use. Narrowed by the caller, enforced by the backend; what a backend could not enforce it says in
/// [`Enforced`](crate::Enforced).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the start until everything is killed.
    pub wall: Duration,
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Of all processes together, with what they keep in memory file systems.
    pub memory_bytes: u64,
    /// Processes and threads at once.
    pub processes: u32,
    /// How much of each of standard output and error is kept: half from the beginning, half from the end.
    pub kept_bytes: usize,
    /// How much may be written to both together before everything is killed.
    pub output_bytes: u64,
    /// The largest file that may be written.
    pub file_bytes: u64,
    /// How much the workspace may hold before everything is killed, in bytes that are allocated; it is looked at every now
    /// and then. Absent: as much as its file system does.
    pub disk_bytes: Option<u64>,
    /// How many files and directories it may hold; likewise.
    pub disk_entries: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(60),
            cpu_millis: 1000,
            memory_bytes: 512 << 20,
            processes: 128,
            kept_bytes: 1 << 20,
            output_bytes: 64 << 20,
            file_bytes: 1 << 30,
            disk_bytes: None,
            disk_entries: None,
        }
    }
}

/// The directory that becomes `/workspace`, and the host's user whom all in it belongs to.
#[derive(Debug)]
pub struct Workspace {
    pub(crate) root: Root,
    pub(crate) owner: HostUid,
    /// How many bytes the file system holds it to, if it does.
    pub(crate) held: Option<u64>,
}

/// A user of the host that is one tenant's alone: never root, the gateway's own user, or a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostUid(u32);

impl RunId {
    /// Checks a name.
    ///
    /// # Errors
    /// [`SandboxError::Job`] for any other than 1 to 64 of `a-z`, `0-9`, `-` and `_`.
    pub fn parse(name: &str) -> Result<Self, SandboxError> {
        let plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        if plain && (1..=64).contains(&name.len()) {
            Ok(Self(name.to_owned()))
        } else {
            Err(SandboxError::Job("a run is named by 1 to 64 of a-z, 0-9, - and _"))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HostUid {
    /// Checks a number: 100,000 to 2^31 - 2.
    ///
    /// # Errors
    /// [`SandboxError::Job`] for any other.
    pub fn new(uid: u32) -> Result<Self, SandboxError> {
        if (LOWEST_HOST_UID..=HIGHEST_HOST_UID).contains(&uid) {
            Ok(Self(uid))
        } else {
            Err(SandboxError::Job("a tenant's host user is a number from 100000 to 2147483646"))
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Workspace {
    /// `root`, and all that is made in it, as `owner`'s. Where this process is root the directory is given to `owner`, for
    /// nobody else to open.
    ///
    /// # Errors
    /// [`SandboxError::Path`] if it can't be given.
    pub fn new(root: Root, owner: HostUid) -> Result<Self, SandboxError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { root, owner, held: None });
        }
        root.hand_to(owner).map_err(SandboxError::Path)?;
        Ok(Self { root: root.owned_by(owner), owner, held: None })
    }

    /// Has the file system itself hold it to `bytes`, as the project that has the owner's number; lifts that limit where there are
    /// none. Whoever passes it is refused, and not killed.
    ///
    /// # Errors
    /// [`SandboxError::Io`], with the step that failed: then it is not held.
    #[cfg(target_os = "linux")]
    pub fn hold(&mut self, bytes: Option<u64>) -> Result<(), SandboxError> {
        self.root.hold(self.owner.get(), bytes).map_err(SandboxError::Io)?;
        self.held = bytes;
        Ok(())
    }

    /// The directory, to put files into before a run and to read them after it.
    #[must_use]
    pub fn files(&self) -> &Root {
        &self.root
    }

    /// Where the directory is now, as the system knows it: for an engine that takes paths alone. It is no way to open files.
    ///
    /// # Errors
    /// [`SandboxError::Io`] where there is no `/proc`, or the directory has been removed.
    pub fn host_path(&self) -> Result<PathBuf, SandboxError> {
        let path = std::fs::read_link(self.root.proc_path()).map_err(SandboxError::Io)?;
        if path.as_os_str().as_bytes().ends_with(b" (deleted)") {
            return Err(SandboxError::Path(crate::PathError::NotFound));
        }
        Ok(path)
    }

    /// The host's user whom all in it belongs to.
    #[must_use]
    pub fn owner(&self) -> HostUid {
        self.owner
    }
}

impl Job {
    /// Whether anything is written to the command.
    pub(crate) fn has_input(&self) -> bool {
        matches!(&self.stdio, Stdio::Piped(input) if !input.is_empty())
    }

    /// Whether it can be run at all; every backend asks first.
    ///
    /// # Errors
    /// [`SandboxError::Job`], with what is wrong.
    pub fn check(&self) -> Result<(), SandboxError> {
        let wrong = |what| Err(SandboxError::Job(what));
        let Some(program) = self.command.first() else { return wrong("the command is empty") };
        if program.is_empty() {
            return wrong("the program's name is empty");
        }
        let variables = || self.env.iter().flat_map(|(name, value)| [name, value]);
        if self.command.iter().chain(variables()).any(|text| text.as_bytes().contains(&0)) {
            return wrong("an argument or a variable holds a NUL");
        }
        if self.command.iter().chain(variables()).map(|text| text.len() + 1).sum::<usize>() > MAX_COMMAND_BYTES {
            return wrong("arguments and variables are more than 1 MiB");
        }
        if self.env.iter().any(|(name, _)| !variable(name)) {
            return wrong("a variable's name is not made of letters, digits and _, or is the loader's (LD_*)");
        }
        self.limits.check()
    }
}

impl Limits {
    fn check(&self) -> Result<(), SandboxError> {
        let wrong = |what| Err(SandboxError::Job(what));
        if self.wall.is_zero() {
            return wrong("the time limit is zero");
        }
        if !(10..=1_000_000).contains(&self.cpu_millis) {
            return wrong("the share of cores is not between a hundredth and a thousand");
        }
        if self.memory_bytes < 8 << 20 {
            return wrong("the memory limit is below 8 MiB");
        }
        if self.processes < 4 {
            return wrong("the limit of processes is below 4");
        }
        Ok(())
    }
}

/// The loader's variables are refused because they would reach the helper that is process 1, too.
fn variable(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let plain = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    plain && !name.first().is_none_or(u8::is_ascii_digit) && !name.starts_with(b"LD_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_user_is_never_root_the_systems_or_negative() {
        for bad in [0, 1, 1000, 65_534, 99_999, 0x7fff_ffff, u32::MAX] {
            assert!(HostUid::new(bad).is_err(), "{bad}");
        }
        assert_eq!(HostUid::new(200_001).unwrap().get(), 200_001);
    }

    #[test]
    fn a_runs_name_cannot_leave_its_directory() {
        for bad in ["", ".", "..", "a/b", "A", "a b", "a\0", &"x".repeat(65)] {
            assert!(RunId::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(RunId::parse("run_01-a").unwrap().as_str(), "run_01-a");
    }

    #[test]
    fn variables_of_the_loader_are_refused() {
        for bad in ["", "1A", "A=B", "A B", "LD_PRELOAD", "LD_LIBRARY_PATH"] {
            assert!(!variable(OsStr::new(bad)), "{bad:?}");
        }
        for good in ["A", "_x1", "PYTHONPATH", "HTTP_PROXY"] {
            assert!(variable(OsStr::new(good)), "{good}");
        }
    }
}
