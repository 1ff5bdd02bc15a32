//! [`Desk`]: all terminals of this process, and where they live.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openclawmu_control::terminal::{TerminalRole, TerminalShown, TerminalViewers};
use openclawmu_store::{TenantId, UnixMs};
use openclawmu_terminal::{Event, Role, Settings, Summary, Terminals};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;

use super::grant::Grant;
use super::ticket::Tickets;
use crate::config::{BackendConfig, TerminalConfig};
use crate::context::{Active, Shared};
use crate::refusal::Refusal;

/// Threads that carry what terminals show: little each, and nothing that waits for the disk beside them.
const THREADS: usize = 2;

/// All terminals of this process.
pub(crate) struct Desk {
    pub(super) config: TerminalConfig,
    pub(super) tickets: Tickets<Grant>,
    pub(super) all: Terminals,
    /// Those that are open, and those that are about to be, by their names.
    known: Mutex<HashMap<String, Arc<Known>>>,
    events: Mutex<Option<mpsc::UnboundedReceiver<Event>>>,
    home: Home,
}

/// A terminal, as it was opened.
pub(super) struct Known {
    pub(super) grant: Grant,
    /// The process does not end before its last line is written.
    _active: Active,
}

/// Where they live: whoever looks at them comes from other runtimes, and goes.
struct Home(Option<Runtime>);

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // This may be within another runtime, which may not wait.
            runtime.shutdown_background();
        }
    }
}

impl Desk {
    /// None yet.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn new(config: TerminalConfig) -> std::io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(THREADS).thread_name("terminals").enable_all().build()?;
        let (sender, events) = mpsc::unbounded_channel();
        let settings = Settings {
            detached_life: config.detached,
            idle: config.idle,
            hard_limit: config.longest,
            sessions_per_tenant: config.sessions_per_tenant,
            recording_bytes: config.recording_bytes,
            ..Settings::new(sender)
        };
        let all = Terminals::new(settings, runtime.handle().clone());
        Ok(Self {
            config,
            tickets: Tickets::default(),
            all,
            known: Mutex::default(),
            events: Mutex::new(Some(events)),
            home: Home(Some(runtime)),
        })
    }

    /// Where terminals live.
    pub(super) fn runtime(&self) -> Option<&Handle> {
        self.home.0.as_ref().map(Runtime::handle)
    }

    /// What is told of terminals; to the first who asks.
    pub(super) fn events(&self) -> Option<mpsc::UnboundedReceiver<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether there are terminals here at all.
    ///
    /// # Errors
    /// 403 where the operator has none; 503 where nothing that has terminals runs code.
    pub(super) fn check_enabled(&self, shared: &Shared) -> Result<(), Refusal> {
        if !self.config.enabled {
            let message = "This gateway opens no terminals: [terminal] enabled = false.".to_owned();
            return Err(Refusal::Forbidden { code: "terminals_off", message });
        }
        self.backend(shared).map(|_| ())
    }

    /// Which of the configured backends has terminals.
    ///
    /// # Errors
    /// 503 where none has.
    pub(super) fn backend(&self, shared: &Shared) -> Result<usize, Refusal> {
        let backends = &shared.rooms.config.backends;
        let found = backends.iter().position(|backend| matches!(backend, BackendConfig::Bubblewrap(_)));
        found.ok_or_else(|| {
            let message =
                "Terminals are opened with bubblewrap alone, and this gateway does not run code by it.".to_owned();
            Refusal::Sandbox { code: "backend_has_no_terminals", message }
        })
    }

    /// Gives a terminal that is about to open its place.
    ///
    /// # Errors
    /// 429 where this process has as many as it may.
    pub(super) fn enter(&self, shared: &Arc<Shared>, grant: &Grant) -> Result<(), Refusal> {
        let mut known = self.known();
        if known.len() >= self.config.sessions {
            return Err(Refusal::Bad {
                status: 429,
                param: None,
                code: Some("terminal_sessions"),
                message: "This gateway has as many terminals open as it may. Please try again later.".to_owned(),
            });
        }
        known.insert(grant.session.clone(), Arc::new(Known { grant: grant.clone(), _active: Active::new(shared) }));
        Ok(())
    }

    /// A terminal is gone, or never opened.
    pub(super) fn leave(&self, session: &str) {
        let left = self.known().remove(session);
        drop(left);
        self.tickets.forget(session);
    }

    pub(super) fn of(&self, session: &str) -> Option<Arc<Known>> {
        self.known().get(session).cloned()
    }

    /// Whether this tenant has a terminal of this name that is open.
    pub(super) fn is_of(&self, session: &str, tenant: &TenantId) -> bool {
        self.all.session(session).is_some_and(|session| session.tenant() == tenant.as_str())
    }

    /// The one of this tenant's that was opened last.
    pub(super) fn newest_of(&self, tenant: &TenantId) -> Option<String> {
        self.all.list().into_iter().rev().find(|summary| summary.tenant == tenant.as_str()).map(|summary| summary.id)
    }

    /// Those that are open, oldest first.
    pub(super) fn shown(&self, tenant: Option<&TenantId>) -> Vec<TerminalShown> {
        self.all
            .list()
            .into_iter()
            .filter_map(shown)
            .filter(|shown| tenant.is_none_or(|id| shown.tenant == *id))
            .collect()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(summary: Summary) -> Option<TerminalShown> {
    let mut viewers = TerminalViewers::default();
    for viewer in &summary.viewers {
        let count = match viewer.role {
            Role::Driver => &mut viewers.drivers,
            Role::Observer => &mut viewers.observers,
            Role::Moderator => &mut viewers.moderators,
        };
        *count = count.saturating_add(1);
    }
    let recording = summary.recording.strip_suffix(".cast").unwrap_or(&summary.recording).to_owned();
    Some(TerminalShown {
        id: summary.id,
        tenant: summary.tenant.parse().ok()?,
        opened_by: summary.opened_by,
        opened_at: UnixMs(summary.opened_at_ms).rfc3339(),
        recording,
        viewers,
    })
}

/// The same role, in the terminal's own words.
pub(super) fn role(role: TerminalRole) -> Role {
    match role {
        TerminalRole::Driver => Role::Driver,
        TerminalRole::Observer => Role::Observer,
        TerminalRole::Moderator => Role::Moderator,
    }
}
