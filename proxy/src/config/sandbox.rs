//! `[sandbox]`: what isolates tenants' code, and what a run may use.

use std::path::PathBuf;
use std::time::Duration;

use openclawmu_sandbox::{HostUid, Limits};
use serde::{Deserialize, Serialize};

use super::load::{ConfigError, value};
use super::network::{self, NetworkConfig, RawNetwork};

/// `[sandbox]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSandbox {
    /// `bubblewrap`, `docker`, or `off`.
    pub backend: RawBackend,
    /// What else a run may ask for.
    pub other_backends: Vec<RawBackend>,
    /// The program.
    pub bwrap: PathBuf,
    /// The directory that becomes `/usr` inside.
    pub usr: PathBuf,
    /// Whether nothing is run where limits can't be held by control groups.
    pub require_cgroups: bool,
    /// How containers are made.
    pub docker: RawDocker,
    /// What runs may reach.
    pub network: RawNetwork,
    /// Where the gateway is root: the host's users from this number on are the tenants', one each.
    pub first_host_uid: u32,
    /// How long a run may take that names no time.
    pub timeout_seconds: u64,
    /// How long any run may take.
    pub max_timeout_seconds: u64,
    /// The most memory of a run.
    pub memory_mb: u64,
    /// The most of the processors' time, in percent of one.
    pub cpu_percent: u32,
    /// The most processes and threads of a run.
    pub processes: u32,
    /// The largest file that a run may write.
    pub max_file_mb: u64,
    /// What holds a tenant's `storage_bytes` while its code runs.
    pub disk: DiskHold,
    /// How much of each output stream is answered.
    pub output_bytes: usize,
    /// Runs at once.
    pub concurrent_runs: usize,
    /// Runs at once of one tenant.
    pub concurrent_runs_per_tenant: usize,
    /// How long a run may wait for its turn.
    pub queue_seconds: u64,
}

/// What holds the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskHold {
    /// The file system, by project quotas, where it has them; else looks.
    #[default]
    Auto,
    /// Looks now and then alone.
    Sampler,
}

/// What isolates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RawBackend {
    /// Namespaces, on Linux.
    #[default]
    Bubblewrap,
    /// Containers of an engine.
    Docker,
    /// Nothing is run.
    Off,
}

/// `[sandbox.docker]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawDocker {
    /// The engine's socket.
    pub socket: PathBuf,
    /// What containers are made of; it is never pulled.
    pub image: String,
    /// The engine's runtime; its own default if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
}

impl Default for RawDocker {
    fn default() -> Self {
        Self { socket: PathBuf::from("/var/run/docker.sock"), image: String::new(), runtime: None }
    }
}

impl Default for RawSandbox {
    fn default() -> Self {
        Self {
            backend: RawBackend::default(),
            other_backends: Vec::new(),
            bwrap: PathBuf::from("bwrap"),
            usr: PathBuf::from("/usr"),
            require_cgroups: false,
            docker: RawDocker::default(),
            network: RawNetwork::default(),
            first_host_uid: 200_000,
            timeout_seconds: 60,
            max_timeout_seconds: 600,
            memory_mb: 512,
            cpu_percent: 100,
            processes: 128,
            max_file_mb: 1024,
            disk: DiskHold::default(),
            output_bytes: 1 << 20,
            concurrent_runs: 16,
            concurrent_runs_per_tenant: 4,
            queue_seconds: 30,
        }
    }
}

/// What isolates tenants' code, and what a run may use.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// What isolates, the first where a run names none; empty: nothing is run.
    pub backends: Vec<BackendConfig>,
    /// What runs may reach.
    pub network: NetworkConfig,
    /// The first of the tenants' host users.
    pub first_host_uid: u32,
    /// What a run may use that asks for no less; its time is that of a run that names none.
    pub limits: Limits,
    /// What holds a tenant's storage.
    pub disk: DiskHold,
    /// How long any run may take.
    pub max_timeout: Duration,
    /// Runs at once.
    pub concurrent_runs: usize,
    /// Runs at once of one tenant.
    pub concurrent_runs_per_tenant: usize,
    /// How long a run may wait for its turn.
    pub queue: Duration,
}

/// What isolates.
#[derive(Clone, Debug)]
pub enum BackendConfig {
    /// Namespaces.
    Bubblewrap(BubblewrapConfig),
    /// Containers.
    Docker(DockerConfig),
}

impl BackendConfig {
    /// Its name in requests and answers.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bubblewrap(_) => "bubblewrap",
            Self::Docker(_) => "docker",
        }
    }
}

/// How containers are made.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    /// The engine's socket.
    pub socket: PathBuf,
    /// What containers are made of.
    pub image: String,
    /// The engine's runtime.
    pub runtime: Option<String>,
}

/// How bubblewrap is set up.
#[derive(Clone, Debug)]
pub struct BubblewrapConfig {
    /// The program.
    pub program: PathBuf,
    /// The directory that becomes `/usr`.
    pub usr: PathBuf,
    /// Whether it refuses without control groups.
    pub require_cgroups: bool,
}

/// Proves every value usable.
///
/// # Errors
/// The key of the first that is not.
pub(super) fn check(raw: RawSandbox) -> Result<SandboxConfig, ConfigError> {
    for (key, number) in [
        ("sandbox.timeout_seconds", raw.timeout_seconds),
        ("sandbox.concurrent_runs", u64::try_from(raw.concurrent_runs).unwrap_or(u64::MAX)),
        ("sandbox.concurrent_runs_per_tenant", u64::try_from(raw.concurrent_runs_per_tenant).unwrap_or(u64::MAX)),
        ("sandbox.output_bytes", u64::try_from(raw.output_bytes).unwrap_or(u64::MAX)),
        ("sandbox.max_file_mb", raw.max_file_mb),
    ] {
        if number == 0 {
            return Err(value(key, "must be at least 1"));
        }
    }
    if raw.max_timeout_seconds < raw.timeout_seconds || raw.max_timeout_seconds > 86_400 {
        return Err(value(
            "sandbox.max_timeout_seconds",
            "must be at least sandbox.timeout_seconds, and at most a day",
        ));
    }
    if raw.memory_mb < 16 || raw.memory_mb > 1 << 20 {
        return Err(value("sandbox.memory_mb", "must be 16 to 1048576"));
    }
    if !(1..=100_000).contains(&raw.cpu_percent) {
        return Err(value("sandbox.cpu_percent", "must be 1 to 100000"));
    }
    if !(4..=100_000).contains(&raw.processes) {
        return Err(value("sandbox.processes", "must be 4 to 100000"));
    }
    HostUid::new(raw.first_host_uid).map_err(|err| value("sandbox.first_host_uid", err.to_string()))?;
    if !raw.usr.is_absolute() {
        return Err(value("sandbox.usr", "must be an absolute path"));
    }
    Ok(SandboxConfig {
        backends: backends(&raw)?,
        network: network::check(raw.network)?,
        first_host_uid: raw.first_host_uid,
        limits: Limits {
            wall: Duration::from_secs(raw.timeout_seconds),
            cpu_millis: raw.cpu_percent.saturating_mul(10),
            memory_bytes: raw.memory_mb << 20,
            processes: raw.processes,
            kept_bytes: raw.output_bytes,
            file_bytes: raw.max_file_mb.saturating_mul(1 << 20),
            ..Limits::default()
        },
        disk: raw.disk,
        max_timeout: Duration::from_secs(raw.max_timeout_seconds),
        concurrent_runs: raw.concurrent_runs,
        concurrent_runs_per_tenant: raw.concurrent_runs_per_tenant,
        queue: Duration::from_secs(raw.queue_seconds),
    })
}

/// What isolates: the one that was chosen, and the others that a run may ask for.
fn backends(raw: &RawSandbox) -> Result<Vec<BackendConfig>, ConfigError> {
    if raw.backend == RawBackend::Off {
        return Ok(Vec::new());
    }
    let mut named = vec![raw.backend];
    for other in &raw.other_backends {
        if *other == RawBackend::Off || named.contains(other) {
            return Err(value("sandbox.other_backends", "must name what sandbox.backend is not, each once"));
        }
        named.push(*other);
    }
    named.into_iter().map(|kind| backend(kind, raw)).collect()
}

fn backend(kind: RawBackend, raw: &RawSandbox) -> Result<BackendConfig, ConfigError> {
    if kind != RawBackend::Docker {
        return Ok(BackendConfig::Bubblewrap(BubblewrapConfig {
            program: raw.bwrap.clone(),
            usr: raw.usr.clone(),
            require_cgroups: raw.require_cgroups,
        }));
    }
    let RawDocker { socket, image, runtime } = raw.docker.clone();
    if image.is_empty() {
        return Err(value("sandbox.docker.image", "must name an image that the engine has; it is never pulled"));
    }
    if !socket.is_absolute() {
        return Err(value("sandbox.docker.socket", "must be an absolute path"));
    }
    Ok(BackendConfig::Docker(DockerConfig { socket, image, runtime }))
}
