//! A state change: prepared by a noun's function, done when it is awaited, at most once where a key says so.
//!
//! A change is checked, made and put on record in one transaction on the writer's thread, so that two callers never see
//! each other half done. It must never hold the [`Store`] itself: a store whose last owner were its own queue would wait
//! for itself to end.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use rusqlite::Transaction;

use crate::clock::UnixMs;
use crate::error::Result;
use crate::idempotency::{self, Answered, Idempotency};
use crate::store::Store;

/// What a change does, inside the transaction, at the moment it runs.
pub(crate) type Task<T> = Box<dyn FnOnce(&Transaction<'_>, UnixMs) -> Result<T> + Send>;

/// What follows a change, on the writer's thread.
type OnCommit = Box<dyn FnOnce() + Send>;

/// A change that has not happened yet. Await it to make it; a future that is dropped midway may still have made it.
#[must_use = "a change happens when it is awaited"]
pub struct Change<T> {
    store: Store,
    task: Task<T>,
    on_commit: OnCommit,
    after: fn(&Store),
    /// Nothing of which a copy is kept in memory is changed.
    aside: bool,
}

impl<T> fmt::Debug for Change<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change").finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Change<T> {
    pub(crate) fn new(
        store: &Store,
        task: impl FnOnce(&Transaction<'_>, UnixMs) -> Result<T> + Send + 'static,
    ) -> Self {
        Self { store: store.clone(), task: Box::new(task), on_commit: Box::new(|| {}), after: |_| {}, aside: false }
    }

    /// Changes nothing of which a copy is kept in memory: whoever was let in is not looked up anew because of it.
    pub(crate) fn aside(self) -> Self {
        Self { aside: true, ..self }
    }

    /// Runs `after` once the change is durable. What it does must also come about without it, if later.
    pub(crate) fn then(mut self, after: fn(&Store)) -> Self {
        self.after = after;
        self
    }

    /// The same change with its outcome turned into another; `turn` runs inside the transaction, so it must be quick.
    pub fn map<U>(self, turn: impl FnOnce(T) -> U + Send + 'static) -> Change<U> {
        let Self { store, task, on_commit, after, aside } = self;
        Change { store, task: Box::new(move |tx, now| task(tx, now).map(turn)), on_commit, after, aside }
    }

    /// Runs `on_commit` exactly once when the change is durable, even where nobody waits for it any more; never for an answer
    /// that was kept. For what is in memory and would be read from the disk again after a start.
    pub fn on_commit(mut self, on_commit: impl FnOnce() + Send + 'static) -> Self {
        self.on_commit = Box::new(on_commit);
        self
    }

    /// Makes the change unless `key` has made it already; then gives the answer that was kept.
    ///
    /// # Errors
    /// Those of the change, and [`crate::StoreError::KeyReused`] when the key came with another request.
    pub async fn once(self, key: Option<Idempotency<T>>) -> Result<Answered<T>> {
        let Self { store, task, on_commit, after, aside } = self;
        let clock = Arc::clone(store.clock());
        let once = move |tx: &Transaction<'_>| idempotency::once(tx, clock.now(), key, task);
        let follow = move |answered: &Answered<T>| match answered {
            Answered::Now(_) => on_commit(),
            Answered::Before(_) => {}
        };
        let answered = store.inner.writer().change(once, follow, !aside).await?;
        after(&store);
        Ok(answered)
    }

    /// Makes the change from outside an async runtime.
    ///
    /// # Errors
    /// Those of the change.
    pub fn wait(self) -> Result<T> {
        let Self { store, task, on_commit, after, aside } = self;
        let clock = Arc::clone(store.clock());
        let run = move |tx: &Transaction<'_>| task(tx, clock.now());
        let done = store.inner.writer().change_blocking(run, |_| on_commit(), !aside)?;
        after(&store);
        Ok(done)
    }
}

impl<T: Send + 'static> IntoFuture for Change<T> {
    type Output = Result<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { store, task, on_commit, after, aside } = self;
        Box::pin(async move {
            let clock = Arc::clone(store.clock());
            let run = move |tx: &Transaction<'_>| task(tx, clock.now());
            let done = store.inner.writer().change(run, |_| on_commit(), !aside).await?;
            after(&store);
            Ok(done)
        })
    }
}
