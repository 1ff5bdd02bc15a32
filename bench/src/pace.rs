//! When the scripted upstream says the next thing: at an even pace, or only when it is its turn and whom it speaks to waits.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::stages::parked::Thread;

/// What the upstream waits for before it speaks.
#[derive(Debug, Clone)]
pub(crate) enum Pace {
    /// So long before each event of a stream; for nothing before an answer.
    Even(Duration),
    /// For its turn, and for its reader to be idle: whoever is slow, each thing is then read by itself.
    Turns(Arc<Turns>),
}

/// Whose turn it is.
#[derive(Debug)]
pub(crate) struct Turns {
    permits: Semaphore,
    reader: OnceLock<Thread>,
}

impl Turns {
    /// Nobody's yet.
    pub(crate) fn new() -> Self {
        Self { permits: Semaphore::new(0), reader: OnceLock::new() }
    }

    /// Names the thread that reads what is said.
    pub(crate) fn reader(&self, thread: Thread) {
        // A second one is never named.
        let _first = self.reader.set(thread);
    }

    /// Lets the upstream say one more event.
    pub(crate) fn grant(&self) {
        self.permits.add_permits(1);
    }

    /// Takes back what was granted and not used.
    pub(crate) fn restart(&self) {
        self.permits.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn wait_for_reader(&self) {
        let waited = self.reader.get().map_or(Ok(()), Thread::wait);
        if let Err(fault) = waited {
            // Its client fails too, and tells.
            eprintln!("upstream: {fault:#}");
        }
    }
}

impl Pace {
    /// Before an answer begins.
    pub(crate) fn begin(&self) {
        match self {
            Self::Even(_) => {}
            Self::Turns(turns) => turns.wait_for_reader(),
        }
    }

    /// Before the event of a stream at `index`. The first goes out with the head.
    pub(crate) async fn turn(&self, index: usize) {
        match self {
            Self::Even(pause) => tokio::time::sleep(*pause).await,
            Self::Turns(_) if index == 0 => {}
            Self::Turns(turns) => {
                if let Ok(permit) = turns.permits.acquire().await {
                    permit.forget();
                }
                turns.wait_for_reader();
            }
        }
    }

    /// Whether what belongs to one turn goes out in one write.
    pub(crate) fn joins(&self) -> bool {
        matches!(self, Self::Turns(_))
    }
}
