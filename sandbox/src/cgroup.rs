//! Control groups: what holds a run's memory, processes and processor time, and what finds every process of it.
//!
//! A group is plain directories and files of the kernel. Groups lie below this process's own, in a directory that names this
//! process, so that a later start finds and removes what a dead one left, and nothing else. Must never leave a limit out in
//! silence: where one can't be set, the run is refused or the lack is told.

mod find;
mod v1;
mod v2;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};

use crate::{Enforced, Limits, RunId, SandboxError};

/// Longest wait for killed processes to go: they may be in the middle of a write to a slow disk.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks at whether they have gone.
const PAUSE: Duration = Duration::from_millis(1);

/// What this machine has.
#[derive(Debug)]
pub(crate) enum Cgroups {
    /// The one tree of version 2, with the controllers for memory and processes.
    V2(v2::Tree),
    /// Version 1, a tree for each controller.
    V1(v1::Trees),
    /// None that can be used, and why.
    Degraded(String),
}

/// What one run used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) memory_peak_bytes: Option<u64>,
    pub(crate) cpu: Option<Duration>,
    pub(crate) oom_kills: u64,
    pub(crate) refused_processes: u64,
}

/// The groups of one run: one directory of version 2, or one of each tree of version 1; none where there are none.
#[derive(Debug)]
pub(crate) struct Group {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    V2(v2::Group),
    V1(v1::Group),
    None,
}

impl Cgroups {
    /// Looks at what there is, and makes the directory that the runs of this process will be in.
    pub(crate) fn find() -> Self {
        find::find()
    }

    /// Makes a run's groups, limited.
    ///
    /// # Errors
    /// [`SandboxError::Cgroups`] if a directory can't be made or a limit can't be set.
    pub(crate) fn make(&self, id: &RunId, limits: &Limits) -> Result<Group, SandboxError> {
        let failed = |err: io::Error| SandboxError::Cgroups(err.to_string());
        let kind = match self {
            Self::V2(tree) => Kind::V2(tree.make(id, limits).map_err(failed)?),
            Self::V1(trees) => Kind::V1(trees.make(id, limits).map_err(failed)?),
            Self::Degraded(_) => Kind::None,
        };
        Ok(Group { kind })
    }

    /// What holds each limit.
    pub(crate) fn enforced(&self) -> Enforced {
        let all = |name: &str, cpu: bool| Enforced {
            memory: name.to_owned(),
            processes: name.to_owned(),
            cpu: if cpu { name.to_owned() } else { "degraded: time alone".to_owned() },
            ..Enforced::default()
        };
        match self {
            Self::V2(tree) => all("cgroup2", tree.has_cpu()),
            Self::V1(trees) => all("cgroup1", trees.has_cpu()),
            Self::Degraded(_) => Enforced {
                memory: "degraded: by process".to_owned(),
                processes: "degraded: by user".to_owned(),
                cpu: "degraded: time alone".to_owned(),
                ..Enforced::default()
            },
        }
    }
}

impl Group {
    /// What a process that has one thread writes `0` to in order to join.
    ///
    /// In version 1 that is `tasks`: a thread that moves itself is spared the lock that every fork on the machine shares, and with it
    /// a wait for the kernel's readers of some 10 ms (`cgroup_procs_write_start` in Linux's `kernel/cgroup/cgroup.c`, since 5.6).
    /// In version 2 only a whole process may join such a group.
    ///
    /// # Errors
    /// [`SandboxError::Cgroups`] if one can't be opened.
    pub(crate) fn entrances(&self) -> Result<Vec<OwnedFd>, SandboxError> {
        let entrance = match &self.kind {
            Kind::V1(_) => "tasks",
            Kind::V2(_) | Kind::None => "cgroup.procs",
        };
        let open = |dir: &PathBuf| {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::open(dir.join(entrance), flags, Mode::empty())
                .map_err(|errno| SandboxError::Cgroups(format!("joining: {errno}")))
        };
        self.dirs().iter().map(open).collect()
    }

    /// What it used so far.
    pub(crate) fn usage(&self) -> Usage {
        match &self.kind {
            Kind::V2(group) => group.usage(),
            Kind::V1(group) => group.usage(),
            Kind::None => Usage::default(),
        }
    }

    /// Kills all that is in it.
    pub(crate) fn kill(&self) {
        match &self.kind {
            Kind::V2(group) => group.kill(),
            Kind::V1(group) => group.kill(),
            Kind::None => {}
        }
    }

    /// Waits until all killed processes have gone, and removes the directories.
    ///
    /// # Errors
    /// What the system said of one that is still in use after ten seconds.
    pub(crate) fn remove(self) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        for dir in self.dirs() {
            while let Err(err) = fs::remove_dir(dir) {
                if err.kind() == io::ErrorKind::NotFound {
                    break;
                }
                if err.kind() != io::ErrorKind::ResourceBusy || Instant::now() > until {
                    return Err(err);
                }
                self.kill();
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    fn dirs(&self) -> &[PathBuf] {
        match &self.kind {
            Kind::V2(group) => group.dirs(),
            Kind::V1(group) => group.dirs(),
            Kind::None => &[],
        }
    }
}

/// Kills each process that a group lists.
fn kill_listed(dir: &Path) {
    let listed = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in listed.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        // One that has gone meanwhile is what is wanted.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

fn write(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = dir.join(file);
    fs::write(&path, value).map_err(|err| io::Error::new(err.kind(), format!("{value:?} to {}: {err}", path.display())))
}

fn number(dir: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
}

/// The number after a word in a file of such lines.
fn number_of(dir: &Path, file: &str, word: &str) -> Option<u64> {
    let text = fs::read_to_string(dir.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Processor time in the kernel's units, in a tenth of a second, which is how long a burst may wait.
fn quota_microseconds(cpu_millis: u32) -> u64 {
    u64::from(cpu_millis) * PERIOD_MICROSECONDS / 1000
}

/// The time that a quota is counted in.
const PERIOD_MICROSECONDS: u64 = 100_000;
