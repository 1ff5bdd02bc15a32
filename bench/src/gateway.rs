//! The gateway under test: the real binary on a fresh data directory, with one upstream in two dialects and one tenant whose
//! every quota is set. All through its public face: a config file, the admin API, the admin key on disk.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::child::Process;
use crate::client::{Connection, get, post};
use crate::script::Provider;

const TENANT: &str = "bench";
/// A tenant that can afford no request.
const SPENT: &str = "spent";
/// What is run by another program may take far longer to start.
const SLOW_START_LIMIT: Duration = Duration::from_secs(180);
/// How long it may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);
/// What keeps the C library's copies in loops (glibc manual, "Tunables").
const LONG_COPIES: &str = "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000";
/// Keys that would give the gateway upstreams of its own.
const PROVIDER_KEYS: [&str; 3] = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"];

/// Where and how the gateway is to run.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    /// The `openclawmu` binary.
    pub(crate) binary: &'a Path,
    /// An empty directory for its config, its data and its log.
    pub(crate) directory: &'a Path,
    /// Its edge listener.
    pub(crate) edge: SocketAddr,
    /// Its admin listener.
    pub(crate) admin: SocketAddr,
    /// The scripted upstream.
    pub(crate) upstream: SocketAddr,
    /// The credential that the upstream accepts.
    pub(crate) upstream_key: &'a str,
    /// Worker threads of the edge.
    pub(crate) threads: usize,
    /// The program that runs it with these arguments, where it does not run by itself. Long copies are then not left to one
    /// instruction of the processor, which Callgrind would count once for each byte.
    pub(crate) under: &'a [String],
}

/// A gateway that is ready to be driven.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// The process.
    pub(crate) process: Process,
    /// The tenant's token.
    pub(crate) token: String,
    /// The token of a tenant whose every request is refused for its budget.
    pub(crate) spent_token: String,
    admin: SocketAddr,
    admin_key: String,
}

impl Gateway {
    /// Starts the gateway, waits until it says that it is ready, and creates the tenants.
    pub(crate) fn start(setup: &Setup<'_>) -> Result<Self> {
        ensure!(
            setup.binary.is_file(),
            "no gateway at {}: build it with `cargo build --release`, or name it with --gateway",
            setup.binary.display()
        );
        let data = setup.directory.join("data");
        let config = setup.directory.join("openclawmu.toml");
        fs::write(&config, config_of(setup, &data)?)?;
        let mut command = match setup.under {
            [] => Command::new(setup.binary),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(setup.binary);
                command
            }
        };
        command.arg("serve").arg("--config").arg(&config);
        command.env("OPENCLAWMU_BENCH_KEY", setup.upstream_key);
        PROVIDER_KEYS.iter().for_each(|name| {
            command.env_remove(name);
        });
        let is_counted = !setup.under.is_empty();
        if is_counted {
            command.env("GLIBC_TUNABLES", LONG_COPIES);
        }
        let process = Process::start("gateway", &command, setup.directory)?;
        let mut process = if is_counted { process.within(SLOW_START_LIMIT) } else { process.interrupted(END_LIMIT) };
        process.wait_listening(setup.edge)?;
        process.wait_listening(setup.admin)?;
        process.wait_for("/readyz", || Ok(is_ready(setup.edge)))?;
        let admin_key = fs::read_to_string(data.join("admin.key")).context("reading admin.key")?;
        let admin_key = admin_key.trim().to_owned();
        let create = |id, quota| {
            create_tenant(setup.admin, &admin_key, (id, quota))
                .map_err(|fault| process.fault(&format!("no tenant {id}: {fault:#}")))
        };
        let (token, spent_token) = (create(TENANT, quota())?, create(SPENT, spent_quota())?);
        Ok(Self { process, token, spent_token, admin: setup.admin, admin_key })
    }

    /// Waits until the ledger has a row for each of `requests`, and no more: what was measured kept its books.
    pub(crate) fn wait_for_ledger(&mut self, requests: u64) -> Result<()> {
        let usage = get(self.admin, &format!("/v1/tenants/{TENANT}/usage"), &self.admin_key);
        let (admin, mut rows) = (self.admin, 0);
        let waited = self.process.wait_for("the ledger to have every request", || {
            let answer = call(admin, &usage, 200)?;
            let total = answer.pointer("/total/requests").and_then(Value::as_u64);
            rows = total.with_context(|| format!("no total of requests in {answer}"))?;
            Ok(rows >= requests)
        });
        waited.with_context(|| format!("{rows} rows in the ledger for {requests} requests"))?;
        ensure!(rows == requests, "{rows} rows in the ledger for {requests} requests");
        Ok(())
    }
}

fn config_of(setup: &Setup<'_>, data: &Path) -> Result<String> {
    let data = data.to_str().context("the data directory is not UTF-8")?;
    Ok(format!(
        r#"[data]
dir = "{data}"

[edge]
listen = "{edge}"
threads = {threads}
max_connections_per_ip = 20000

[admin]
listen = "{admin}"

[[upstream]]
name = "scripted"
kind = "openai"
base_url = "http://{upstream}/v1"
api_key = "env:OPENCLAWMU_BENCH_KEY"
models = ["{openai}"]

[[upstream]]
name = "translated"
kind = "anthropic"
base_url = "http://{upstream}/v1"
api_key = "env:OPENCLAWMU_BENCH_KEY"
models = ["{anthropic}"]
"#,
        openai = Provider::Openai.model(),
        anthropic = Provider::Anthropic.model(),
        edge = setup.edge,
        threads = setup.threads,
        admin = setup.admin,
        upstream = setup.upstream,
    ))
}

/// Every quota that a request can meet, set high: what is measured is what it costs to check them.
fn quota() -> Value {
    json!({
        "usd_per_day": "1000000",
        "usd_per_month": "10000000",
        "tokens_per_day": 1_000_000_000_000_u64,
        "requests_per_minute": 1_000_000_000,
        "tokens_per_minute": 4_000_000_000_u64,
        "concurrent_requests": 10_000,
    })
}

/// The same, but for a month's budget that no request fits in.
fn spent_quota() -> Value {
    let mut quota = quota();
    if let Some(fields) = quota.as_object_mut() {
        fields.insert("usd_per_month".to_owned(), json!("0.000000001"));
    }
    quota
}

fn is_ready(edge: SocketAddr) -> bool {
    let mut body = Vec::new();
    let answer = Connection::to(edge).call_whole(&get(edge, "/readyz", "none"), &mut body);
    answer.is_ok_and(|answer| answer.status == 200)
}

fn create_tenant(admin: SocketAddr, admin_key: &str, (id, quota): (&str, Value)) -> Result<String> {
    let tenant = json!({"id": id, "name": "Bench", "quota": quota});
    let request = post(admin, "/v1/tenants", admin_key, &serde_json::to_vec(&tenant)?);
    let answer = call(admin, &request, 201)?;
    let effective = answer.pointer("/tenant/quota").context("no quota in the answer")?;
    for name in quota.as_object().into_iter().flat_map(|quota| quota.keys()) {
        let set = effective.get(name).is_some_and(|value| !value.is_null());
        ensure!(set, "quota {name} is not in effect: {effective}");
    }
    let token = answer.pointer("/token/value").and_then(Value::as_str);
    Ok(token.with_context(|| format!("no token in {answer}"))?.to_owned())
}

fn call(address: SocketAddr, request: &[u8], expected: u16) -> Result<Value> {
    let mut body = Vec::new();
    let answer = Connection::to(address).call_whole(request, &mut body)?;
    let said = String::from_utf8_lossy(&body);
    ensure!(answer.status == expected, "status {} instead of {expected}: {said}", answer.status);
    serde_json::from_slice(&body).with_context(|| format!("not JSON: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_names_every_listener_and_no_secret() {
        let setup = Setup {
            binary: Path::new("openclawmu"),
            directory: Path::new("/d"),
            edge: "127.0.0.1:1".parse().unwrap(),
            admin: "127.0.0.1:2".parse().unwrap(),
            upstream: "127.0.0.1:3".parse().unwrap(),
            upstream_key: "the-secret",
            threads: 1,
            under: &[],
        };
        let text = config_of(&setup, Path::new("/d/data")).unwrap();
        for part in ["127.0.0.1:1", "127.0.0.1:2", "http://127.0.0.1:3/v1", "/d/data", "threads = 1"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("the-secret"));
    }
}
