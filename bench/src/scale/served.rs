//! The real gateway on the filled store: how soon it is ready, and what reading a month takes.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use openclawmu_store::Month;
use serde::Serialize;
use serde_json::{Value, json};

use crate::child::{Process, free_addresses};
use crate::client::{Connection, get, post};
use crate::cpu::{peak_bytes, resident_bytes};

/// What was read.
#[derive(Debug, Serialize)]
pub(super) struct Served {
    pub(super) before_bytes: u64,
    pub(super) report: Duration,
    pub(super) lines: usize,
    pub(super) bytes: u64,
    pub(super) peak_bytes: u64,
    pub(super) tenant: Duration,
    pub(super) archive: Duration,
    pub(super) archived: u64,
    pub(super) archive_bytes: u64,
}

/// The gateway's binary: the one that was named, else the one beside this program.
pub(super) fn binary(named: Option<&Path>) -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("openclawmu");
    let binary = named.map_or(beside, Path::to_owned);
    ensure!(binary.is_file(), "no gateway at {}: build it with `cargo build --release`", binary.display());
    Ok(binary)
}

/// A running gateway.
pub(super) struct Gateway {
    pub(super) process: Process,
    admin: SocketAddr,
    key: String,
    started: Duration,
}

impl Gateway {
    /// Starts it on the data in `dir`, and waits until it is ready.
    pub(super) fn start(binary: &Path, dir: &Path) -> Result<Self> {
        let [edge, admin] = free_addresses()?;
        let logs = dir.parent().context("a place for the log")?;
        let config = logs.join("scale.toml");
        // Nothing may be moved before it is measured.
        fs::write(&config, "[retention]\ndetail_months = 0\n")?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&config).arg("--data").arg(dir);
        command.args(["--edge", &edge.to_string(), "--admin", &admin.to_string()]);
        let began = Instant::now();
        let mut process = Process::start("gateway", &command, logs)?;
        process.wait_for("/readyz", || {
            let answer = Connection::to(edge).call_whole(&get(edge, "/readyz", "none"), &mut Vec::new());
            Ok(answer.is_ok_and(|answer| answer.status == 200))
        })?;
        let started = began.elapsed();
        let key = fs::read_to_string(dir.join("admin.key")).context("reading admin.key")?;
        Ok(Self { process, admin, key: key.trim().to_owned(), started })
    }

    /// Asks for something that may take minutes; returns how long it took.
    fn call(&self, request: &[u8], status: u16, mut sink: impl FnMut(&[u8])) -> Result<Duration> {
        let began = Instant::now();
        let mut connection = Connection::to(self.admin);
        connection.open()?.set_read_timeout(Some(Duration::from_secs(1_800)))?;
        let answer = connection.call(request, |piece| {
            sink(piece);
            Ok(())
        })?;
        ensure!(answer.status == status, "status {} instead of {status}", answer.status);
        Ok(began.elapsed())
    }
}

/// For loads that nothing interrupts: ^C ends this program, and its guards end what it started.
pub(super) fn not_stopped() -> &'static AtomicBool {
    static STOPPED: AtomicBool = AtomicBool::new(false);
    &STOPPED
}

/// From the start of the process to its first 200 at /readyz.
pub(super) fn start_up(binary: &Path, dir: &Path) -> Result<Duration> {
    Ok(Gateway::start(binary, dir)?.started)
}

/// Reads the month, then moves it.
pub(super) fn measure(binary: &Path, dir: &Path, month: Month) -> Result<Served> {
    let gateway = Gateway::start(binary, dir)?;
    let (admin, key) = (gateway.admin, gateway.key.as_str());
    let before_bytes = resident_bytes(gateway.process.id())?;
    let (mut lines, mut bytes) = (0, 0);
    let request = get(admin, &format!("/v1/reports/usage?period={month}&format=csv"), key);
    let report = gateway.call(&request, 200, |piece| {
        lines += piece.iter().filter(|&&byte| byte == b'\n').count();
        bytes += piece.len() as u64;
    })?;
    let peak_bytes = peak_bytes(gateway.process.id())?;
    let request = get(admin, &format!("/v1/tenants/tenant-0/usage?from={month}-01"), key);
    let tenant = gateway.call(&request, 200, |_| {})?;
    let request = post(admin, "/v1/archives", key, &serde_json::to_vec(&json!({"month": month.to_string()}))?);
    let mut said = Vec::new();
    let archive = gateway.call(&request, 201, |piece| said.extend_from_slice(piece))?;
    let said: Value = serde_json::from_slice(&said)?;
    let field = |name: &str| said.pointer(&format!("/archive/{name}"));
    let archived = field("rows").and_then(Value::as_u64).context("no rows")?;
    let file = field("file").and_then(Value::as_str).context("no file")?;
    let archive_bytes = fs::metadata(dir.join(file))?.len();
    Ok(Served { before_bytes, report, lines, bytes, peak_bytes, tenant, archive, archived, archive_bytes })
}
