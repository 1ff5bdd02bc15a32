//! What a load consists of and what comes out of it. Holds no clock and opens no connection.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::load::fleet::Exchange;
use crate::load::{closed, open, streams};
use crate::script::{BodySize, Provider, StreamAsk};
use crate::stats::percentile;

/// Whom to send to, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The listener.
    pub(crate) address: SocketAddr,
    /// The bearer credential.
    pub(crate) bearer: String,
    /// The credential of somebody whose every request is refused with a 429. Where there is none, nobody's is.
    pub(crate) spent: Option<String>,
    /// Whether what answers there is what a load's provider says, or what the gateway makes of it.
    pub(crate) translates: bool,
}

/// One load.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Plan {
    /// Each connection sends its next request when the last one is answered.
    Closed {
        /// What its upstream speaks.
        provider: Provider,
        /// Request and answer body.
        size: BodySize,
        /// Connections, each with a thread.
        connections: usize,
        /// Requests in all.
        requests: u64,
    },
    /// As a closed loop of 1 KiB, by somebody whose requests are refused: where nobody's are, they are answered.
    Refused {
        /// Connections, each with a thread.
        connections: usize,
        /// Requests in all.
        requests: u64,
    },
    /// Requests are due at fixed times, whatever became of the ones before.
    Open {
        /// Request and answer body.
        size: BodySize,
        /// Connections that take turns.
        connections: usize,
        /// Requests a second.
        rate: u64,
        /// Requests in all.
        requests: u64,
    },
    /// Streams that run side by side, one for each connection.
    Streams {
        /// What its upstream speaks.
        provider: Provider,
        /// Connections.
        streams: usize,
        /// What each asks for.
        ask: StreamAsk,
    },
}

impl Plan {
    /// Whether the gateway's ledger has its requests.
    pub(crate) fn is_billed(self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}

/// What a load measured. An outcome exists only if every answer was right.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Whole answers.
    pub(crate) answers: u64,
    /// Events with a choice, over all streams.
    pub(crate) events: u64,
    /// Chunks of the transfer coding that the events came in; fewer than events where a proxy joins them.
    pub(crate) frames: u64,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// Nanoseconds to the end of each answer, ascending: from the intended send time in an open loop, else
    /// from the send.
    pub(crate) latencies_ns: Vec<u64>,
}

impl Outcome {
    /// Adds what another load measured, one that ran after this one.
    pub(crate) fn join(&mut self, other: Self) {
        self.elapsed += other.elapsed;
        self.merge(other);
    }

    /// Adds what another thread of the same load measured.
    pub(crate) fn merge(&mut self, other: Self) {
        self.answers += other.answers;
        self.events += other.events;
        self.frames += other.frames;
        self.latencies_ns.extend(other.latencies_ns);
        self.latencies_ns.sort_unstable();
    }

    /// A percentile of the latency, in nanoseconds; zero where nothing was sent.
    pub(crate) fn latency_ns(&self, per_mille: usize) -> u64 {
        percentile(&self.latencies_ns, per_mille).unwrap_or(0)
    }
}

/// Carries out a plan; fails at the first answer that is not what the script says, or when `stop` is raised.
pub(crate) fn drive(target: &Target, plan: Plan, stop: &AtomicBool) -> Result<Outcome> {
    match plan {
        Plan::Closed { provider, size, connections, requests } => {
            closed::drive(target, &[Exchange::chat(target, provider, size)], (connections, requests), stop)
        }
        Plan::Refused { connections, requests } => {
            closed::drive(target, &[Exchange::refused(target)], (connections, requests), stop)
        }
        Plan::Open { size, connections, rate, requests } => {
            let schedule = open::Schedule { connections, rate, requests };
            open::drive(target, size, schedule, stop)
        }
        Plan::Streams { provider, streams, ask } => streams::drive(target, provider, (streams, ask), stop),
    }
}

/// A closed loop of 1 KiB in which each request is the next target's: one address, many credentials.
pub(crate) fn drive_each(
    targets: &[Target],
    (connections, requests): (usize, u64),
    stop: &AtomicBool,
) -> Result<Outcome> {
    let first = targets.first().context("nobody to send as")?;
    let exchanges: Vec<Exchange> =
        targets.iter().map(|target| Exchange::chat(target, Provider::Openai, BodySize::Kib1)).collect();
    closed::drive(first, &exchanges, (connections, requests), stop)
}
