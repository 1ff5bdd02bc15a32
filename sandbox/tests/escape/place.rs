//! Where a test runs its attack: a backend, and a workspace of its own.

use std::future::Future;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use openclawmu_sandbox::{
    Backend, Bubblewrap, BubblewrapSetup, Docker, DockerSetup, HostUid, Job, Limits, Outcome, Root, RunId, Stdio,
    TreePath, Workspace,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::engine::{Engine, IMAGE};

/// The runtime that all backends live on.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
/// Where the backends keep what is theirs.
static STATE: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a writable temp dir"));
static BUBBLEWRAP: LazyLock<Bubblewrap> =
    LazyLock::new(|| RUNTIME.block_on(Bubblewrap::start(&setup())).expect("bubblewrap isolates here"));
/// An engine of the tests' own, as long as they run.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| RUNTIME.block_on(Engine::start()));
static DOCKER: LazyLock<Docker> =
    LazyLock::new(|| RUNTIME.block_on(Docker::start(&docker_setup())).expect("the engine isolates here"));
/// The attacks, built once.
static ATTACK: LazyLock<Vec<u8>> = LazyLock::new(build);
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Bubblewrap as a gateway sets it up.
pub(crate) fn setup() -> BubblewrapSetup {
    BubblewrapSetup {
        program: "bwrap".into(),
        usr: "/usr".into(),
        require_cgroups: true,
        state_dir: STATE.path().to_owned(),
    }
}

/// The engine.
pub(crate) fn engine() -> &'static Engine {
    &ENGINE
}

/// Docker as a gateway sets it up.
pub(crate) fn docker_setup() -> DockerSetup {
    let state_dir = STATE.path().join("docker");
    std::fs::create_dir_all(&state_dir).unwrap();
    DockerSetup { socket: ENGINE.socket(), image: IMAGE.to_owned(), runtime: None, state_dir }
}

/// Runs an attack on containers.
pub(crate) fn on_docker<F: Future<Output = ()>>(attack: impl FnOnce(Place) -> F) {
    let place = Place::new(&*DOCKER);
    RUNTIME.block_on(attack(place));
}

/// Runs an attack on bubblewrap.
pub(crate) fn on_bubblewrap<F: Future<Output = ()>>(attack: impl FnOnce(Place) -> F) {
    let place = Place::new(&*BUBBLEWRAP);
    RUNTIME.block_on(attack(place));
}

/// Runs something on the backends' runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

/// One tenant's workspace, on a backend.
pub(crate) struct Place {
    pub(crate) backend: &'static dyn Backend,
    /// The workspace is `files` in it.
    dir: TempDir,
    pub(crate) owner: HostUid,
    number: u32,
}

impl Place {
    pub(crate) fn new(backend: &'static dyn Backend) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::tempdir().expect("a writable temp dir");
        // As a gateway's own directories are: no tenant's user can go through them.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::create_dir(dir.path().join("files")).unwrap();
        let place = Self { backend, dir, owner: HostUid::new(300_000 + number).unwrap(), number };
        place.put("attack", &ATTACK);
        place
    }

    /// Another tenant, on the same backend.
    pub(crate) fn neighbour(&self) -> Self {
        Self::new(self.backend)
    }

    /// The workspace, seen from the host.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("files").join(below)
    }

    pub(crate) fn workspace(&self) -> Workspace {
        Workspace::new(Root::open(&self.path("")).unwrap(), self.owner).unwrap()
    }

    /// Puts a program there.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let workspace = self.workspace();
        let path = TreePath::parse(name.as_bytes()).unwrap();
        workspace.files().tree_make_file(&path, true).unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn job(&self, command: &[&str]) -> Job {
        let run = NEXT.fetch_add(1, Ordering::Relaxed);
        Job {
            id: RunId::parse(&format!("test-{}-{}-{run}", std::process::id(), self.number)).unwrap(),
            command: command.iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: None,
            stdio: Stdio::Piped(Vec::new()),
            limits: Limits { wall: Duration::from_secs(30), ..Limits::default() },
            workspace: self.workspace(),
            egress: None,
        }
    }

    pub(crate) async fn run(&self, command: &[&str]) -> Outcome {
        self.run_job(self.job(command)).await
    }

    pub(crate) async fn run_job(&self, job: Job) -> Outcome {
        self.backend.run(job, None).await.expect("a run that is proved")
    }

    /// Runs `command` within other limits.
    pub(crate) async fn limited(&self, command: &[&str], change: impl FnOnce(&mut Limits)) -> Outcome {
        let mut job = self.job(command);
        change(&mut job.limits);
        self.run_job(job).await
    }

    pub(crate) async fn shell(&self, script: &str) -> Outcome {
        self.run(&["sh", "-c", script]).await
    }

    /// What an attack printed.
    pub(crate) async fn attack(&self, words: &[&str]) -> String {
        let command: Vec<&str> = ["./attack"].iter().chain(words).copied().collect();
        let outcome = self.run(&command).await;
        assert_eq!(outcome.exit_code, 0, "{words:?}: {outcome:?}");
        text(&outcome)
    }

    /// What many attacks print, one after the other in one run.
    pub(crate) async fn attacks(&self, all: &[Vec<String>]) -> Vec<String> {
        let line = |words: &Vec<String>| format!("./attack {} || echo killed\n", words.join(" "));
        let outcome = self.shell(&all.iter().map(line).collect::<String>()).await;
        let printed: Vec<String> = text(&outcome).lines().map(str::to_owned).collect();
        assert_eq!(printed.len(), all.len(), "{outcome:?}");
        printed
    }

    /// The user inside, by its number: the tenant's own in a container, which has no map of users.
    pub(crate) fn inner_user(&self) -> String {
        if self.backend.name() == "docker" { self.owner.get().to_string() } else { "1000".to_owned() }
    }

    /// What the same attack prints outside, as this process's user.
    pub(crate) fn outside(&self, words: &[&str]) -> String {
        let output = Command::new(self.path("attack")).args(words).current_dir(self.path("")).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// What a run wrote to standard output.
pub(crate) fn text(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.stdout.bytes()).trim().to_owned()
}

/// What a run wrote to standard error.
pub(crate) fn complaint(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.stderr.bytes()).trim().to_owned()
}

/// Waits until something holds; a minute is for ever.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} never came to hold");
        std::thread::yield_now();
    }
}

/// How many processes of the host have this text in their command lines.
pub(crate) fn processes_with(text: &str) -> usize {
    let lines = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        std::fs::read(entry.path().join("cmdline")).ok()
    });
    lines.filter(|line| line.windows(text.len()).any(|part| part == text.as_bytes())).count()
}

fn build() -> Vec<u8> {
    let out = STATE.path().join("attack");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/escape/attack.c");
    let built = Command::new("cc").args(["-static", "-O1", "-o"]).arg(&out).arg(source).output();
    let built = built.expect("the attacks need a C compiler, as cc");
    assert!(
        built.status.success(),
        "the attacks need the static C library: {}",
        String::from_utf8_lossy(&built.stderr)
    );
    std::fs::read(out).unwrap()
}
