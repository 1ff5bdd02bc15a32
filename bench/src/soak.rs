//! `make bench-soak`: everything that the gateway does for a client, again and again for some minutes, and whether its memory
//! still grows when it has been warm for long. The ledger must have every request in the end.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::bar::Bar;
use crate::cpu::{Snapshot, resident_bytes};
use crate::load::{Plan, drive};
use crate::script::{BodySize, Provider, StreamAsk};
use crate::stage::{Opponent, Stage, StageOptions};
use crate::stats::Spread;

const QUIET_LIMIT: Duration = Duration::from_secs(5);
/// Mebibytes that the last quarter may lie above the second: what an allocator keeps here or there.
const MOST_MIB: f64 = 1.0;
/// Samples below which there is nothing to tell.
const LEAST_SAMPLES: usize = 8;

/// How long, and of what.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Minutes.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The gateway's binary [default: `openclawmu` beside this one].
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// Where the gateway's data directory is made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    data_parent: PathBuf,
    /// Exit with 1 if it grows.
    #[arg(long)]
    enforce: bool,
}

/// Soaks, and tells. False if it grew and that was to matter.
pub(crate) fn run(options: &Options, stop: &AtomicBool) -> Result<bool> {
    let mut stage = Stage::set(&StageOptions {
        gateway: options.gateway.clone(),
        aa: false,
        without_nginx: true,
        threads: 1,
        pace_ms: 2,
        data_parent: options.data_parent.clone(),
    })?;
    let (started, length) = (Instant::now(), Duration::from_secs(options.minutes * 60));
    let (mut samples, mut sent, mut answers) = (Vec::new(), 0, 0);
    while started.elapsed() < length {
        for plan in plans() {
            let driven = drive(&stage.subject.target, plan, stop);
            let outcome = match &stage.opponent {
                Opponent::Gateway(gateway) => driven.map_err(|fault| gateway.process.fault(&format!("{fault:#}"))),
                Opponent::SecondFloor { .. } => driven,
            }?;
            answers += outcome.answers;
            if plan.is_billed() {
                sent += outcome.answers;
            }
        }
        Snapshot::when_quiet(stage.subject.process, QUIET_LIMIT)?;
        let mebibytes = resident_bytes(stage.subject.process)? as f64 / f64::from(1 << 20);
        samples.push(mebibytes);
        eprint!("\r{:>4} s, {answers} answers, RSS {mebibytes:.1} MiB ", started.elapsed().as_secs());
    }
    eprintln!();
    stage.check_books(sent)?;
    let grown = grown(&samples)?;
    let shown: Vec<String> =
        samples.iter().step_by(samples.len().div_ceil(20)).map(|mib| format!("{mib:.1}")).collect();
    println!("{answers} answers in {} minutes; RSS in MiB: {}", options.minutes, shown.join(" "));
    let bar = Bar::at_most("last quarter over second, MiB", MOST_MIB, grown);
    println!("{}", bar.text("soak"));
    Ok(bar.is_met() || !options.enforce)
}

/// Each kind of load, for a second or so.
fn plans() -> [Plan; 6] {
    let (connections, size) = (16, BodySize::Kib1);
    let closed = |provider, size, requests| Plan::Closed { provider, size, connections, requests };
    let streams = |provider| {
        let ask = StreamAsk { size, chunks: 100, include_usage: false };
        Plan::Streams { provider, streams: 100, ask }
    };
    [
        closed(Provider::Openai, size, 2_000),
        closed(Provider::Anthropic, size, 1_000),
        closed(Provider::Openai, BodySize::Kib64, 300),
        Plan::Refused { connections, requests: 1_000 },
        streams(Provider::Openai),
        streams(Provider::Anthropic),
    ]
}

/// By how much the median of the last quarter is above that of the second.
fn grown(samples: &[f64]) -> Result<f64> {
    ensure!(samples.len() >= LEAST_SAMPLES, "{} samples are too few: soak for longer", samples.len());
    let quarter = samples.len() / 4;
    let median = |part: Option<&[f64]>| Spread::of(part.unwrap_or_default().iter().copied()).map(|part| part.median);
    let second = median(samples.get(quarter..quarter * 2)).context("a second quarter")?;
    let last = median(samples.get(samples.len() - quarter..)).context("a last quarter")?;
    Ok(last - second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_at_the_start_is_none_and_growth_that_goes_on_is() {
        let flat = [10.0, 30.0, 40.0, 40.5, 40.1, 40.2, 40.6, 40.4];
        assert!(grown(&flat).unwrap() < MOST_MIB);
        let leak: Vec<f64> = (0..40).map(|sample| 40.0 + f64::from(sample) * 0.1).collect();
        assert!(grown(&leak).unwrap() > MOST_MIB);
        assert!(grown(&[1.0; 7]).is_err());
    }
}
