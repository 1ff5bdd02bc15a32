//! How the gateway holds with many tenants and a long ledger: start-up, admission and reports beside those of an empty store,
//! in the same run. The store is filled through its own front door, so that what is measured is what a year of use leaves.
//!
//! - `seed`: tenants and a month of rows
//! - `admission`: what an admission takes, cold, warm, and right after midnight
//! - `served`: the real gateway on that store: start-up, reports, archive

mod admission;
mod seed;
mod served;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use tempfile::TempDir;

/// What to fill, and where.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Tenants.
    #[arg(long, default_value_t = 100_000)]
    tenants: u32,
    /// Ledger rows, all of the month before the present one.
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
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

/// Every figure.
#[derive(Debug, Serialize)]
struct Figures {
    tenants: u32,
    rows: u64,
    seeded: seed::Seeded,
    empty: admission::Admission,
    full: admission::Admission,
    start_empty: Duration,
    start_full: Duration,
    served: served::Served,
}

/// Fills a store, measures, tells.
pub(crate) fn run(options: &Options) -> Result<()> {
    let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let place = TempDir::new_in(parent).context("making a directory for the store")?;
    let (small, large) = (place.path().join("small"), place.path().join("large"));
    let month = seed::last_month()?;
    seed::seed(&small, month, 1, 1)?;
    let seeded = seed::seed(&large, month, options.tenants, options.rows)?;
    eprintln!("measuring admissions");
    let empty = admission::measure(&small, month, 1)?;
    let full = admission::measure(&large, month, options.tenants)?;
    eprintln!("measuring the gateway");
    let binary = served::binary(options.gateway.as_deref())?;
    let start_empty = served::start_up(&binary, &small)?;
    let start_full = served::start_up(&binary, &large)?;
    let served = served::measure(&binary, &large, month)?;
    let figures =
        Figures { tenants: options.tenants, rows: options.rows, seeded, empty, full, start_empty, start_full, served };
    tell(&figures);
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_vec_pretty(&figures)?)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

fn tell(figures: &Figures) {
    let Figures { seeded, empty, full, served, .. } = figures;
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
