//! Closed loop: every connection sends as soon as it was answered, so the proxy is never idle. For cost per
//! request, never for latency: here a slow proxy slows the load down with it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::load::fleet::{self, Exchange};
use crate::load::{Outcome, Target};

/// Sends `requests` in all over that many connections, each of `exchanges` in its turn.
pub(crate) fn drive(
    target: &Target,
    exchanges: &[Exchange],
    (connections, requests): (usize, u64),
    stop: &AtomicBool,
) -> Result<Outcome> {
    let taken = AtomicU64::new(0);
    let outcome = fleet::run(target, connections, stop, |worker| {
        let mut body = Vec::new();
        while !worker.must_end() {
            let number = taken.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                break;
            }
            let index = usize::try_from(number)? % exchanges.len().max(1);
            worker.ask(exchanges.get(index).context("nothing to send")?, Instant::now(), &mut body)?;
        }
        Ok(())
    })?;
    ensure!(outcome.answers == requests, "{} answers to {requests} requests", outcome.answers);
    Ok(outcome)
}
