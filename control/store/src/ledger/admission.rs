//! From a demand to a ticket: the budget's word, a slot in the in-flight table, and nothing else.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::client_secret::SecretCap;
use crate::clock::UnixMs;
use crate::error::StoreError;
use crate::id::{LabelKey, RequestId, TenantKey, TokenKey};
use crate::ledger::Ledger;
use crate::ledger::budget::{Budget, Limits, Taken, Want};
use crate::ledger::refused::Refused;
use crate::ledger::row::Reservation;
use crate::ledger::ticket::{Open, Ticket, reservation_id};
use crate::money::Markup;
use crate::price::{BatchBound, Bound, ModelPrice};
use crate::quota::Quota;
use crate::store::Store;
use crate::usage::{ServiceTier, Usage};
use crate::window::Zone;

/// One attempt that wants to be made.
#[derive(Clone, Debug)]
pub struct Demand<'a> {
    /// The client request that it serves.
    pub request_id: RequestId,
    /// 0 for the first attempt; a later one doesn't count as a request.
    pub attempt: u16,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// Whose budget.
    pub tenant: TenantKey,
    /// Which of its tokens.
    pub token: TokenKey,
    /// The tenant's limits.
    pub quota: &'a Quota,
    /// The tenant's zone.
    pub zone: &'a Zone,
    /// The model's key, from [`Store::name_key`].
    pub model: u32,
    /// The upstream's key, from [`Store::name_key`].
    pub upstream: u32,
    /// The pinned price.
    pub price: &'a Arc<ModelPrice>,
    /// The rate card version that it comes from.
    pub rate_card: u32,
    /// What the attempt can use at most.
    pub bound: Bound,
    /// What the prompt will probably use; billed if the process dies in the attempt.
    pub prompt_estimate: u32,
    /// The tier that is asked for. The attempt may be served by this one or by the ordinary one.
    pub service_tier: ServiceTier,
    /// Whom and what it is for, from [`Store::label_key`].
    pub label: LabelKey,
    /// What the operator adds to the tenant's costs.
    pub markup: Markup,
    /// What the client secret that asks may use; `None` where a token asks, or a secret without caps.
    pub cap: Option<SecretCap>,
}

impl Store {
    /// Reserves `demand.bound` in every bucket and in the in-flight table, or takes nothing from any.
    ///
    /// # Errors
    /// [`Refused`]; nothing was written.
    pub fn admit(&self, demand: &Demand<'_>) -> Result<Ticket, Refused> {
        self.admit_want(demand, Want::of(demand))
    }

    /// [`Store::admit`] for an attempt that serves the request of another one, which is still in flight and keeps its place.
    ///
    /// # Errors
    /// [`Refused`]; nothing was written.
    pub fn admit_beside(&self, demand: &Demand<'_>, other: &Ticket) -> Result<Ticket, Refused> {
        let has_place = other.reservation().is_some_and(|other| other.request_id == demand.request_id);
        self.admit_want(demand, Want { has_place, ..Want::of(demand) })
    }

    /// Reserves what a batch can use at most, whatever `demand.bound` says: all of it, or nothing from any bucket. Its tokens count
    /// against those of the day, and against no rate.
    ///
    /// # Errors
    /// [`Refused`]; nothing was written.
    pub fn admit_batch(&self, demand: &Demand<'_>, bound: &BatchBound) -> Result<Ticket, Refused> {
        let want = Want { usd: bound.usd(), tokens: bound.tokens(), paced_tokens: 0, ..Want::of(demand) };
        self.admit_want(demand, want)
    }

    /// Reserves `seconds` of the sandbox, whatever `demand.bound` says: all of them or nothing from any bucket. What it used is
    /// told as [`Usage::input_ms`], in whole seconds.
    ///
    /// # Errors
    /// [`Refused`]; nothing was written.
    pub fn admit_sandbox(&self, demand: &Demand<'_>, seconds: u32) -> Result<Ticket, Refused> {
        let want = Want { tokens: 0, paced_tokens: 0, sandbox_seconds: seconds, ..Want::of(demand) };
        self.admit_want(demand, want)
    }

    fn admit_want(&self, demand: &Demand<'_>, want: Want) -> Result<Ticket, Refused> {
        let inner = &self.inner;
        let ledger = &inner.ledger;
        // Held while the slot is written: a hand-over waits for it, so that the next owner sees every slot.
        let draining = ledger.draining.read().unwrap_or_else(PoisonError::into_inner);
        if *draining {
            return Err(Refused::Unavailable("this process is handing over to its successor".to_owned()));
        }
        if !ledger.healthy() {
            return Err(Refused::Unavailable("the last write to the store failed".to_owned()));
        }
        let budget = ledger.budget(demand.tenant);
        let (now, now_ms) = (inner.clock.now(), inner.clock.monotonic_ms());
        let taken = budget.take(&inner.reader, Limits { quota: demand.quota, zone: demand.zone, now, now_ms }, want);
        if matches!(&taken, Err(Refused::Budget { .. }) | Ok(Taken { opened: true, .. })) {
            ledger.offer(budget.reached(ledger.alerts(), demand.quota));
        }
        let taken = taken?;
        let reserved = ledger.write_slot(demand, want, &taken, now);
        let (reservation, slot) = reserved.inspect_err(|_| budget.undo(&taken, want, demand.quota))?;
        let (price, quota) = (Arc::clone(demand.price), *demand.quota);
        let (ledger, standing, admitted_ms) = (Arc::clone(ledger), taken.standing, now_ms);
        Ok(Ticket { inner: Some(Open { ledger, budget, reservation, slot, price, quota, standing, admitted_ms }) })
    }

    /// Stops admitting for good and lets a successor own the ledger and the audit log. What is in flight still settles; what
    /// there is to tell of it waits for the successor, and a change is refused.
    pub fn hand_over(&self) {
        *self.inner.ledger.draining.write().unwrap_or_else(PoisonError::into_inner) = true;
        self.inner.writer().hand_over();
        self.inner.release_lock();
    }

    /// Attempts in flight in this process, with those whose row is not durable yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner.ledger.table.in_use()
    }
}

impl Want {
    /// What a demand takes by its own bound.
    fn of(demand: &Demand<'_>) -> Self {
        let tokens = demand.bound.total_tokens();
        Self {
            usd: demand.price.upper_bound(demand.bound, demand.service_tier),
            tokens,
            paced_tokens: tokens,
            counts_as_request: demand.attempt == 0,
            sandbox_seconds: 0,
            has_place: false,
            cap: demand.cap,
        }
    }
}

impl Ledger {
    /// Writes what was taken into the in-flight table.
    fn write_slot(
        &self,
        demand: &Demand<'_>,
        want: Want,
        taken: &Taken,
        now: UnixMs,
    ) -> Result<(Reservation, u32), Refused> {
        let unavailable = |err: StoreError| Refused::Unavailable(err.to_string());
        let reservation = Reservation {
            id: reservation_id(self.epoch, self.count.fetch_add(1, Ordering::Relaxed)).map_err(unavailable)?,
            request_id: demand.request_id,
            attempt: demand.attempt,
            stream: demand.stream,
            tenant: demand.tenant,
            token: demand.token,
            model: demand.model,
            upstream: demand.upstream,
            rate_card: demand.rate_card,
            admitted_at: now,
            day: taken.day,
            month: taken.month,
            reserved: want.usd,
            reserved_tokens: want.tokens,
            input_bound: demand.bound.input_tokens,
            sandbox_seconds: want.sandbox_seconds,
            service_tier: demand.service_tier,
            label: demand.label,
            markup: demand.markup,
            secret: demand.cap.map(|cap| cap.key),
        };
        let prompt = Usage { input: demand.prompt_estimate.min(demand.bound.input_tokens), ..Usage::default() };
        let slot = self.table.reserve(&reservation, &prompt).map_err(unavailable)?;
        let full = || Refused::Unavailable("the in-flight table is full".to_owned());
        Ok((reservation, slot.ok_or_else(full)?))
    }

    /// The tenant's budget; made on first use, read from the store on its first admission.
    pub(crate) fn budget(&self, tenant: TenantKey) -> Arc<Budget> {
        let find = |map: &HashMap<TenantKey, Arc<Budget>>| map.get(&tenant).map(Arc::clone);
        if let Some(budget) = find(&self.budgets.read().unwrap_or_else(PoisonError::into_inner)) {
            return budget;
        }
        let mut budgets = self.budgets.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(budgets.entry(tenant).or_insert_with(|| Arc::new(Budget::new(tenant))))
    }
}
