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
use crate::nginx;

/// The upstream's credential; as long as a tenant's token, so that the floor passes on heads of the same size.
pub(crate) const UPSTREAM_KEY: &str = "bench-key-0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrs";

/// How the stage is set.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StageOptions {
    /// The gateway's binary [default: `openclawmu` beside this one].
    #[arg(long)]
    pub(crate) gateway: Option<PathBuf>,
    /// Compare the floor with a second floor: what the machine itself makes of a ratio of 1.
    #[arg(long, conflicts_with = "gateway")]
    pub(crate) aa: bool,
    /// Do not measure nginx beside them.
    #[arg(long)]
    pub(crate) without_nginx: bool,
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
    /// nginx, where it is measured too.
    pub(crate) nginx: Option<Subject>,
    _nginx: Option<Process>,
    _floor: Process,
    _upstream: Process,
    directory: TempDir,
}

impl Stage {
    /// Starts upstream, floor and opponent, each ready to be driven.
    pub(crate) fn set(options: &StageOptions) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("openclawmu-bench-")
            .tempdir_in(&options.data_parent)
            .with_context(|| format!("no directory in {}", options.data_parent.display()))?;
        let [upstream, floor, edge, admin, beside] = free_addresses()?;
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
                under: &[],
            })?;
            let target = Target {
                address: edge,
                bearer: gateway.token.clone(),
                spent: Some(gateway.spent_token.clone()),
                translates: true,
            };
            let subject = Subject { target, process: gateway.process.id() };
            (Opponent::Gateway(gateway), subject)
        };
        let nginx_process =
            if options.aa || options.without_nginx { None } else { Some(nginx::start(beside, upstream, logs)?) };
        let nginx = nginx_process.as_ref().map(|process| passing_on(beside, process));
        let (_floor, _upstream, _nginx) = (floor_process, upstream_process, nginx_process);
        Ok(Self { floor, subject, opponent, nginx, _nginx, _floor, _upstream, directory })
    }

    /// Where the gateway has its data.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
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

/// Starts the scripted upstream and waits until it listens.
pub(crate) fn start_upstream(listen: SocketAddr, pace_ms: u64, logs: &Path) -> Result<Process> {
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
        let subject = passing_on(self.listen, &process);
        Ok((process, subject))
    }
}

/// A proxy that passes requests on as they are, and refuses nobody.
fn passing_on(address: SocketAddr, process: &Process) -> Subject {
    let target = Target { address, bearer: UPSTREAM_KEY.to_owned(), spent: None, translates: false };
    Subject { target, process: process.id() }
}

fn gateway_binary(options: &StageOptions) -> Result<PathBuf> {
    if let Some(named) = &options.gateway {
        return Ok(named.clone());
    }
    let own = std::env::current_exe()?;
    Ok(own.parent().unwrap_or(Path::new(".")).join("openclawmu"))
}
