//! [`Terminals`]: all sessions of one gateway.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::{Closed, Order, Reason, Session, Settings, Summary, TerminalError, Viewer, shell};

/// All sessions of one gateway.
#[derive(Debug)]
pub struct Terminals {
    settings: Settings,
    /// Where sessions live; whoever looks at them may live elsewhere.
    runtime: Handle,
    tasks: TaskTracker,
    all: All,
    closing: AtomicBool,
}

type All = Arc<Mutex<HashMap<String, Arc<Session>>>>;

/// A session's place among all. When it is dropped the session is over, whatever became of its task.
#[derive(Debug)]
pub(crate) struct Listed {
    all: All,
    session: Arc<Session>,
}

impl Terminals {
    /// None yet. Sessions live on `runtime`, which must be there as long as they are.
    #[must_use]
    pub fn new(mut settings: Settings, runtime: Handle) -> Self {
        // What a driver has not acknowledged is always there still.
        settings.window_bytes = settings.window_bytes.min(settings.ring_bytes / 2);
        Self { settings, runtime, tasks: TaskTracker::new(), all: All::default(), closing: AtomicBool::new(false) }
    }

    /// Opens a session, and waits until its shell runs. Nobody is attached to it yet. Dropping what this gives ends it.
    ///
    /// # Errors
    /// [`TerminalError`]; nothing of it is left then, no recording either.
    pub async fn open(&self, order: Order) -> Result<Arc<Session>, TerminalError> {
        if !order.backend.has_terminals() {
            return Err(TerminalError::NoTerminals(order.backend.name()));
        }
        let session = Arc::new(Session::new(&order, &self.settings));
        let listed = self.list_in(&session)?;
        let (answer, answered) = oneshot::channel();
        self.tasks.spawn_on(shell::run(order, listed, answer), &self.runtime);
        match answered.await {
            Ok(Ok(())) => Ok(session),
            Ok(Err(err)) => Err(err),
            Err(_) => Err(TerminalError::Over(Reason::Failed)),
        }
    }

    /// The session of this id, if its shell runs.
    #[must_use]
    pub fn session(&self, id: &str) -> Option<Arc<Session>> {
        self.all().get(id).filter(|session| session.has_opened()).cloned()
    }

    /// What is known of each, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Summary> {
        let mut all: Vec<Summary> = self.those(Session::has_opened).iter().map(|session| session.summary()).collect();
        all.sort_by(|a, b| (a.opened_at_ms, &a.id).cmp(&(b.opened_at_ms, &b.id)));
        all
    }

    /// Ends one; whether it was there. [`Session::gone`] waits until it is not.
    pub fn end(&self, id: &str, reason: Reason) -> bool {
        let found = self.all().get(id).cloned();
        found.inspect(|session| session.end(reason)).is_some()
    }

    /// Ends those of a tenant, also those that are about to open; how many.
    pub fn end_tenant(&self, tenant: &str, reason: Reason) -> usize {
        self.end_where(|session| session.tenant() == tenant, reason)
    }

    /// Ends those whom this holds for, also those that are about to open; how many.
    pub fn end_where(&self, which: impl Fn(&Session) -> bool, reason: Reason) -> usize {
        let those = self.those(which);
        those.iter().for_each(|session| session.end(reason));
        those.len()
    }

    /// Ends the part of viewers in all sessions, such as those whose token was revoked; the sessions go on.
    pub fn dismiss_where(&self, which: impl Fn(&Viewer) -> bool, reason: Reason) {
        for session in self.those(|_| true) {
            session.dismiss_where(&which, reason);
        }
    }

    /// Opens no more, ends all, and waits until nothing of them is left.
    pub async fn shut_down(&self) {
        self.closing.store(true, Ordering::Release);
        self.end_where(|_| true, Reason::Shutdown);
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Gives it a place, if there is one.
    fn list_in(&self, session: &Arc<Session>) -> Result<Listed, TerminalError> {
        let mut all = self.all();
        // Under the lock: a shutdown sees it listed, or it sees the shutdown.
        if self.closing.load(Ordering::Acquire) {
            return Err(TerminalError::Over(Reason::Shutdown));
        }
        if all.contains_key(session.id()) {
            return Err(TerminalError::Taken);
        }
        let limit = self.settings.sessions_per_tenant;
        if all.values().filter(|other| other.tenant() == session.tenant()).count() >= limit {
            return Err(TerminalError::TooMany { limit });
        }
        all.insert(session.id().to_owned(), Arc::clone(session));
        Ok(Listed { all: Arc::clone(&self.all), session: Arc::clone(session) })
    }

    fn those(&self, which: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        self.all().values().filter(|session| which(session)).cloned().collect()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// It is over, and known no longer.
    pub(crate) fn close(self, closed: Closed) {
        self.remove();
        self.session.close(closed);
    }

    fn remove(&self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(self.session.id());
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.remove();
        // Where it was closed, this is not heard.
        self.session.close(Closed {
            reason: Reason::Failed,
            exit: None,
            recording: self.session.recording().to_owned(),
            sha256: None,
            recording_bytes: 0,
        });
    }
}
