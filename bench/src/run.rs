//! `make bench`: starts the scripted upstream, the floor and the gateway, measures them in interleaved pairs,
//! and reports. The order is floor, gateway, floor, gateway: a machine that changes speed changes both.
//!
//! Never compares figures of different runs, and never reports a run in which one answer was wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::child::{Process, free_addresses};
use crate::cpu::{Snapshot, resident_bytes};
use crate::gateway::{Gateway, Setup};
use crate::load::{Outcome, Plan, Target, drive};
use crate::report::{Figure, Line, Pair, Report};
use crate::scenario::{Extent, Scenario, Unit, all};

/// The upstream's credential; as long as a tenant's token, so that the floor passes on heads of the same size.
const UPSTREAM_KEY: &str =
    "bench-key-0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrs";
/// How long the bookkeeping behind a load may take before the CPU time is read.
const QUIET_LIMIT: Duration = Duration::from_secs(5);

/// How a run is set up.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The gateway's binary [default: `openclawmu` beside this one].
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// Compare the floor with a second floor: what the machine itself makes of a ratio of 1.
    #[arg(long, conflicts_with = "gateway")]
    aa: bool,
    /// Pairs for each scenario.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// One pair and a tenth of the load: to see that it works, not for figures.
    #[arg(long, conflicts_with = "pairs")]
    quick: bool,
    /// Only the scenarios whose name starts so; may be repeated.
    #[arg(long)]
    only: Vec<String>,
    /// Worker threads of the floor and of the gateway.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Milliseconds between the events of a stream.
    #[arg(long, default_value_t = 10)]
    pace_ms: u64,
    /// Where the gateway's data directory is made: put it on the disk that you mean to use.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    data_parent: PathBuf,
    /// Also write the whole report here, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1 if a bar is missed.
    #[arg(long)]
    enforce: bool,
}

/// One proxy under test.
struct Subject {
    target: Target,
    process: u32,
    sent: u64,
}

/// What is compared with the floor.
enum Opponent {
    Gateway(Gateway),
    SecondFloor { _process: Process },
}

/// All processes of a run. The directory goes last: it holds their logs.
struct Stage {
    floor: Subject,
    subject: Subject,
    opponent: Opponent,
    _floor: Process,
    _upstream: Process,
    _directory: TempDir,
}

/// Runs everything and prints the report. True unless a bar was missed and that was to matter.
pub(crate) fn run(options: &Options, stop: &AtomicBool) -> Result<bool> {
    ensure!(options.pairs > 0, "--pairs must be at least 1");
    let scenarios = chosen(options)?;
    let mut stage = Stage::set(options)?;
    let floor_idle_bytes = resident_bytes(stage.floor.process)?;
    let subject_idle_bytes = resident_bytes(stage.subject.process)?;
    let pairs = if options.quick { 1 } else { options.pairs };
    let mut lines = Vec::new();
    for scenario in &scenarios {
        let line = stage
            .measure(scenario, pairs, stop)
            .with_context(|| format!("scenario {}", scenario.name))?;
        lines.push(line);
    }
    let subject_end_bytes = resident_bytes(stage.subject.process)?;
    stage.check_books()?;
    let report = Report {
        machine: machine(),
        subject: stage.opponent.name(),
        threads: options.threads,
        pace_ms: options.pace_ms,
        floor_idle_bytes,
        subject_idle_bytes,
        subject_end_bytes,
        lines,
    };
    println!("{}", report.text()?);
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(report.all_met() || !options.enforce)
}

fn chosen(options: &Options) -> Result<Vec<Scenario>> {
    let mut scenarios = all(if options.quick {
        Extent::Quick
    } else {
        Extent::Full
    });
    let names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name).collect();
    let known = names.join(", ");
    let is_chosen = |name: &str| {
        options.only.is_empty() || options.only.iter().any(|prefix| name.starts_with(prefix))
    };
    scenarios.retain(|scenario| is_chosen(scenario.name));
    ensure!(
        !scenarios.is_empty(),
        "--only matches no scenario; there are {known}"
    );
    Ok(scenarios)
}

impl Opponent {
    fn name(&self) -> &'static str {
        match self {
            Self::Gateway(_) => "gateway",
            Self::SecondFloor { .. } => "second floor",
        }
    }
}

impl Stage {
    /// Starts upstream, floor and opponent, each ready to be driven.
    fn set(options: &Options) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("openclawmu-bench-")
            .tempdir_in(&options.data_parent)
            .with_context(|| format!("no directory in {}", options.data_parent.display()))?;
        let [upstream, floor, edge, admin] = free_addresses()?;
        let path = directory.path();

        let mut command = Command::new(std::env::current_exe()?);
        command.args(["upstream", "--listen", &upstream.to_string()]);
        command.args(["--pace-ms", &options.pace_ms.to_string()]);
        command.env("OPENCLAWMU_BENCH_KEY", UPSTREAM_KEY);
        let mut upstream_process = Process::start("upstream", &command, path)?;
        upstream_process.wait_listening(upstream)?;

        let start_floor = |name: &str, listen| -> Result<(Process, Subject)> {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["floor", "--listen", &format!("{listen}")]);
            command.args(["--upstream", &upstream.to_string()]);
            command.args(["--threads", &options.threads.to_string()]);
            let mut process = Process::start(name, &command, path)?;
            process.wait_listening(listen)?;
            let target = Target {
                address: listen,
                bearer: UPSTREAM_KEY.to_owned(),
            };
            let subject = Subject {
                target,
                process: process.id(),
                sent: 0,
            };
            Ok((process, subject))
        };
        let (floor_process, floor) = start_floor("floor", floor)?;
        let (opponent, subject) = if options.aa {
            let (process, subject) = start_floor("second-floor", edge)?;
            (Opponent::SecondFloor { _process: process }, subject)
        } else {
            let gateway = Gateway::start(&Setup {
                binary: &gateway_binary(options)?,
                directory: path,
                edge,
                admin,
                upstream,
                upstream_key: UPSTREAM_KEY,
                threads: options.threads,
            })?;
            let target = Target {
                address: edge,
                bearer: gateway.token.clone(),
            };
            let subject = Subject {
                target,
                process: gateway.process.id(),
                sent: 0,
            };
            (Opponent::Gateway(gateway), subject)
        };
        Ok(Self {
            floor,
            subject,
            opponent,
            _floor: floor_process,
            _upstream: upstream_process,
            _directory: directory,
        })
    }

    fn measure(&mut self, scenario: &Scenario, pairs: usize, stop: &AtomicBool) -> Result<Line> {
        eprint!("{:<12}", scenario.name);
        self.floor
            .load(scenario.warm_up, stop)
            .context("warming up the floor")?;
        self.subject
            .load(scenario.warm_up, stop)
            .context("warming up the subject")?;
        let mut measured = Vec::with_capacity(pairs);
        for _ in 0..pairs {
            let floor = self.floor.figure(scenario, stop).context("the floor")?;
            let subject = self.subject.figure(scenario, stop).context("the subject")?;
            eprint!(" {:.2}", subject.cpu_us / floor.cpu_us);
            measured.push(Pair { floor, subject });
        }
        eprintln!();
        Line::of(scenario, measured).context("no pairs")
    }

    /// Fails unless the gateway's ledger has exactly the requests that were sent.
    fn check_books(&mut self) -> Result<()> {
        match &mut self.opponent {
            Opponent::Gateway(gateway) => gateway.wait_for_ledger(self.subject.sent),
            Opponent::SecondFloor { .. } => Ok(()),
        }
    }
}

impl Subject {
    fn load(&mut self, plan: Plan, stop: &AtomicBool) -> Result<Outcome> {
        let outcome = drive(&self.target, plan, stop)?;
        self.sent += outcome.answers;
        Ok(outcome)
    }

    fn figure(&mut self, scenario: &Scenario, stop: &AtomicBool) -> Result<Figure> {
        let before = Snapshot::when_quiet(self.process, QUIET_LIMIT)?;
        let outcome = self.load(scenario.plan, stop)?;
        let spent = Snapshot::when_quiet(self.process, QUIET_LIMIT)?.since(&before);
        let units = match scenario.unit {
            Unit::Request => outcome.answers,
            Unit::Chunk => outcome.events,
        };
        ensure!(units > 0, "nothing was sent");
        Ok(Figure {
            cpu_us: spent.ns as f64 / 1_000.0 / units as f64,
            exact: spent.exact,
            units,
            frames: outcome.frames,
            elapsed_s: outcome.elapsed.as_secs_f64(),
            p50_us: outcome.latency_ns(500) as f64 / 1_000.0,
            p99_us: outcome.latency_ns(990) as f64 / 1_000.0,
        })
    }
}

fn gateway_binary(options: &Options) -> Result<PathBuf> {
    if let Some(named) = &options.gateway {
        return Ok(named.clone());
    }
    let own = std::env::current_exe()?;
    Ok(own.parent().unwrap_or(Path::new(".")).join("openclawmu"))
}

/// The processor, how many, and the kernel.
fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> = cpus
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, name)| name.trim())
        .collect();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = models.first().copied().unwrap_or("unknown processor");
    format!("{model}, {} cores, Linux {}", models.len(), kernel.trim())
}
