//! What waits for the writer: rows, labels and alerts, which are never lost, and tasks and changes, which are written or refused.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Transaction;

use crate::audit::Desk;
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::label::NewLabel;
use crate::ledger::alert::Offer;
use crate::ledger::label_file::LabelFile;
use crate::ledger::row::LedgerRow;
use crate::sqlite::pace::{Pace, PaceTaken};

/// Why nothing is written while the database's file is not where it was.
pub(super) const GONE: &str = "the database was moved or removed";
/// How long settled rows gather before they are synced: with the sync behind it, a power loss takes no more than the last 50 ms.
pub(super) const GATHER: Duration = Duration::from_millis(40);

/// How long what speeds many rows is kept for the next ones.
const LINGER: Duration = Duration::from_secs(1);

/// Rows whose memory is kept for the next ones.
const KEPT_ROWS: usize = 1_024;

/// What to say to the caller of a task once the commit's fate is known.
pub(super) type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
pub(super) type Task = Box<dyn FnOnce(&Transaction<'_>) -> Reply + Send>;

/// A row to be written, and the in-flight slot that holds it until then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Posting {
    pub(crate) row: LedgerRow,
    pub(crate) slot: u32,
}

/// What there is to write.
#[derive(Default)]
pub(super) struct Work {
    pub(super) rows: Vec<Posting>,
    pub(super) labels: Vec<NewLabel>,
    pub(super) alerts: Vec<(UnixMs, Offer)>,
    pub(super) tasks: Vec<Task>,
    /// Tasks that may have to be put on record, and are undone where they can't be.
    pub(super) audited: Vec<Task>,
    /// One of them may change what somebody remembers.
    pub(super) changes: bool,
}

impl Work {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.labels.is_empty() && self.alerts.is_empty() && !self.is_awaited()
    }

    /// Rows and nothing else, which nobody waits for.
    pub(super) fn is_rows_alone(&self) -> bool {
        self.labels.is_empty() && self.alerts.is_empty() && !self.is_awaited()
    }

    /// Somebody waits for it.
    fn is_awaited(&self) -> bool {
        !self.tasks.is_empty() || !self.audited.is_empty()
    }

    /// Forgets rows that are committed, and the memory of many.
    pub(super) fn forget_rows(&mut self) {
        self.rows.clear();
        self.rows.shrink_to(KEPT_ROWS);
    }

    /// Takes what is written or refused at once; the rest stays.
    pub(super) fn take_tasks(&mut self) -> Tasks {
        Tasks { plain: std::mem::take(&mut self.tasks), audited: std::mem::take(&mut self.audited) }
    }

    /// Adds all of `later`, which keeps its memory and nothing else.
    fn append(&mut self, later: &mut Self) {
        self.rows.append(&mut later.rows);
        self.labels.append(&mut later.labels);
        self.alerts.append(&mut later.alerts);
        self.tasks.append(&mut later.tasks);
        self.audited.append(&mut later.audited);
        self.changes |= std::mem::take(&mut later.changes);
    }
}

/// Tasks of a batch.
pub(super) struct Tasks {
    pub(super) plain: Vec<Task>,
    pub(super) audited: Vec<Task>,
}

impl Tasks {
    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.audited.is_empty()
    }
}

/// How long to wait for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until there is some.
    Endless,
    /// Until there is some, or there was none for [`LINGER`].
    Short,
    /// As long as rows gather: there is some already.
    Gathering,
    /// Not at all.
    None,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) work: Work,
    pub(super) label_file: LabelFile,
    pub(super) closing: bool,
    idle: bool,
}

/// What the writer's handle and its thread have in common.
#[derive(Default)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    pub(super) failing: AtomicBool,
    /// The database's file is not where it was: what is written would be lost with this process.
    pub(super) gone: AtomicBool,
    /// The log is being copied to its end: rows that can wait are put off.
    pub(super) held: AtomicBool,
    /// Locked during a commit.
    pub(super) commit: Mutex<()>,
    /// A successor reads what this process writes: nothing is put off any more.
    pub(super) handing_over: AtomicBool,
    pub(super) generation: AtomicU64,
    pub(super) pace: Pace,
    /// Rows that the thread has taken and not committed.
    pub(super) taken: AtomicUsize,
    pub(super) desk: Desk,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues what can wait for others: the thread is woken only where it sleeps without an end.
    pub(super) fn post(&self, add: impl FnOnce(&mut Queue)) {
        let mut queue = self.lock();
        add(&mut queue);
        if std::mem::take(&mut queue.idle) {
            drop(queue);
            self.wake.notify_one();
        }
    }

    /// Queues a task, which somebody waits for.
    pub(super) fn push_task(&self, task: Task, changes: bool) -> Result<()> {
        self.push(changes, |work| work.tasks.push(task))
    }

    /// Queues a change, which somebody waits for and which goes on record.
    pub(super) fn push_audited(&self, task: Task, changes: bool) -> Result<()> {
        self.push(changes, |work| work.audited.push(task))
    }

    fn push(&self, changes: bool, add: impl FnOnce(&mut Work)) -> Result<()> {
        if self.gone.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable(GONE.to_owned()));
        }
        let mut queue = self.lock();
        if queue.closing {
            return Err(StoreError::Unavailable("the store is closing".to_owned()));
        }
        add(&mut queue.work);
        queue.work.changes |= changes;
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    /// How fast the thread is, and what waits for it.
    pub(super) fn pace(&self) -> PaceTaken {
        let queued = {
            let work = &self.lock().work;
            work.rows.len() + work.labels.len() + work.alerts.len() + work.tasks.len() + work.audited.len()
        };
        self.pace.taken(queued + self.taken.load(Ordering::Relaxed))
    }

    /// Whether rows may be put off.
    pub(super) fn may_put_off(&self) -> bool {
        let never = [&self.failing, &self.gone, &self.handing_over];
        never.into_iter().all(|reason| !reason.load(Ordering::Acquire))
    }

    /// Lets the thread write what is queued and end.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// Clears the file of labels, unless more of them have come since.
    pub(super) fn labels_are_stored(&self) {
        let mut queue = self.lock();
        if queue.work.labels.is_empty() {
            queue.label_file.clear();
        }
    }

    /// Takes the rows that have gathered; none where all there is will be taken at once.
    pub(super) fn take_rows(&self) -> Vec<Posting> {
        let mut queue = self.lock();
        if queue.work.is_awaited() || queue.closing { Vec::new() } else { std::mem::take(&mut queue.work.rows) }
    }

    /// Waits for work, lets rows gather unless a task waits, and takes all there is; true when the queue is closed. What is there
    /// already has come since `taken_at`, when the last of it was taken.
    pub(super) fn gather(&self, patience: Patience, taken_at: Instant, work: &mut Work) -> bool {
        let mut queue = self.lock();
        let mut deadline = taken_at + GATHER;
        let is_idle = |queue: &mut Queue| queue.work.is_empty() && !queue.closing;
        while matches!(patience, Patience::Endless | Patience::Short) && is_idle(&mut queue) {
            queue.idle = true;
            queue = if patience == Patience::Short {
                let waited = self.wake.wait_timeout_while(queue, LINGER, is_idle);
                let (mut queue, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                if waited.timed_out() {
                    queue.idle = false;
                    return queue.closing;
                }
                queue
            } else {
                self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner)
            };
            deadline = Instant::now() + GATHER;
        }
        queue.idle = false;
        while patience != Patience::None && !queue.work.is_awaited() && !queue.closing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        work.append(&mut queue.work);
        queue.closing
    }
}
