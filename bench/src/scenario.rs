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

/// The most that figures may be, where there is a most.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Bars {
    /// The ratio to the floor.
    pub(crate) ratio: Option<f64>,
    /// What is added to the floor's median latency, in microseconds.
    pub(crate) added_p50_us: Option<f64>,
    /// The same for the 99th percentile.
    pub(crate) added_p99_us: Option<f64>,
}

impl Bars {
    /// None.
    const NONE: Self = Self { ratio: None, added_p50_us: None, added_p99_us: None };
    /// Of a busy open loop.
    const OPEN: Self = Self { ratio: Some(1.15), added_p50_us: Some(50.0), added_p99_us: Some(150.0) };

    const fn ratio(most: f64) -> Self {
        Self { ratio: Some(most), ..Self::NONE }
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
    /// What the figures may be at most.
    pub(crate) bars: Bars,
    /// Another process writes and syncs the disk without pause meanwhile.
    pub(crate) syncs: bool,
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
    let (openai, anthropic) = (Provider::Openai, Provider::Anthropic);
    let held = |most, scenario| Scenario { bars: Bars::ratio(most), ..scenario };
    vec![
        held(1.0, closed("closed_1k", openai, BodySize::Kib1, rounds(6))),
        held(1.0, closed("closed_64k", openai, BodySize::Kib64, rounds(6))),
        held(0.5, refused("refused", rounds(6))),
        open("open_100", (100, 150), rounds(4)),
        Scenario { bars: Bars::OPEN, ..open("open_1000", (1_000, 1_500), rounds(4)) },
        Scenario { bars: Bars::OPEN, syncs: true, ..open("open_1000_sync", (1_000, 1_500), rounds(4)) },
        held(0.85, streams("streams_200", openai, BodySize::Kib1, rounds(2))),
        held(0.85, streams("streams_64k", openai, BodySize::Kib64, rounds(2))),
        held(1.8, closed("translated_1k", anthropic, BodySize::Kib1, rounds(6))),
        held(1.8, closed("translated_64k", anthropic, BodySize::Kib64, rounds(6))),
        held(1.4, streams("translated_streams", anthropic, BodySize::Kib1, rounds(2))),
        held(1.4, streams("translated_streams_64k", anthropic, BodySize::Kib64, rounds(2))),
    ]
}

fn closed(name: &'static str, provider: Provider, size: BodySize, rounds: usize) -> Scenario {
    let requests = match size {
        BodySize::Kib1 => 4_000,
        BodySize::Kib64 => 800,
    };
    let plan = |requests| Plan::Closed { provider, size, connections: CLOSED_CONNECTIONS, requests };
    of(name, Unit::Request, rounds, (plan(requests), plan(requests / 2)))
}

fn refused(name: &'static str, rounds: usize) -> Scenario {
    let plan = |requests| Plan::Refused { connections: CLOSED_CONNECTIONS, requests };
    of(name, Unit::Request, rounds, (plan(4_000), plan(2_000)))
}

fn open(name: &'static str, (rate, requests): (u64, u64), rounds: usize) -> Scenario {
    let plan = |requests| {
        let size = BodySize::Kib1;
        Plan::Open { size, connections: OPEN_CONNECTIONS, rate, requests }
    };
    Scenario { has_latency: true, ..of(name, Unit::Request, rounds, (plan(requests), plan(requests / 3))) }
}

fn streams(name: &'static str, provider: Provider, size: BodySize, rounds: usize) -> Scenario {
    let plan = |chunks| {
        let ask = StreamAsk { size, chunks, include_usage: false };
        Plan::Streams { provider, streams: STREAMS, ask }
    };
    of(name, Unit::Chunk, rounds, (plan(CHUNKS), plan(CHUNKS / 10)))
}

/// One without bars, latency or syncs.
fn of(name: &'static str, unit: Unit, rounds: usize, (plan, warm_up): (Plan, Plan)) -> Scenario {
    Scenario { name, unit, plan, rounds, warm_up, bars: Bars::NONE, syncs: false, has_latency: false }
}
