//! Group sync of the in-flight table, for `durability = "power"`: one `fdatasync` serves everyone who was waiting.
//!
//! A sync that failed is the last one: the kernel may have dropped a slot whose own sync was still to come, and would report
//! success for that one. From then on every reservation is refused until a start makes a new table.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::error::{Result, StoreError};
use crate::ledger::inflight::InflightTable;

type Waiter = oneshot::Sender<Result<(), String>>;

/// The sync thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Syncer {
    waiters: Mutex<Sender<Waiter>>,
    failed: Arc<AtomicBool>,
}

impl Syncer {
    pub(crate) fn start(table: Arc<InflightTable>) -> Result<Self> {
        let (waiters, queue) = channel();
        let failed = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&failed);
        std::thread::Builder::new()
            .name("store-sync".to_owned())
            .spawn(move || run(&table, &queue, &theirs))
            .map_err(|err| StoreError::Unavailable(format!("can't start a thread: {err}")))?;
        Ok(Self { waiters: Mutex::new(waiters), failed })
    }

    /// Whether every sync so far succeeded.
    pub(crate) fn healthy(&self) -> bool {
        !self.failed.load(Ordering::Acquire)
    }

    /// Returns once a sync that began after this call has ended.
    pub(crate) async fn sync(&self) -> Result<()> {
        let (waiter, done) = oneshot::channel();
        let gone = || StoreError::Unavailable("the sync thread is gone".to_owned());
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner).send(waiter).map_err(|_| gone())?;
        done.await.map_err(|_| gone())?.map_err(StoreError::Unavailable)
    }
}

fn run(table: &InflightTable, queue: &Receiver<Waiter>, failed: &AtomicBool) {
    let mut synced = Ok(());
    while let Ok(first) = queue.recv() {
        let waiters: Vec<Waiter> = std::iter::once(first).chain(queue.try_iter()).collect();
        if synced.is_ok() {
            synced = table.sync().map_err(|err| format!("in-flight table: {err}"));
            if let Err(err) = &synced {
                failed.store(true, Ordering::Release);
                tracing::error!(%err, "the in-flight table could not be synced; paid requests are refused until a restart");
            }
        }
        for waiter in waiters {
            // A request that was cancelled meanwhile doesn't want the answer.
            drop(waiter.send(synced.clone()));
        }
    }
}
