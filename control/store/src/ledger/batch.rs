//! Batches: attempts that a provider takes a day for. What one can cost at most is reserved as for any attempt, and then held,
//! on the disk, until it has ended: the hold counts against the cap of the windows that admitted it, survives every death of
//! the process, and is taken back in the transaction that writes the bill. A hold ends once, so nothing is billed twice.
//!
//! - `table`: how a batch is kept

mod table;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{OptionalExtension, Transaction, params};

use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::{ReservationId, TenantId, TenantKey};
use crate::ledger::adjustment;
use crate::ledger::batch::table::{SELECT, read};
use crate::ledger::row::{self, LedgerRow, Outcome, Reservation, Settlement, signed};
use crate::ledger::ticket::{End, Open, Ticket, reservation_id};
use crate::money::NanoUsd;
use crate::name;
use crate::price::{BatchTally, ModelPrice};
use crate::provider_key::{self, SealedKey};
use crate::rate;
use crate::store::Store;
use crate::upstream_object::{self, NewObject, ObjectKind};
use crate::usage::{ServiceTier, Usage};

pub(super) use table::runs_since;

/// Why a hold of a batch ends.
const REASON: &str = "the batch has ended";

/// A batch that is about to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBatch {
    /// The upstream's name.
    pub upstream: String,
    /// Whether it is in the account of the tenant's own key there.
    pub own_key: bool,
    /// The tenant's file.
    pub input_file: String,
    /// The file that the provider is to run, made for this batch alone.
    pub sent_file: String,
}

/// A batch, and what its bill is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Whose.
    pub tenant: TenantId,
    /// The provider's id; `None` while it is not known whether the provider has the batch.
    pub id: Option<String>,
    /// The upstream's name.
    pub upstream: String,
    /// Whether it is in the account of the tenant's own key there.
    pub own_key: bool,
    /// The tenant's file.
    pub input_file: String,
    /// The file that the provider runs.
    pub sent_file: String,
    /// Whether it has ended and is billed.
    pub ended: bool,
    /// Whether the operator has ended its hold, and so decided over its bill.
    pub resolved: bool,
    /// What was reserved.
    pub reservation: Reservation,
}

/// How a batch ended.
#[derive(Clone, Debug, Default)]
pub struct BatchEnd {
    /// What was run.
    pub tally: BatchTally,
    /// Not all that was run could be counted: the rest of what was reserved stays held, for the operator to decide over.
    pub uncertain: bool,
    /// The whole of it was run.
    pub complete: bool,
    /// What the provider last said of it, where it had it.
    pub body: Option<String>,
    /// Files that have come of it, which are now the tenant's.
    pub files: Vec<NewObject>,
}

impl Store {
    /// Turns the reservation of a batch into a hold, which is on the disk when this returns. The provider may be asked for the
    /// batch from then on.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; then what was reserved is given back.
    pub async fn hold_batch(&self, mut ticket: Ticket, new: NewBatch) -> Result<Batch> {
        let Some(open) = ticket.inner.take() else {
            return Err(StoreError::Corrupt("a ticket has no reservation".to_owned()));
        };
        let tenant = self.tenant_id(open.reservation.tenant)?;
        let batch = Batch {
            tenant,
            id: None,
            upstream: new.upstream,
            own_key: new.own_key,
            input_file: new.input_file,
            sent_file: new.sent_file,
            ended: false,
            resolved: false,
            reservation: open.reservation,
        };
        let (kept, row) = (batch.clone(), open.held_row(Outcome::Complete));
        let task = move |tx: &Transaction<'_>| {
            table::insert(tx, &kept)?;
            row::insert(tx, std::iter::once(&row))
        };
        let (budget, quota, ledger, slot) =
            (Arc::clone(&open.budget), open.quota, Arc::clone(&open.ledger.table), open.slot);
        let follow = move |(): &()| {
            budget.settle(&row, &quota, None);
            ledger.free(vec![slot]);
        };
        match self.inner.writer().run_then(task, follow).await {
            Ok(()) => {
                let reached = open.budget.reached(open.ledger.alerts(), &open.quota);
                open.ledger.offer(reached);
                Ok(batch)
            }
            Err(err) => {
                open.settle(End::void(503, ServiceTier::Batch));
                Err(err)
            }
        }
    }

    /// Notes that the provider has a batch: it is its tenant's from now on. Again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn batch_created(&self, batch: &Batch, id: &str, body: String) -> Result<()> {
        let clock = Arc::clone(self.clock());
        let (hold, tenant) = (batch.reservation.id, batch.reservation.tenant);
        let new = NewObject {
            id: id.to_owned(),
            kind: ObjectKind::Batch,
            purpose: String::new(),
            upstream: batch.upstream.clone(),
            own_key: batch.own_key,
            body,
        };
        let task = move |tx: &Transaction<'_>| {
            let sql = "UPDATE batches SET id = ?2 WHERE hold = ?1 AND id IS NULL AND ended_at_ms IS NULL";
            if tx.prepare_cached(sql)?.execute(params![hold.0, new.id])? == 1 {
                upstream_object::insert(tx, tenant, &new, clock.now())?;
            }
            Ok(())
        };
        self.inner.writer().run_aside(task).await
    }

    /// A tenant's batch; `None` where it has no such one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn batch(&self, tenant: TenantKey, id: &str) -> Result<Option<Batch>> {
        self.inner.reader.with(|conn| {
            let sql = format!("{SELECT} WHERE b.id = ?1 AND b.tenant = ?2");
            conn.prepare_cached(&sql)?.query_row(params![id, tenant.0], |row| Ok(read(row))).optional()?.transpose()
        })
    }

    /// Every batch that has not ended, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn running_batches(&self) -> Result<Vec<Batch>> {
        self.inner.reader.with(|conn| {
            let mut statement =
                conn.prepare_cached(&format!("{SELECT} WHERE b.ended_at_ms IS NULL ORDER BY b.hold"))?;
            let mut rows = statement.query([])?;
            let mut batches = Vec::new();
            while let Some(row) = rows.next()? {
                batches.push(read(row)?);
            }
            Ok(batches)
        })
    }

    /// The model that a batch asks, and the price that it was pinned to when it was admitted.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there is none.
    pub fn batch_price(&self, batch: &Batch) -> Result<(String, ModelPrice)> {
        let Reservation { model, rate_card, .. } = batch.reservation;
        self.inner.reader.with(|conn| {
            let model = name::find_name(conn, model)?.unwrap_or_default();
            let price = rate::priced_row(conn, rate_card, (&batch.upstream, &model))?;
            let Some(price) = price else {
                return Err(StoreError::Corrupt(format!("the price of a batch of `{model}` is not there")));
            };
            Ok((model, price))
        })
    }

    /// A tenant's own key at an upstream, sealed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn sealed_key(&self, tenant: TenantKey, upstream: &str) -> Result<Option<SealedKey>> {
        let keys = self.inner.reader.with(|conn| provider_key::sealed(conn, tenant))?;
        Ok(keys.into_iter().find(|key| key.upstream == upstream))
    }

    /// Ends a batch: bills what was run, takes back what was held, and makes what came of it the tenant's, all or nothing.
    /// False when it had ended before, and so was billed before.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn end_batch(&self, batch: &Batch, end: BatchEnd) -> Result<bool> {
        let ledger = &self.inner.ledger;
        if !self.owns_ledger() {
            // The next owner's budgets would not hear of it.
            return Err(StoreError::Unavailable("this process is handing over to its successor".to_owned()));
        }
        let now = self.clock().now();
        let id = || reservation_id(ledger.epoch, ledger.count.fetch_add(1, Ordering::Relaxed));
        let rows = Rows::new(batch, &end, now, [id()?, id()?]);
        let budget = ledger.budget(batch.reservation.tenant);
        let (of_tenant, told) = (batch.tenant.clone(), Arc::clone(&budget));
        let batch = batch.clone();
        let task = move |tx: &Transaction<'_>| finish(tx, (&batch, &end), &rows, now);
        let follow = move |done: &Done| {
            if *done == Done::Billed {
                rows.each().for_each(|row| adjustment::follow(&budget, row));
            }
        };
        let done = self.inner.writer().run_then(task, follow).await?;
        // A tenant that is gone has no thresholds.
        if let Ok(policy) = self.tenant_policy(&of_tenant) {
            ledger.offer(told.reached(ledger.alerts(), &policy.quota));
        }
        Ok(done != Done::Before)
    }

    /// Whether a file is known already: as a tenant's, or as the input that was made for a batch.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn knows_file(&self, id: &str) -> Result<bool> {
        self.inner.reader.with(|conn| {
            let sql =
                "SELECT 1 FROM upstream_objects WHERE id = ?1 UNION ALL SELECT 1 FROM batches WHERE sent_file = ?1";
            Ok(conn.prepare_cached(sql)?.exists([id])?)
        })
    }

    fn tenant_id(&self, key: TenantKey) -> Result<TenantId> {
        self.inner.reader.with(|conn| {
            let id: String = conn.query_row("SELECT id FROM tenants WHERE row_id = ?1", [key.0], |row| row.get(0))?;
            id.parse().map_err(|err| StoreError::Corrupt(format!("{err}")))
        })
    }
}

impl Open {
    /// The row of a reservation that is held as a whole.
    pub(crate) fn held_row(&self, outcome: Outcome) -> LedgerRow {
        held_row(self.reservation, outcome, self.elapsed_ms())
    }
}

/// The row of a batch's reservation: nothing is billed yet, and all of it is held.
pub(crate) fn held_row(reservation: Reservation, outcome: Outcome, duration_ms: u32) -> LedgerRow {
    LedgerRow {
        reservation,
        settlement: Settlement {
            outcome,
            http_status: 200,
            estimated: false,
            usage: Usage::default(),
            service_tier: ServiceTier::Batch,
            first_byte_ms: 0,
            duration_ms,
        },
        cost: NanoUsd::ZERO,
        held: reservation.reserved,
        held_tokens: signed(reservation.reserved_tokens),
    }
}

/// The rows that end a batch, in the windows that admitted it.
#[derive(Clone, Copy)]
struct Rows {
    release: LedgerRow,
    bill: Option<LedgerRow>,
}

impl Rows {
    fn new(batch: &Batch, end: &BatchEnd, now: UnixMs, [first, second]: [ReservationId; 2]) -> Self {
        let admitted = batch.reservation;
        let of = |id| Reservation { id, reserved: NanoUsd::ZERO, reserved_tokens: 0, ..admitted };
        let took_ms = u32::try_from(now.0.saturating_sub(admitted.admitted_at.0).max(0)).unwrap_or(u32::MAX);
        let release = LedgerRow {
            held: NanoUsd::ZERO.saturating_sub(admitted.reserved),
            held_tokens: 0_i64.saturating_sub(signed(admitted.reserved_tokens)),
            ..held_row(of(first), Outcome::Resolved, 0)
        };
        let (cost, usage) = (end.tally.cost(), end.tally.usage());
        let outcome = if end.complete { Outcome::Complete } else { Outcome::Partial };
        let mut bill = LedgerRow { cost, ..held_row(of(second), outcome, took_ms) };
        (bill.settlement.usage, bill.settlement.estimated) = (usage, end.uncertain);
        if end.uncertain {
            bill.held = admitted.reserved.saturating_sub(cost).max(NanoUsd::ZERO);
            bill.held_tokens = signed(admitted.reserved_tokens.saturating_sub(usage.total_tokens()));
        }
        let has_run = end.uncertain || cost != NanoUsd::ZERO || usage != Usage::default();
        Self { release, bill: has_run.then_some(bill) }
    }

    fn each(&self) -> impl Iterator<Item = &LedgerRow> {
        std::iter::once(&self.release).chain(&self.bill)
    }
}

/// What came of ending a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    Billed,
    /// The operator had decided over it.
    Resolved,
    /// It had ended before.
    Before,
}

fn finish(tx: &Transaction<'_>, (batch, end): (&Batch, &BatchEnd), rows: &Rows, now: UnixMs) -> Result<Done> {
    let hold = batch.reservation.id;
    let sql = "UPDATE batches SET ended_at_ms = ?2 WHERE hold = ?1 AND ended_at_ms IS NULL";
    if tx.prepare_cached(sql)?.execute(params![hold.0, now.0])? == 0 {
        return Ok(Done::Before);
    }
    let tenant = batch.reservation.tenant;
    if let (Some(id), Some(body)) = (&batch.id, &end.body) {
        upstream_object::note(tx, tenant, id, body)?;
    }
    for file in &end.files {
        match upstream_object::insert(tx, tenant, file, now) {
            // An id that is known stays with whom it is.
            Ok(()) | Err(StoreError::Conflict(_)) => {}
            Err(err) => return Err(err),
        }
    }
    if tx.prepare_cached("SELECT 1 FROM adjustments WHERE resolves = ?1")?.exists([hold.0])? {
        return Ok(Done::Resolved);
    }
    adjustment::insert(tx, &rows.release, REASON, Some(hold))?;
    row::insert(tx, rows.bill.iter())?;
    Ok(Done::Billed)
}
