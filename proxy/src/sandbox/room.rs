//! [`Rooms`]: the backend, each tenant's workspace, and whose turn it is.
//!
//! The backend is examined before the first run; while it can't isolate, every run is refused with the reason, and it is
//! examined again with the next one. A tenant waits behind its own runs first, so that however many it asks for, no other
//! tenant has more than a few of them in front of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openclawmu_sandbox::{Backend, DiskUsage, HostUid, PathError, RelPath, Root, SandboxError, Workspace};
use openclawmu_store::{Refused, TenantId, TenantKey};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::egress::{Lines, Sockets};
#[cfg(target_os = "linux")]
use crate::config::DockerConfig;
use crate::config::{BackendConfig, DiskHold, SandboxConfig};
use crate::context::Shared;
use crate::refusal::Refusal;

/// Between two looks for containers of gateways that died.
const SWEEP: Duration = Duration::from_secs(120);

/// A backend, once it is examined.
type Slot = tokio::sync::Mutex<Option<Arc<dyn Backend>>>;

/// What every run needs.
pub(crate) struct Rooms {
    pub(crate) config: SandboxConfig,
    pub(super) sockets: Sockets,
    tenants: Root,
    /// Whether the file system holds tenants to their storage.
    quotas: bool,
    state_dir: PathBuf,
    /// As many as are configured, in that order.
    backends: Vec<Slot>,
    all: Arc<Semaphore>,
    each: Mutex<HashMap<TenantKey, Arc<Semaphore>>>,
}

/// The right to run one thing now.
pub(crate) struct Turn {
    _of_tenant: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Rooms {
    /// The rooms in a data directory.
    ///
    /// # Errors
    /// When its directories can't be made or opened.
    pub(crate) fn open(data: &Path, config: SandboxConfig) -> Result<Self, PathError> {
        // Also an engine, and processes elsewhere, are told its paths.
        let data = std::path::absolute(data).map_err(PathError::Io)?;
        let open = |name: &str| match Root::open(&data.join(name)) {
            Err(PathError::NotFound) => Root::create(&data.join(name)),
            opened => opened,
        };
        let tenants = open("tenants")?;
        open("sandbox")?;
        let state_dir = data.join("sandbox");
        let quotas = quotas(&tenants, config.disk);
        Ok(Self {
            sockets: Sockets::new(&state_dir, &config.network.hosts).map_err(PathError::Io)?,
            tenants,
            quotas: quotas.is_ok(),
            state_dir,
            backends: config.backends.iter().map(|_| Slot::default()).collect(),
            all: Arc::new(Semaphore::new(config.concurrent_runs)),
            each: Mutex::new(HashMap::new()),
            config,
        })
    }

    /// What is to be told of runs' connections.
    pub(crate) fn lines(&self) -> Arc<Lines> {
        Arc::clone(&self.sockets.lines)
    }

    /// What isolates, the `which`th that is configured, examined.
    ///
    /// # Errors
    /// 503 with the reason.
    pub(crate) async fn backend(&self, which: usize) -> Result<Arc<dyn Backend>, Refusal> {
        let off = || SandboxError::Missing("the configuration runs no code: [sandbox] backend = \"off\"".to_owned());
        let configured = self.backends.get(which).zip(self.config.backends.get(which));
        let (slot, config) = configured.ok_or_else(|| refused(&off()))?;
        let mut backend = slot.lock().await;
        if let Some(backend) = &*backend {
            return Ok(Arc::clone(backend));
        }
        let started = start(config, &self.state_dir).await.map_err(|err| refused(&err))?;
        *backend = Some(Arc::clone(&started));
        Ok(started)
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// 429 when it takes too long.
    pub(super) async fn turn(&self, tenant: TenantKey, now: openclawmu_store::UnixMs) -> Result<Turn, Refusal> {
        let own = {
            let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
            let most = self.config.concurrent_runs_per_tenant;
            Arc::clone(each.entry(tenant).or_insert_with(|| Arc::new(Semaphore::new(most))))
        };
        let both = async {
            let of_tenant = own.acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Turn { _of_tenant: of_tenant, _of_all: of_all })
        };
        let limit = u32::try_from(self.config.concurrent_runs_per_tenant).unwrap_or(u32::MAX);
        let busy = || Refusal::quota(Refused::Concurrency { limit }, now);
        tokio::time::timeout(self.config.queue, both).await.ok().flatten().ok_or_else(busy)
    }

    /// A tenant's files, made where there are none. It blocks on the disk.
    ///
    /// # Errors
    /// What the disk refuses.
    pub(crate) fn workspace(&self, tenant: &TenantId, key: TenantKey) -> Result<Workspace, SandboxError> {
        let root = self.folder(tenant, "workspace").map_err(SandboxError::Path)?;
        Workspace::new(root, self.owner(key)?)
    }

    /// Removes what dead gateways left at the engines that are configured.
    #[cfg(target_os = "linux")]
    async fn sweep(&self) {
        for config in &self.config.backends {
            let BackendConfig::Docker(config) = config else { continue };
            let setup = docker_setup(config.clone(), self.state_dir.clone());
            match openclawmu_sandbox::Docker::sweep(&setup).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "containers of a gateway that died are gone"),
                Err(err) => tracing::warn!(%err, "containers of dead gateways can't be looked for now"),
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    async fn sweep(&self) {}

    /// What a tenant's files take of the disk, up to `most`; nothing where it has none. It blocks on the disk.
    ///
    /// # Errors
    /// [`PathError::NoSpace`] if it is more; what the disk refuses.
    pub(crate) fn stored(&self, tenant: &TenantId, most: DiskUsage) -> Result<DiskUsage, PathError> {
        let path = RelPath::parse(format!("{tenant}/workspace").as_bytes())?;
        match self.tenants.descend(&path) {
            Err(PathError::NotFound) => Ok(DiskUsage::default()),
            opened => opened?.disk_usage(most),
        }
    }

    /// Where the recordings of a tenant's terminals are, made where there is no such place. It blocks on the disk.
    ///
    /// # Errors
    /// What the disk refuses.
    pub(crate) fn recordings(&self, tenant: &TenantId) -> Result<Root, PathError> {
        self.folder(tenant, "recordings")
    }

    fn folder(&self, tenant: &TenantId, name: &str) -> Result<Root, PathError> {
        let path = RelPath::parse(format!("{tenant}/{name}").as_bytes())?;
        match self.tenants.descend(&path) {
            Err(PathError::NotFound) => {
                self.tenants.create_dir_all(&path)?;
                self.tenants.descend(&path)
            }
            opened => opened,
        }
    }

    /// Has the file system hold a tenant to its storage, where it can. Where it can't, looks do, and the run says so.
    pub(crate) fn hold(&self, workspace: &mut Workspace, bytes: Option<u64>) {
        #[cfg(target_os = "linux")]
        if self.quotas
            && let Err(err) = workspace.hold(bytes)
        {
            tracing::warn!(%err, user = workspace.owner().get(), "a tenant's project quota can't be set; its disk is looked at instead");
        }
        #[cfg(not(target_os = "linux"))]
        let _none_to_be_had = (self.quotas, workspace, bytes);
    }

    /// The host's user that is this tenant's alone: tenants' keys are never given twice.
    fn owner(&self, tenant: TenantKey) -> Result<HostUid, SandboxError> {
        let number = u32::try_from(tenant.number()).ok().and_then(|key| self.config.first_host_uid.checked_add(key));
        // No tenant's is 0: it is refused.
        HostUid::new(number.unwrap_or(0))
    }
}

/// Whether the file system of the tenants' directories holds project quotas, proved by one; why not.
///
/// # Errors
/// Why not, for people.
pub(crate) fn quotas(tenants: &Root, disk: DiskHold) -> Result<(), String> {
    let proved = match disk {
        DiskHold::Sampler => Err("[sandbox] disk = \"sampler\"".to_owned()),
        #[cfg(target_os = "linux")]
        DiskHold::Auto => tenants.prove_quota().map_err(|err| err.to_string()),
        #[cfg(not(target_os = "linux"))]
        DiskHold::Auto => Err(format!("{tenants:?} is on no Linux")),
    };
    match &proved {
        Ok(()) => tracing::info!("tenants' storage is held by project quotas of the file system"),
        Err(reason) => tracing::info!(reason, "tenants' storage is held by looks now and then, which is soft"),
    }
    proved
}

/// Examines what isolates.
#[cfg(target_os = "linux")]
pub(crate) async fn start(config: &BackendConfig, state_dir: &Path) -> Result<Arc<dyn Backend>, SandboxError> {
    use openclawmu_sandbox::{Bubblewrap, BubblewrapSetup, Docker};
    let state_dir = state_dir.to_owned();
    match config.clone() {
        BackendConfig::Bubblewrap(config) => {
            let setup = BubblewrapSetup {
                program: config.program,
                usr: config.usr,
                require_cgroups: config.require_cgroups,
                state_dir,
            };
            let backend = Bubblewrap::start(&setup).await?;
            if let Some(why) = backend.degraded() {
                tracing::warn!("the sandbox's limits are held by process and by user alone: {why}");
            }
            Ok(Arc::new(backend))
        }
        BackendConfig::Docker(config) => {
            let setup = docker_setup(config, state_dir);
            Ok(Arc::new(super::home::Home::of(Docker::start(&setup).await?)))
        }
    }
}

#[cfg(target_os = "linux")]
fn docker_setup(config: DockerConfig, state_dir: PathBuf) -> openclawmu_sandbox::DockerSetup {
    openclawmu_sandbox::DockerSetup { socket: config.socket, image: config.image, runtime: config.runtime, state_dir }
}

/// Removes the containers of gateways that died over this data directory, now and every few minutes, until `stop`: one that hands over
/// may die later.
pub(crate) async fn sweep(shared: Arc<Shared>, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    loop {
        shared.rooms.sweep().await;
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(SWEEP) => {}
        }
    }
}

/// Examines what isolates.
#[cfg(not(target_os = "linux"))]
pub(crate) async fn start(_: &BackendConfig, _: &Path) -> Result<Arc<dyn Backend>, SandboxError> {
    Err(SandboxError::Missing("code is run on Linux alone".to_owned()))
}

/// What a client is told when nothing, or nothing proved, was run.
pub(crate) fn refused(err: &SandboxError) -> Refusal {
    match err {
        SandboxError::Job(message) => Refusal::bad("command", format!("The run can't be made: {message}.")),
        SandboxError::Path(err) => crate::workspace::refused("files", err),
        SandboxError::Missing(_)
        | SandboxError::Namespaces(_)
        | SandboxError::Seccomp(_)
        | SandboxError::Cgroups(_)
        | SandboxError::Helper(_)
        | SandboxError::Unproved(_)
        | SandboxError::Launch { .. }
        | SandboxError::Engine(_)
        | SandboxError::Io(_) => {
            tracing::error!(%err, reason = err.reason(), "nothing was run in the sandbox");
            let message = format!(
                "No code can be run at the moment: {}. The operator's `openclawmu doctor` says more.",
                err.reason()
            );
            Refusal::Sandbox { code: err.reason(), message }
        }
    }
}
