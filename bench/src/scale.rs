//! How the gateway holds with many tenants and a long ledger: start-up, admission and reports beside those of an empty store,
//! in the same run. The store is filled through its own front door, so that what is measured is what a year of use leaves.
//!
//! - `seed`: tenants and a month of rows
//! - `admission`: what an admission takes, cold, warm, and right after midnight
//! - `served`: the real gateway on that store: start-up, reports, archive
//! - `flat`: a request's cost there, beside that on a store of ten tenants without a row
//!
//! And what needs no long ledger:
//! - `idle`: memory with many tenants; `held`: memory of open streams; `workers`: what a second worker is worth

mod admission;
mod flat;
mod held;
mod idle;
mod seed;
mod served;
mod workers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tempfile::TempDir;

use crate::bar::Bar;
use crate::quiet::Others;

/// Tenants of the store that the full one is compared with.
const FEW_TENANTS: u32 = 10;

/// What to fill, and where.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Tenants.
    #[arg(long, default_value_t = 100_000)]
    tenants: u32,
    /// Ledger rows, all of the month before the present one.
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// Only this; may be repeated.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Streams that are open at once.
    #[arg(long, default_value_t = 5_000)]
    streams: u32,
    /// Pairs in which two gateways are compared.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Exit with 1 if a bar is missed, and do not even begin on a busy machine.
    #[arg(long)]
    enforce: bool,
    /// The gateway's binary [default: beside this one]
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// Where to put some gigabytes for a while [default: the system's temporary directory]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Write every figure to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Memory with many tenants and nothing to do.
    Idle,
    /// Memory of open streams.
    Held,
    /// A second worker.
    Workers,
    /// A store with many tenants and a long ledger.
    Full,
}

/// Every figure.
#[derive(Debug, Serialize)]
struct Figures {
    others: Others,
    workers: Option<workers::Workers>,
    full: Option<Full>,
    bars: Vec<Bar>,
}

/// The figures of the full store.
#[derive(Debug, Serialize)]
struct Full {
    tenants: u32,
    rows: u64,
    seeded: seed::Seeded,
    empty: admission::Admission,
    full: admission::Admission,
    start_empty: Duration,
    start_full: Duration,
    flat: flat::Flat,
    served: served::Served,
}

/// Measures, tells. False if a bar was missed and that was to matter.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let place = TempDir::new_in(parent).context("making a directory for the store")?;
    let binary = served::binary(options.gateway.as_deref())?;
    let others = Others::look()?;
    eprintln!("{}", others.text());
    ensure!(!options.enforce || !others.disturb(), "bars are held against figures of a quiet machine");
    let is_wanted = |part| options.only.is_empty() || options.only.contains(&part);
    let at = |name: &str| place.path().join(name);
    let mut figures = Figures { others, workers: None, full: None, bars: Vec::new() };
    if is_wanted(Part::Idle) {
        eprintln!("measuring memory with many tenants");
        figures.bars.push(idle::measure(&binary, &at("idle"))?);
    }
    if is_wanted(Part::Held) {
        eprintln!("measuring memory of {} open streams", options.streams);
        figures.bars.push(held::measure(&binary, &at("held"), options.streams)?);
    }
    if is_wanted(Part::Workers) {
        eprint!("measuring a second worker:");
        let workers = workers::Workers::measure(&binary, &at("workers"), options.pairs)?;
        figures.bars.push(workers.bar());
        figures.workers = Some(workers);
    }
    if is_wanted(Part::Full) {
        let full = Full::measure(options, &binary, place.path())?;
        figures.bars.push(full.flat.bar());
        figures.full = Some(full);
    }
    figures.tell();
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_vec_pretty(&figures)?)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(figures.bars.iter().all(Bar::is_met) || !options.enforce)
}

impl Full {
    /// Fills a store and an empty one beside it, and measures both.
    fn measure(options: &Options, binary: &Path, place: &Path) -> Result<Self> {
        let (small_place, large_place) = (place.join("small"), place.join("large"));
        let (small, large) = (small_place.join("data"), large_place.join("data"));
        let month = seed::last_month()?;
        let few = seed::seed(&small, month, FEW_TENANTS, 0)?;
        let seeded = seed::seed(&large, month, options.tenants, options.rows)?;
        eprintln!("measuring admissions");
        let empty = admission::measure(&small, month, FEW_TENANTS)?;
        let full = admission::measure(&large, month, options.tenants)?;
        eprintln!("measuring the gateway");
        let start_empty = served::start_up(binary, &small)?;
        let start_full = served::start_up(binary, &large)?;
        eprint!("measuring requests:");
        let sides = [
            flat::Side { directory: &small_place, tokens: &few.tokens },
            flat::Side { directory: &large_place, tokens: &seeded.tokens },
        ];
        let flat = flat::Flat::measure(binary, sides, options.pairs)?;
        eprintln!("measuring reports");
        let served = served::measure(binary, &large, month)?;
        let (tenants, rows) = (options.tenants, options.rows);
        Ok(Self { tenants, rows, seeded, empty, full, start_empty, start_full, flat, served })
    }
}

impl Figures {
    fn tell(&self) {
        println!("{}", self.others.text());
        if let Some(full) = &self.full {
            tell(full);
        }
        if let Some(workers) = &self.workers {
            println!(
                "{} cores; a request: {:.1} us of CPU with one worker, {:.1} us with two; two over one by the clock: {:.2}x",
                workers.cores, workers.one_us.median, workers.two_us.median, workers.by_clock.median
            );
        }
        println!();
        for bar in &self.bars {
            println!("{}", bar.text("scale"));
        }
    }
}

fn tell(figures: &Full) {
    let Full { seeded, empty, full, served, .. } = figures;
    println!("{} tenants, {} rows, {} MB of database", figures.tenants, figures.rows, seeded.bytes >> 20);
    println!("filled at {:.0} rows/s, through admission, settlement and the writer", seeded.rows_per_second);
    println!("{:<34}{:>12}{:>12}{:>9}", "", "empty", "full", "ratio");
    let line = |name: &str, small: f64, large: f64, unit: &str| {
        println!("{name:<34}{small:>9.1} {unit}{large:>9.1} {unit}{:>8.2}x", large / small);
    };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let us = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64() * 1e6;
    line("start-up to /readyz", ms(figures.start_empty), ms(figures.start_full), "ms");
    line("admission, warm, p50", us(empty.warm.p50), us(full.warm.p50), "us");
    line("admission, warm, p99", us(empty.warm.p99), us(full.warm.p99), "us");
    line("admission, first of a tenant, p99", us(empty.warm.p99), us(full.first.p99), "us");
    line("admission, after midnight, p99", us(empty.midnight.p99), us(full.midnight.p99), "us");
    line("a request, CPU", figures.flat.small_us.median, figures.flat.large_us.median, "us");
    println!(
        "a month's report of all tenants: {:.1} s, {} lines, {} MB",
        served.report.as_secs_f64(),
        served.lines,
        served.bytes >> 20
    );
    println!("memory: {} MB before it, {} MB at most", served.before_bytes >> 20, served.peak_bytes >> 20);
    println!("one tenant's month: {:.1} ms", ms(served.tenant));
    println!(
        "archive of the month: {:.1} s, {} rows, {} MB",
        served.archive.as_secs_f64(),
        served.archived,
        served.archive_bytes >> 20
    );
}
