//! The real `openclawmu` process on a temporary data directory: start, kill, restart, and a drop that asserts that nothing was left undone.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::admin::{Admin, budget_of};
use crate::client::Client;
use crate::disk::SmallDisk;
use crate::raw;
use crate::setup::Setup;

/// The longest that a start may take: a debug binary beside a full test run.
pub(crate) const START: Duration = Duration::from_secs(30);

/// Where the ports of [`free_address`] begin: above those that services of the machine use.
const FIRST_PORT: u32 = 10_000;

/// Path of the `openclawmu` binary under test; panics with what to do when there is none.
#[must_use]
pub fn binary() -> PathBuf {
    let this = std::env::current_exe().expect("the test's own path");
    let profile = this.parent().and_then(Path::parent).expect("tests run from target/<profile>/deps");
    let path = profile.join("openclawmu");
    assert!(
        path.exists(),
        "{} is missing: run `cargo build -p openclawmu-proxy` (or `make test`) first",
        path.display()
    );
    path
}

/// A port of 127.0.0.1 on which nobody listens, and which this process gives out once.
///
/// It lies below those that the kernel hands to clients and to servers that ask for any: a test beside this one
/// would take such a port before the gateway binds it, and its own gateway would answer in this one's place.
#[must_use]
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let given = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("the kernel's range");
    let end = given.split_whitespace().next().and_then(|low| low.parse::<u32>().ok()).expect("a range of ports");
    assert!(end >= FIRST_PORT + 2000, "net.ipv4.ip_local_port_range begins at {end}, which leaves tests no port");
    loop {
        // Test processes that run at the same time begin far from one another.
        let at = std::process::id().wrapping_mul(7919).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST_PORT + at % (end - FIRST_PORT)).expect("a port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// One gateway process and its directory.
pub struct Gateway {
    child: Option<Child>,
    disk: Option<SmallDisk>,
    dir: TempDir,
    config: PathBuf,
    env: Vec<(String, String)>,
    edge: SocketAddr,
    admin: SocketAddr,
    key: String,
    tls: bool,
    idle_at_end: bool,
}

impl Gateway {
    /// Starts a gateway in a new directory and waits until both listeners are ready.
    pub async fn start(setup: Setup) -> Self {
        let mut gateway = Self::ready_to_start(&setup);
        gateway.launch_on_new_ports().await;
        gateway
    }

    /// The same on a data directory that is there already; it moves to the gateway's own place.
    pub async fn start_on(setup: Setup, data: &Path) -> Self {
        let mut gateway = Self::ready_to_start(&setup);
        std::fs::rename(data, gateway.data()).expect("the same file system");
        gateway.launch_on_new_ports().await;
        gateway
    }

    fn ready_to_start(setup: &Setup) -> Self {
        let dir = TempDir::new().expect("a temp dir");
        let config = setup.write(dir.path());
        let mut env = setup.env.clone();
        if let Some(clock) = &setup.clock {
            env.extend(clock.env());
        }
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            child: None,
            disk: setup.disk.as_deref().map(|size| SmallDisk::mount(&dir.path().join("data"), size)),
            dir,
            config,
            env,
            edge: nowhere,
            admin: nowhere,
            key: String::new(),
            tls: setup.tls,
            idle_at_end: true,
        }
    }

    async fn launch_on_new_ports(&mut self) {
        for _ in 0..10 {
            (self.edge, self.admin) = (free_address(), free_address());
            if self.launch().await {
                return;
            }
        }
        panic!("ten pairs of free ports were taken before the gateway could bind them");
    }

    /// Starts the process; false when another process took one of the ports.
    async fn launch(&mut self) -> bool {
        let log = |name: &str| {
            File::options().create(true).append(true).open(self.dir.path().join(name)).expect("a log file")
        };
        let already = self.stderr().len();
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(log("stdout.log"))
            .stderr(log("stderr.log"))
            .spawn()
            .expect("the binary runs");
        self.child = Some(child);
        let end = Instant::now() + START;
        loop {
            // The port is tried again for a while, and meanwhile whoever has it would answer.
            if self.stderr()[already..].contains("is in use, will try again") {
                self.kill_9();
                return false;
            }
            if self.ready() {
                self.key = std::fs::read_to_string(self.data().join("admin.key"))
                    .map(|key| key.trim().to_owned())
                    .unwrap_or_default();
                return true;
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().expect("a child's state")) {
                self.child = None;
                if self.stderr()[already..].contains("in use") {
                    return false;
                }
                self.print_logs();
                panic!("the gateway ended while starting: {status}");
            }
            if Instant::now() > end {
                self.print_logs();
                panic!("the gateway was not ready within {START:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn ready(&self) -> bool {
        let ready = |address| raw::blocking_get(address, "/readyz", "").is_some_and(|(status, _)| status == 200);
        // Over TLS the edge's own word needs a client of that; that it listens has to do.
        let edge = if self.tls { TcpStream::connect(self.edge).is_ok() } else { ready(self.edge) };
        edge && ready(self.admin)
    }

    /// The `serve` command of this gateway, to be spawned again or varied.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command_at(self.edge, self.admin)
    }

    /// The `serve` command of this gateway's config and data directory on other listeners.
    #[must_use]
    pub fn command_at(&self, edge: SocketAddr, admin: SocketAddr) -> Command {
        let mut command = Command::new(binary());
        for key in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENCLAWMU_ADMIN_KEY", "RUST_LOG"] {
            command.env_remove(key);
        }
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command
            .current_dir(self.dir.path())
            .arg("serve")
            .arg("--config")
            .arg(&self.config)
            .arg("--data")
            .arg(self.data());
        command.arg("--edge").arg(edge.to_string()).arg("--admin").arg(admin.to_string());
        command
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The file system of the data directory; panics when it has none of its own.
    #[must_use]
    pub fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("the set-up asks for one")
    }

    /// Starts the next process without this environment variable.
    pub fn forget_env(&mut self, name: &str) {
        self.env.retain(|(known, _)| known != name);
    }

    /// The directory around the data directory: config, rates, logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The config file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The tenants' listener.
    #[must_use]
    pub fn edge(&self) -> SocketAddr {
        self.edge
    }

    /// The operator's listener.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The admin key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The operator's client.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.admin, &self.key)
    }

    /// A tenant's client.
    #[must_use]
    pub fn client(&self, token: &str) -> Client {
        Client::new(self.edge, token)
    }

    /// The process id; panics when it isn't running.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the gateway runs").id()
    }

    /// Resident memory of the process in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a live process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a size in kB")
    }

    /// What it wrote to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read_lossy(&self.dir.path().join("stderr.log"))
    }

    /// What it wrote to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read_lossy(&self.dir.path().join("stdout.log"))
    }

    /// The drop won't ask whether everything is settled: the test leaves requests in flight on purpose.
    pub fn leave_unsettled(&mut self) {
        self.idle_at_end = false;
    }

    /// SIGKILL, and waits for the end.
    pub fn kill_9(&mut self) {
        let mut child = self.child.take().expect("the gateway runs");
        child.kill().expect("a signal");
        child.wait().expect("its end");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a signal");
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the gateway runs");
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = child.try_wait().expect("a child's state") {
                return status;
            }
            if Instant::now() > end {
                child.kill().expect("a signal");
                child.wait().expect("its end");
                self.print_logs();
                panic!("the gateway did not end within 60 s");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts again on the same data directory and, if they are still free, the same ports.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "end it before it is started again");
        if !self.launch().await {
            self.launch_on_new_ports().await;
        }
    }

    /// Takes over a child that serves this data directory: the new binary of a hand-over.
    pub fn adopt(&mut self, child: Child) {
        assert!(self.child.is_none(), "one process at a time");
        self.child = Some(child);
    }

    /// Environment variables of the process.
    #[must_use]
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    fn print_logs(&self) {
        for (name, text) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
            let from = text.char_indices().rev().nth(20_000).map_or(0, |(at, _)| at);
            eprintln!("---- gateway {name} ----\n{}", &text[from..]);
        }
    }

    /// Why the gateway isn't idle, if it isn't.
    fn unsettled(&self) -> Option<String> {
        let (status, text) = raw::blocking_get(self.admin, "/v1/tenants?limit=100", &self.key)?;
        let listed: serde_json::Value = serde_json::from_str(&text).ok()?;
        let tenants = listed.as_object()?.values().find_map(|value| value.as_array())?;
        assert_eq!(status, 200, "{text}");
        for id in tenants.iter().filter_map(|tenant| tenant["id"].as_str()) {
            let (status, text) = raw::blocking_get(self.admin, &format!("/v1/tenants/{id}/quota"), &self.key)?;
            if status != 200 {
                continue;
            }
            let budget = budget_of(&serde_json::from_str(&text).ok()?, "usd_per_day");
            if budget.pending != 0 {
                return Some(format!("tenant {id} still has {} nano-dollars pending", budget.pending));
            }
        }
        None
    }
}

fn read_lossy(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let mut complaint = None;
        if !failed && self.child.is_some() && self.idle_at_end {
            let end = Instant::now() + Duration::from_secs(10);
            complaint = self.unsettled();
            while complaint.is_some() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
                complaint = self.unsettled();
            }
        }
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _status = child.wait();
        }
        let log = self.stderr() + &self.stdout();
        if complaint.is_none() && log.contains("panicked at") {
            complaint = Some("the gateway panicked".to_owned());
        }
        if failed || complaint.is_some() {
            self.print_logs();
        }
        if let Some(complaint) = complaint
            && !failed
        {
            panic!("left undone: {complaint}");
        }
    }
}
