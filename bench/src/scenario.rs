//! What a run measures: a fixed list, each entry a load, the unit that its CPU time is divided by, and the
//! bar it is held to. Holds no measurement.

use crate::load::Plan;
use crate::script::{BodySize, Provider, StreamAsk};

/// What the CPU time of a scenario is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Whole requests.
    Request,
    /// Events of streams.
    Chunk,
}

impl Unit {
    /// For a table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Chunk => "chunk",
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// Stable, for JSON and `--only`.
    pub(crate) name: &'static str,
    /// What is counted.
    pub(crate) unit: Unit,
    /// The load that is measured.
    pub(crate) plan: Plan,
    /// How often a pair repeats that load on either side, in turn.
    pub(crate) rounds: usize,
    /// The load before it, which is not.
    pub(crate) warm_up: Plan,
    /// The most that the ratio to the floor may be.
    pub(crate) bar: Option<f64>,
    /// Whether the latency means anything: only where the load does not wait for the proxy.
    pub(crate) has_latency: bool,
}

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Extent {
    /// For figures.
    Full,
    /// One round of each, to see that it works.
    Quick,
}

/// Connections of the closed loop: enough that the proxy always has work.
const CLOSED_CONNECTIONS: usize = 16;
/// Connections of the open loop: enough that none is still busy when its turn comes, unless the proxy stalls.
const OPEN_CONNECTIONS: usize = 32;
/// Streams at once.
const STREAMS: usize = 100;
/// Chunks of each.
const CHUNKS: usize = 200;

/// Every scenario, in the order in which they run.
pub(crate) fn all(extent: Extent) -> Vec<Scenario> {
    let rounds = |full| match extent {
        Extent::Full => full,
        Extent::Quick => 1,
    };
    vec![
        Scenario { bar: Some(1.25), ..closed("closed_1k", Provider::Openai, BodySize::Kib1, rounds(6)) },
        closed("closed_64k", Provider::Openai, BodySize::Kib64, rounds(6)),
        open("open_100", 100, 150, rounds(4)),
        open("open_1000", 1_000, 1_500, rounds(4)),
        Scenario { bar: Some(0.95), ..streams("streams_200", Provider::Openai, BodySize::Kib1, rounds(2)) },
        Scenario { bar: Some(1.0), ..streams("streams_64k", Provider::Openai, BodySize::Kib64, rounds(2)) },
        Scenario { bar: Some(1.8), ..closed("translated_1k", Provider::Anthropic, BodySize::Kib1, rounds(6)) },
        Scenario { bar: Some(1.8), ..closed("translated_64k", Provider::Anthropic, BodySize::Kib64, rounds(6)) },
        Scenario { bar: Some(1.5), ..streams("translated_streams", Provider::Anthropic, BodySize::Kib1, rounds(2)) },
        Scenario {
            bar: Some(1.5),
            ..streams("translated_streams_64k", Provider::Anthropic, BodySize::Kib64, rounds(2))
        },
    ]
}

fn closed(name: &'static str, provider: Provider, size: BodySize, rounds: usize) -> Scenario {
    let requests = match size {
        BodySize::Kib1 => 4_000,
        BodySize::Kib64 => 800,
    };
    let plan = |requests| Plan::Closed { provider, size, connections: CLOSED_CONNECTIONS, requests };
    let (plan, warm_up) = (plan(requests), plan(requests / 2));
    Scenario { name, unit: Unit::Request, plan, rounds, warm_up, bar: None, has_latency: false }
}

fn open(name: &'static str, rate: u64, requests: u64, rounds: usize) -> Scenario {
    let plan = |requests| {
        let size = BodySize::Kib1;
        Plan::Open { size, connections: OPEN_CONNECTIONS, rate, requests }
    };
    let (plan, warm_up) = (plan(requests), plan(requests / 3));
    Scenario { name, unit: Unit::Request, plan, rounds, warm_up, bar: None, has_latency: true }
}

fn streams(name: &'static str, provider: Provider, size: BodySize, rounds: usize) -> Scenario {
    let plan = |chunks| {
        let ask = StreamAsk { size, chunks, include_usage: false };
        Plan::Streams { provider, streams: STREAMS, ask }
    };
    let (plan, warm_up) = (plan(CHUNKS), plan(CHUNKS / 10));
    Scenario { name, unit: Unit::Chunk, plan, rounds, warm_up, bar: None, has_latency: false }
}
