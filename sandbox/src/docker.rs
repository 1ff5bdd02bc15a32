//! [`Docker`]: runs jobs as containers of an engine, with the same walls as bubblewrap's, the same process 1, and the same proof.
//!
//! - `spec`: what the engine is asked to make, a pure function
//! - `owner`: which process waits for a container, and whether it lives
//! - `place`: where process 1 of one run reports to
//! - `watch`: a run while it runs
//! - `usage`: what it used, as process 1 read it from inside
//! - `sweep`: what goes when a run is over, or was left by a gateway that died
//!
//! The engine must run on this machine's kernel: it takes paths of this host, and process 1 is a program for it. Must never give a container
//! the engine's socket, a capability, a network, or a mount below what a tenant can write to.

mod owner;
mod place;
mod spec;
mod sweep;
mod usage;
mod watch;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions, StartContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker as Engine};
use tokio::sync::mpsc;

use crate::disk::{self, Sampler};
use crate::ending::{self, Cause};
use crate::examine::{self, Examination};
use crate::status::End;
use crate::{Backend, Chunk, Ended, Enforced, HELPER, Isolation, Job, Outcome, SandboxError, Stdio};

use owner::Owner;
use place::Place;
use spec::Common;
use sweep::Sweeper;
use watch::Seen;

/// How long the engine may take for one answer. A container that is made waits for its image's files to be copied on some file systems.
const PATIENCE_SECONDS: u64 = 60;
/// How many processes the examination may have; its command wants more.
const PROCESSES: u32 = 16;
/// What the examination's command ends with where a forbidden call was not refused.
const FILTER_IS_OPEN: u8 = 10;
/// And where it had more processes than it might.
const LIMIT_IS_OPEN: u8 = 11;
/// Between two looks whether the engine has heard of a kill.
const OOM_STEP: Duration = Duration::from_millis(20);
/// Below the state directory: a directory for each process, with one for each of its runs.
const RUNS: &str = "runs";

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct DockerSetup {
    /// The engine's Unix socket.
    pub socket: PathBuf,
    /// What containers are made of; it is never pulled.
    pub image: String,
    /// The engine's runtime, `runsc` for gVisor; its own default if absent.
    pub runtime: Option<String>,
    /// An absolute directory of the gateway's, short enough for sockets (some 60 bytes) and the same for the engine.
    pub state_dir: PathBuf,
}

/// Runs jobs with a container engine.
#[derive(Debug)]
pub struct Docker {
    engine: Engine,
    common: Common,
    owner: Owner,
    next: AtomicU64,
    sweeper: Sweeper,
}

fn failed(step: &'static str) -> impl Fn(bollard::errors::Error) -> SandboxError {
    move |error| SandboxError::Engine(format!("{step}: {error}"))
}

impl Docker {
    /// Finds the engine, removes what a dead process left there, and proves with a run of its own that code is held: by the filter, and by a limit.
    ///
    /// # Errors
    /// What is missing: [`SandboxError::Missing`] for the engine, the image or the runtime, [`SandboxError::Cgroups`] where it can't limit,
    /// [`SandboxError::Unproved`] and [`SandboxError::Engine`] where the run failed.
    pub async fn start(setup: &DockerSetup) -> Result<Self, SandboxError> {
        let engine = connect(setup).await?;
        examine_engine(&engine, setup).await?;
        let (instance, runs) = whose(setup);
        sweep::left_behind(&engine, &instance, &runs).await?;
        let owner = Owner::begin(&runs).map_err(SandboxError::Io)?;
        let common = Common {
            image: setup.image.clone(),
            runtime: setup.runtime.clone(),
            instance,
            owner: owner.name().to_owned(),
            seccomp: crate::seccomp::docker_profile()?,
            init: write_init(&setup.state_dir).map_err(SandboxError::Io)?,
        };
        let docker = Self { sweeper: Sweeper::start(engine.clone()), engine, common, owner, next: AtomicU64::new(0) };
        docker.examine(&setup.state_dir).await?;
        Ok(docker)
    }

    /// Removes the containers whose gateway is dead, of all that used this state directory; how many there were.
    ///
    /// # Errors
    /// [`SandboxError::Missing`] where no engine answers, [`SandboxError::Engine`] where it refuses.
    pub async fn sweep(setup: &DockerSetup) -> Result<usize, SandboxError> {
        let engine = connect(setup).await?;
        let (instance, runs) = whose(setup);
        sweep::left_behind(&engine, &instance, &runs).await
    }

    /// A run whose process 1 says how it is held, and whose command asks for what may not be had. The image need not have a program.
    async fn examine(&self, state_dir: &Path) -> Result<(), SandboxError> {
        let examination = Examination::begin(self, state_dir)?;
        let wall = Duration::from_secs(PATIENCE_SECONDS);
        let examined = examination.run(("forbidden", &[spec::INIT, "--examine"]), (wall, PROCESSES)).await;
        let examined = examined.and_then(|outcome| match (outcome.ended, outcome.exit_code) {
            (Ended::Exited, 0) => Ok(()),
            (Ended::Exited, FILTER_IS_OPEN) => {
                Err(SandboxError::Seccomp("a forbidden call was not refused in a container".to_owned()))
            }
            (Ended::Exited, LIMIT_IS_OPEN) => {
                Err(SandboxError::Cgroups("a limit of processes was set on a container and did not hold".to_owned()))
            }
            _ => Err(SandboxError::Launch { step: "the examination", detail: examine::told(&outcome) }),
        });
        examination.end(examined)
    }

    /// Makes the container, reads along, and stays until it is gone.
    async fn run_in(
        &self,
        mut job: Job,
        place: &mut Place,
        output: Option<mpsc::Sender<Chunk>>,
    ) -> Result<(Seen, String), SandboxError> {
        if matches!(job.stdio, Stdio::Terminal(_)) {
            return Err(SandboxError::Job("a container has no terminal"));
        }
        let workspace = job.workspace.host_path()?;
        let body = spec::container(&job, &self.common, &workspace, place.socket())?;
        let disk = Sampler::new(&job.workspace, &job.limits)?;
        let held = disk::told(job.workspace.held.is_some(), disk.is_some());
        let name = format!("openclawmu-{}", job.id);
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        // Its name is known before it is there: dropping this future at any await leaves nothing.
        let container = self.sweeper.guard(name.clone());
        self.engine.create_container(Some(options), body).await.map_err(failed("create"))?;
        let input = match &mut job.stdio {
            Stdio::Piped(input) => std::mem::take(input),
            Stdio::Terminal(_) => Vec::new(),
        };
        let attach = AttachContainerOptionsBuilder::new()
            .stream(true)
            .stdout(true)
            .stderr(true)
            .stdin(!input.is_empty())
            .build();
        let attached = self.engine.attach_container(&name, Some(attach)).await.map_err(failed("attach"))?;
        let run = watch::Run { engine: &self.engine, name: &name, limits: &job.limits };
        self.engine.start_container(&name, None::<StartContainerOptions>).await.map_err(failed("start"))?;
        let mut seen = run.watch(attached, input, place, watch::Readers { output, disk }).await?;
        let killed = matches!(seen.status.end, None | Some(End::Signalled(9)));
        let untold = seen.cause == Cause::Itself && killed && seen.usage.oom_kills.is_none();
        seen.out_of_memory |= self.out_of_memory(&name, untold).await?;
        container.remove().await?;
        Ok((seen, held))
    }

    /// Whether the engine says that something was killed for its memory. It hears of that from another side than of the end,
    /// maybe a little later: that is waited for where process 1 left it `untold`, which it does where no page is left for it.
    async fn out_of_memory(&self, name: &str, untold: bool) -> Result<bool, SandboxError> {
        let deadline = Instant::now() + if untold { ending::GRACE } else { Duration::ZERO };
        loop {
            let inspected = self.engine.inspect_container(name, None::<InspectContainerOptions>).await;
            let state = inspected.map_err(failed("inspect"))?.state;
            let killed = state.and_then(|state| state.oom_killed).unwrap_or(false);
            if killed || Instant::now() >= deadline {
                return Ok(killed);
            }
            tokio::time::sleep(OOM_STEP).await;
        }
    }

    fn outcome(&self, seen: Seen, disk: String) -> Result<Outcome, SandboxError> {
        let Seen { cause, stdout, stderr, status, usage, duration, out_of_memory } = seen;
        ending::begun(&status)?;
        if !status.any && cause == Cause::Itself {
            let said = String::from_utf8_lossy(&stderr.bytes()).trim().to_owned();
            return Err(SandboxError::Engine(format!("process 1 never spoke: {said}")));
        }
        if status.any || cause == Cause::Unproved {
            status.prove()?;
        }
        let (ended, exit_code, signal) =
            ending::ended(cause, &status, out_of_memory || usage.oom_kills.is_some_and(|kills| kills > 0))?;
        let held = || "docker".to_owned();
        let limits = Enforced { memory: held(), processes: held(), cpu: held(), disk, user: "own".to_owned() };
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
impl Backend for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn run(&self, job: Job, output: Option<mpsc::Sender<Chunk>>) -> Result<Outcome, SandboxError> {
        job.check()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut place = Place::make(self.owner.dir(), number, job.workspace.owner()).map_err(SandboxError::Io)?;
        let (seen, held) = Box::pin(self.run_in(job, &mut place, output)).await?;
        self.outcome(seen, held)
    }
}

/// Speaks to the engine.
async fn connect(setup: &DockerSetup) -> Result<Engine, SandboxError> {
    let missing =
        |error| SandboxError::Missing(format!("no container engine answers on {}: {error}", setup.socket.display()));
    let socket = setup.socket.to_str().ok_or(SandboxError::Job("the engine's socket is not UTF-8"))?;
    let engine = Engine::connect_with_unix(socket, PATIENCE_SECONDS, API_DEFAULT_VERSION).map_err(missing)?;
    engine.negotiate_version().await.map_err(missing)
}

/// What marks the containers of this data directory, and where their runs report to.
fn whose(setup: &DockerSetup) -> (String, PathBuf) {
    (setup.state_dir.to_string_lossy().into_owned(), setup.state_dir.join(RUNS))
}

/// Whether the engine has what runs need.
async fn examine_engine(engine: &Engine, setup: &DockerSetup) -> Result<(), SandboxError> {
    let info = engine.info().await.map_err(failed("info"))?;
    if info.memory_limit == Some(false) || info.pids_limit == Some(false) {
        return Err(SandboxError::Cgroups(
            "the container engine can't limit memory or processes on this kernel".to_owned(),
        ));
    }
    if let Some(runtime) = &setup.runtime
        && !info.runtimes.unwrap_or_default().contains_key(runtime)
    {
        return Err(SandboxError::Missing(format!("the container engine has no runtime {runtime:?}")));
    }
    engine.inspect_image(&setup.image).await.map_err(|error| {
        SandboxError::Missing(format!(
            "the container engine has no image {0:?} ({error}); docker pull {0}",
            setup.image
        ))
    })?;
    Ok(())
}

/// Process 1 as a file that the engine can mount; whoever is in a container may run it.
fn write_init(state_dir: &Path) -> io::Result<PathBuf> {
    let (path, fresh) = (state_dir.join("init"), state_dir.join(format!("init.{}", std::process::id())));
    fs::write(&fresh, HELPER)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o555))?;
    // A container that still runs keeps the file that it was started with.
    fs::rename(&fresh, &path)?;
    Ok(path)
}
