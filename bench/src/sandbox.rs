//! What a run in the sandbox costs: through the API beside the bare bubblewrap command, in turn in the same run; what an idle one
//! holds, how soon a killed one is gone, what a connection out of one costs, and two hundred at once. The gateway must be able to isolate here: root, or user namespaces.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bar::Bar;
use crate::child::{Process, free_addresses};
use crate::client::{Connection, get, post};
use crate::egress;
use crate::quiet::Others;
use crate::stats::{ms, percentile};

/// What the same command takes by bubblewrap alone.
const BARE: &str = "--unshare-all --die-with-parent --new-session --cap-drop ALL --clearenv --setenv PATH /usr/bin --ro-bind /usr /usr \
    --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64 --proc /proc --dev /dev --tmpfs /tmp sh -c :";
/// The longest that any part may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time that a run is given which is to be killed.
const KILLED_AFTER_MS: u64 = 1_000;
/// Measurements of connections, each way.
const ROUNDS: usize = 5;

/// What to measure, and how often.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Runs of each kind, in turn.
    #[arg(long, default_value_t = 100)]
    runs: usize,
    /// Runs at once.
    #[arg(long, default_value_t = 200)]
    parallel: usize,
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
    runs: usize,
    parallel: usize,
    api_p50_us: u64,
    bare_p50_us: u64,
    idle_pss_bytes: u64,
    idle_command_pss_bytes: u64,
    gone_after_ms: u64,
    egress_p50_us: u64,
    straight_p50_us: u64,
    parallel_ms: u64,
    bars: Vec<Bar>,
}

/// Measures, tells. False if a bar was missed and that was to matter.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let place = TempDir::new().context("making a directory for the gateway")?;
    let beside = std::env::current_exe()?.with_file_name("openclawmu");
    let others = Others::look()?;
    eprintln!("{}", others.text());
    ensure!(!options.enforce || !others.disturb(), "bars are held against figures of a quiet machine");
    let server = egress::serve()?;
    let binary = options.gateway.as_deref().unwrap_or(&beside);
    let gateway = Gateway::start(binary, place.path(), (options.parallel, server))?;
    gateway.exec(&json!({"command": ["true"]})).context("the first run, which examines the machine")?;
    let (api_p50_us, bare_p50_us) = cold(&gateway, options.runs)?;
    let (idle_pss_bytes, idle_command_pss_bytes) = idle(&gateway)?;
    let gone_after_ms = gone(&gateway)?;
    let (egress_p50_us, straight_p50_us) = way_out(&gateway, server)?;
    let (parallel_ms, wrong, left) = crowd(&gateway, options.parallel)?;
    let bars = vec![
        Bar::at_most("sh -c : by the API, p50, ms", 25.0, ms(api_p50_us)),
        Bar::at_most("over the bare bwrap command", 2.0, ms(api_p50_us) / ms(bare_p50_us)),
        Bar::at_most("PSS of what holds an idle run, MiB", 1.0, idle_pss_bytes as f64 / f64::from(1 << 20)),
        Bar::at_most("killed to gone, ms", 100.0, gone_after_ms as f64),
        Bar::at_most("egress adds to a connection, p50, ms", 1.0, ms(egress_p50_us.saturating_sub(straight_p50_us))),
        Bar::at_most("wrong answers of parallel runs", 0.0, wrong as f64),
        Bar::at_most("processes left of them", 0.0, left as f64),
    ];
    let (runs, parallel) = (options.runs, options.parallel);
    let figures = Figures {
        others,
        runs,
        parallel,
        api_p50_us,
        bare_p50_us,
        idle_pss_bytes,
        idle_command_pss_bytes,
        gone_after_ms,
        egress_p50_us,
        straight_p50_us,
        parallel_ms,
        bars,
    };
    figures.tell();
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_vec_pretty(&figures)?).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(figures.bars.iter().all(Bar::is_met) || !options.enforce)
}

impl Figures {
    fn tell(&self) {
        println!("{}", self.others.text());
        println!(
            "p50 of {} runs: {:.1} ms by the API, {:.1} ms bare",
            self.runs,
            ms(self.api_p50_us),
            ms(self.bare_p50_us)
        );
        println!("p50 of a connection: {} us out of a run, {} us straight", self.egress_p50_us, self.straight_p50_us);
        println!("PSS of the command of an idle run, `sh`: {} KiB", self.idle_command_pss_bytes >> 10);
        println!("{} runs at once: {} ms in all", self.parallel, self.parallel_ms);
        println!();
        for bar in &self.bars {
            println!("{}", bar.text("sandbox"));
        }
    }
}

/// The gateway, and a tenant's token.
struct Gateway {
    edge: SocketAddr,
    token: String,
    _process: Process,
}

impl Gateway {
    fn start(binary: &Path, dir: &Path, (at_once, server): (usize, SocketAddr)) -> Result<Self> {
        ensure!(binary.is_file(), "no gateway at {}: build it with `cargo build --release`", binary.display());
        let [edge, admin] = free_addresses()?;
        let (config, data) = (dir.join("sandbox.toml"), dir.join("data"));
        let lines = format!(
            "[sandbox]\nconcurrent_runs = {at_once}\nconcurrent_runs_per_tenant = {at_once}\nqueue_seconds = 60\n{}",
            egress::granted(server)
        );
        fs::write(&config, lines)?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&config).arg("--data").arg(&data);
        command.args(["--edge", &edge.to_string(), "--admin", &admin.to_string()]);
        let mut process = Process::start("gateway", &command, dir)?;
        process.wait_for("/readyz", || {
            let answer = Connection::to(edge).call_whole(&get(edge, "/readyz", "none"), &mut Vec::new());
            Ok(answer.is_ok_and(|answer| answer.status == 200))
        })?;
        let key = fs::read_to_string(data.join("admin.key")).context("reading admin.key")?;
        let request = post(admin, "/v1/tenants", key.trim(), br#"{"id":"bench"}"#);
        let made = call(&mut Connection::to(admin), &request, 201)?;
        let token = made.pointer("/token/value").and_then(Value::as_str).context("no token")?.to_owned();
        Ok(Self { edge, token, _process: process })
    }

    fn request(&self, body: &Value) -> Result<Vec<u8>> {
        Ok(post(self.edge, "/v1/sandbox/exec", &self.token, &serde_json::to_vec(body)?))
    }

    fn exec(&self, body: &Value) -> Result<Value> {
        let mut connection = Connection::to(self.edge);
        connection.open()?.set_read_timeout(Some(PATIENCE * 2))?;
        call(&mut connection, &self.request(body)?, 200)
    }
}

/// What is answered, as JSON, if it has this status.
pub(crate) fn call(connection: &mut Connection, request: &[u8], status: u16) -> Result<Value> {
    let mut body = Vec::new();
    let answer = connection.call_whole(request, &mut body)?;
    ensure!(answer.status == status, "status {}: {}", answer.status, String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).context("the answer is not JSON")
}

/// The medians of a run through the API and of the bare command, in turn, in microseconds.
fn cold(gateway: &Gateway, runs: usize) -> Result<(u64, u64)> {
    let mut connection = Connection::to(gateway.edge);
    let request = gateway.request(&json!({"command": ["sh", "-c", ":"]}))?;
    let (mut api, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let began = Instant::now();
        let told = call(&mut connection, &request, 200)?;
        api.push(micros(began));
        ensure!(told.pointer("/exit_code").and_then(Value::as_u64) == Some(0), "{told}");
        let began = Instant::now();
        let ended = Command::new("bwrap").args(BARE.split_whitespace()).stdin(Stdio::null()).output();
        bare.push(micros(began));
        ensure!(ended.context("bwrap")?.status.success(), "the bare command fails");
    }
    api.sort_unstable();
    bare.sort_unstable();
    percentile(&api, 500).zip(percentile(&bare, 500)).context("no runs")
}

/// The medians of connections out of a run and of straight ones, in turn, in microseconds.
fn way_out(gateway: &Gateway, server: SocketAddr) -> Result<(u64, u64)> {
    let rule = format!("{}:{}", egress::HOST, server.port());
    let run = json!({"command": egress::command(server, "proxy"), "network": {"allow": [rule]}});
    let (mut through, mut straight) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        straight.push(egress::straight(server)?);
        let told = gateway.exec(&run)?;
        let printed = told.pointer("/stdout").and_then(Value::as_str).unwrap_or_default().trim().parse();
        through.push(printed.with_context(|| format!("a run with a way out: {told}"))?);
    }
    through.sort_unstable();
    straight.sort_unstable();
    percentile(&through, 500).zip(percentile(&straight, 500)).context("no connections")
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// What a run that only sleeps is held by, the launcher and process 1, and its command.
fn idle(gateway: &Gateway) -> Result<(u64, u64)> {
    let mark = format!("idle-{}", std::process::id());
    let marked = json!({"command": ["sh", "-c", "sleep 3", mark], "timeout_seconds": 20});
    thread::scope(|scope| {
        let running = scope.spawn(|| gateway.exec(&marked));
        let began = Instant::now();
        while marked_processes(&mark).len() < 3 {
            ensure!(began.elapsed() < PATIENCE, "the idle run never began");
            thread::sleep(Duration::from_millis(20));
        }
        // What it takes to begin is over.
        thread::sleep(Duration::from_millis(500));
        let all = marked_processes(&mark);
        let (holders, commands): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|pid| arguments(*pid).is_some_and(|line| line.contains("--status-fd")));
        ensure!(
            (holders.len(), commands.len()) == (2, 1),
            "the launcher, process 1 and the command: {holders:?}, {commands:?}"
        );
        let pss = |pids: Vec<u32>| pids.into_iter().filter_map(pss_bytes).sum();
        let found = (pss(holders), pss(commands));
        running.join().map_err(|_| anyhow::anyhow!("a thread died"))??;
        Ok(found)
    })
}

/// The processes that have a text in their arguments, but for this one.
pub(crate) fn marked_processes(mark: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| arguments(*pid).is_some_and(|line| line.contains(mark)))
        .collect()
}

fn arguments(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&line).into_owned())
}

fn pss_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// How long after its time a run was gone, with fifty children that take no hint.
fn gone(gateway: &Gateway) -> Result<u64> {
    let script = "trap '' TERM; i=0; while [ $i -lt 50 ]; do sleep 60 & i=$((i+1)); done; sleep 60";
    let told = gateway.exec(&json!({"command": ["sh", "-c", script], "timeout_seconds": KILLED_AFTER_MS / 1_000}))?;
    ensure!(told.pointer("/outcome").and_then(Value::as_str) == Some("timeout"), "{told}");
    let took = told.pointer("/duration_ms").and_then(Value::as_u64).context("no duration")?;
    Ok(took.saturating_sub(KILLED_AFTER_MS))
}

/// Many runs at once, each with a word of its own: how long all took, how many answered another's, and what is left of them.
fn crowd(gateway: &Gateway, count: usize) -> Result<(u64, usize, usize)> {
    let mark = format!("crowd-{}", std::process::id());
    let began = Instant::now();
    let wrong = thread::scope(|scope| -> Result<usize> {
        let all: Vec<_> = (0..count)
            .map(|number| {
                let nonce = format!("{mark}-{number}");
                scope.spawn(move || -> Result<bool> {
                    let told = gateway.exec(&json!({"command": ["sh", "-c", format!("echo {nonce}")]}))?;
                    Ok(told.pointer("/stdout").and_then(Value::as_str) != Some(&format!("{nonce}\n")))
                })
            })
            .collect();
        let mut wrong = 0;
        for one in all {
            wrong += usize::from(one.join().map_err(|_| anyhow::anyhow!("a thread died"))??);
        }
        Ok(wrong)
    })?;
    let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok((took, wrong, marked_processes(&mark).len()))
}
