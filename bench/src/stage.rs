//! Everything that a run needs to be running: the scripted upstream, the floor, and what is compared with it.
//! All on loopback, on ports that nobody else has, in a directory that goes with the stage.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::child::{Process, free_addresses};
use crate::gateway::{Gateway, Setup};
use crate::load::Target;

/// The upstream's credential; as long as a tenant's token, so that the floor passes on heads of the same size.
const UPSTREAM_KEY: &str = "bench-key-0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrs";

/// How the stage is set.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StageOptions {
    /// The gateway's binary [default: `openclawmu` beside this one].
    #[arg(long)]
    pub(crate) gateway: Option<PathBuf>,
    /// Compare the floor with a second floor: what the machine itself makes of a ratio of 1.
    #[arg(long, conflicts_with = "gateway")]
    pub(crate) aa: bool,
    /// Worker threads of the floor and of the gateway.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Milliseconds between the events of a stream.
    #[arg(long, default_value_t = 10)]
    pub(crate) pace_ms: u64,
    /// Where the gateway's data directory is made: put it on the disk that you mean to use.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub(crate) data_parent: PathBuf,
}

/// One proxy under test.
#[derive(Debug)]
pub(crate) struct Subject {
    /// Where it listens, and who may call.
    pub(crate) target: Target,
    /// The root of its process tree.
    pub(crate) process: u32,
}

/// What is compared with the floor.
#[derive(Debug)]
pub(crate) enum Opponent {
    /// The gateway.
    Gateway(Gateway),
    /// The floor once more.
    SecondFloor {
        /// Killed when the stage goes.
        _process: Process,
    },
}

/// All processes of a run. The directory goes last: it holds their logs.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The bare proxy.
    pub(crate) floor: Subject,
    /// The opponent's listener and process.
    pub(crate) subject: Subject,
    /// What the subject is.
    pub(crate) opponent: Opponent,
    _floor: Process,
    _upstream: Process,
    _directory: TempDir,
}

impl Stage {
    /// Starts upstream, floor and opponent, each ready to be driven.
    pub(crate) fn set(options: &StageOptions) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("openclawmu-bench-")
            .tempdir_in(&options.data_parent)
            .with_context(|| format!("no directory in {}", options.data_parent.display()))?;
        let [upstream, floor, edge, admin] = free_addresses()?;
        let logs = directory.path();
        let upstream_process = start_upstream(upstream, options.pace_ms, logs)?;
        let path = FloorPath { listen: floor, upstream, threads: options.threads };
        let (floor_process, floor) = path.start("floor", logs)?;
        let (opponent, subject) = if options.aa {
            let (process, subject) = FloorPath { listen: edge, ..path }.start("second-floor", logs)?;
            (Opponent::SecondFloor { _process: process }, subject)
        } else {
            let gateway = Gateway::start(&Setup {
                binary: &gateway_binary(options)?,
                directory: logs,
                edge,
                admin,
                upstream,
                upstream_key: UPSTREAM_KEY,
                threads: options.threads,
            })?;
            let target = Target { address: edge, bearer: gateway.token.clone(), translates: true };
            let subject = Subject { target, process: gateway.process.id() };
            (Opponent::Gateway(gateway), subject)
        };
        Ok(Self { floor, subject, opponent, _floor: floor_process, _upstream: upstream_process, _directory: directory })
    }

    /// What the table calls the subject.
    pub(crate) fn name(&self) -> &'static str {
        match self.opponent {
            Opponent::Gateway(_) => "gateway",
            Opponent::SecondFloor { .. } => "second floor",
        }
    }

    /// Fails unless the gateway's ledger has exactly the requests that the subject was sent.
    pub(crate) fn check_books(&mut self, sent: u64) -> Result<()> {
        match &mut self.opponent {
            Opponent::Gateway(gateway) => gateway.wait_for_ledger(sent),
            Opponent::SecondFloor { .. } => Ok(()),
        }
    }
}

fn start_upstream(listen: SocketAddr, pace_ms: u64, logs: &Path) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["upstream", "--listen", &listen.to_string()]);
    command.args(["--pace-ms", &pace_ms.to_string()]);
    command.env("OPENCLAWMU_BENCH_KEY", UPSTREAM_KEY);
    let mut process = Process::start("upstream", &command, logs)?;
    process.wait_listening(listen)?;
    Ok(process)
}

/// From where to where a floor passes on.
#[derive(Debug, Clone, Copy)]
struct FloorPath {
    listen: SocketAddr,
    upstream: SocketAddr,
    threads: usize,
}

impl FloorPath {
    fn start(self, name: &str, logs: &Path) -> Result<(Process, Subject)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["floor", "--listen", &self.listen.to_string()]);
        command.args(["--upstream", &self.upstream.to_string()]);
        command.args(["--threads", &self.threads.to_string()]);
        let mut process = Process::start(name, &command, logs)?;
        process.wait_listening(self.listen)?;
        let target = Target { address: self.listen, bearer: UPSTREAM_KEY.to_owned(), translates: false };
        let subject = Subject { target, process: process.id() };
        Ok((process, subject))
    }
}

fn gateway_binary(options: &StageOptions) -> Result<PathBuf> {
    if let Some(named) = &options.gateway {
        return Ok(named.clone());
    }
    let own = std::env::current_exe()?;
    Ok(own.parent().unwrap_or(Path::new(".")).join("openclawmu"))
}
