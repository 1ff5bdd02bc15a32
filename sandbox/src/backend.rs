//! [`Backend`]: the seam between who wants code run and what runs it.

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{Chunk, Job, Outcome, SandboxError};

/// Something that runs a job in isolation: bubblewrap, or a container engine.
///
/// Dropping the future that [`run`](Self::run) gave kills what it ran.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Its name in answers and metrics.
    fn name(&self) -> &'static str;

    /// Whether it runs jobs at a [`Terminal`](crate::Terminal); where it does not, such a job is refused.
    fn has_terminals(&self) -> bool {
        false
    }

    /// Runs `job` and returns when everything of it is gone. While it runs, what it writes goes to `output` as well, if
    /// there is one; a reader that is slow slows the command down, one that has gone changes nothing.
    ///
    /// # Errors
    /// [`SandboxError::Job`] for a job that can't be run; whatever else means that nothing, or nothing proved, was run. How
    /// a command ends is never an error.
    async fn run(&self, job: Job, output: Option<mpsc::Sender<Chunk>>) -> Result<Outcome, SandboxError>;
}
