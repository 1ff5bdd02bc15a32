//! How a run ended: [`Outcome`], with the proof of what held it.

use std::time::Duration;

/// How a run ended, what it wrote, what it used, and what kept it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How the command ended.
    pub ended: Ended,
    /// The exit code that a shell would show: the command's own, or 128 and the signal.
    pub exit_code: u8,
    /// The signal that ended the command.
    pub signal: Option<u8>,
    /// What it wrote to standard output.
    pub stdout: Captured,
    /// What it wrote to standard error.
    pub stderr: Captured,
    /// From the start until everything was gone.
    pub duration: Duration,
    /// Time on the processors, of all its processes; absent where nobody counted.
    pub cpu: Option<Duration>,
    /// The most memory that it had at once; absent where nobody counted.
    pub memory_peak_bytes: Option<u64>,
    /// Whether it wanted more processes than it might have.
    pub processes_limit_hit: bool,
    /// What ran it: `bubblewrap` or `docker`.
    pub backend: &'static str,
    /// What kept it in, read from inside by process 1 before the command began.
    pub isolation: Isolation,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with an exit code.
    Exited,
    /// By a signal that nobody here sent.
    Signalled,
    /// Killed: its time was over.
    TimedOut,
    /// Killed: it wanted more memory than it might have.
    OutOfMemory,
    /// Killed: it wrote more output than it might.
    OutputLimit,
    /// Killed: it wrote more to the workspace than it might.
    DiskLimit,
    /// Killed: who had it run wanted no more of it.
    Stopped,
}

impl Ended {
    /// The word for it in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Signalled => "signalled",
            Self::TimedOut => "timeout",
            Self::OutOfMemory => "oom",
            Self::OutputLimit => "output_limit",
            Self::DiskLimit => "disk_limit",
            Self::Stopped => "stopped",
        }
    }
}

/// What was kept of one stream: its beginning and its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// The beginning.
    pub head: Vec<u8>,
    /// The end, where the beginning is not all there is.
    pub tail: Vec<u8>,
    /// How many bytes were written in all.
    pub total_bytes: u64,
}

impl Captured {
    /// How many bytes between the beginning and the end were let go.
    #[must_use]
    pub fn dropped_bytes(&self) -> u64 {
        let kept = u64::try_from(self.head.len() + self.tail.len()).unwrap_or(u64::MAX);
        self.total_bytes.saturating_sub(kept)
    }

    /// All that was kept. Where something is missing in between, a line says how much.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = self.head.clone();
        if self.dropped_bytes() > 0 {
            all.extend_from_slice(format!("\n[... {} bytes left out ...]\n", self.dropped_bytes()).as_bytes());
        }
        all.extend_from_slice(&self.tail);
        all
    }
}

/// A piece of output while the command runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which of the two.
    pub stream: Stream,
    /// What was written; cut anywhere, also within a character.
    pub bytes: Vec<u8>,
}

/// One of the two streams that a command writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What kept a run in, as process 1 of the sandbox read it from inside before the command began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// The user map: the user inside, the user outside as seen from inside, and how many.
    pub uid_map: String,
    /// The mode of seccomp; 2 is a filter.
    pub seccomp: u8,
    /// That no program inside can gain a right.
    pub no_new_privs: bool,
    /// The rights that process 1 has, in hexadecimal digits.
    pub cap_eff: String,
    /// What held its limits.
    pub limits: Enforced,
}

/// What held each limit: the name of the mechanism, or what there was in its stead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enforced {
    /// Of memory: `cgroup2`, `cgroup1`, `docker`, or `degraded: ...`.
    pub memory: String,
    /// Of processes.
    pub processes: String,
    /// Of processor time.
    pub cpu: String,
    /// Of the disk: `project quota`, `sampled (soft)`, both, or `none`.
    pub disk: String,
    /// Whether the host's user is this tenant's alone: `own` or `shared`.
    pub user: String,
}
