//! What an open stream costs in memory: thousands of them at once, each seen to be alive.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bar::Bar;
use crate::child::free_addresses;
use crate::client::post;
use crate::cpu::resident_bytes;
use crate::gateway::{Gateway, Setup};
use crate::load::{Plan, Target, drive};
use crate::scale::served::not_stopped;
use crate::script::{BodySize, Provider, StreamAsk, chat_request};
use crate::stage::{UPSTREAM_KEY, start_upstream};

const MOST_KIB: f64 = 24.0;
/// Between the events of a stream: all are open long before the first ends.
const PACE_MS: u64 = 3_000;
const CHUNKS: usize = 200;
/// Files that each of the three processes has open beside its connections.
const RESERVE: u64 = 512;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Opens `streams` streams and divides what the gateway grew by.
pub(super) fn measure(binary: &Path, directory: &Path, streams: u32) -> Result<Bar> {
    raise_files(u64::from(streams) * 2 + RESERVE)?;
    std::fs::create_dir(directory)?;
    let [upstream, edge, admin] = free_addresses()?;
    let _upstream = start_upstream(upstream, PACE_MS, directory)?;
    let gateway = Gateway::start(&Setup {
        binary,
        directory,
        edge,
        admin,
        upstream,
        upstream_key: UPSTREAM_KEY,
        threads: 1,
        under: &[],
    })?;
    let target = Target { address: edge, bearer: gateway.token.clone(), spent: None, translates: true };
    // What the first requests allocate once is not a stream's.
    let warm_up = Plan::Closed { provider: Provider::Openai, size: BodySize::Kib1, connections: 16, requests: 2_000 };
    drive(&target, warm_up, not_stopped())?;
    let before = resident_bytes(gateway.process.id())?;
    let mut open = Vec::new();
    for number in 0..streams {
        open.push(opened(edge, &target.bearer).with_context(|| format!("stream {number} of {streams}"))?);
    }
    for stream in &mut open {
        wait_for_event(stream)?;
    }
    let during = resident_bytes(gateway.process.id())?;
    // All of them are still there, the first as well as the last.
    for stream in &mut open {
        wait_for_event(stream)?;
    }
    let grown = during.saturating_sub(before) as f64 / 1024.0 / f64::from(streams);
    Ok(Bar::at_most("RSS for each open stream, KiB", MOST_KIB, grown))
}

fn opened(edge: SocketAddr, token: &str) -> Result<TcpStream> {
    let ask = StreamAsk { size: BodySize::Kib1, chunks: CHUNKS, include_usage: false };
    let body = chat_request(Provider::Openai, ask.size, Some(ask));
    let mut stream = TcpStream::connect(edge)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    stream.write_all(&post(edge, "/v1/chat/completions", token, &body))?;
    Ok(stream)
}

/// Reads on until something of an event was read that was not there before.
fn wait_for_event(stream: &mut TcpStream) -> Result<()> {
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).context("an open stream is silent")?;
        let piece = piece.get(..read).unwrap_or_default();
        if read == 0 {
            bail!("an open stream was closed");
        }
        ensure!(!piece.starts_with(b"HTTP/1.1 ") || piece.starts_with(b"HTTP/1.1 200"), "an answer that is no stream");
        if piece.windows(6).any(|window| window == b"data: ") {
            return Ok(());
        }
    }
}

/// Lets this process, and all that it starts, have so many files open.
fn raise_files(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let enough = limit.maximum.is_none_or(|most| most >= wanted);
    ensure!(enough, "this process may open {:?} files and needs {wanted}: `ulimit -Hn`", limit.maximum);
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })?;
    Ok(())
}
