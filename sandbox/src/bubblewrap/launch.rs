//! The one thread that starts runs, and what a started run is: [`Running`].
//!
//! A child is killed by the kernel when the *thread* that made it ends, so that thread lives as long as the backend. Must
//! never leave a run behind: whoever lets go of a [`Running`] has it killed, waited for, and its groups removed.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::process::{PidfdFlags, Resource};
use tokio::sync::oneshot;

use super::argv::{self, Descriptors};
use super::child::Child;
use super::memfd::Sealed;
use super::mounts::Mounts;
use super::spawn::{Process, spawn};
use super::{Machine, user_of};
use crate::cgroup::{Group, Usage};
use crate::{Job, SandboxError, Stdio, Terminal};

/// How much longer than the run's time a single process may compute: the run's own deadline comes first.
const SPARE_SECONDS: u64 = 5;
/// Open files of one process.
const MAX_FILES: u64 = 1024;
/// Memory that one process may pin.
const MAX_LOCKED_BYTES: u64 = 64 << 10;

/// The thread that starts runs.
#[derive(Debug)]
pub(super) struct Spawner {
    orders: mpsc::Sender<Order>,
}

struct Order {
    job: Box<Job>,
    answer: oneshot::Sender<Result<Running, SandboxError>>,
}

/// A run that was started.
#[derive(Debug)]
pub(super) struct Running {
    /// Readable when the run has ended.
    pub(super) ended: OwnedFd,
    /// The ends of its pipes; absent with a terminal.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    /// What process 1 says; it ends when nobody holds this any more.
    pub(super) status: Option<OwnedFd>,
    pub(super) started: Instant,
    remains: Option<Remains>,
}

/// What has to be cleared away.
#[derive(Debug)]
struct Remains {
    process: Process,
    group: Group,
}

impl Spawner {
    /// Starts the thread.
    pub(super) fn start(machine: Arc<Machine>) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::Builder::new().name("sandbox-spawner".to_owned()).spawn(move || {
            for order in inbox {
                // Nobody waits for it any more: then it is dropped, which clears it away.
                let _ = order.answer.send(launch(&machine, &order.job));
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts `job`.
    pub(super) async fn launch(&self, job: Job) -> Result<Running, SandboxError> {
        let (answer, answered) = oneshot::channel();
        let gone = || SandboxError::Launch { step: "the spawner", detail: "its thread has ended".to_owned() };
        self.orders.send(Order { job: Box::new(job), answer }).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Running {
    /// Kills what is left, and says what it used when all of it has gone.
    pub(super) async fn clear(mut self) -> Result<Usage, SandboxError> {
        let (answer, answered) = oneshot::channel();
        if let Some(remains) = self.remains.take() {
            remains.clear_beside(Some(answer));
        }
        let lost = SandboxError::Launch { step: "clearing away", detail: "its thread has ended".to_owned() };
        answered.await.map_err(|_| lost)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(remains) = self.remains.take() {
            remains.clear_beside(None);
        }
    }
}

impl Remains {
    /// On a thread of its own, since all of it waits; on this one where the system has no thread to give.
    fn clear_beside(self, answer: Option<oneshot::Sender<Usage>>) {
        // At once: the thread may have to wait for a processor.
        self.process.kill();
        let parcel: Arc<Parcel> = Arc::new(Mutex::new(Some((self, answer))));
        let beside = Arc::clone(&parcel);
        let thread = std::thread::Builder::new().name("sandbox-clearer".to_owned());
        if thread.spawn(move || clear(&beside)).is_err() {
            clear(&parcel);
        }
    }

    fn clear(self, answer: Option<oneshot::Sender<Usage>>) {
        self.group.kill();
        if let Err(err) = self.process.wait() {
            tracing::warn!("a run could not be waited for: {err}");
        }
        let usage = self.group.usage();
        if let Err(err) = self.group.remove() {
            tracing::warn!("the control group of a run stays: {err}");
        }
        if let Some(answer) = answer {
            // Whoever asked may have gone.
            let _ = answer.send(usage);
        }
    }
}

/// What is cleared away by whichever thread gets hold of it.
type Parcel = Mutex<Option<(Remains, Option<oneshot::Sender<Usage>>)>>;

fn clear(parcel: &Parcel) {
    let taken = parcel.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((remains, answer)) = taken {
        remains.clear(answer);
    }
}

fn launch(machine: &Machine, job: &Job) -> Result<Running, SandboxError> {
    let failed = |step| move |err: io::Error| SandboxError::Launch { step, detail: err.to_string() };
    let group = machine.cgroups.make(&job.id, &job.limits)?;
    let (status, said) = io::pipe().map_err(failed("a pipe"))?;
    let (inherited, fds) = inherit(machine, job, said.into()).map_err(failed("descriptors"))?;
    let mounts = mounts(machine, job).map_err(failed("mounts"))?;
    let options = packed(&argv::options(job, &fds, &machine.host));
    let options = Sealed::new("options", &options).and_then(|sealed| sealed.reader()).map_err(failed("options"))?;
    let arguments = arguments(&options, argv::command(job, &fds)).map_err(failed("arguments"))?;
    let (stdio, ours) = connect(&job.stdio).map_err(failed("input and output"))?;
    let child = Child {
        stdio,
        entrances: group.entrances()?,
        inherited: inherited.into_iter().chain([options]).collect(),
        terminal: matches!(job.stdio, Stdio::Terminal(_)),
        limits: rlimits(machine, job),
        mounts,
        user: user_of(job),
    };
    let started = Instant::now();
    let process = match spawn(&child, &machine.program, &arguments) {
        Ok(process) => process,
        Err((step, err)) => {
            let told = group.remove();
            let detail = told.err().map_or_else(|| err.to_string(), |more| format!("{err}; {more}"));
            return Err(SandboxError::Launch { step, detail });
        }
    };
    drop(child);
    let handle = rustix::process::pidfd_open(process.pid(), PidfdFlags::NONBLOCK);
    // From here on it is cleared away whatever fails.
    let remains = Remains { process, group };
    let ended = match handle {
        Ok(handle) => handle,
        Err(errno) => {
            remains.clear_beside(None);
            return Err(failed("a handle of the process")(errno.into()));
        }
    };
    let [stdin, stdout, stderr] = ours;
    Ok(Running { ended, stdin, stdout, stderr, status: Some(status.into()), started, remains: Some(remains) })
}

/// The descriptors that bubblewrap gets, and their numbers.
fn inherit(machine: &Machine, job: &Job, said: OwnedFd) -> io::Result<(Vec<OwnedFd>, Descriptors)> {
    let mut all = Vec::new();
    let mut keep = |fd: OwnedFd| {
        let number = fd.as_raw_fd();
        all.push(fd);
        number
    };
    let mounted = machine.host.place.is_some();
    let etc = if mounted { None } else { Some(keep(machine.etc.handle()?)) };
    let workspace = if mounted { None } else { Some(keep(job.workspace.root.handle()?)) };
    let seccomp = [keep(machine.seccomp[0].reader()?), keep(machine.seccomp[1].reader()?)];
    let egress = if mounted { None } else { egress(job)?.map(&mut keep) };
    let helper = keep(machine.helper.reader()?);
    let status = keep(said);
    Ok((all, Descriptors { etc, workspace, seccomp, egress, helper, status }))
}

/// A handle of the job's egress socket, if it has one.
fn egress(job: &Job) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |path| rustix::fs::open(path, flags, Mode::empty());
    Ok(job.egress.as_deref().map(open).transpose()?)
}

/// What the new process mounts by itself, where it is not bubblewrap that can reach it.
fn mounts(machine: &Machine, job: &Job) -> io::Result<Option<Mounts>> {
    let Some(place) = &machine.host.place else { return Ok(None) };
    Mounts::take(place, [machine.etc.handle()?, job.workspace.root.handle()?], egress(job)?).map(Some)
}

/// What the new process has as 0, 1 and 2, and the other ends of its pipes, which a terminal has none of.
fn connect(stdio: &Stdio) -> io::Result<([OwnedFd; 3], [Option<OwnedFd>; 3])> {
    match stdio {
        Stdio::Piped(input) => {
            let (stdin, feed) = if input.is_empty() {
                (File::open("/dev/null")?.into(), None)
            } else {
                let (theirs, ours) = io::pipe()?;
                (theirs.into(), Some(ours.into()))
            };
            let (stdout, its_stdout) = io::pipe()?;
            let (stderr, its_stderr) = io::pipe()?;
            Ok(([stdin, its_stdout.into(), its_stderr.into()], [feed, Some(stdout.into()), Some(stderr.into())]))
        }
        Stdio::Terminal(Terminal { inner, .. }) => {
            let again = || inner.try_clone();
            Ok(([again()?, again()?, again()?], [None, None, None]))
        }
    }
}

/// Limits of each process; where there are no control groups they stand in for those of all together, as far as they go.
fn rlimits(machine: &Machine, job: &Job) -> Vec<(Resource, u64)> {
    let seconds = job.limits.wall.as_secs().saturating_add(SPARE_SECONDS);
    let mut limits = vec![
        (Resource::Core, 0),
        (Resource::Nofile, MAX_FILES),
        (Resource::Fsize, job.limits.file_bytes),
        (Resource::Memlock, MAX_LOCKED_BYTES),
        (Resource::Cpu, seconds),
    ];
    if machine.degraded() {
        limits.push((Resource::Data, job.limits.memory_bytes));
        if user_of(job).is_some() {
            limits.push((Resource::Nproc, u64::from(job.limits.processes)));
        }
    }
    limits
}

/// What bubblewrap is started with: its options are in a descriptor.
fn arguments(options: &OwnedFd, command: Vec<OsString>) -> io::Result<Vec<CString>> {
    let options = options.as_raw_fd().to_string();
    let first = ["bwrap", "--args", &options, "--"].map(OsString::from);
    let all = first.into_iter().chain(command);
    all.map(|one| CString::new(one.into_vec()).map_err(io::Error::other)).collect()
}

/// Arguments as `--args` reads them: each ended by a NUL. None holds one, since the job was checked.
fn packed(args: &[OsString]) -> Vec<u8> {
    args.iter().flat_map(|arg| arg.as_bytes().iter().copied().chain([0])).collect()
}
