//! `make bench`: measures the floor and the gateway in interleaved pairs, and reports. A pair is a few
//! short rounds of each in turn: a machine that changes speed changes both.
//!
//! Never compares figures of different runs, and never reports a run in which one answer was wrong.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::cpu::{Snapshot, resident_bytes};
use crate::load::{Outcome, Plan, drive};
use crate::quiet::Others;
use crate::report::{Figure, Line, Pair, Report};
use crate::scenario::{Bars, Extent, Scenario, Unit, all};
use crate::stage::{Opponent, Stage, StageOptions, Subject};
use crate::sync;

/// How long the bookkeeping behind a load may take before the CPU time is read.
const QUIET_LIMIT: Duration = Duration::from_secs(5);

/// How a run is set up.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    stage: StageOptions,
    /// Pairs for each scenario.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// One pair of one round: to see that it works, not for figures.
    #[arg(long, conflicts_with = "pairs")]
    quick: bool,
    /// Only the scenarios whose name starts so; may be repeated.
    #[arg(long)]
    only: Vec<String>,
    /// Also write the whole report here, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1 if a bar is missed, and do not even begin on a busy machine.
    #[arg(long)]
    enforce: bool,
}

/// Runs everything and prints the report. False if a bar was missed and that was to matter.
pub(crate) fn run(options: &Options, stop: &AtomicBool) -> Result<bool> {
    ensure!(options.pairs > 0, "--pairs must be at least 1");
    let scenarios = chosen(options)?;
    let mut stage = Stage::set(&options.stage)?;
    let others = Others::look()?;
    eprintln!("{}", others.text());
    ensure!(!options.enforce || !others.disturb(), "bars are held against figures of a quiet machine");
    let floor_idle_bytes = resident_bytes(stage.floor.process)?;
    let subject_idle_bytes = resident_bytes(stage.subject.process)?;
    let mut bench = Bench { stop, sent_to_subject: 0 };
    let pairs = if options.quick { 1 } else { options.pairs };
    let mut lines = Vec::new();
    for scenario in &scenarios {
        let line = bench.measure(&stage, scenario, pairs);
        lines.push(line.with_context(|| format!("scenario {}", scenario.name))?);
    }
    let subject_end_bytes = resident_bytes(stage.subject.process)?;
    stage.check_books(bench.sent_to_subject)?;
    let report = Report {
        machine: machine(),
        others,
        subject: stage.name(),
        threads: options.stage.threads,
        pace_ms: options.stage.pace_ms,
        floor_idle_bytes,
        subject_idle_bytes,
        subject_end_bytes,
        lines,
    };
    println!("{}", report.text()?);
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_vec_pretty(&report)?).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(report.all_met() || !options.enforce)
}

/// The scenarios that were asked for; without bars where there is no gateway to hold to them.
fn chosen(options: &Options) -> Result<Vec<Scenario>> {
    let mut scenarios = all(if options.quick { Extent::Quick } else { Extent::Full });
    let names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name).collect();
    let is_chosen = |name: &str| options.only.is_empty() || options.only.iter().any(|prefix| name.starts_with(prefix));
    scenarios.retain(|scenario| is_chosen(scenario.name));
    ensure!(!scenarios.is_empty(), "--only matches no scenario; there are {}", names.join(", "));
    if options.stage.aa {
        scenarios.iter_mut().for_each(|scenario| scenario.bars = Bars::default());
    }
    Ok(scenarios)
}

/// What the measurements of one run have in common.
struct Bench<'a> {
    stop: &'a AtomicBool,
    sent_to_subject: u64,
}

impl Bench<'_> {
    fn measure(&mut self, stage: &Stage, scenario: &Scenario, pairs: usize) -> Result<Line> {
        eprint!("{:<22}", scenario.name);
        let _syncing = scenario.syncs.then(|| sync::start(stage.directory())).transpose()?;
        for proxy in proxies(stage) {
            self.drive(stage, proxy, scenario.warm_up).context("warming up")?;
        }
        let mut measured = Vec::with_capacity(pairs);
        for _ in 0..pairs {
            let pair = self.pair(stage, scenario)?;
            eprint!(" {:.2}", pair.subject.cpu_us / pair.floor.cpu_us);
            measured.push(pair);
        }
        eprintln!();
        Line::of(scenario, measured).context("no pairs")
    }

    /// Some rounds of each in turn, the first of a round being the last of the one before: what disturbs the
    /// machine for a second disturbs all.
    fn pair(&mut self, stage: &Stage, scenario: &Scenario) -> Result<Pair> {
        let mut order = proxies(stage);
        let mut tallies: Vec<(Proxy, Tally)> = order.iter().map(|proxy| (*proxy, Tally::default())).collect();
        for _ in 0..scenario.rounds {
            for proxy in &order {
                let subject = proxy.of(stage).context("a proxy that is not there")?;
                let tally = tallies.iter_mut().find(|(of, _)| of == proxy).map(|(_, tally)| tally);
                tally.context("a tally")?.add(subject.process, || self.drive(stage, *proxy, scenario.plan))?;
            }
            order.reverse();
        }
        let figure = |proxy| {
            let tally = tallies.iter().find(|(of, _)| *of == proxy).map(|(_, tally)| tally);
            tally.map(|tally| tally.figure(scenario.unit)).transpose()
        };
        let (floor, subject) =
            (figure(Proxy::Floor)?.context("a floor")?, figure(Proxy::Subject)?.context("a subject")?);
        Ok(Pair { floor, subject, nginx: figure(Proxy::Nginx)? })
    }

    fn drive(&mut self, stage: &Stage, proxy: Proxy, plan: Plan) -> Result<Outcome> {
        let subject = proxy.of(stage).context("a proxy that is not there")?;
        let driven = drive(&subject.target, plan, self.stop);
        let outcome = match (&stage.opponent, proxy) {
            (Opponent::Gateway(gateway), Proxy::Subject) => {
                driven.map_err(|fault| gateway.process.fault(&format!("{fault:#}")))
            }
            _ => driven.context(proxy.name()),
        }?;
        if proxy == Proxy::Subject && plan.is_billed() {
            self.sent_to_subject += outcome.answers;
        }
        Ok(outcome)
    }
}

/// One of those that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proxy {
    Floor,
    Subject,
    Nginx,
}

impl Proxy {
    fn of(self, stage: &Stage) -> Option<&Subject> {
        match self {
            Self::Floor => Some(&stage.floor),
            Self::Subject => Some(&stage.subject),
            Self::Nginx => stage.nginx.as_ref(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Floor => "the floor",
            Self::Subject => "the second floor",
            Self::Nginx => "nginx",
        }
    }
}

/// All that are on stage.
fn proxies(stage: &Stage) -> Vec<Proxy> {
    let all = [Proxy::Floor, Proxy::Subject, Proxy::Nginx];
    all.into_iter().filter(|proxy| proxy.of(stage).is_some()).collect()
}

/// What the rounds of one proxy add up to.
#[derive(Debug, Default)]
struct Tally {
    cpu_ns: u64,
    inexact: bool,
    outcome: Outcome,
}

impl Tally {
    /// Carries out one load and takes the CPU time that the process tree spent on it.
    fn add(&mut self, process: u32, load: impl FnOnce() -> Result<Outcome>) -> Result<()> {
        let before = Snapshot::when_quiet(process, QUIET_LIMIT)?;
        let outcome = load()?;
        let spent = Snapshot::when_quiet(process, QUIET_LIMIT)?.since(&before);
        self.cpu_ns += spent.ns;
        self.inexact |= !spent.exact;
        self.outcome.join(outcome);
        Ok(())
    }

    fn figure(&self, unit: Unit) -> Result<Figure> {
        let outcome = &self.outcome;
        let units = match unit {
            Unit::Request => outcome.answers,
            Unit::Chunk => outcome.events,
        };
        ensure!(units > 0, "nothing was sent");
        Ok(Figure {
            cpu_us: self.cpu_ns as f64 / 1_000.0 / units as f64,
            exact: !self.inexact,
            units,
            frames: outcome.frames,
            elapsed_s: outcome.elapsed.as_secs_f64(),
            p50_us: outcome.latency_ns(500) as f64 / 1_000.0,
            p99_us: outcome.latency_ns(990) as f64 / 1_000.0,
        })
    }
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
