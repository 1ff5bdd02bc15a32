//! The `load` subcommand: one load against one address, and with `--pid` the CPU time that it cost there.
//! For looking at one thing closely; `run` is what compares.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;

use crate::cpu::Snapshot;
use crate::load::{Plan, Target, drive};
use crate::script::{BodySize, Provider, StreamAsk};

/// Whom to drive, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The listener.
    #[arg(long, default_value = "127.0.0.1:8080", global = true)]
    target: SocketAddr,
    /// The bearer credential.
    #[arg(long, default_value = "none", env = "OPENCLAWMU_TOKEN", hide_env_values = true, global = true)]
    token: String,
    /// The process whose tree's CPU time is to be told.
    #[arg(long, global = true)]
    pid: Option<u32>,
    /// What the upstream speaks: the model that is asked for leads there.
    #[arg(long, value_enum, default_value = "openai", global = true)]
    provider: Provider,
    /// The target passes requests on as they are.
    #[arg(long, global = true)]
    floor: bool,
    #[command(subcommand)]
    shape: Shape,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Shape {
    /// Each connection sends its next request when the last one is answered.
    Closed {
        /// Request and answer body.
        #[arg(long, value_enum, default_value = "1k")]
        size: BodySize,
        /// Connections.
        #[arg(long, default_value_t = 16)]
        connections: usize,
        /// Requests in all.
        #[arg(long, default_value_t = 10_000)]
        requests: u64,
    },
    /// Requests at a rate; latency counts from when each was due.
    Open {
        /// Request and answer body.
        #[arg(long, value_enum, default_value = "1k")]
        size: BodySize,
        /// Connections that take turns.
        #[arg(long, default_value_t = 32)]
        connections: usize,
        /// Requests a second.
        #[arg(long, default_value_t = 100)]
        rate: u64,
        /// Requests in all.
        #[arg(long, default_value_t = 500)]
        requests: u64,
    },
    /// Streams side by side.
    Streams {
        /// The size of the request.
        #[arg(long, value_enum, default_value = "1k")]
        size: BodySize,
        /// How many.
        #[arg(long, default_value_t = 100)]
        streams: usize,
        /// Chunks of each.
        #[arg(long, default_value_t = 200)]
        chunks: usize,
        /// Ask for the usage event.
        #[arg(long)]
        include_usage: bool,
    },
}

fn plan(shape: &Shape, provider: Provider) -> Plan {
    match *shape {
        Shape::Closed { size, connections, requests } => Plan::Closed { provider, size, connections, requests },
        Shape::Open { size, connections, rate, requests } => Plan::Open { size, connections, rate, requests },
        Shape::Streams { size, streams, chunks, include_usage } => {
            Plan::Streams { provider, streams, ask: StreamAsk { size, chunks, include_usage } }
        }
    }
}

/// Drives once and prints what was measured.
pub(crate) fn run(options: &Options, stop: &AtomicBool) -> Result<()> {
    const QUIET_LIMIT: Duration = Duration::from_secs(5);
    let target =
        Target { address: options.target, bearer: options.token.clone(), spent: None, translates: !options.floor };
    let before = options.pid.map(Snapshot::take).transpose()?;
    let outcome = drive(&target, plan(&options.shape, options.provider), stop)?;
    let seconds = outcome.elapsed.as_secs_f64();
    let us = |per_mille| outcome.latency_ns(per_mille) / 1_000;
    println!(
        "{} answers in {seconds:.3} s, all right; latency p50 {} us, p90 {} us, p99 {} us, max {} us",
        outcome.answers,
        us(500),
        us(900),
        us(990),
        us(1000)
    );
    if outcome.events > 0 {
        println!("{} events in {} writes", outcome.events, outcome.frames);
    }
    if let (Some(pid), Some(before)) = (options.pid, before) {
        let spent = Snapshot::when_quiet(pid, QUIET_LIMIT)?.since(&before);
        let each = |count: u64| spent.ns as f64 / 1_000.0 / count.max(1) as f64;
        println!("CPU of process {pid}: {:.1} us per answer", each(outcome.answers));
        if outcome.events > 0 {
            println!("CPU of process {pid}: {:.1} us per event", each(outcome.events));
        }
    }
    Ok(())
}
