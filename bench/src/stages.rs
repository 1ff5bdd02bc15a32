//! `make stages`: how many instructions each stage of a request takes, on fixed input, beside the counts that are committed.
//! The real gateway runs under Callgrind; time plays no part, so that the same source gives the same counts on a busy machine.
//!
//! - `setting`: the gateway under Callgrind, the upstream that takes turns; `parked`: when the gateway has nothing left to do
//! - `scenario`: the requests
//! - `dump`, `count`: from Callgrind's dumps to stages
//! - `baseline`: what is committed, and what differs; `profile`: functions and lines, for a person

mod baseline;
mod count;
mod dump;
pub(crate) mod parked;
mod profile;
mod scenario;
mod setting;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use self::baseline::{Baseline, Toolchain, Verdict, change};
use self::profile::Profile;
use self::scenario::{ALL, Scenario};
use self::setting::Dumped;

/// What is counted, and what becomes of it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The gateway's binary, built with `--features openclawmu-sandbox/walk`.
    #[arg(long, default_value = "target/stages/openclawmu")]
    gateway: PathBuf,
    /// The counts that are committed.
    #[arg(long, default_value = "bench/stages.txt")]
    baseline: PathBuf,
    /// Commit the counts of this run.
    #[arg(long, conflicts_with = "profile")]
    bless: bool,
    /// Only the scenarios of this name; may be repeated.
    #[arg(long, conflicts_with = "bless")]
    only: Vec<String>,
    /// Tell which functions the instructions of this scenario are in.
    #[arg(long, value_name = "SCENARIO", conflicts_with = "only")]
    profile: Option<String>,
    /// Of the scenario that is profiled, only this part.
    #[arg(long, requires = "profile")]
    part: Option<String>,
    /// Lines of each table of a profile.
    #[arg(long, default_value_t = 60)]
    lines: usize,
    /// Where the data directory and Callgrind's file are made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    data_parent: PathBuf,
}

/// Counts, and compares. False where something became dearer.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let scenarios = chosen(options)?;
    let toolchain = toolchain()?;
    ensure!(options.gateway.is_file(), "no gateway at {}: `make stages` builds it", options.gateway.display());
    eprint!("counting:");
    let dumped = setting::dump(&options.gateway, &options.data_parent, &scenarios)?;
    if options.profile.is_some() {
        return scenarios.iter().try_for_each(|scenario| profile(options, scenario, &dumped)).map(|()| true);
    }
    let mut rest = dumped.requests.as_slice();
    let mut counts = Vec::with_capacity(scenarios.len());
    for scenario in &scenarios {
        let (own, others) = rest.split_at_checked(scenario.requests()).context("a request is missing")?;
        counts.push(count::count(scenario.name, scenario.parts, &scenario.counted(own))?);
        rest = others;
    }
    if options.bless {
        let before = Baseline::load(&options.baseline).ok();
        tell(&counts, before.as_ref());
        Baseline::new(toolchain, counts).store(&options.baseline)?;
        println!("\nwritten to {}", options.baseline.display());
        return Ok(true);
    }
    let before = Baseline::load(&options.baseline)?;
    tell(&counts, Some(&before));
    let verdict = before.judge(&Baseline::new(toolchain.clone(), counts));
    tell_verdict(&verdict, &toolchain);
    Ok(verdict.dearer.is_empty())
}

fn chosen(options: &Options) -> Result<Vec<Scenario>> {
    let names: Vec<&str> = options.only.iter().chain(&options.profile).map(String::as_str).collect();
    let known: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("no scenario {unknown}; there are {}", known.join(", "));
    }
    let is_chosen = |scenario: &Scenario| names.is_empty() || names.contains(&scenario.name);
    Ok(ALL.into_iter().filter(is_chosen).collect())
}

/// What decides how many instructions the same source comes to: the compiler, and whose `memcpy` runs on which processor.
fn toolchain() -> Result<Toolchain> {
    let rustc = said("rustc", &["--version"], "rustup installs it")?;
    let valgrind = said("valgrind", &["--version"], "`.ci/install test` installs it")?;
    let libc = said("getconf", &["GNU_LIBC_VERSION"], "glibc has it")?;
    let cpus = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    let wide = if cpus.split_ascii_whitespace().any(|flag| flag == "avx2") { " avx2" } else { "" };
    Ok(Toolchain(format!("{rustc}, {valgrind}, {libc}, {}{wide}", std::env::consts::ARCH)))
}

fn said(program: &str, arguments: &[&str], hint: &str) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("{program} can't be run; {hint}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn tell(counts: &[count::Count], before: Option<&Baseline>) {
    for count in counts {
        println!();
        for (part, instructions) in &count.parts {
            let was = before.and_then(|before| before.of(&count.scenario, part));
            let changed = was.map_or("new".to_owned(), |was| change(was, *instructions));
            println!("{:<18} {part:<13} {instructions:>9}  {changed:>9}", count.scenario);
        }
    }
}

fn tell_verdict(verdict: &Verdict, toolchain: &Toolchain) {
    println!();
    if let Some(other) = &verdict.other {
        println!("The committed counts were made with another toolchain, and are compared by a wider margin:");
        println!("  theirs: {other}\n  ours:   {}", toolchain.0);
        println!("`make stages ARGS=--bless` makes them with this one.");
    }
    for part in &verdict.cheaper {
        println!("cheaper  {part}");
    }
    if !verdict.cheaper.is_empty() {
        println!("Keep what was gained: `make stages ARGS=--bless`, and commit bench/stages.txt.");
    }
    for part in &verdict.dearer {
        println!("DEARER   {part}");
    }
    if !verdict.dearer.is_empty() {
        println!("If that is meant: `make stages ARGS=--bless`, and commit bench/stages.txt with the reason.");
    }
}

/// Prints where the counted requests of a scenario spend their instructions.
fn profile(options: &Options, scenario: &Scenario, dumped: &Dumped) -> Result<()> {
    let counted = scenario.counted(&dumped.requests);
    let part = options.part.as_ref().map(|part| {
        let index = scenario.parts.iter().position(|name| name == part);
        index.with_context(|| format!("no part {part}; there are {}", scenario.parts.join(", ")))
    });
    let dump = dumped.merged(&counted, part.transpose()?)?;
    let file = options.gateway.with_file_name(format!("callgrind.{}.out", scenario.name));
    fs::write(&file, &dump).with_context(|| format!("writing {}", file.display()))?;
    println!(
        "{}: {}",
        scenario.name,
        Profile::read(&String::from_utf8_lossy(&dump))?.text(counted.len(), options.lines)?
    );
    println!("for other tools: {}", file.display());
    Ok(())
}
