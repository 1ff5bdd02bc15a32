//! What an admission and its settlement take, from inside the process: no network, no parsing.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use openclawmu_store::{Actor, Month, NewToken, Refused};
use serde::Serialize;

use crate::scale::seed::{self, Caller, Filled};
use crate::stats::percentile;

/// Admissions of each kind.
const SAMPLES: u64 = 50_000;

/// Nanoseconds, at two ranks.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: u64,
    pub(super) p99: u64,
}

/// The kinds.
#[derive(Debug, Serialize)]
pub(super) struct Admission {
    /// The first of a tenant since the start: its windows are read.
    pub(super) first: Latency,
    /// Its later ones.
    pub(super) warm: Latency,
    /// The first after midnight: its windows begin anew.
    pub(super) midnight: Latency,
}

/// Measures on the last day of the month that the store was filled with.
pub(super) fn measure(dir: &Path, month: Month, tenants: u32) -> Result<Admission> {
    let (start, length) = seed::span(month);
    let filled = seed::open(dir, start.plus_ms(length - 3_600_000))?;
    let callers = callers(&filled, tenants)?;
    let pass = || latencies(&filled, &callers);
    let (first, warm) = (pass()?, pass()?);
    filled.clock.set(start.plus_ms(length));
    Ok(Admission { first, warm, midnight: pass()? })
}

fn latencies(filled: &Filled, callers: &[Caller]) -> Result<Latency> {
    let mut taken = Vec::new();
    for (n, caller) in (0..SAMPLES).zip(callers.iter().cycle()) {
        loop {
            let began = Instant::now();
            match filled.one(caller, n) {
                Ok(()) => {
                    taken.push(u64::try_from(began.elapsed().as_nanos())?);
                    break;
                }
                // Not of interest here: the loop is faster than any load, so that the writer falls behind.
                Err(Refused::Unavailable(_)) => filled.flush()?,
                Err(
                    refused @ (Refused::Budget { .. }
                    | Refused::Rate { .. }
                    | Refused::ClientSecret { .. }
                    | Refused::Concurrency { .. }),
                ) => {
                    return Err(anyhow!("an admission was refused: {refused}"));
                }
            }
        }
    }
    filled.flush()?;
    taken.sort_unstable();
    let rank = |per_mille| percentile(&taken, per_mille).context("samples");
    Ok(Latency { p50: rank(500)?, p99: rank(990)? })
}

/// Tenants from all over the store, all with the same token: an admission does not ask whose it is.
fn callers(filled: &Filled, tenants: u32) -> Result<Vec<Caller>> {
    let first = seed::tenant_id(0).parse()?;
    let (_, plain) = filled.store.create_token(&Actor::system(), &first, NewToken::default()).wait()?;
    let policy = filled.store.authenticate(plain.expose(), std::net::Ipv4Addr::LOCALHOST.into());
    let token = policy.map_err(|err| anyhow!("a token is refused: {err}"))?.token_key;
    let count = tenants.min(u32::try_from(SAMPLES)?);
    let numbers = (0..u64::from(count)).map(|n| n * 7_919 % u64::from(tenants));
    numbers
        .map(|n| {
            let tenant = filled.store.tenant_policy(&seed::tenant_id(u32::try_from(n)?).parse()?)?;
            Ok(Caller { tenant, token })
        })
        .collect()
}
