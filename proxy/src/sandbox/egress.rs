//! What a run's connections come to: each decision is in the log at once, and in the audit log soon after.
//!
//! What a run may reach is put on record before it begins, and it does not begin where that fails. Decisions follow; however
//! often a run tries, it makes few lines: the first of a kind is told at once, the rest with their number when the run ends.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use openclawmu_sandbox::egress::{Caps, Decision, Egress, Event, Grant, Observer, Policy, Resolve, Seams, System};
use openclawmu_sandbox::{HostUid, RunId, SandboxError};
use openclawmu_store::{Actor, AuditNote, AuditOutcome, Clock, Store, TenantId, UnixMs};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// How many kinds of decisions of one run are told apart.
const MAX_KINDS: usize = 256;
/// Lines that are written at once.
const BATCH: usize = 500;
/// Pause before lines that could not be written are tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// A line to be written.
type Line = (UnixMs, Actor, AuditNote);

/// Lines on their way to the audit log.
pub(crate) struct Lines {
    sender: mpsc::UnboundedSender<Line>,
    inbox: tokio::sync::Mutex<mpsc::UnboundedReceiver<Line>>,
}

impl Default for Lines {
    fn default() -> Self {
        let (sender, inbox) = mpsc::unbounded_channel();
        Self { sender, inbox: tokio::sync::Mutex::new(inbox) }
    }
}

impl Lines {
    /// Writes what comes until `stop` resolves, and then what is left.
    pub(crate) async fn write(&self, store: &Store, stop: impl Future<Output = ()>) {
        let mut inbox = self.inbox.lock().await;
        let mut stop = std::pin::pin!(stop);
        let mut lines = Vec::new();
        loop {
            let ended = tokio::select! {
                () = &mut stop => true,
                _ = inbox.recv_many(&mut lines, BATCH) => false,
            };
            if ended {
                while let Ok(line) = inbox.try_recv() {
                    lines.push(line);
                }
            }
            while !lines.is_empty() {
                match store.audit_all(lines.clone()).await {
                    Ok(()) => lines.clear(),
                    Err(err) if ended => {
                        let count = lines.len();
                        tracing::error!(%err, count, "decisions about connections are not in the audit log");
                        return;
                    }
                    Err(err) => {
                        tracing::debug!(%err, "the audit log is tried again");
                        tokio::select! {
                            () = &mut stop => {}
                            () = tokio::time::sleep(AGAIN) => {}
                        }
                    }
                }
            }
            if ended {
                return;
            }
        }
    }
}

/// Whose connections, of which run, on whose word.
#[derive(Clone)]
pub(super) struct Of {
    pub(super) tenant: TenantId,
    pub(super) actor: Actor,
    pub(super) run: String,
}

impl Of {
    /// The line that stands before a run.
    pub(super) fn granted(&self, policy: &Policy) -> AuditNote {
        let allow: Vec<String> = policy.allowed().map(ToString::to_string).collect();
        self.note("sandbox.network", AuditOutcome::Ok, json!({ "allow": allow }))
    }

    fn note(&self, action: &'static str, outcome: AuditOutcome, detail: Value) -> AuditNote {
        AuditNote { action, tenant: Some(self.tenant.clone()), target: Some(self.run.clone()), outcome, detail }
    }
}

/// A kind of decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    host: String,
    port: u16,
    /// Where it led to, or why it led nowhere.
    decided: Result<IpAddr, &'static str>,
}

/// Told of each decision of one run.
struct Told {
    of: Of,
    clock: Arc<dyn Clock>,
    sender: mpsc::UnboundedSender<Line>,
    /// How often each was decided since it was told.
    kinds: Mutex<HashMap<Kind, u64>>,
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, u64>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, kind: &Kind, count: u64) {
        let (outcome, detail) = match &kind.decided {
            Ok(address) => {
                (AuditOutcome::Ok, json!({"host": kind.host, "port": kind.port, "address": address, "count": count}))
            }
            Err(reason) => {
                (AuditOutcome::Denied, json!({"host": kind.host, "port": kind.port, "reason": reason, "count": count}))
            }
        };
        let note = self.of.note("sandbox.connect", outcome, detail);
        // The inbox is there as long as the gateway is.
        let _gone = self.sender.send((self.clock.now(), self.of.actor.clone(), note));
    }
}

impl Observer for Told {
    fn observe(&self, event: &Event<'_>) {
        let (tenant, run, host, port) = (&self.of.tenant, &self.of.run, event.host, event.port);
        let decided = match event.decision {
            Decision::Allowed { address } => {
                tracing::info!(%tenant, run, host, port, %address, "a run's connection is allowed");
                Ok(address)
            }
            Decision::Denied(reason) => {
                tracing::info!(%tenant, run, host, port, reason = reason.as_str(), "a run's connection is refused");
                Err(reason.as_str())
            }
            Decision::Closed { sent_bytes, received_bytes, cut } => {
                let cut = cut.map(openclawmu_sandbox::egress::Reason::as_str);
                tracing::info!(%tenant, run, host, port, sent_bytes, received_bytes, cut, "a run's connection has ended");
                return;
            }
        };
        let kind = Kind { host: host.to_owned(), port, decided };
        let mut kinds = self.lock();
        let is_full = kinds.len() >= MAX_KINDS && !kinds.contains_key(&kind);
        let kind = if is_full { Kind { host: String::new(), port: 0, decided: Err("many_kinds") } } else { kind };
        match kinds.get_mut(&kind) {
            Some(count) => *count = count.saturating_add(1),
            None => {
                self.tell(&kind, 1);
                kinds.insert(kind, 0);
            }
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let rest = std::mem::take(&mut *self.lock());
        rest.iter().filter(|(_, count)| **count > 0).for_each(|(kind, count)| self.tell(kind, *count));
    }
}

/// Addresses as the operator wrote them, else as the system's resolver says.
struct Pinned(Arc<BTreeMap<String, Vec<IpAddr>>>);

#[async_trait]
impl Resolve for Pinned {
    async fn resolve(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        match self.0.get(host) {
            Some(addresses) => Ok(addresses.clone()),
            None => System.resolve(host).await,
        }
    }
}

/// Where the sockets of this process's runs are.
pub(super) struct Sockets {
    dir: PathBuf,
    hosts: Arc<BTreeMap<String, Vec<IpAddr>>>,
    pub(super) lines: Arc<Lines>,
}

impl Sockets {
    /// In `state_dir`; what a process left there that is no more is removed.
    pub(super) fn new(state_dir: &Path, hosts: &Arc<BTreeMap<String, Vec<IpAddr>>>) -> std::io::Result<Self> {
        for entry in std::fs::read_dir(state_dir)? {
            let entry = entry?;
            let owner = entry.file_name().to_str().and_then(|name| name.strip_prefix("egress-")?.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists() || pid == std::process::id()) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        let dir = state_dir.join(format!("egress-{}", std::process::id()));
        Ok(Self { dir, hosts: Arc::clone(hosts), lines: Arc::default() })
    }

    /// The way out of one run, open as long as what this gives.
    pub(super) fn open(
        &self,
        (of, number): (Of, u128),
        owner: HostUid,
        policy: Policy,
        clock: &Arc<dyn Clock>,
    ) -> Result<Egress, SandboxError> {
        std::fs::create_dir_all(&self.dir).map_err(SandboxError::Io)?;
        let told = Told { of, clock: Arc::clone(clock), sender: self.lines.sender.clone(), kinds: Mutex::default() };
        let seams = Seams { resolver: Arc::new(Pinned(Arc::clone(&self.hosts))), observer: Arc::new(told) };
        // A short name: a socket's path may have no more than some hundred bytes.
        let name = RunId::parse(&format!("{:x}", number & u128::from(u64::MAX)))?;
        let grant = Grant { policy, caps: Caps::default() };
        Egress::open(&self.dir, &name, owner, grant, seams).map_err(SandboxError::Io)
    }
}

#[cfg(test)]
mod tests {
    use openclawmu_sandbox::egress::Reason;
    use openclawmu_store::{ActorKind, ManualClock};

    use super::*;

    fn told(sender: mpsc::UnboundedSender<Line>) -> Told {
        let actor = Actor { kind: ActorKind::Tenant, id: "token".to_owned(), ip: None, request_id: None };
        let of = Of { tenant: "acme".parse().unwrap(), actor, run: "run_1".to_owned() };
        Told { of, clock: Arc::new(ManualClock::new(UnixMs(0))), sender, kinds: Mutex::default() }
    }

    fn lines(inbox: &mut mpsc::UnboundedReceiver<Line>) -> Vec<(AuditOutcome, Value)> {
        std::iter::from_fn(|| inbox.try_recv().ok()).map(|(_, _, note)| (note.outcome, note.detail)).collect()
    }

    #[test]
    fn the_first_of_a_kind_is_told_at_once_and_the_rest_with_their_number_at_the_end() {
        let (sender, mut inbox) = mpsc::unbounded_channel();
        let told = told(sender);
        let refused = Event { host: "a.test", port: 443, decision: Decision::Denied(Reason::NotListed) };
        (0..5).for_each(|_| told.observe(&refused));
        let first = lines(&mut inbox);
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].1, json!({"host": "a.test", "port": 443, "reason": "not_listed", "count": 1}));
        drop(told);
        let rest = lines(&mut inbox);
        assert_eq!((rest.len(), &rest[0].1["count"]), (1, &json!(4)));
    }

    #[test]
    fn however_many_hosts_a_run_tries_it_makes_few_lines() {
        let (sender, mut inbox) = mpsc::unbounded_channel();
        let told = told(sender);
        for number in 0..10_000 {
            let host = format!("h{number}.test");
            told.observe(&Event { host: &host, port: 443, decision: Decision::Denied(Reason::NotListed) });
        }
        drop(told);
        let all = lines(&mut inbox);
        assert_eq!(all.len(), MAX_KINDS + 2);
        assert_eq!(all.iter().map(|(_, detail)| detail["count"].as_u64().unwrap()).sum::<u64>(), 10_000);
    }
}
