//! Whether a second worker is worth nearly as much as the first. On a machine with few cores the generator and the upstream
//! take the cores that a second worker would need, so that throughput by the clock says nothing there; what is held to the bar is
//! throughput for each second of CPU: what two workers lose to each other by sharing shows in it, and what they lose by waiting
//! for each other shows in the clock, which is told beside it.

use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::bar::Bar;
use crate::child::free_addresses;
use crate::cpu::spent_on;
use crate::gateway::{Gateway, Setup};
use crate::load::{Plan, Target, drive};
use crate::scale::served::not_stopped;
use crate::script::{BodySize, Provider};
use crate::stage::{UPSTREAM_KEY, start_upstream};
use crate::stats::Spread;

const PLAN: Plan = Plan::Closed { provider: Provider::Openai, size: BodySize::Kib1, connections: 32, requests: 4_000 };
const ROUNDS: usize = 4;
const LEAST: f64 = 1.8;
/// Cores from which on all parts have their own.
const ENOUGH_CORES: usize = 6;

/// One worker and two.
#[derive(Debug, Serialize)]
pub(super) struct Workers {
    pub(super) one_us: Spread,
    pub(super) two_us: Spread,
    /// Twice the requests for each second of CPU, two workers over one.
    pub(super) by_cpu: Spread,
    /// Requests for each second of the clock, two workers over one.
    pub(super) by_clock: Spread,
    pub(super) cores: usize,
}

impl Workers {
    /// Measures the two in `pairs` interleaved pairs.
    pub(super) fn measure(binary: &Path, directory: &Path, pairs: usize) -> Result<Self> {
        let [upstream] = free_addresses()?;
        std::fs::create_dir(directory)?;
        let _upstream = start_upstream(upstream, 0, directory)?;
        let running = [1, 2].map(|threads| start(binary, &directory.join(threads.to_string()), (upstream, threads)));
        let [one, two] = running;
        let running = [one?, two?];
        for (gateway, target) in &running {
            drive(target, PLAN, not_stopped()).map_err(|fault| gateway.process.fault(&format!("{fault:#}")))?;
        }
        let (mut one_us, mut two_us, mut by_cpu, mut by_clock) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..pairs {
            let mut sums = [(0_u64, 0.0, 0_u64); 2];
            for round in 0..ROUNDS {
                let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
                for index in order {
                    let (gateway, target) = running.get(index).context("a gateway")?;
                    let (ns, outcome) = spent_on(gateway.process.id(), || drive(target, PLAN, not_stopped()))?;
                    let sum = sums.get_mut(index).context("a gateway")?;
                    *sum = (sum.0 + ns, sum.1 + outcome.elapsed.as_secs_f64(), sum.2 + outcome.answers);
                }
            }
            let us = |(ns, _, answers): (u64, f64, u64)| ns as f64 / 1_000.0 / answers as f64;
            let rate = |(_, seconds, answers): (u64, f64, u64)| answers as f64 / seconds;
            let [one, two] = sums;
            eprint!(" {:.3}", 2.0 * us(one) / us(two));
            by_cpu.push(2.0 * us(one) / us(two));
            by_clock.push(rate(two) / rate(one));
            one_us.push(us(one));
            two_us.push(us(two));
        }
        eprintln!();
        let of = |values: Vec<f64>| Spread::of(values).context("pairs");
        let cores = thread::available_parallelism()?.get();
        Ok(Self { one_us: of(one_us)?, two_us: of(two_us)?, by_cpu: of(by_cpu)?, by_clock: of(by_clock)?, cores })
    }

    /// What it is held to: the clock where there are cores for all, else the CPU.
    pub(super) fn bar(&self) -> Bar {
        if self.cores >= ENOUGH_CORES {
            Bar::at_least("two workers over one, by the clock", LEAST, self.by_clock.median)
        } else {
            Bar::at_least("two workers over one, by CPU", LEAST, self.by_cpu.median)
        }
    }
}

fn start(
    binary: &Path,
    directory: &Path,
    (upstream, threads): (std::net::SocketAddr, usize),
) -> Result<(Gateway, Target)> {
    std::fs::create_dir(directory)?;
    let [edge, admin] = free_addresses()?;
    let upstream_key = UPSTREAM_KEY;
    let gateway =
        Gateway::start(&Setup { binary, directory, edge, admin, upstream, upstream_key, threads, under: &[] })?;
    let target = Target { address: edge, bearer: gateway.token.clone(), spent: None, translates: true };
    Ok((gateway, target))
}
