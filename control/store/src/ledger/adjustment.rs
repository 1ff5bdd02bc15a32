//! Compensating rows: what corrects the ledger, whose rows never change.
//!
//! An adjustment is a row like any other, written with its windows' sums in one transaction, and put on record with its
//! reason. The tenant's budget in memory follows once, after the commit; a process that dies in between reads it from the
//! disk.

use std::sync::{Arc, PoisonError};

use rusqlite::{Transaction, params};

use crate::audit::Actor;
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::{LabelKey, RequestId, ReservationId, TenantId, TenantKey, TokenKey};
use crate::ledger::budget::{Budget, Limits};
use crate::ledger::row::{self, LedgerRow, Outcome, Reservation, Settlement};
use crate::ledger::ticket::reservation_id;
use crate::money::{Markup, NanoUsd};
use crate::store::Store;
use crate::usage::{ServiceTier, Usage};

/// The longest reason, in characters.
const MAX_REASON_CHARS: usize = 500;

/// Where an adjustment goes: the tenant's budget, the windows that it is in now, and ids for its rows.
pub(crate) struct Place {
    pub(crate) budget: Arc<Budget>,
    pub(crate) tenant: TenantKey,
    pub(crate) at: UnixMs,
    pub(crate) windows: (i32, i32),
    ids: [ReservationId; 2],
}

impl Store {
    /// The place of an adjustment that is made now. The windows are those that a request would be admitted into, by the
    /// same rule, so that they never go back.
    pub(crate) fn place(&self, tenant: &TenantId) -> Result<Place> {
        let inner = &self.inner;
        let ledger = &inner.ledger;
        let draining = ledger.draining.read().unwrap_or_else(PoisonError::into_inner);
        if *draining {
            // The next owner's budgets would not hear of it.
            return Err(StoreError::Unavailable("this process is handing over to its successor".to_owned()));
        }
        let policy = self.tenant_policy(tenant)?;
        let budget = ledger.budget(policy.key);
        let (now, now_ms) = (inner.clock.now(), inner.clock.monotonic_ms());
        let limits = Limits { quota: &policy.quota, zone: &policy.zone, now, now_ms };
        let windows = budget.windows(&inner.reader, limits)?;
        let id = || reservation_id(ledger.epoch, ledger.count.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        Ok(Place { budget, tenant: policy.key, at: now, windows, ids: [id()?, id()?] })
    }
}

impl Place {
    /// A row of no attempt at all, in the windows of this moment. The caller says what it is about.
    pub(crate) fn row(&self, outcome: Outcome, request_id: RequestId) -> LedgerRow {
        let [id, _] = self.ids;
        LedgerRow {
            reservation: Reservation {
                id,
                request_id,
                attempt: 0,
                stream: false,
                tenant: self.tenant,
                token: TokenKey(0),
                model: 0,
                upstream: 0,
                rate_card: 0,
                admitted_at: self.at,
                day: self.windows.0,
                month: self.windows.1,
                reserved: NanoUsd::ZERO,
                reserved_tokens: 0,
                input_bound: 0,
                sandbox_seconds: 0,
                service_tier: ServiceTier::Standard,
                label: LabelKey::default(),
                markup: Markup::default(),
                secret: None,
            },
            settlement: Settlement {
                outcome,
                http_status: 0,
                estimated: false,
                usage: Usage::default(),
                service_tier: ServiceTier::Standard,
                first_byte_ms: 0,
                duration_ms: 0,
            },
            cost: NanoUsd::ZERO,
            held: NanoUsd::ZERO,
            held_tokens: 0,
        }
    }

    /// The id of a second row.
    pub(crate) fn second_id(&self) -> ReservationId {
        let [_, id] = self.ids;
        id
    }
}

/// Writes an adjustment's row with its reason and, where it ends a hold, whose.
pub(crate) fn insert(
    tx: &Transaction<'_>,
    row: &LedgerRow,
    reason: &str,
    resolves: Option<ReservationId>,
) -> Result<()> {
    row::insert(tx, std::iter::once(row))?;
    tx.prepare_cached("INSERT INTO adjustments (id, resolves, reason) VALUES (?1, ?2, ?3)")?.execute(params![
        row.reservation.id.0,
        resolves.map(|id| id.0),
        reason
    ])?;
    Ok(())
}

/// Tells the budget of a row that is durable.
pub(crate) fn follow(budget: &Budget, row: &LedgerRow) {
    budget.adjust((row.reservation.day, row.reservation.month), row.bill());
}

/// Why an adjustment is made: never empty, one line, at most 500 characters.
pub(crate) fn check_reason(reason: &str) -> Result<()> {
    let count = reason.chars().count();
    if reason.trim().is_empty() || count > MAX_REASON_CHARS || reason.chars().any(char::is_control) {
        return Err(StoreError::invalid(
            "reason",
            format!("must be 1 to {MAX_REASON_CHARS} characters without control characters"),
        ));
    }
    Ok(())
}

/// The call that an adjustment was made by, where it is known.
pub(crate) fn request_of(actor: &Actor) -> RequestId {
    actor.request_id.as_deref().and_then(|id| id.parse().ok()).unwrap_or(RequestId(0))
}
