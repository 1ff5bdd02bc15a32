//! Processes that a run starts, and that never outlive it: each is killed with its process group when its
//! guard is dropped, and by the kernel when this process dies in any other way.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getppid, kill_process, kill_process_group, waitid};

const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    limit: Duration,
    grace: Duration,
}

impl Process {
    /// Starts `command` under guard, its output in `<logs>/<name>.log`. To be called from the main thread:
    /// the kernel's guard watches the thread that started the child, not the process.
    pub(crate) fn start(name: &str, command: &Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut guarded = Command::new(std::env::current_exe()?);
        guarded.arg("guarded").arg(std::process::id().to_string());
        guarded.arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(variable, value),
                None => guarded.env_remove(variable),
            };
        }
        guarded.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A group of its own: ^C reaches the run alone, which then ends its children in order.
        let child = guarded.process_group(0).spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), child, log, limit: START_LIMIT, grace: Duration::ZERO })
    }

    /// The same, waited for that long at most wherever it is waited for.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The same, interrupted in the end, and killed only where it has not ended after that long: one that is built to write a
    /// profile of itself does so at its end.
    pub(crate) fn interrupted(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something listens at `address`; fails when the process ends first.
    pub(crate) fn wait_listening(&mut self, address: SocketAddr) -> Result<()> {
        self.wait_for("it to listen", || Ok(TcpStream::connect(address).is_ok()))
    }

    /// Polls until `condition` holds; fails when the process ends first or the time is up.
    pub(crate) fn wait_for(&mut self, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.fault(&format!("ended with {status}")));
            }
            if condition()? {
                return Ok(());
            }
            if started.elapsed() > self.limit {
                return Err(self.fault(&format!("in vain for {:?} we waited for {what}", self.limit)));
            }
            thread::sleep(POLL);
        }
    }

    /// An error about this process, with the end of what it printed.
    pub(crate) fn fault(&self, what: &str) -> anyhow::Error {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = log.get(log.len().saturating_sub(2_000)..).unwrap_or_default();
        anyhow!("{}: {what}; it printed:\n{}", self.name, String::from_utf8_lossy(tail))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(process) = group.filter(|_| !self.grace.is_zero()) {
            // An error says that it has ended already, as below.
            let _gone = kill_process(process, Signal::INT);
            let asked = Instant::now();
            // Looked at again and again, since no wait takes a limit on every system that this runs on; and not reaped before its
            // group is killed, since its number would be free.
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            while asked.elapsed() < self.grace && matches!(waitid(WaitId::Pid(process), look), Ok(None)) {
                thread::sleep(POLL);
            }
        }
        if let Some(group) = group {
            // An error says that the group is gone already, which is what is wanted.
            let _gone = kill_process_group(group, Signal::KILL);
        }
        let _reaped = self.child.wait();
    }
}

/// Becomes `program`, to be killed when `parent` dies. Returns only on failure.
pub(crate) fn become_guarded(parent: u32, program: &OsString, arguments: &[OsString]) -> Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    ensure!(now == Some(parent), "the parent died before it could be watched");
    let fault = Command::new(program).args(arguments).exec();
    bail!("cannot run {}: {fault}", program.display());
}

/// `N` loopback addresses that nothing listens on now. All are held until the last is found, so that they
/// differ.
pub(crate) fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    let listeners = (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<Vec<_>, _>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    addresses.try_into().map_err(|_| anyhow!("could not find {N} free ports"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_addresses_differ_and_can_be_bound() {
        let addresses = free_addresses::<4>().unwrap();
        let bound: Vec<_> = addresses.iter().map(|address| TcpListener::bind(address).unwrap()).collect();
        assert_eq!(bound.len(), 4);
    }
}
