//! `openclawmu doctor`: whether this machine and configuration can serve, each finding with what to do.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::config::{self, Config, Overrides, UpstreamConfig};
use crate::listen;

/// Least free space that is not worth a word, in bytes.
const LOW_SPACE_BYTES: u64 = 1 << 30;
/// Longest wait for an upstream.
const PATIENCE: Duration = Duration::from_secs(5);

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) check: String,
    /// How it is.
    pub(crate) state: State,
    /// What was seen, and what to do about it.
    pub(crate) message: String,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// Works, but should be looked at.
    Warn,
    /// The gateway can't serve like this.
    Fail,
}

/// Looks at everything. Changes nothing but for a file that it writes and removes again.
pub(crate) async fn examine(file: Option<&Path>, overrides: &Overrides) -> Vec<Finding> {
    let file = config::find(file);
    let config = match config::load(file.as_deref(), overrides).and_then(config::check) {
        Ok(config) => config,
        Err(err) => return vec![finding("config", State::Fail, err.to_string())],
    };
    let from = file.map_or_else(|| "built-in defaults".to_owned(), |file| file.display().to_string());
    let mut findings = vec![finding("config", State::Ok, from), data_dir(&config.data_dir), space(&config.data_dir)];
    let running = config.data_dir.join("admin.sock").exists();
    for (key, address) in [("edge.listen", config.edge.listen), ("admin.listen", config.admin.listen)] {
        findings.push(match listen::bind(key, address, Duration::ZERO) {
            Ok(_) => finding(key, State::Ok, format!("{address} is free")),
            Err(_) if running => {
                finding(key, State::Ok, format!("{address} is in use, by the running gateway it seems"))
            }
            Err(err) => finding(key, State::Fail, err),
        });
    }
    findings.push(clock());
    findings.extend(upstreams(&config).await);
    findings
}

fn finding(check: impl Into<String>, state: State, message: impl Into<String>) -> Finding {
    Finding { check: check.into(), state, message: message.into() }
}

fn data_dir(dir: &Path) -> Finding {
    if !dir.exists() {
        return finding("data.dir", State::Ok, format!("{} will be created by the first start", dir.display()));
    }
    let probe = dir.join(".doctor");
    let written = std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe));
    match written {
        Ok(()) => finding("data.dir", State::Ok, format!("{} can be written", dir.display())),
        Err(err) => finding(
            "data.dir",
            State::Fail,
            format!("{}: {err}; give it to the user that runs the gateway", dir.display()),
        ),
    }
}

fn space(dir: &Path) -> Finding {
    let existing =
        dir.ancestors().find(|dir| !dir.as_os_str().is_empty() && dir.exists()).unwrap_or_else(|| Path::new("."));
    match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let state = if free < LOW_SPACE_BYTES { State::Warn } else { State::Ok };
            finding("disk", state, format!("{} MiB are free; a full disk refuses paid requests", free >> 20))
        }
        Err(err) => finding("disk", State::Warn, format!("free space can't be told: {err}")),
    }
}

fn clock() -> Finding {
    use openclawmu_store::{Clock, SystemClock, UnixMs};
    let now = SystemClock.now();
    // Any running program is newer than the day this one's first rate card was written.
    let built = UnixMs::parse_rfc3339("2026-11-01T00:00:00Z").unwrap_or_default();
    if now < built {
        return finding(
            "clock",
            State::Fail,
            format!("it is {} on this machine; budgets follow the calendar: set the clock (NTP)", now.rfc3339()),
        );
    }
    finding("clock", State::Ok, now.rfc3339())
}

async fn upstreams(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for upstream in &config.upstreams {
        findings.push(reach(upstream).await);
    }
    findings
}

async fn reach(upstream: &UpstreamConfig) -> Finding {
    let check = format!("upstream.{}", upstream.name);
    let Some(url) = &upstream.base_url else {
        return finding(check, State::Ok, "built in");
    };
    let (host, port) = (
        url.host().unwrap_or_default().to_owned(),
        url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 }),
    );
    let connect = tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect((host.trim_matches(['[', ']']), port)));
    match connect.await {
        Ok(Ok(_)) => finding(check, State::Ok, format!("{host}:{port} answers")),
        Ok(Err(err)) => finding(check, State::Fail, format!("{host}:{port}: {err}; check base_url, DNS and firewall")),
        Err(_) => finding(
            check,
            State::Fail,
            format!("{host}:{port} does not answer within {} s; check the firewall", PATIENCE.as_secs()),
        ),
    }
}
