//! Whether a request costs the same however many tenants there are and however long the ledger is: two gateways on two stores,
//! in turn, each request by another of many tenants.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::bar::Bar;
use crate::child::free_addresses;
use crate::cpu::spent_on;
use crate::gateway::{Gateway, Setup};
use crate::load::{Target, drive_each};
use crate::scale::served::not_stopped;
use crate::stage::{UPSTREAM_KEY, start_upstream};
use crate::stats::Spread;

const CONNECTIONS: usize = 16;
const ROUNDS: usize = 4;
/// So many that rows are committed as under a lasting load: in batches as large as they get.
const REQUESTS: u64 = 32_000;
/// Requests of a first round.
const WARM_UP: u64 = 2_000;
/// How much dearer one may be.
const MOST: f64 = 1.05;

/// Microseconds of CPU for a request.
#[derive(Debug, Serialize)]
pub(super) struct Flat {
    pub(super) small_us: Spread,
    pub(super) large_us: Spread,
    pub(super) ratio: Spread,
}

/// One store, and who calls there.
pub(super) struct Side<'a> {
    /// Its directory; the data are in `data` there.
    pub(super) directory: &'a Path,
    /// Tokens of different tenants.
    pub(super) tokens: &'a [String],
}

struct Running {
    gateway: Gateway,
    targets: Vec<Target>,
}

impl Flat {
    /// Measures the two in `pairs` interleaved pairs.
    pub(super) fn measure(binary: &Path, sides: [Side<'_>; 2], pairs: usize) -> Result<Self> {
        let [upstream] = free_addresses()?;
        let [small, large] = sides;
        let _upstream = start_upstream(upstream, 0, small.directory)?;
        let running = [small.start(binary, upstream)?, large.start(binary, upstream)?];
        // Each token once at least: the first request of one reads its row.
        for side in &running {
            side.round(WARM_UP.max(u64::try_from(side.targets.len())? * 2))?;
        }
        let (mut small_us, mut large_us) = (Vec::new(), Vec::new());
        for _ in 0..pairs {
            let mut sums = [0_u64; 2];
            for round in 0..ROUNDS {
                let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
                for index in order {
                    let side = running.get(index).context("a side")?;
                    let (ns, ()) = spent_on(side.gateway.process.id(), || side.round(REQUESTS))?;
                    *sums.get_mut(index).context("a side")? += ns;
                }
            }
            let us = |ns: u64| ns as f64 / 1_000.0 / (REQUESTS as f64 * ROUNDS as f64);
            let [small, large] = sums.map(us);
            eprint!(" {:.3}", large / small);
            small_us.push(small);
            large_us.push(large);
        }
        eprintln!();
        let ratios = large_us.iter().zip(&small_us).map(|(large, small)| large / small);
        let ratio = Spread::of(ratios).context("pairs")?;
        let of = |values: Vec<f64>| Spread::of(values).context("pairs");
        Ok(Self { small_us: of(small_us)?, large_us: of(large_us)?, ratio })
    }

    /// What it is held to.
    pub(super) fn bar(&self) -> Bar {
        Bar::at_most("cost of a request, full over empty", MOST, self.ratio.median)
    }
}

impl Side<'_> {
    fn start(&self, binary: &Path, upstream: std::net::SocketAddr) -> Result<Running> {
        let [edge, admin] = free_addresses()?;
        let gateway = Gateway::start(&Setup {
            binary,
            directory: self.directory,
            edge,
            admin,
            upstream,
            upstream_key: UPSTREAM_KEY,
            threads: 1,
            under: &[],
        })?;
        let target = |token: &String| Target { address: edge, bearer: token.clone(), spent: None, translates: true };
        let targets = self.tokens.iter().map(target).collect();
        Ok(Running { gateway, targets })
    }
}

impl Running {
    fn round(&self, requests: u64) -> Result<()> {
        let driven = drive_each(&self.targets, (CONNECTIONS, requests), not_stopped());
        driven.map(|_| ()).map_err(|fault| self.gateway.process.fault(&format!("{fault:#}")))
    }
}
