//! What a terminal costs: the echo of a byte through the gateway's WebSocket beside the same shell on a bare pseudoterminal, what
//! idle ones hold, and whether a flood is held back: by a reader that never acknowledges, and by one that does. Memory is the gateway's
//! own: what the sandboxes' processes hold is not counted. The gateway must be able to isolate here.

mod bare;
mod client;
mod host;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;
use tempfile::TempDir;

use crate::bar::Bar;
use crate::quiet::Others;
use crate::sandbox::marked_processes;
use crate::stats::{ms, percentile};
use bare::Bare;
use client::Client;
use host::Host;

/// What is typed: no prompt has it.
const KEY: u8 = b'q';
/// The longest that any part may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a session may keep: the ring, and what is not acknowledged.
const KEPT_MIB: f64 = 2.5;
/// What a flood may need besides: buffers of the recorder, the WebSocket and the allocator.
const ALLOWANCE_MIB: f64 = 8.0;
/// A flood is over for its reader when nothing came for so long.
const SILENCE: Duration = Duration::from_secs(1);

/// What to measure, and how often.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Keys typed, each way, in turn.
    #[arg(long, default_value_t = 500)]
    keys: usize,
    /// Idle terminals at once.
    #[arg(long, default_value_t = 200)]
    idle: usize,
    /// Bytes of the flood that is acknowledged.
    #[arg(long, default_value_t = 1_000_000_000)]
    flood_bytes: u64,
    /// The longest that it may take, in seconds; then it is interrupted.
    #[arg(long, default_value_t = 30)]
    flood_seconds: u64,
    /// Exit with 1 if a bar is missed, and do not even begin on a busy machine.
    #[arg(long)]
    enforce: bool,
    /// The gateway's binary [default: beside this one]
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// Write every figure to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Every figure.
#[derive(Debug, Serialize)]
struct Figures {
    others: Others,
    keys: usize,
    gateway_echo_us: Echo,
    bare_echo_us: Echo,
    idle: usize,
    idle_growth_bytes: u64,
    held: Flood,
    passed: Flood,
    bars: Vec<Bar>,
}

/// How soon keys were echoed, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Echo {
    p50: u64,
    p99: u64,
}

impl Echo {
    fn of(mut sample: Vec<u64>) -> Result<Self> {
        sample.sort_unstable();
        let both = percentile(&sample, 500).zip(percentile(&sample, 990));
        both.map(|(p50, p99)| Self { p50, p99 }).context("no keys")
    }
}

/// What a flood did.
#[derive(Debug, Clone, Copy, Serialize)]
struct Flood {
    bytes: u64,
    ms: u64,
    /// The most that the gateway's own memory was above what it was before.
    growth_bytes: u64,
    /// Processes of the flood that outlived Ctrl-C.
    left: usize,
}

/// Measures, tells. False if a bar was missed and that was to matter.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let place = TempDir::new().context("making a directory for the gateway")?;
    let beside = std::env::current_exe()?.with_file_name("openclawmu");
    let others = Others::look()?;
    eprintln!("{}", others.text());
    ensure!(!options.enforce || !others.disturb(), "bars are held against figures of a quiet machine");
    let host = Host::start(options.gateway.as_deref().unwrap_or(&beside), place.path(), options.idle)?;
    let (gateway_echo_us, bare_echo_us) = echo(&host, options.keys)?;
    let held = held(&host)?;
    let idle_growth_bytes = idle(&host, options.idle)?;
    let passed = passed(&host, options)?;
    let bars = vec![
        Bar::at_most("echo of a key, p50, ms", 5.0, ms(gateway_echo_us.p50)),
        Bar::at_most("growth with all idle ones, MiB", 100.0, mib(idle_growth_bytes)),
        Bar::at_most("growth, nothing acknowledged, MiB", KEPT_MIB + ALLOWANCE_MIB, mib(held.growth_bytes)),
        Bar::at_most("growth, all acknowledged, MiB", KEPT_MIB + ALLOWANCE_MIB, mib(passed.growth_bytes)),
        Bar::at_most("processes that outlive Ctrl-C", 0.0, (held.left + passed.left) as f64),
    ];
    let (keys, idle) = (options.keys, options.idle);
    let figures = Figures { others, keys, gateway_echo_us, bare_echo_us, idle, idle_growth_bytes, held, passed, bars };
    figures.tell();
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_vec_pretty(&figures)?).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(figures.bars.iter().all(Bar::is_met) || !options.enforce)
}

impl Figures {
    fn tell(&self) {
        println!("{}", self.others.text());
        let (through, bare) = (self.gateway_echo_us, self.bare_echo_us);
        println!("echo of {} keys     p50 us     p99 us", self.keys);
        println!("gateway        {:>12} {:>10}", through.p50, through.p99);
        println!("bare pty, bwrap{:>12} {:>10}", bare.p50, bare.p99);
        let ratio = |through: u64, bare: u64| through as f64 / bare.max(1) as f64;
        println!("ratio          {:>12.2} {:>10.2}", ratio(through.p50, bare.p50), ratio(through.p99, bare.p99));
        println!("{} idle terminals: {:.1} MiB more", self.idle, mib(self.idle_growth_bytes));
        for (name, flood) in [("nothing", self.held), ("all", self.passed)] {
            let Flood { bytes, ms, growth_bytes, .. } = flood;
            println!("flood, {name} acknowledged: {bytes} bytes in {ms} ms, {:.1} MiB more", mib(growth_bytes));
        }
        println!();
        for bar in &self.bars {
            println!("{}", bar.text("terminal"));
        }
    }
}

/// How soon a key is echoed through the gateway, and on a bare terminal, in turn.
fn echo(host: &Host, keys: usize) -> Result<(Echo, Echo)> {
    let mut through = host.open(0)?;
    let mut bare = Bare::start()?;
    through.command_answers()?;
    bare.command_answers()?;
    let (mut gateway_us, mut bare_us) = (Vec::new(), Vec::new());
    // The first ones wake what sleeps.
    for number in 0..keys + 10 {
        let began = Instant::now();
        through.keys(&[KEY])?;
        through.until(&[KEY])?;
        let (one, began) = (micros(began), Instant::now());
        bare.keys(&[KEY])?;
        bare.until(&[KEY])?;
        let other = micros(began);
        if number >= 10 {
            gateway_us.push(one);
            bare_us.push(other);
        }
        // Taken back, so that the line stays short.
        through.keys(b"\x7f")?;
        through.until(b"\x08")?;
        bare.keys(b"\x7f")?;
        bare.until(b"\x08")?;
    }
    through.end()?;
    Ok((Echo::of(gateway_us)?, Echo::of(bare_us)?))
}

/// What the gateway's own memory grows by with many terminals in which nobody types, each seen alive before and after.
fn idle(host: &Host, count: usize) -> Result<u64> {
    let before = host.own_bytes()?;
    let mut all = Vec::with_capacity(count);
    for number in 0..count {
        let mut terminal = host.open(number)?;
        terminal.command_answers().with_context(|| format!("terminal {number}"))?;
        all.push(terminal);
    }
    // What it takes to begin is over.
    thread::sleep(SILENCE);
    let growth = host.own_bytes()?.saturating_sub(before);
    for terminal in &mut all {
        terminal.command_answers().context("an idle terminal is no more")?;
    }
    for terminal in all {
        terminal.end()?;
    }
    Ok(growth)
}

/// A flood whose reader never acknowledges: what it makes the gateway hold. Ctrl-C must end it before anything is acknowledged.
fn held(host: &Host) -> Result<Flood> {
    let mark = format!("held{}", std::process::id());
    let mut terminal = host.open(0)?;
    terminal.command_answers()?;
    terminal.acknowledges = false;
    let (base, began, from) = (host.own_bytes()?, Instant::now(), terminal.seen);
    terminal.keys(format!("yes {mark}\r").as_bytes())?;
    let (mut most, mut last) = (base, Instant::now());
    let mut silent_for = Duration::ZERO;
    while silent_for < SILENCE {
        ensure!(began.elapsed() < PATIENCE, "more than a window came that was not acknowledged");
        let seen = terminal.seen;
        terminal.read_some()?;
        if terminal.seen != seen {
            last = Instant::now();
        }
        silent_for = last.elapsed();
        most = most.max(host.own_bytes()?);
    }
    let (bytes, ms) = (terminal.seen - from, millis(began));
    terminal.keys(b"\x03")?;
    let left = left_of(&mark);
    terminal.acknowledges = true;
    terminal.acknowledge()?;
    terminal.command_answers().context("after Ctrl-C")?;
    terminal.end()?;
    Ok(Flood { bytes, ms, growth_bytes: most.saturating_sub(base), left })
}

/// A flood whose reader acknowledges all of it: what the gateway holds while that passes.
fn passed(host: &Host, options: &Options) -> Result<Flood> {
    let mark = format!("passed{}", std::process::id());
    let mut terminal = host.open(0)?;
    terminal.command_answers()?;
    let (base, began, from) = (host.own_bytes()?, Instant::now(), terminal.seen);
    let command = format!("yes {mark} | head -c {}\r", options.flood_bytes);
    terminal.keys(command.as_bytes())?;
    let (mut most, mut looked) = (base, Instant::now());
    while began.elapsed() < Duration::from_secs(options.flood_seconds) && terminal.seen - from < options.flood_bytes {
        terminal.read_some()?;
        if looked.elapsed() >= Duration::from_millis(20) {
            looked = Instant::now();
            most = most.max(host.own_bytes()?);
        }
    }
    let (bytes, ms) = (terminal.seen - from, millis(began));
    terminal.keys(b"\x03")?;
    terminal.command_answers().context("after Ctrl-C")?;
    let left = left_of(&mark);
    terminal.end()?;
    Ok(Flood { bytes, ms, growth_bytes: most.saturating_sub(base), left })
}

/// How many processes with a mark are there when they have had their time to end.
fn left_of(mark: &str) -> usize {
    let began = Instant::now();
    loop {
        let left = marked_processes(mark).len();
        if left == 0 || began.elapsed() > Duration::from_secs(10) {
            return left;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_has_the_middle_and_the_tail_of_its_keys_in_any_order() {
        assert_eq!(Echo::of((1..=100).rev().collect()).unwrap(), Echo { p50: 50, p99: 99 });
        assert!(Echo::of(Vec::new()).is_err());
    }
}
