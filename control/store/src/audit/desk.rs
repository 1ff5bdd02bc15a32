//! From rows of the outbox to lines of the log, on the writer's thread.
//!
//! The lines of a transaction are on the disk before it is committed. So no change is without its line, and a line whose
//! transaction was not committed stands behind the newest one that the database knows of, where the next append finds it and
//! says so in a line of its own. The other order would make a change first and find out then that it can't be put on record.
//! A line and its row know each other by the number: a row gets a line once, whoever is killed when.
//!
//! Where the log can't be written the changes of the transaction are undone and refused; what the gateway itself has to tell
//! (a budget's threshold) waits for its line in the outbox, and ledger rows are committed as ever.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Transaction, params};

use crate::audit::line::{AuditEvent, AuditLine, AuditLog};
use crate::audit::read::{self, head};
use crate::error::{Result, StoreError};

/// Rows that become lines in one write.
const ROWS: u32 = 1_000;

/// What became of a transaction's lines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// They are on the disk, or wait in the outbox for a log.
    Done,
    /// They can't be written, and why.
    Refused(String),
}

/// Where the writer's thread hands in rows.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    place: Mutex<Place>,
    failing: AtomicBool,
    failures: AtomicU64,
    lines: AtomicU64,
}

#[derive(Debug, Default)]
enum Place {
    /// No log yet: rows wait for one.
    #[default]
    Empty,
    Open(Box<dyn AuditLog>),
    /// Another process writes the log now.
    HandedOver,
}

impl Desk {
    /// From now on lines go to `log`.
    pub(crate) fn open(&self, log: Box<dyn AuditLog>) {
        *self.lock() = Place::Open(log);
    }

    /// From now on another process writes the log. When this returns nothing more is appended here.
    pub(crate) fn hand_over(&self) {
        let mut place = self.lock();
        if matches!(*place, Place::Open(_)) {
            *place = Place::HandedOver;
        }
    }

    /// Whether there is a log and the last append to it failed.
    pub(crate) fn failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Appends that failed, and lines that were written.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.failures.load(Ordering::Relaxed), self.lines.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes lines of all rows that have none, those of this transaction included.
    pub(crate) fn write(&self, tx: &Transaction<'_>) -> Result<Written> {
        let mut place = self.lock();
        loop {
            let (ids, events) = without_line(tx)?;
            // A log that failed is tried without an event too, so that it is known to work again.
            if events.is_empty() && !self.failing() {
                return Ok(Written::Done);
            }
            let log = match &mut *place {
                Place::Empty => return Ok(Written::Done),
                Place::HandedOver if events.is_empty() => return Ok(Written::Done),
                Place::HandedOver => return Ok(Written::Refused("another process has taken the log over".to_owned())),
                Place::Open(log) => log,
            };
            let appended = log.append(head(tx)?.as_ref(), events);
            let failed_before = self.failing.swap(appended.is_err(), Ordering::AcqRel);
            let lines = match appended {
                Ok(lines) => lines,
                Err(reason) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    if !failed_before {
                        tracing::error!(reason, "the audit log can't be written; changes are refused until it can");
                    }
                    return Ok(Written::Refused(reason));
                }
            };
            if failed_before {
                tracing::warn!("the audit log is written again; changes are taken");
            }
            self.lines.fetch_add(u64::try_from(lines.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            let more = ids.len() >= usize::try_from(ROWS).unwrap_or(usize::MAX);
            keep(tx, &ids, &lines)?;
            if !more {
                return Ok(Written::Done);
            }
        }
    }
}

/// The oldest rows without a line.
fn without_line(tx: &Transaction<'_>) -> Result<(Vec<i64>, Vec<AuditEvent>)> {
    let mut statement = tx.prepare_cached(
        "SELECT seq, at_ms, actor_kind, actor_id, ip, request_id, action, tenant, target, outcome, detail
         FROM audit_outbox WHERE line IS NULL ORDER BY seq LIMIT ?1",
    )?;
    let mut rows = statement.query([ROWS])?;
    let (mut ids, mut events) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        ids.push(row.get(0)?);
        events.push(read::event(row)?);
    }
    Ok((ids, events))
}

/// Notes which line each row became; the log's own lines, which come first, become rows.
fn keep(tx: &Transaction<'_>, ids: &[i64], lines: &[AuditLine]) -> Result<()> {
    let own = lines.len().checked_sub(ids.len());
    let (own, told) = own.and_then(|own| lines.split_at_checked(own)).ok_or_else(|| {
        StoreError::Corrupt(format!("the audit log made {} lines of {} events", lines.len(), ids.len()))
    })?;
    for line in own {
        let event = &line.event;
        tx.prepare_cached(
            "INSERT INTO audit_outbox (at_ms, actor_kind, actor_id, ip, request_id, action, tenant, target, outcome, detail, line, prev, mac)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            event.at.0,
            event.actor.kind,
            event.actor.id,
            event.ip,
            event.request_id,
            event.action,
            event.tenant,
            event.target,
            event.outcome.name(),
            event.detail.to_string(),
            number(line)?,
            line.prev,
            line.mac,
        ])?;
    }
    let mut statement = tx.prepare_cached("UPDATE audit_outbox SET line = ?2, prev = ?3, mac = ?4 WHERE seq = ?1")?;
    for (id, line) in ids.iter().zip(told) {
        statement.execute(params![id, number(line)?, line.prev, line.mac])?;
    }
    Ok(())
}

fn number(line: &AuditLine) -> Result<i64> {
    i64::try_from(line.seq).map_err(|_| StoreError::Corrupt("the audit log's numbers are exhausted".to_owned()))
}
