//! The one thread that writes, with group commit.
//!
//! Settled rows are gathered for a few milliseconds and committed together: the request path pays a push onto a list,
//! and at most one wake-up per batch. While they come fast they are put off, synced elsewhere, and committed in larger batches
//! (`defer`). A task (a state change) is committed at once, together with whatever has gathered,
//! each inside a savepoint of its own. Every commit is synced to the disk before anything is acknowledged.
//! When a commit fails, rows are kept and tried again, tasks are refused, and [`Writer::healthy`] turns false until a
//! commit succeeds. What is tried again is written again, from the first byte, and after a failed sync to a new log (`wal`
//! says why): a sync is never tried again on what was written before it failed.
//! A change that goes on record has its line in the audit log before the commit (`audit::desk` says why). Where the log can't be
//! written the changes of the batch are undone and refused, and everything else in it is committed.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};
use tokio::sync::oneshot;

use crate::audit::Desk;
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::label::NewLabel;
use crate::ledger::alert::Offer;
use crate::ledger::journal::Journal;
use crate::ledger::label_file::LabelFile;
use crate::seldom::Seldom;
use crate::sqlite::commit::Pen;
use crate::sqlite::defer::Deferred;
use crate::sqlite::open;
use crate::sqlite::pace::PaceTaken;
use crate::sqlite::queue::{Patience, Shared, Task, Work};

pub(crate) use crate::sqlite::queue::Posting;

/// Pause before a failed commit is tried again.
const BACKOFF: Duration = Duration::from_millis(250);
/// Commits that failed.
static FAILED: Seldom = Seldom::new();

/// Called on the writer's thread with rows that are durable.
pub(crate) type OnPosted = Box<dyn Fn(&[Posting]) + Send>;

/// A handle to the writer thread; dropping it writes what is queued and ends the thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("healthy", &self.healthy()).finish_non_exhaustive()
    }
}

impl Writer {
    pub(crate) fn start(
        database: &Path,
        label_file: LabelFile,
        journals: [Journal; 2],
        on_posted: OnPosted,
    ) -> Result<Self> {
        let mut conn = open::writable(database)?;
        let shared = Arc::new(Shared::default());
        shared.lock().label_file = label_file;
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&mut conn, Deferred::to(journals), &theirs, &on_posted))
            .map_err(|err| StoreError::Unavailable(format!("can't start a thread: {err}")))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Counts the commits that changed more than the ledger. Moves on before such a change is acknowledged.
    pub(crate) fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// How fast it is, and what waits for it.
    pub(crate) fn pace(&self) -> PaceTaken {
        self.shared.pace()
    }

    /// Whether the last commit succeeded, into a file that is where it was. While it is false nothing new may be admitted.
    pub(crate) fn healthy(&self) -> bool {
        !self.shared.failing.load(Ordering::Acquire) && !self.shared.gone.load(Ordering::Acquire)
    }

    /// Hears whether the database's file is gone. Until it is back, changes are refused, and rows wait, in the in-flight table too.
    pub(crate) fn set_gone(&self, gone: bool) {
        self.shared.gone.store(gone, Ordering::Release);
    }

    /// Lets rows be put off until further notice, as many as may be and no longer than ever; returns once no commit runs that has begun
    /// before. Whatever somebody waits for is committed as always.
    pub(crate) fn set_held(&self, held: bool) {
        self.shared.held.store(held, Ordering::Release);
        if held {
            drop(self.shared.commit.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Queues a settled row. Never blocks on the disk and never fails: the in-flight table holds the row until it is durable.
    pub(crate) fn post(&self, row: Posting) {
        self.shared.post(|queue| queue.work.rows.push(row));
    }

    /// Queues a label; it is stored before any row that is posted after it.
    pub(crate) fn post_label(&self, label: NewLabel) {
        self.shared.post(|queue| {
            queue.label_file.append(&label);
            queue.work.labels.push(label);
        });
    }

    /// Queues thresholds that were reached; they are told after the rows that were posted before them.
    pub(crate) fn post_alerts(&self, alerts: impl Iterator<Item = (UnixMs, Offer)>) {
        self.shared.post(|queue| queue.work.alerts.extend(alerts));
    }

    /// Runs `task` inside a transaction and answers once it is durable. An error of the task rolls back the task alone.
    pub(crate) async fn run<T, F>(&self, task: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    {
        self.answered(task, |_| {}, true).await
    }

    /// [`Writer::run`], and `after` on the writer's thread once the task's change is durable, whether or not the caller
    /// still waits for it. It must be quick and own no part of the store.
    pub(crate) async fn run_then<T, F, A>(&self, task: F, after: A) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        self.answered(task, after, true).await
    }

    /// [`Writer::run_then`] for a task that goes on record; [`Writer::generation`] moves on only where it `changes` something
    /// that is remembered.
    pub(crate) async fn change<T, F, A>(&self, task: F, after: A, changes: bool) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.shared.push_audited(task_of(task, after, |done| drop(sender.send(done))), changes)?;
        receiver.await.map_err(|_| refused())?
    }

    /// [`Writer::change`] for callers outside an async runtime.
    pub(crate) fn change_blocking<T, F, A>(&self, task: F, after: A, changes: bool) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.shared.push_audited(task_of(task, after, move |done| drop(sender.send(done))), changes)?;
        receiver.recv().map_err(|_| refused())?
    }

    /// Leaves the audit log to a successor, and lets it see each row at once.
    pub(crate) fn hand_over(&self) {
        self.shared.handing_over.store(true, Ordering::Release);
        self.shared.desk.hand_over();
    }

    /// Where rows become lines of the audit log.
    pub(crate) fn desk(&self) -> &Desk {
        &self.shared.desk
    }

    /// [`Writer::run`] for a task that changes nothing of which a copy is kept in memory: [`Writer::generation`] stays.
    pub(crate) async fn run_aside<T, F>(&self, task: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    {
        self.answered(task, |_| {}, false).await
    }

    async fn answered<T, F, A>(&self, task: F, after: A, changes: bool) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        // A caller that went away doesn't want the answer.
        self.shared.push_task(task_of(task, after, |done| drop(sender.send(done))), changes)?;
        receiver.await.map_err(|_| refused())?
    }

    /// [`Writer::run`] for callers outside an async runtime.
    pub(crate) fn run_blocking<T, F>(&self, task: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.shared.push_task(task_of(task, |_| {}, move |done| drop(sender.send(done))), true)?;
        receiver.recv().map_err(|_| refused())?
    }

    /// Writes what is queued and ends the thread; later calls do nothing.
    pub(crate) fn close(&self) {
        self.shared.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the writer thread panicked; what it had not written is in the in-flight table");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

fn refused() -> StoreError {
    StoreError::Unavailable("the write was not accepted".to_owned())
}

/// `task` as the queue holds it: it runs in a savepoint of its own; once the commit's fate is known, `after` sees a change that
/// is durable and `answer` gets what came of it.
fn task_of<T: Send + 'static>(
    task: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    after: impl FnOnce(&T) + Send + 'static,
    answer: impl FnOnce(Result<T>) + Send + 'static,
) -> Task {
    Box::new(move |tx| {
        let result = in_savepoint(tx, task);
        Box::new(move |committed| {
            let done = committed.and(result);
            if let Ok(value) = &done {
                after(value);
            }
            answer(done);
        })
    })
}

fn in_savepoint<T>(tx: &Transaction<'_>, task: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
    tx.execute_batch("SAVEPOINT task")?;
    let result = task(tx);
    let end = if result.is_ok() { "RELEASE task" } else { "ROLLBACK TO task; RELEASE task" };
    tx.execute_batch(end)?;
    result
}

/// Refuses everything from now on if the thread panics; what was queued is in the in-flight table.
struct LastWill<'a>(&'a Shared);

impl Drop for LastWill<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failing.store(true, Ordering::Release);
            let mut queue = self.0.lock();
            queue.closing = true;
            drop(queue.work.take_tasks());
        }
    }
}

/// What is in the batch is durable.
fn forget(batch: &mut Work, shared: &Shared, on_posted: &OnPosted) {
    on_posted(&batch.rows);
    batch.forget_rows();
    shared.taken.store(0, Ordering::Relaxed);
    if !batch.labels.is_empty() {
        batch.labels.clear();
        shared.labels_are_stored();
    }
    batch.alerts.clear();
}

fn run(conn: &mut Connection, mut deferred: Deferred, shared: &Shared, on_posted: &OnPosted) {
    let _will = LastWill(shared);
    // Rows, labels and alerts stay here until they are written; tasks are written or refused.
    let mut batch = Work::default();
    let mut pen = Pen::new(conn);
    loop {
        // After a failure the loop goes on without being asked, so that it notices when the disk is back.
        let probing = shared.failing.load(Ordering::Acquire);
        let patience = match () {
            () if probing => Patience::None,
            () if batch.rows.is_empty() && pen.lingers() => Patience::Short,
            () if batch.rows.is_empty() => Patience::Endless,
            () => Patience::Gathering,
        };
        let closing = shared.gather(patience, deferred.taken_at, &mut batch);
        deferred.taken_at = Instant::now();
        shared.taken.store(batch.rows.len(), Ordering::Relaxed);
        if batch.is_empty() {
            pen.rest();
        }
        if !closing && shared.may_put_off() && deferred.put_off(&batch, shared.held.load(Ordering::Acquire)) {
            continue;
        }
        if !batch.is_empty() || probing {
            let mut tasks = batch.take_tasks();
            if probing {
                // Their lines would be on the disk before it shows that the commit fails again: they are refused until one succeeds.
                tasks.audited.clear();
            }
            let changes = std::mem::take(&mut batch.changes);
            let (replies, committed) = {
                let _runs = shared.commit.lock().unwrap_or_else(PoisonError::into_inner);
                pen.write((shared, &mut deferred), &batch, tasks)
            };
            if changes {
                // Moved on even when the commit failed: then nobody knows what is on the disk.
                shared.generation.fetch_add(1, Ordering::AcqRel);
            }
            shared.failing.store(committed.is_err(), Ordering::Release);
            match &committed {
                Ok(()) => forget(&mut batch, shared, on_posted),
                Err(err) => {
                    if let Some(unheard) = FAILED.tell() {
                        tracing::error!(%err, rows = batch.rows.len(), unheard, "commit failed; new paid requests are refused until one succeeds");
                    }
                }
            }
            replies.send(&committed);
            if committed.is_err() {
                deferred.failed(&mut batch);
                if closing {
                    return; // what could not be written stays in the in-flight table
                }
                std::thread::sleep(BACKOFF);
                continue;
            }
            deferred.committed(&mut batch);
        }
        if closing {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::id::{ReservationId, TenantKey};
    use crate::ledger::journal;
    use crate::ledger::row::{LedgerRow, Outcome};
    use crate::ledger::slot::tests::{reservation, settlement};
    use crate::ledger::tests::world::eventually;
    use crate::money::NanoUsd;
    use crate::sqlite::migrate;

    fn posting(id: i64) -> Posting {
        let reservation =
            crate::ledger::row::Reservation { id: ReservationId(id), tenant: TenantKey(1), ..reservation(id) };
        let row = LedgerRow {
            reservation,
            settlement: settlement(Outcome::Complete),
            cost: NanoUsd(5),
            held: NanoUsd::ZERO,
            held_tokens: 0,
        };
        Posting { row, slot: u32::try_from(id).unwrap() }
    }

    /// A writer on a database with tenant 1; what it reports as durable, in order.
    fn writer(dir: &Path) -> (Writer, Receiver<Vec<u32>>) {
        let database = dir.join("x.db");
        let mut conn = open::writable(&database).unwrap();
        migrate::run(&mut conn).unwrap();
        conn.execute(
            "INSERT INTO tenants VALUES (1, 'a', 'a', 'active', 'UTC', '{}', NULL, '{}', 1, 0, 0, NULL, 0, NULL, NULL)",
            [],
        )
        .unwrap();
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let (report, posted) = channel();
        let on_posted: OnPosted =
            Box::new(move |postings| drop(report.send(postings.iter().map(|posting| posting.slot).collect())));
        let journals = Journal::beside(&dir.join("1"));
        (Writer::start(&database, LabelFile::default(), journals, on_posted).unwrap(), posted)
    }

    fn count(dir: &Path, table: &str) -> i64 {
        open::read_only(&dir.join("x.db"))
            .unwrap()
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .unwrap()
    }

    /// Commits in a log that was never reset: frames that carry the database's size (sqlite.org/fileformat2.html, 4.2).
    fn commits(dir: &Path) -> usize {
        let log = std::fs::read(dir.join("x.db-wal")).unwrap();
        log[32..].as_chunks::<4_120>().0.iter().filter(|frame| frame[4..8] != [0; 4]).count()
    }

    #[test]
    fn ten_thousand_rows_take_far_fewer_commits_and_none_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, posted) = writer(dir.path());
        let writer = &writer;
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || (0..2_500).for_each(|n| writer.post(posting(1 + thread * 2_500 + n))));
            }
        });
        writer.run_blocking(|_| Ok(())).unwrap();
        let batches: Vec<Vec<u32>> = posted.try_iter().filter(|batch| !batch.is_empty()).collect();
        let mut slots: Vec<u32> = batches.concat();
        slots.sort_unstable();
        assert_eq!(slots, (1..=10_000).collect::<Vec<_>>(), "each is reported once");
        assert_eq!(count(dir.path(), "ledger"), 10_000);
        let commits = commits(dir.path());
        assert!(commits < 500 && commits >= batches.len(), "{commits} commits, {} batches", batches.len());
    }

    #[test]
    fn while_commits_are_held_rows_wait_where_they_are_safe_and_whoever_waits_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, posted) = writer(dir.path());
        let safe = || journal::read(&dir.path().join("1")).unwrap().len();
        writer.set_held(true);
        writer.post(posting(1));
        eventually("it is put off", || safe() == 1);
        assert_eq!(count(dir.path(), "ledger"), 0);
        assert!(posted.try_recv().is_err());
        writer.run_blocking(|_| Ok(())).unwrap();
        assert_eq!(posted.try_recv().unwrap(), [1], "it goes with what somebody waits for");
        writer.post(posting(2));
        eventually("it is put off", || safe() == 1);
        writer.set_held(false);
        assert_eq!(posted.recv_timeout(Duration::from_secs(10)).unwrap(), [2]);
        assert_eq!(count(dir.path(), "ledger"), 2);
    }

    #[test]
    fn whoever_holds_commits_waits_for_the_one_that_runs() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, _posted) = writer(dir.path());
        let (begun, end) = (channel(), channel::<()>());
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (begun, end) = (begun.0, end.1);
                writer.run_blocking(move |_| {
                    begun.send(()).unwrap();
                    end.recv().unwrap();
                    Ok(())
                })
            });
            begun.1.recv().unwrap();
            let held = scope.spawn(|| {
                writer.set_held(true);
                assert!(is_over.load(Ordering::Acquire));
            });
            eventually("it is held", || writer.shared.held.load(Ordering::Acquire));
            is_over.store(true, Ordering::Release);
            end.0.send(()).unwrap();
            held.join().unwrap();
        });
    }

    #[test]
    fn a_row_is_reported_only_after_it_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, posted) = writer(dir.path());
        for id in 1..=20 {
            writer.post(posting(id));
            assert_eq!(posted.recv_timeout(Duration::from_secs(10)).unwrap(), [u32::try_from(id).unwrap()]);
            assert_eq!(count(dir.path(), "ledger"), id);
        }
    }

    /// Posts so many rows that they are worth putting off, at once.
    fn post_many(writer: &Writer, ids: std::ops::RangeInclusive<i64>) {
        writer.shared.post(|queue| queue.work.rows.extend(ids.map(posting)));
    }

    fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "never: {what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn rows_that_come_fast_are_put_off_and_lose_nothing_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, posted) = writer(dir.path());
        let journaled = || journal::read(&dir.path().join("1")).unwrap();
        // Until somebody waits for it nothing of this can be committed.
        let lock = Connection::open(dir.path().join("x.db")).unwrap();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        post_many(&writer, 1..=50);
        wait_for("they are put off", || !journaled().is_empty());
        let ids: Vec<i64> = journaled().iter().map(|row| row.reservation.id.0).collect();
        assert_eq!(ids, (1..=50).collect::<Vec<_>>());
        assert_eq!(count(dir.path(), "ledger"), 0);
        assert!(posted.try_recv().is_err(), "their slots are kept until they are committed");
        assert!(writer.healthy() && writer.pace().queued >= 50);
        lock.execute_batch("ROLLBACK").unwrap();
        writer.run_blocking(|_| Ok(())).unwrap();
        assert_eq!(posted.try_iter().flatten().count(), 50);
        assert_eq!(count(dir.path(), "ledger"), 50);
        assert_eq!(writer.pace().queued, 0);
        // Cleared behind the answer, so that nobody waits for that sync.
        wait_for("what is committed leaves the journal", || journaled().is_empty());
    }

    #[test]
    fn rows_that_were_put_off_are_committed_once_no_more_come() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, posted) = writer(dir.path());
        for round in 0..3 {
            post_many(&writer, round * 100 + 1..=round * 100 + 100);
            assert_eq!(posted.recv_timeout(Duration::from_secs(30)).unwrap().len(), 100);
            assert_eq!(count(dir.path(), "ledger"), (round + 1) * 100);
        }
    }

    #[test]
    fn many_rows_at_once_are_held_to_the_registry_as_any_other() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, posted) = writer(dir.path());
        post_many(&writer, 1..=2_000);
        assert_eq!(posted.recv_timeout(Duration::from_secs(30)).unwrap().len(), 2_000);
        assert_eq!(count(dir.path(), "ledger"), 2_000);
        let sums = "windows WHERE kind = 'day' AND posted_nanos = 10000";
        assert_eq!(count(dir.path(), sums), 1);
        let orphan = |tx: &Transaction<'_>| Ok(tx.execute("INSERT INTO label_tags VALUES (7, 'nobody')", [])?);
        assert!(writer.run_blocking(orphan).is_err(), "references are checked again");

        let stranger = |mut posting: Posting| {
            posting.row.reservation.tenant = TenantKey(99);
            posting
        };
        let ids = 3_001..=4_000;
        writer.shared.post(|queue| {
            queue.work.rows.extend(ids.map(|id| if id == 3_500 { stranger(posting(id)) } else { posting(id) }))
        });
        wait_for("a stranger's row is refused", || !writer.healthy());
        assert_eq!(count(dir.path(), "ledger"), 2_000, "all of its batch are kept back");
    }

    #[test]
    fn nothing_is_put_off_for_a_successor_that_reads_along() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, posted) = writer(dir.path());
        writer.hand_over();
        post_many(&writer, 1..=100);
        assert_eq!(posted.recv_timeout(Duration::from_secs(30)).unwrap().len(), 100);
        assert!(!dir.path().join("1.settled-0").exists());
    }

    #[test]
    fn a_task_that_fails_is_undone_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, _posted) = writer(dir.path());
        writer.post(posting(1));
        let failed: Result<()> = writer.run_blocking(|tx| {
            tx.execute("INSERT INTO names (name) VALUES ('half')", [])?;
            Err(StoreError::NotFound("thing"))
        });
        assert!(matches!(failed, Err(StoreError::NotFound("thing"))));
        writer.run_blocking(|tx| Ok(tx.execute("INSERT INTO names (name) VALUES ('whole')", [])?)).unwrap();
        assert_eq!((count(dir.path(), "names"), count(dir.path(), "ledger")), (1, 1));
        assert!(writer.healthy());
    }

    #[test]
    fn a_task_that_ends_the_transaction_leaves_the_others_undone_and_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, _posted) = writer(dir.path());
        // Both tasks are queued before the writer can take either.
        let gate = Arc::new(Mutex::new(()));
        let (held, entered) = (gate.lock().unwrap(), Arc::new(AtomicUsize::new(0)));
        std::thread::scope(|scope| {
            let (writer, gate, entered) = (&writer, &gate, &entered);
            let first = scope.spawn(move || {
                let (gate, entered) = (Arc::clone(gate), Arc::clone(entered));
                writer.run_blocking(move |_| {
                    entered.store(1, Ordering::Release);
                    drop(gate.lock().unwrap());
                    Ok(())
                })
            });
            let deadline = Instant::now() + Duration::from_secs(10);
            while entered.load(Ordering::Acquire) == 0 {
                assert!(Instant::now() < deadline);
                std::thread::yield_now();
            }
            // What SQLite does by itself on a full disk.
            let ending = scope.spawn(|| writer.run_blocking(|tx| Ok(tx.execute_batch("ROLLBACK")?)));
            while writer.shared.lock().work.tasks.is_empty() {
                assert!(Instant::now() < deadline);
                std::thread::yield_now();
            }
            let after = scope
                .spawn(|| writer.run_blocking(|tx| Ok(tx.execute("INSERT INTO names (name) VALUES ('alone')", [])?)));
            while writer.shared.lock().work.tasks.len() < 2 {
                assert!(Instant::now() < deadline);
                std::thread::yield_now();
            }
            drop(held);
            first.join().unwrap().unwrap();
            assert!(ending.join().unwrap().is_err());
            assert!(matches!(after.join().unwrap(), Err(StoreError::Unavailable(_))));
        });
        assert_eq!(count(dir.path(), "names"), 0);
        // The writer notices by itself that commits succeed again: nothing is queued.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !writer.healthy() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        writer.run_blocking(|_| Ok(())).unwrap();
    }

    #[test]
    fn a_writer_that_panicked_refuses_instead_of_hanging() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, _posted) = writer(dir.path());
        let died: Result<()> = writer.run_blocking(|_| panic!("a task's defect"));
        assert!(matches!(died, Err(StoreError::Unavailable(_))));
        let deadline = Instant::now() + Duration::from_secs(10);
        while writer.healthy() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert!(matches!(writer.run_blocking(|_| Ok(())), Err(StoreError::Unavailable(_))));
    }

    #[test]
    fn closing_writes_what_is_queued() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, posted) = writer(dir.path());
        for id in 1..=100 {
            writer.post(posting(id));
        }
        writer.close();
        assert_eq!(count(dir.path(), "ledger"), 100);
        assert_eq!(posted.try_iter().flatten().count(), 100);
        assert!(matches!(writer.run_blocking(|_| Ok(())), Err(StoreError::Unavailable(_))));
    }
}
