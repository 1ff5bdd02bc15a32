//! [`Home`]: a backend whose connections belong to the runtime that it was started in, for callers of every runtime.

use async_trait::async_trait;
use openclawmu_sandbox::{Backend, Chunk, Job, Outcome, SandboxError};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A backend, and where it is at home.
pub(super) struct Home<B> {
    backend: Arc<B>,
    runtime: Handle,
}

impl<B> Home<B> {
    /// At home here. Must be called within the runtime that the backend was started in.
    pub(super) fn of(backend: B) -> Self {
        Self { backend: Arc::new(backend), runtime: Handle::current() }
    }
}

#[async_trait]
impl<B: Backend + 'static> Backend for Home<B> {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    async fn run(&self, job: Job, output: Option<mpsc::Sender<Chunk>>) -> Result<Outcome, SandboxError> {
        let backend = Arc::clone(&self.backend);
        // Dropped with this future, which ends the run.
        let mut running = JoinSet::new();
        running.spawn_on(async move { backend.run(job, output).await }, &self.runtime);
        match running.join_next().await {
            Some(Ok(ended)) => ended,
            Some(Err(err)) => Err(SandboxError::Io(err.into())),
            None => Err(SandboxError::Engine("the run was lost".to_owned())),
        }
    }
}
