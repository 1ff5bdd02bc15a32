//! [`Bubblewrap`]: runs jobs in namespaces of their own on Linux.
//!
//! - `argv`: what bubblewrap is told, a pure function
//! - `launch`, `spawn`, `child`: the thread that starts it, how, and what the new process does before it
//! - `watch`: a run while it runs
//! - `mounts`: where it finds what it is to bind
//! - `etc`: what a run sees of the host's `/etc`
//! - `memfd`: bytes that it reads from descriptors
//! - `examine`: whether it works here at all, found out before anything of a tenant is run
//!
//! Must never start anything where one of the walls could not be set up: there is no weaker mode.

mod argv;
mod child;
mod etc;
mod examine;
mod launch;
mod memfd;
mod mounts;
mod spawn;
mod watch;

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::cgroup::Cgroups;
use crate::disk::{self, Sampler};
use crate::ending::{self, Cause};
use crate::seccomp::{Arch, Filters, Policy};
use crate::status::Status;
use crate::{Backend, Chunk, HELPER, Isolation, Job, Outcome, SandboxError, Stdio};

use argv::Host;
use etc::Etc;
use launch::Spawner;
use memfd::Sealed;
use mounts::Place;
use watch::{Ends, Seen};

/// How bubblewrap is set up.
#[derive(Clone, Debug)]
pub struct BubblewrapSetup {
    /// The program; looked up in `PATH` if it has no `/`.
    pub program: PathBuf,
    /// The directory that becomes `/usr`: the system's own, or an image's.
    pub usr: PathBuf,
    /// Whether it refuses to start without control groups.
    pub require_cgroups: bool,
    /// Where the `/etc` of runs is, and the examination's own workspace is made and removed: a directory of the gateway's.
    pub state_dir: PathBuf,
}

/// Runs jobs with bubblewrap.
#[derive(Debug)]
pub struct Bubblewrap {
    machine: Arc<Machine>,
    spawner: Spawner,
}

/// What every run needs of this machine.
#[derive(Debug)]
struct Machine {
    program: CString,
    host: Host,
    cgroups: Cgroups,
    helper: Sealed,
    seccomp: [Sealed; 2],
    etc: Etc,
}

impl Machine {
    fn degraded(&self) -> bool {
        matches!(self.cgroups, Cgroups::Degraded(_))
    }
}

impl Bubblewrap {
    /// Finds out what the machine has, removes what a dead process left, and proves with runs of its own that code is held:
    /// by namespaces, by the filter, and by the limits.
    ///
    /// # Errors
    /// What is missing, each as a variant of its own: [`SandboxError::Missing`], [`SandboxError::Namespaces`],
    /// [`SandboxError::Seccomp`], [`SandboxError::Cgroups`], [`SandboxError::Helper`], [`SandboxError::Unproved`].
    pub async fn start(setup: &BubblewrapSetup) -> Result<Self, SandboxError> {
        let arch = Arch::host().ok_or_else(|| SandboxError::Seccomp("no filter for this processor".to_owned()))?;
        let filters = Filters::compile(&Policy::builtin()?, arch)?;
        let cgroups = Cgroups::find();
        if let (Cgroups::Degraded(why), true) = (&cgroups, setup.require_cgroups) {
            return Err(SandboxError::Cgroups(why.clone()));
        }
        let sealed = |name: &str, bytes: &[u8]| Sealed::new(name, bytes).map_err(SandboxError::Io);
        let program = examine::program(&setup.program)?;
        let machine = Arc::new(Machine {
            host: host(&setup.usr, &program)?,
            program: CString::new(program.into_os_string().into_vec()).map_err(|err| SandboxError::Io(err.into()))?,
            cgroups,
            helper: sealed("sandbox-init", HELPER)?,
            seccomp: [sealed("seccomp", &filters.forbidden)?, sealed("seccomp", &filters.unknown)?],
            etc: Etc::prepare(Path::new("/etc"), &setup.state_dir.join("etc")).map_err(SandboxError::Io)?,
        });
        let spawner = Spawner::start(Arc::clone(&machine)).map_err(SandboxError::Io)?;
        let backend = Self { machine, spawner };
        examine::examine(&backend, &setup.state_dir).await?;
        Ok(backend)
    }

    /// Why limits are held by process and by user alone, if they are.
    #[must_use]
    pub fn degraded(&self) -> Option<&str> {
        match &self.machine.cgroups {
            Cgroups::Degraded(why) => Some(why),
            Cgroups::V1(_) | Cgroups::V2(_) => None,
        }
    }

    fn outcome(&self, seen: Seen, owned: bool, disk: String) -> Result<Outcome, SandboxError> {
        let Seen { cause, stdout, stderr, status, usage, duration } = seen;
        ending::begun(&status)?;
        if !status.any && cause == Cause::Itself {
            return Err(examine::never_began(&stderr));
        }
        // A run that was killed before process 1 could say a word has run nothing.
        if status.any || cause == Cause::Unproved {
            prove(&status)?;
        }
        let (ended, exit_code, signal) = ending::ended(cause, &status, usage.oom_kills > 0)?;
        let mut limits = self.machine.cgroups.enforced();
        limits.disk = disk;
        limits.user = if owned { "own" } else { "shared" }.to_owned();
        Ok(Outcome {
            ended,
            exit_code,
            signal,
            stdout,
            stderr,
            duration,
            cpu: usage.cpu,
            memory_peak_bytes: usage.memory_peak_bytes,
            processes_limit_hit: usage.refused_processes > 0,
            backend: self.name(),
            isolation: Isolation { limits, ..status.isolation },
        })
    }
}

#[async_trait]
impl Backend for Bubblewrap {
    fn name(&self) -> &'static str {
        "bubblewrap"
    }

    fn has_terminals(&self) -> bool {
        true
    }

    async fn run(&self, mut job: Job, output: Option<mpsc::Sender<Chunk>>) -> Result<Outcome, SandboxError> {
        job.check()?;
        let limits = job.limits.clone();
        let owned = user_of(&job).is_some();
        let disk = Sampler::new(&job.workspace, &limits)?;
        let held = disk::told(job.workspace.held.is_some(), disk.is_some());
        // What is written to the command stays here: the spawner needs to know alone whether there is anything.
        let (input, terminal) = match &mut job.stdio {
            Stdio::Piped(input) if !input.is_empty() => (std::mem::replace(input, vec![0]), None),
            Stdio::Piped(_) => (Vec::new(), None),
            Stdio::Terminal(terminal) => (Vec::new(), terminal.told.take()),
        };
        let running = self.spawner.launch(job).await?;
        let seen = watch::watch(running, Ends { input, output, terminal }, &limits, disk).await?;
        self.outcome(seen, owned, held)
    }
}

/// Whether what keeps a run in is what it must be.
fn prove(status: &Status) -> Result<(), SandboxError> {
    status.prove()?;
    status.prove_user(argv::INNER_UID)
}

/// The host's user that a job's processes are: the tenant's own where this process can become it.
fn user_of(job: &Job) -> Option<u32> {
    rustix::process::geteuid().is_root().then(|| job.workspace.owner.get())
}

fn host(usr: &Path, program: &Path) -> Result<Host, SandboxError> {
    let names = ["bin", "lib", "lib32", "lib64", "libx32", "sbin"];
    let usr_links = names.into_iter().filter(|name| usr.join(name).exists()).map(str::to_owned).collect();
    let hidden = argv::HIDDEN.into_iter().filter(|path| Path::new(path).exists()).collect();
    // Where the gateway is no root, the user stays the same and reaches what the gateway reaches.
    let root = rustix::process::geteuid().is_root();
    let place = root.then(|| Place::find(&[usr, program])).transpose().map_err(SandboxError::Io)?;
    Ok(Host { usr: usr.to_owned(), usr_links, hidden, place })
}
