//! The gateway whose terminals are measured, with a tenant for every few of them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Client;
use crate::child::{Process, free_addresses};
use crate::client::{Connection, get, post};
use crate::cpu::own_bytes;
use crate::sandbox::call;

/// Terminals of one tenant: what the processes of a tenant are limited to is not what is measured.
const PER_TENANT: usize = 4;

/// A gateway, and its tenants' tokens.
pub(super) struct Host {
    edge: SocketAddr,
    tokens: Vec<String>,
    process: Process,
}

impl Host {
    /// Starts one that may have so many terminals at once.
    pub(super) fn start(binary: &Path, dir: &Path, terminals: usize) -> Result<Self> {
        ensure!(binary.is_file(), "no gateway at {}: build it with `cargo build --release`", binary.display());
        let [edge, admin] = free_addresses()?;
        let (config, data) = (dir.join("terminal.toml"), dir.join("data"));
        fs::write(&config, settings(terminals))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&config).arg("--data").arg(&data);
        command.args(["--edge", &edge.to_string(), "--admin", &admin.to_string()]);
        let mut process = Process::start("gateway", &command, dir)?;
        process.wait_for("/readyz", || {
            let answer = Connection::to(edge).call_whole(&get(edge, "/readyz", "none"), &mut Vec::new());
            Ok(answer.is_ok_and(|answer| answer.status == 200))
        })?;
        let key = fs::read_to_string(data.join("admin.key")).context("reading admin.key")?;
        let mut tokens = Vec::new();
        for number in 0..terminals.div_ceil(PER_TENANT).max(1) {
            let body = serde_json::to_vec(&json!({ "id": format!("bench-{number}") }))?;
            let made = call(&mut Connection::to(admin), &post(admin, "/v1/tenants", key.trim(), &body), 201)?;
            tokens.push(made.pointer("/token/value").and_then(Value::as_str).context("no token")?.to_owned());
        }
        Ok(Self { edge, tokens, process })
    }

    /// Opens the terminal of this number, of the tenant that it falls to.
    pub(super) fn open(&self, number: usize) -> Result<Client> {
        let token = self.tokens.get(number / PER_TENANT).context("no such tenant")?;
        Client::open(self.edge, token).map_err(|err| self.process.fault(&format!("{err:#}")))
    }

    /// The gateway's own resident memory, in bytes.
    pub(super) fn own_bytes(&self) -> Result<u64> {
        own_bytes(self.process.id())
    }
}

/// The recording must hold the whole flood, escaped.
fn settings(terminals: usize) -> String {
    format!("[terminal]\nsessions = {}\nsessions_per_tenant = {PER_TENANT}\nrecording_mb = 4096\n", terminals.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_terminals_fit_as_are_measured() {
        assert!(settings(200).contains("sessions = 200\n") && settings(0).contains("sessions = 1\n"));
    }
}
