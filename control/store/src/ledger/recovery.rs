//! What other owners left in flight.
//!
//! A dead owner's reservations become rows: exact where the end had been noted, else what had been relayed, with the rest
//! held. Rows that it had synced for a power loss come first: what the table says of them may be older. A living owner (the old
//! process during a hand-over) keeps its reservations: they count as pending until their rows appear, or until that process dies
//! too. Row keys are reservation ids, so nothing is ever posted twice.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::{Result, StoreError};
use crate::id::ReservationId;
use crate::label;
use crate::ledger::Ledger;
use crate::ledger::inflight::{self, FOLDER};
use crate::ledger::journal;
use crate::ledger::label_file;
use crate::ledger::row::{self, LedgerRow, Reservation};
use crate::ledger::slot::Progress;
use crate::ledger::ticket::{recovered_row, settled_row};
use crate::price::ModelPrice;
use crate::sqlite::lock::FileLock;
use crate::sqlite::open;
use crate::usage::Usage;

/// Pause between two looks at the reservations of a living owner.
const WATCH_EVERY: Duration = Duration::from_millis(50);

/// Finds the price that a reservation was pinned to.
pub(crate) type PriceOf = fn(&Connection, &Reservation) -> Result<Option<ModelPrice>>;

/// Tables of owners that are alive.
pub(crate) struct Living {
    tables: Vec<PathBuf>,
    pending: Vec<Reservation>,
}

/// Resolves every dead owner's table and tells which owners are alive. Runs before anything is admitted.
///
/// A table that has `own`'s number already is a dead owner's too, whose registration the database has lost.
pub(crate) fn resolve_dead(conn: &mut Connection, data: &Path, own: u32, price_of: PriceOf) -> Result<Living> {
    let folder = data.join(FOLDER);
    let mut living = Living { tables: Vec::new(), pending: Vec::new() };
    for path in inflight::tables(&folder)? {
        if inflight::table_number(&path) == Some(own) {
            tracing::warn!(own, "this owner's number was in use before: the database has lost its newest commits");
        }
        if !resolve_table(conn, &path, price_of)? {
            living.pending.extend(inflight::read_all(&path)?.into_iter().map(|(reservation, _)| reservation));
            living.tables.push(path);
        }
    }
    Ok(living)
}

/// Turns a dead owner's slots into rows and removes its table; false when the owner is alive.
fn resolve_table(conn: &mut Connection, path: &Path, price_of: PriceOf) -> Result<bool> {
    let Some(lock) = FileLock::take(path, Duration::ZERO)? else { return Ok(false) };
    let in_the_way =
        |err| StoreError::DataDir { path: path.to_owned(), reason: format!("can't be read or removed: {err}") };
    let slots = inflight::read_open(lock.file()).map_err(in_the_way)?;
    let settled = journal::read(path)?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (mut rows, mut orphans) = (Vec::with_capacity(slots.len()), 0_usize);
    for row in settled {
        if row::has_tenant(&tx, row.reservation.tenant)? { rows.push(row) } else { orphans += 1 }
    }
    let synced: HashSet<ReservationId> = rows.iter().map(|row| row.reservation.id).collect();
    for (reservation, progress) in slots.into_iter().filter(|(reservation, _)| !synced.contains(&reservation.id)) {
        if row::has_tenant(&tx, reservation.tenant)? {
            rows.push(resolved(&tx, reservation, progress, price_of)?);
        } else {
            orphans += 1;
        }
    }
    label::insert(&tx, &label_file::read(path)?)?;
    row::insert(&tx, rows.iter())?;
    tx.commit()?;
    label_file::remove(path);
    if orphans > 0 {
        let aside = path.with_extension("orphans");
        tracing::error!(orphans, path = %aside.display(), "reservations of tenants that the database does not know were set aside: it has lost its newest commits");
        journal::set_aside(path).map_err(in_the_way)?;
        std::fs::rename(path, aside).map_err(in_the_way)?;
    } else {
        journal::remove(path)?;
        match std::fs::remove_file(path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(in_the_way(err)),
            Ok(()) | Err(_) => {}
        }
    }
    drop(lock);
    if !rows.is_empty() {
        tracing::warn!(
            rows = rows.len(),
            "reservations of a process that died were resolved; what is uncertain is held"
        );
    }
    Ok(true)
}

fn resolved(conn: &Connection, reservation: Reservation, progress: Progress, price_of: PriceOf) -> Result<LedgerRow> {
    let relayed = match progress {
        Progress::Settled(settlement, cost) => return Ok(settled_row(reservation, settlement, cost)),
        Progress::Open(relayed) => relayed,
        Progress::Unknown => Usage::default(),
    };
    Ok(recovered_row(reservation, relayed, price_of(conn, &reservation)?.as_ref()))
}

impl Living {
    /// Counts living owners' reservations as pending and watches them until each has its row.
    pub(crate) fn watch(self, ledger: &Arc<Ledger>, database: &Path, price_of: PriceOf) -> Result<()> {
        if self.tables.is_empty() {
            return Ok(());
        }
        let mut conn = open::writable(database)?;
        let pending = count_pending(ledger, &mut conn, self.pending)?;
        let mut watch = Watch { ledger: Arc::downgrade(ledger), conn, tables: self.tables, pending, price_of };
        std::thread::Builder::new()
            .name("store-handover".to_owned())
            .spawn(move || {
                while watch.look() {
                    std::thread::sleep(WATCH_EVERY);
                }
            })
            .map_err(|err| StoreError::Unavailable(format!("can't start a thread: {err}")))?;
        Ok(())
    }
}

/// One snapshot decides for each reservation: it has a row, which its budget then includes, or it is pending.
fn count_pending(ledger: &Ledger, conn: &mut Connection, all: Vec<Reservation>) -> Result<Vec<Reservation>> {
    let snapshot = conn.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let mut pending = Vec::new();
    for reservation in all {
        if row::find_bill(&snapshot, reservation.id)?.is_none() {
            pending.push(reservation);
        }
    }
    for reservation in &pending {
        ledger.budget(reservation.tenant).add_foreign(&snapshot, reservation)?;
    }
    Ok(pending)
}

struct Watch {
    ledger: Weak<Ledger>,
    conn: Connection,
    tables: Vec<PathBuf>,
    pending: Vec<Reservation>,
    price_of: PriceOf,
}

impl Watch {
    /// Resolves what can be resolved; false when there is nothing left to watch.
    fn look(&mut self) -> bool {
        let Some(ledger) = self.ledger.upgrade() else { return false };
        let (conn, price_of) = (&mut self.conn, self.price_of);
        self.tables.retain(|path| match resolve_table(conn, path, price_of) {
            Ok(dead) => !dead,
            // The owner may have removed its own table on its way out.
            Err(_) if !path.exists() => false,
            Err(err) => {
                tracing::error!(%err, "a departing process's reservations can't be resolved yet");
                true
            }
        });
        self.pending.retain(|reservation| match row::find_bill(conn, reservation.id) {
            Ok(None) => true,
            Ok(Some(bill)) => {
                ledger.budget(reservation.tenant).resolve_foreign(reservation, bill);
                false
            }
            Err(err) => {
                tracing::error!(%err, "the ledger can't be read; a reservation stays pending");
                true
            }
        });
        if self.tables.is_empty() && !self.pending.is_empty() {
            // Voided without a row can't happen: every end writes one. Said aloud if it ever does.
            static SAID: AtomicBool = AtomicBool::new(false);
            if !SAID.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    pending = self.pending.len(),
                    "reservations of a process that is gone have no row; they stay pending"
                );
            }
        }
        !self.tables.is_empty() || !self.pending.is_empty()
    }
}
