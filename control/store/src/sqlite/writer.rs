//! The one thread that writes, with group commit.
//!
//! Settled rows are gathered for a few milliseconds and committed together: the request path pays a push onto a list,
//! and at most one wake-up per batch. A task (a state change) is committed at once, together with whatever has gathered,
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

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::audit::{Desk, Written};
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::label::{self, NewLabel};
use crate::ledger::alert::{self, Offer};
use crate::ledger::label_file::LabelFile;
use crate::ledger::row;
use crate::seldom::Seldom;
use crate::sqlite::open;
use crate::sqlite::pace::PaceTaken;
use crate::sqlite::queue::{GONE, Reply, Shared, Task, Tasks, Work};
use crate::sqlite::wal::Log;

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
    pub(crate) fn start(database: &Path, label_file: LabelFile, on_posted: OnPosted) -> Result<Self> {
        let mut conn = open::writable(database)?;
        let shared = Arc::new(Shared::default());
        shared.lock().label_file = label_file;
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&mut conn, &theirs, &on_posted))
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

fn run(conn: &mut Connection, shared: &Shared, on_posted: &OnPosted) {
    let _will = LastWill(shared);
    // Rows, labels and alerts stay here until they are written; tasks are written or refused.
    let mut batch = Work::default();
    let mut log = Log::default();
    loop {
        // After a failure the loop goes on without being asked, so that it notices when the disk is back.
        let probing = shared.failing.load(Ordering::Acquire);
        let closing = shared.gather(probing, &mut batch);
        if !batch.is_empty() || probing {
            let mut tasks = batch.take_tasks();
            if probing {
                // Their lines would be on the disk before it shows that the commit fails again: they are refused until one succeeds.
                tasks.audited.clear();
            }
            let changes = std::mem::take(&mut batch.changes);
            let began = Instant::now();
            let (replies, committed) = if shared.gone.load(Ordering::Acquire) {
                // Dropping the tasks answers each caller that the writer refused; no change of theirs is on record.
                drop(tasks);
                (Replies::default(), Err(StoreError::Unavailable(GONE.to_owned())))
            } else {
                commit(conn, (&mut log, &shared.desk), &batch, tasks)
            };
            shared.pace.commit(began.elapsed(), committed.is_ok());
            if changes {
                // Moved on even when the commit failed: then nobody knows what is on the disk.
                shared.generation.fetch_add(1, Ordering::AcqRel);
            }
            shared.failing.store(committed.is_err(), Ordering::Release);
            match &committed {
                Ok(()) => {
                    on_posted(&batch.rows);
                    batch.rows.clear();
                    if !batch.labels.is_empty() {
                        batch.labels.clear();
                        shared.labels_are_stored();
                    }
                    batch.alerts.clear();
                }
                Err(err) => {
                    if let Some(unheard) = FAILED.tell() {
                        tracing::error!(%err, rows = batch.rows.len(), unheard, "commit failed; new paid requests are refused until one succeeds");
                    }
                }
            }
            replies.send(&committed);
            if committed.is_err() {
                if closing {
                    return; // what could not be written stays in the in-flight table
                }
                std::thread::sleep(BACKOFF);
                continue;
            }
        }
        if closing {
            return;
        }
    }
}

/// Whom to tell how it went.
#[derive(Default)]
struct Replies {
    all: Vec<Reply>,
    /// Those of changes, with why these could not be put on record.
    audited: Vec<Reply>,
    refused: Option<String>,
}

impl Replies {
    fn send(self, committed: &Result<()>) {
        let told = || committed.as_ref().map(|&()| ()).map_err(|err| StoreError::Unavailable(err.to_string()));
        self.all.into_iter().for_each(|reply| reply(told()));
        for reply in self.audited {
            reply(self.refused.as_ref().map_or_else(told, |why| Err(StoreError::AuditUnavailable(why.clone()))));
        }
    }
}

fn commit(conn: &mut Connection, (log, desk): (&mut Log, &Desk), batch: &Work, tasks: Tasks) -> (Replies, Result<()>) {
    let mut replies = Replies::default();
    let begun = log.renew(conn);
    let tx = match begun.and_then(|()| Ok(conn.transaction_with_behavior(TransactionBehavior::Immediate)?)) {
        Ok(tx) => tx,
        Err(err) => {
            let message = err.to_string();
            // The tasks never ran: dropping them answers each caller that the writer refused.
            drop(tasks);
            return (replies, Err(StoreError::Unavailable(message)));
        }
    };
    let written = if !batch.is_empty() || !tasks.plain.is_empty() || !tasks.audited.is_empty() {
        label::insert(&tx, &batch.labels)
            .and_then(|()| row::insert(&tx, batch.rows.iter().map(|posting| &posting.row)))
            .and_then(|()| alert::insert(&tx, &batch.alerts))
            .and_then(|()| perform(&tx, tasks.plain, &mut replies.all))
            .and_then(|()| audited(&tx, (desk, !batch.alerts.is_empty()), tasks.audited, &mut replies))
    } else {
        probe(&tx)
    };
    if let Err(err) = written {
        return (replies, Err(err));
    }
    let committed = tx.commit().map_err(|err| log.failed(err));
    (replies, committed)
}

/// Runs tasks, each of which may fail alone.
fn perform(tx: &Transaction<'_>, tasks: Vec<Task>, replies: &mut Vec<Reply>) -> Result<()> {
    for task in tasks {
        replies.push(task(tx));
        if tx.is_autocommit() {
            // SQLite has rolled back the whole transaction, as it does on a full disk: a later task would be on its own.
            return Err(StoreError::Unavailable("the transaction was rolled back".to_owned()));
        }
    }
    Ok(())
}

/// Runs changes and writes their lines; undoes them all where those can't be written.
fn audited(
    tx: &Transaction<'_>,
    (desk, alerted): (&Desk, bool),
    tasks: Vec<Task>,
    replies: &mut Replies,
) -> Result<()> {
    // A log that fails is tried when somebody waits for it: alerts don't, and their batches must not be slow.
    if tasks.is_empty() && (!alerted || desk.failing()) {
        return Ok(());
    }
    tx.execute_batch("SAVEPOINT audited")?;
    perform(tx, tasks, &mut replies.audited)?;
    match desk.write(tx)? {
        Written::Done => tx.execute_batch("RELEASE audited")?,
        Written::Refused(why) => {
            replies.refused = Some(why);
            tx.execute_batch("ROLLBACK TO audited; RELEASE audited")?;
        }
    }
    Ok(())
}

/// Writes without changing anything, to see whether the disk takes it.
fn probe(tx: &Transaction<'_>) -> Result<()> {
    tx.execute("UPDATE owners SET started_at_ms = started_at_ms WHERE epoch = (SELECT max(epoch) FROM owners)", [])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::id::{ReservationId, TenantKey};
    use crate::ledger::row::{LedgerRow, Outcome};
    use crate::ledger::slot::tests::{reservation, settlement};
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
        (Writer::start(&database, LabelFile::default(), on_posted).unwrap(), posted)
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
    fn a_row_is_reported_only_after_it_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, posted) = writer(dir.path());
        for id in 1..=20 {
            writer.post(posting(id));
            assert_eq!(posted.recv_timeout(Duration::from_secs(10)).unwrap(), [u32::try_from(id).unwrap()]);
            assert_eq!(count(dir.path(), "ledger"), id);
        }
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
