//! One commit of the writer's: labels, rows, alerts and tasks in one transaction, and whom to tell of it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::audit::{Desk, Written};
use crate::error::{Result, StoreError};
use crate::id::TenantKey;
use crate::label;
use crate::ledger::{alert, row};
use crate::sqlite::defer::Deferred;
use crate::sqlite::manner::Manner;
use crate::sqlite::queue::{GONE, Reply, Shared, Task, Tasks, Work};
use crate::sqlite::wal::Log;

/// Rows that are many.
const MANY: usize = 512;

/// Whom to tell how it went.
#[derive(Default)]
pub(super) struct Replies {
    all: Vec<Reply>,
    /// Those of changes, with why these could not be put on record.
    audited: Vec<Reply>,
    refused: Option<String>,
}

impl Replies {
    /// Tells everybody.
    pub(super) fn send(self, committed: &Result<()>) {
        let told = || committed.as_ref().map(|&()| ()).map_err(|err| StoreError::Unavailable(err.to_string()));
        self.all.into_iter().for_each(|reply| reply(told()));
        for reply in self.audited {
            reply(self.refused.as_ref().map_or_else(told, |why| Err(StoreError::AuditUnavailable(why.clone()))));
        }
    }
}

/// What the writer's thread writes with.
pub(super) struct Pen<'a> {
    conn: &'a mut Connection,
    log: Log,
    manner: Manner,
}

impl<'a> Pen<'a> {
    pub(super) fn new(conn: &'a mut Connection) -> Self {
        Self { conn, log: Log::default(), manner: Manner::default() }
    }

    /// Whether it keeps what speeds many rows.
    pub(super) fn lingers(&self) -> bool {
        self.manner != Manner::Usual
    }

    /// Gives that back.
    pub(super) fn rest(&mut self) {
        if let Err(err) = self.manner.set(self.conn, Manner::Usual) {
            tracing::warn!(%err, "the connection keeps the memory of many rows until the next commit");
        }
    }

    /// Commits a batch to the file that was opened; one that is gone takes nothing.
    pub(super) fn write(
        &mut self,
        (shared, deferred): (&Shared, &mut Deferred),
        batch: &Work,
        tasks: Tasks,
    ) -> (Replies, Result<()>) {
        let began = Instant::now();
        let manner = match batch.rows.len() >= MANY && batch.is_rows_alone() && tasks.is_empty() {
            true => Manner::ManyRows,
            false => Manner::Usual,
        };
        let ready = if shared.gone.load(Ordering::Acquire) {
            Err(StoreError::Unavailable(GONE.to_owned()))
        } else {
            self.manner.set(self.conn, manner)
        };
        let (replies, committed) = match ready {
            Ok(()) => {
                let meanwhile = || deferred.meanwhile(shared);
                commit(self.conn, (&mut self.log, &shared.desk), (batch, manner, meanwhile), tasks)
            }
            Err(err) => {
                // Dropping the tasks answers each caller that the writer refused; no change of theirs is on record.
                drop(tasks);
                (Replies::default(), Err(err))
            }
        };
        shared.pace.commit(began.elapsed(), committed.is_ok());
        (replies, committed)
    }
}

fn commit(
    conn: &mut Connection,
    (log, desk): (&mut Log, &Desk),
    (batch, manner, meanwhile): (&Work, Manner, impl FnMut()),
    tasks: Tasks,
) -> (Replies, Result<()>) {
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
    let written = if !batch.is_empty() || !tasks.is_empty() {
        checked(&tx, batch, manner)
            .and_then(|()| label::insert(&tx, &batch.labels))
            .and_then(|()| row::insert_many(&tx, batch.rows.iter().map(|posting| &posting.row), meanwhile))
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

/// Checks what the engine does not check in this manner: whether the registry knows the tenants of rows, each looked up once.
fn checked(tx: &Transaction<'_>, batch: &Work, manner: Manner) -> Result<()> {
    if manner == Manner::Usual {
        return Ok(());
    }
    let tenants: BTreeSet<TenantKey> = batch.rows.iter().map(|posting| posting.row.reservation.tenant).collect();
    for tenant in tenants {
        if !row::has_tenant(tx, tenant)? {
            return Err(StoreError::Corrupt(format!("a row of tenant {}, whom the registry does not know", tenant.0)));
        }
    }
    Ok(())
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
    use std::time::Instant;

    use super::*;
    use crate::id::LabelKey;
    use crate::ledger::journal::Journal;
    use crate::ledger::row::Outcome;
    use crate::ledger::slot::tests::{reservation, settlement};
    use crate::ledger::ticket::settled_row;
    use crate::money::NanoUsd;
    use crate::sqlite::queue::{Patience, Posting};
    use crate::sqlite::{migrate, open};

    fn rows(ids: std::ops::RangeInclusive<i64>) -> Work {
        let row = |id| settled_row(reservation(id), settlement(Outcome::Complete), NanoUsd(1));
        Work { rows: ids.map(|id| Posting { row: row(id), slot: 0 }).collect(), ..Work::default() }
    }

    /// A database with the tenant of [`rows`].
    fn database(dir: &std::path::Path) -> Connection {
        let mut conn = open::writable(&dir.join("x.db")).unwrap();
        migrate::run(&mut conn).unwrap();
        conn.execute(
            "INSERT INTO tenants VALUES (?1, 'a', 'a', 'active', 'UTC', '{}', NULL, '{}', 1, 0, 0, NULL, 0, NULL, NULL)",
            [reservation(1).tenant.0],
        )
        .unwrap();
        conn
    }

    #[test]
    fn what_comes_while_rows_are_written_is_looked_for_at_each_step() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = database(dir.path());
        conn.execute("INSERT INTO backup_state (name, value) VALUES ('feed', 'on')", []).unwrap();
        let mut batch = rows(1..=100);
        batch
            .rows
            .iter_mut()
            .for_each(|posting| posting.row.reservation.label = LabelKey(posting.row.reservation.id.0));
        let tx = conn.transaction().unwrap();
        let mut looks = 0;
        row::insert_many(&tx, batch.rows.iter().map(|posting| &posting.row), || looks += 1).unwrap();
        assert_eq!(looks, 400, "its row, its note for the backup, its entry and its user's sum, of each");
    }

    #[test]
    fn what_speeds_many_rows_is_kept_until_anything_else_is_written_or_nothing_comes() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = database(dir.path());
        let (shared, mut deferred) = (Shared::default(), Deferred::to(Journal::beside(&dir.path().join("1"))));
        let mut pen = Pen::new(&mut conn);
        let mut write = |pen: &mut Pen<'_>, batch: Work| {
            let (_, committed) = pen.write((&shared, &mut deferred), &batch, Work::default().take_tasks());
            committed.unwrap();
        };
        let many = i64::try_from(MANY).unwrap();
        write(&mut pen, rows(1..=many));
        assert!(pen.lingers());
        write(&mut pen, rows(many + 1..=many * 2));
        assert!(pen.lingers());
        write(&mut pen, rows(many * 2 + 1..=many * 2 + 1));
        assert!(!pen.lingers(), "few rows are written as anything is");
        write(&mut pen, rows(many * 3..=many * 4));
        let mut work = Work::default();
        assert!(!shared.gather(Patience::Short, Instant::now(), &mut work), "it comes back though nothing came");
        assert!(work.is_empty());
        pen.rest();
        assert!(!pen.lingers());
        let entries: i64 = conn.query_row("SELECT count(*) FROM ledger_by_tenant", [], |row| row.get(0)).unwrap();
        assert_eq!(entries, many * 3 + 2);
    }
}
