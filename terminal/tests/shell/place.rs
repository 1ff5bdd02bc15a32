//! Where a test has its sessions: all of a gateway, with a tenant's files and recordings.

use std::future::Future;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use openclawmu_sandbox::{Backend, Bubblewrap, BubblewrapSetup, HostUid, Limits, Root, RunId, Workspace};
use openclawmu_terminal::{Closed, Event, Order, Role, Session, Settings, Size, Terminals, Viewer, What};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::client::Client;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static STATE: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a writable temp dir"));
static BUBBLEWRAP: LazyLock<Arc<dyn Backend>> = LazyLock::new(|| {
    let setup = BubblewrapSetup {
        program: "bwrap".into(),
        usr: "/usr".into(),
        require_cgroups: true,
        state_dir: STATE.path().to_owned(),
    };
    Arc::new(RUNTIME.block_on(Bubblewrap::start(&setup)).expect("bubblewrap isolates here"))
});
/// All that was logged by this process.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static LOGGING: LazyLock<()> = LazyLock::new(|| {
    let filter = "trace,tokio=off,mio=off";
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| Log).init();
});
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A shell that people type into.
pub(crate) const BASH: [&str; 4] = ["bash", "--norc", "--noprofile", "-i"];
/// For what never comes.
const FOR_EVER: Duration = Duration::from_secs(60);

/// Runs a test on the sessions' runtime.
pub(crate) fn on_a_place<F: Future<Output = ()>>(change: impl FnOnce(&mut Settings), test: impl FnOnce(Place) -> F) {
    LazyLock::force(&LOGGING);
    LazyLock::force(&BUBBLEWRAP);
    RUNTIME.block_on(async {
        let place = Place::new(change);
        test(place).await;
    });
}

/// What was logged until now.
pub(crate) fn logged() -> String {
    String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned()
}

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All sessions of a gateway, and one tenant.
pub(crate) struct Place {
    pub(crate) terminals: Terminals,
    events: mpsc::UnboundedReceiver<Event>,
    /// The workspace is `files` in it, the recordings are `recordings`.
    dir: TempDir,
    pub(crate) owner: HostUid,
}

impl Place {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let (told, events) = mpsc::unbounded_channel();
        let mut settings = Settings::new(told);
        change(&mut settings);
        let dir = tempfile::tempdir().expect("a writable temp dir");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        for name in ["files", "recordings"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let owner = HostUid::new(400_000 + NEXT.fetch_add(1, Ordering::Relaxed)).unwrap();
        let terminals = Terminals::new(settings, RUNTIME.handle().clone());
        Self { terminals, events, dir, owner }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// What a session of `command` is opened with.
    pub(crate) fn order(&self, command: &[&str]) -> Order {
        let id = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Order {
            id: RunId::parse(&id).unwrap(),
            tenant: "acme".into(),
            opened_by: "ann".into(),
            opened_at_ms: 1_700_000_000_123,
            backend: Arc::clone(&BUBBLEWRAP),
            workspace: Workspace::new(Root::open(&self.path("files")).unwrap(), self.owner).unwrap(),
            limits: Limits::default(),
            egress: None,
            env: vec![("PS1".into(), "prompt> ".into())],
            command: command.iter().map(Into::into).collect(),
            size: Size::new(80, 24),
            recordings: Root::open(&self.path("recordings")).unwrap(),
            record_input: false,
            keep: None,
        }
    }

    /// A session of `command`.
    pub(crate) async fn open(&self, command: &[&str]) -> Arc<Session> {
        self.terminals.open(self.order(command)).await.expect("a session")
    }

    /// A session of a script that waits for a line first, so that nothing is missed.
    pub(crate) async fn script(&self, script: &str) -> (Arc<Session>, Client) {
        let session = self.open(&["sh", "-c", &format!("read begin; {script}")]).await;
        let client = Client::new(&session, driver("ann"), None);
        client.types("\r").await;
        (session, client)
    }

    /// A shell that people type into, and who does.
    pub(crate) async fn shell(&self) -> (Arc<Session>, Client) {
        let session = self.open(&BASH).await;
        let mut client = Client::new(&session, driver("ann"), None);
        client.until("prompt> ").await;
        (session, client)
    }

    /// The next thing that is told of the sessions.
    pub(crate) async fn told(&mut self) -> What {
        let told = tokio::time::timeout(FOR_EVER, self.events.recv()).await;
        told.expect("nothing is told").expect("sessions tell what happens").what
    }

    /// The end, which is told of next but for comings and goings.
    pub(crate) async fn closed(&mut self) -> Closed {
        loop {
            if let What::Closed(closed) = self.told().await {
                return closed;
            }
        }
    }

    /// A recording, and its digest.
    pub(crate) fn recording(&self, name: &str) -> (String, String) {
        use sha2::{Digest, Sha256};
        let text = std::fs::read_to_string(self.path("recordings").join(name)).unwrap();
        let digest = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        (text, digest)
    }
}

/// Whoever types.
pub(crate) fn driver(who: &str) -> Viewer {
    viewer(who, Role::Driver)
}

pub(crate) fn viewer(who: &str, role: Role) -> Viewer {
    Viewer { who: who.into(), role, ip: None, reason: None }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(FOR_EVER, waiting).await.unwrap_or_else(|_| panic!("{what} never came to hold"));
}

/// The processes of the host that have this text in their command lines.
pub(crate) fn processes_with(text: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(text.len()).any(|part| part == text.as_bytes())
        })
        .collect()
}
