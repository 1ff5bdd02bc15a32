//! What isolates tenants' code: bubblewrap, user namespaces, control groups. Without them the gateway serves, and refuses to run
//! code; so nothing here is worse than a warning.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use openclawmu_sandbox::{RelPath, Root};
use rustix::fs::{Access, access};

use super::Finding;
use crate::config::{BackendConfig, SandboxConfig};
use crate::sandbox;

/// Older versions can be made to create a directory on the host (CVE-2026-87766).
const SAFE: [u32; 3] = [0, 12, 0];
/// Longest wait for a program.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where control groups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Looks at them.
pub(super) async fn look(config: &SandboxConfig, data: &Path) -> Vec<Finding> {
    if !cfg!(target_os = "linux") {
        return vec![Finding::ok("sandbox", "Docker isolates tenants' code on this system")];
    }
    if config.backends.is_empty() {
        return vec![Finding::ok("sandbox", "the configuration runs no code")];
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut findings = vec![disk(config, data)];
    for backend in &config.backends {
        match backend {
            BackendConfig::Docker(_) => findings.push(isolation("sandbox.docker", backend).await),
            BackendConfig::Bubblewrap(bubblewrap) => {
                let version = version(run(&bubblewrap.program, &["--version"]).await);
                let is_there = version.hint.as_deref() != Some(MISSING);
                findings.push(version);
                if is_there {
                    findings.push(isolation("sandbox.isolation", backend).await);
                }
                findings.push(cgroups(Path::new(CGROUPS), &own));
            }
        }
    }
    findings
}

/// What holds a tenant to its storage while its code runs.
fn disk(config: &SandboxConfig, data: &Path) -> Finding {
    let check = "sandbox.disk";
    let quotas = match Root::open(&data.join("tenants")) {
        Ok(tenants) => sandbox::quotas(&tenants, config.disk),
        Err(_) => {
            return Finding::ok(check, "there are no tenants yet whose file system could be tried for project quotas");
        }
    };
    match quotas {
        Ok(()) => Finding::ok(check, "the file system holds tenants to their storage, by project quotas"),
        Err(reason) => {
            Finding::ok(check, format!("tenants are held to their storage by looks, which is soft: {reason}"))
        }
    }
}

const MISSING: &str = "install bubblewrap: without it no tenant's code is run";

async fn run(program: &Path, arguments: &[&str]) -> std::io::Result<Output> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let timed_out = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    tokio::time::timeout(PATIENCE, command.output()).await.map_err(timed_out)?
}

fn version(said: std::io::Result<Output>) -> Finding {
    let check = "sandbox.bubblewrap";
    let said = match said {
        Ok(said) => String::from_utf8_lossy(&said.stdout).trim().to_owned(),
        Err(err) => return Finding::warn(check, format!("bwrap: {err}"), MISSING),
    };
    match numbers(&said) {
        Some(found) if found < SAFE => Finding::warn(
            check,
            format!("{said} has a known hole (CVE-2026-87766), which the gateway works around"),
            "upgrade bubblewrap to 0.12.0 or newer",
        ),
        Some(_) => Finding::ok(check, said),
        None => Finding::warn(check, format!("says of itself: {said}"), "see whether this is bubblewrap"),
    }
}

fn numbers(said: &str) -> Option<[u32; 3]> {
    let mut parts = said.strip_prefix("bubblewrap ")?.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)])
}

/// Runs what the gateway runs before the first run of a tenant's.
async fn isolation(check: &'static str, config: &BackendConfig) -> Finding {
    let hint = "see what it says; `openclawmu doctor` tries again";
    let name = format!("openclawmu-doctor-{}", std::process::id());
    let place = std::env::temp_dir().join(&name);
    if let Err(err) = Root::create(&place) {
        return Finding::warn(check, format!("{}: {err}", place.display()), "free the directory for temporary files");
    }
    let started = sandbox::start(config, &place).await;
    let removed = Root::open(&std::env::temp_dir()).and_then(|dir| dir.remove_tree(&RelPath::parse(name.as_bytes())?));
    match (started, removed) {
        (Ok(_), Ok(())) => {
            Finding::ok(check, "programs were run, and were held by namespaces, by the filter and by their limits")
        }
        (Err(err), _) => Finding::warn(check, format!("no code can be run ({}): {err}", err.reason()), hint),
        (Ok(_), Err(err)) => Finding::warn(check, format!("what was tried could not be removed: {err}"), hint),
    }
}

/// Whether limits of memory and processes can be set; `own` is `/proc/self/cgroup`.
fn cgroups(root: &Path, own: &str) -> Finding {
    let check = "sandbox.cgroups";
    let hint = "Delegate=cpu memory pids in the unit (conf/systemd); without it limits are per process only";
    if root.join("cgroup.controllers").exists() {
        let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
        let dir = root.join(path.trim_start_matches('/'));
        let controllers = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
        let has = |name: &str| controllers.split_whitespace().any(|one| one == name);
        if !has("memory") || !has("pids") {
            return Finding::warn(check, "cgroup v2 without the controllers memory and pids", hint);
        }
        return if writable(&dir) && writable(&dir.join("cgroup.procs")) {
            Finding::ok(check, "cgroup v2, delegated")
        } else {
            Finding::warn(check, format!("cgroup v2, and {} can't be written", dir.display()), hint)
        };
    }
    let v1: Vec<PathBuf> =
        ["memory", "pids"].map(|name| root.join(name)).into_iter().filter(|dir| dir.is_dir()).collect();
    match v1.len() {
        2 if v1.iter().all(|dir| writable(dir)) => Finding::ok(check, "cgroup v1"),
        2 => Finding::warn(check, "cgroup v1, which only root can write", hint),
        _ => Finding::warn(check, "there are no control groups for memory and processes", hint),
    }
}

fn writable(path: &Path) -> bool {
    access(path, Access::WRITE_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(numbers("bubblewrap 0.8.0"), Some([0, 8, 0]));
        assert!(numbers("bubblewrap 0.9.1").unwrap() < SAFE && numbers("bubblewrap 0.12").unwrap() >= SAFE);
        assert!(numbers("bubblewrap 1.0.0").unwrap() > SAFE);
        assert_eq!(numbers("something else"), None);
    }

    #[test]
    fn delegation_is_told_from_what_is_only_there() {
        let root = tempfile::tempdir().unwrap();
        let state = |own: &str| cgroups(root.path(), own).state;
        assert_eq!(state(""), State::Warn, "no control groups at all");
        for name in ["memory", "pids"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        assert_eq!(state(""), State::Ok, "v1");
        std::fs::write(root.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
        let own = root.path().join("system.slice/openclawmu.service");
        std::fs::create_dir_all(&own).unwrap();
        let path = "0::/system.slice/openclawmu.service\n";
        assert_eq!(state(path), State::Warn, "nothing is delegated there");
        std::fs::write(own.join("cgroup.controllers"), "memory pids").unwrap();
        std::fs::write(own.join("cgroup.procs"), "").unwrap();
        assert_eq!(state(path), State::Ok);
        std::fs::write(own.join("cgroup.controllers"), "pids").unwrap();
        assert_eq!(state(path), State::Warn, "memory is missing");
    }
}
