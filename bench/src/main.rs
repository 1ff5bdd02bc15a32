//! Measures what the gateway costs: CPU time per request and per streamed chunk, beside the bare Pingora proxy
//! that it stands on, in the same run. One binary plays every part: the upstream, the floor, the load.
//!
//! Reads top down: `stage` starts what is needed, `run` measures (`scenario`, `cpu`), `load` drives, `report` tells.
//! `stages` counts instructions. `scale` fills a store, `soak` goes on for long, `sandbox` runs code, `terminal` types. The gateway itself is never linked: it is measured from outside, as a process.
#![allow(clippy::float_arithmetic, reason = "statistics over measurements; no money here")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool: its output is its purpose")]

mod anthropic;
mod bar;
mod child;
mod client;
mod cpu;
mod egress;
mod floor;
mod gateway;
mod interrupt;
mod load;
mod load_command;
mod nginx;
mod pace;
mod quiet;
mod report;
mod run;
mod sandbox;
mod scale;
mod scenario;
mod script;
mod soak;
mod sse;
mod stage;
mod stages;
mod stats;
mod sync;
mod terminal;
mod upstream;
mod wire;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Benchmarks of OpenClawMU.
#[derive(Debug, Parser)]
#[command(name = "openclawmu-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Measure the gateway against the floor (what `make bench` does).
    Run(run::Options),
    /// A bare Pingora proxy.
    Floor(floor::Options),
    /// A scripted OpenAI-compatible upstream.
    Upstream(upstream::Options),
    /// Drive anything that speaks the API and is backed by the scripted upstream.
    Load(load_command::Options),
    /// Fill a store with many tenants and rows, and measure what that costs.
    Scale(scale::Options),
    /// Drive the gateway for minutes and see whether its memory grows (what `make bench-soak` does).
    Soak(soak::Options),
    /// Run code in the sandbox, beside the bare launcher.
    Sandbox(sandbox::Options),
    /// Type into terminals, beside a bare one, and flood them.
    Terminal(terminal::Options),
    /// Count the instructions of each stage of a request (what `make stages` does).
    Stages(stages::Options),
    /// Write to the disk and sync it until told to end.
    #[command(hide = true)]
    Sync(sync::Options),
    /// Become another program, and die with the process that asked for it.
    #[command(hide = true)]
    Guarded {
        parent: u32,
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match play(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("openclawmu-bench: {fault:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays one part to its end. False where a bar was missed and that was to matter.
fn play(part: Part) -> anyhow::Result<bool> {
    match part {
        Part::Run(options) => return run::run(&options, &*interrupt::flag()?),
        Part::Floor(options) => floor::serve(&options),
        Part::Upstream(options) => upstream::serve(&options)?,
        Part::Soak(options) => return soak::run(&options, &*interrupt::flag()?),
        Part::Sync(options) => sync::run(&options)?,
        Part::Stages(options) => return stages::run(&options),
        Part::Scale(options) => return scale::run(&options),
        Part::Sandbox(options) => return sandbox::run(&options),
        Part::Terminal(options) => return terminal::run(&options),
        Part::Load(options) => load_command::run(&options, &*interrupt::flag()?)?,
        Part::Guarded { parent, program, arguments } => {
            child::become_guarded(parent, &program, &arguments)?;
        }
    }
    Ok(true)
}
