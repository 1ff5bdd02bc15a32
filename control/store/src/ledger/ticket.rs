//! One admitted attempt. It resolves exactly once: by [`Ticket::settle`], or by being dropped, which bills what was reserved.

use std::sync::Arc;

use crate::error::{Result, StoreError};
use crate::id::ReservationId;
use crate::ledger::Ledger;
use crate::ledger::budget::Budget;
use crate::ledger::refused::Standing;
use crate::ledger::row::{LedgerRow, Outcome, Reservation, Settlement, signed};
use crate::money::NanoUsd;
use crate::price::ModelPrice;
use crate::quota::Quota;
use crate::seldom::Seldom;
use crate::sqlite::writer::Posting;
use crate::usage::{ServiceTier, Usage};

/// The right to make one attempt at an upstream, within what was reserved for it.
#[must_use = "a ticket that is not settled is billed at the reserved amount"]
#[derive(Debug)]
pub struct Ticket {
    pub(crate) inner: Option<Open>,
}

#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) reservation: Reservation,
    pub(crate) slot: u32,
    pub(crate) price: Arc<ModelPrice>,
    pub(crate) quota: Quota,
    pub(crate) standing: Standing,
    pub(crate) admitted_ms: i64,
}

/// What a settlement came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The bill.
    pub cost: NanoUsd,
    /// What is left.
    pub standing: Standing,
    /// The provider used more than was reserved: a tariff or limit in the rate card is wrong.
    pub over_reserved: bool,
}

/// How an attempt ended, as the request path knows it; durations are the ticket's to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// How it ended.
    pub outcome: Outcome,
    /// The status that the client got.
    pub http_status: u16,
    /// The usage is ours, not the provider's.
    pub estimated: bool,
    /// What it used; ignored for [`Outcome::Void`].
    pub usage: Usage,
    /// The tier that served it.
    pub service_tier: ServiceTier,
    /// Milliseconds from admission to the first byte of the answer; 0 when there was none.
    pub first_byte_ms: u32,
}

impl End {
    /// The end of an attempt that came to nothing.
    pub(crate) fn void(http_status: u16, service_tier: ServiceTier) -> Self {
        let (outcome, usage) = (Outcome::Void, Usage::default());
        Self { outcome, http_status, estimated: false, usage, service_tier, first_byte_ms: 0 }
    }
}

impl Ticket {
    /// What was promised.
    #[must_use]
    pub fn reservation(&self) -> Option<&Reservation> {
        self.inner.as_ref().map(|open| &open.reservation)
    }

    /// What was left right after admission.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.inner.as_ref().map(|open| open.standing).unwrap_or_default()
    }

    /// Milliseconds since admission.
    #[must_use]
    pub fn elapsed_ms(&self) -> u32 {
        self.inner.as_ref().map_or(0, Open::elapsed_ms)
    }

    /// Returns once the reservation would survive a power loss; at once unless the store was opened with that durability.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the disk refuses.
    pub async fn durable(&self) -> Result<()> {
        let Some(open) = &self.inner else { return Ok(()) };
        let Some(syncer) = &open.ledger.syncer else { return Ok(()) };
        syncer.sync().await
    }

    /// Notes what has been relayed so far, so that a crash bills at least that.
    pub fn progress(&self, usage: &Usage) {
        let Some(open) = &self.inner else { return };
        if let Err(err) = open.ledger.table.progress(open.slot, open.reservation.id, usage) {
            static FAILED: Seldom = Seldom::new();
            if let Some(unheard) = FAILED.tell() {
                tracing::warn!(%err, unheard, "progress of a reservation could not be noted; a crash would bill less than was relayed");
            }
        }
    }

    /// Ends the attempt: prices it by the pinned rate card, queues its row, gives the rest back.
    pub fn settle(mut self, end: End) -> Settled {
        self.inner
            .take()
            .map_or(Settled { cost: NanoUsd::ZERO, standing: Standing::default(), over_reserved: false }, |open| {
                open.settle(end)
            })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(open) = self.inner.take() {
            tracing::error!(request = %open.reservation.request_id, "a ticket was dropped without an end; its whole reservation is billed");
            let reserved = open.reservation;
            if reserved.service_tier == ServiceTier::Batch {
                // Nobody was asked for it: that comes after it is held.
                open.settle(End::void(500, ServiceTier::Batch));
                return;
            }
            let output = reserved.reserved_tokens.saturating_sub(reserved.input_bound.into());
            let usage = Usage {
                input: reserved.input_bound,
                output: u32::try_from(output).unwrap_or(u32::MAX),
                input_ms: reserved.sandbox_seconds.saturating_mul(1000),
                ..Usage::default()
            };
            open.settle(End {
                outcome: Outcome::Abandoned,
                http_status: 500,
                estimated: true,
                usage,
                service_tier: reserved.service_tier,
                first_byte_ms: 0,
            });
        }
    }
}

impl Open {
    pub(crate) fn elapsed_ms(&self) -> u32 {
        u32::try_from(self.ledger.clock.monotonic_ms().saturating_sub(self.admitted_ms)).unwrap_or(0)
    }

    pub(crate) fn settle(self, end: End) -> Settled {
        let End { outcome, http_status, estimated, usage, service_tier, first_byte_ms } = end;
        let usage = match (outcome, estimated) {
            (Outcome::Void, _) => Usage::default(),
            (_, true) => within(usage, self.reservation.reserved_tokens),
            (_, false) => usage,
        };
        let settlement = Settlement {
            outcome,
            http_status,
            estimated,
            usage,
            service_tier,
            first_byte_ms,
            duration_ms: self.elapsed_ms(),
        };
        let cost = bill(&self.reservation, &settlement, &self.price);
        let row = LedgerRow { reservation: self.reservation, settlement, cost, held: NanoUsd::ZERO, held_tokens: 0 };
        if let Err(err) = self.ledger.table.settle(self.slot, self.reservation.id, &settlement, cost) {
            tracing::warn!(%err, "a settlement could not be noted in the in-flight table; its row is queued all the same");
        }
        let (standing, reached) = self.budget.settle(&row, &self.quota, self.ledger.alerts());
        self.ledger.writer().post(Posting { row, slot: self.slot });
        // After the row: nothing is told that a crash could take back.
        self.ledger.offer(reached);
        Settled { cost, standing, over_reserved: cost > self.reservation.reserved }
    }
}

/// An estimate never passes the reservation, in tokens as in money: what is too much is cut, the answer first.
fn within(mut usage: Usage, reserved_tokens: u64) -> Usage {
    let mut excess = usage.total_tokens().saturating_sub(reserved_tokens);
    let Usage {
        input,
        cache_read,
        cache_write,
        cache_write_1h,
        output,
        reasoning,
        input_audio,
        output_audio,
        input_image_tokens,
        output_image_tokens,
        ..
    } = &mut usage;
    let answer = [output, reasoning, output_audio, output_image_tokens];
    let prompt = [input, cache_read, cache_write, cache_write_1h, input_audio, input_image_tokens];
    for count in answer.into_iter().chain(prompt) {
        let cut = u32::try_from(excess).unwrap_or(u32::MAX).min(*count);
        *count -= cut;
        excess -= u64::from(cut);
    }
    usage
}

/// The bill of an attempt. An estimate never passes the reservation; what the provider states is billed as stated.
fn bill(reservation: &Reservation, settlement: &Settlement, price: &ModelPrice) -> NanoUsd {
    match settlement.outcome {
        Outcome::Void | Outcome::Credit | Outcome::Resolved => NanoUsd::ZERO,
        Outcome::Abandoned => reservation.reserved,
        Outcome::Complete | Outcome::Partial | Outcome::Recovered => {
            let cost = price.cost(&settlement.usage, settlement.service_tier);
            if settlement.estimated { cost.min(reservation.reserved) } else { cost }
        }
    }
}

/// The row of a reservation whose process died while it was in flight: what had been relayed is billed, the rest stays held.
pub(crate) fn recovered_row(reservation: Reservation, relayed: Usage, price: Option<&ModelPrice>) -> LedgerRow {
    let usage = within(relayed, reservation.reserved_tokens);
    let settlement = Settlement {
        outcome: Outcome::Recovered,
        http_status: 0,
        estimated: true,
        usage,
        service_tier: reservation.service_tier,
        first_byte_ms: 0,
        duration_ms: 0,
    };
    if reservation.service_tier == ServiceTier::Batch {
        // Its row is there already if anybody was asked for it.
        return LedgerRow { reservation, settlement, cost: NanoUsd::ZERO, held: NanoUsd::ZERO, held_tokens: 0 };
    }
    let cost = price.map_or(NanoUsd::ZERO, |price| bill(&reservation, &settlement, price));
    LedgerRow {
        reservation,
        settlement,
        cost,
        held: reservation.reserved.saturating_sub(cost),
        held_tokens: signed(reservation.reserved_tokens.saturating_sub(usage.total_tokens())),
    }
}

/// The row of a reservation whose end had been noted before its process died.
pub(crate) fn settled_row(reservation: Reservation, settlement: Settlement, cost: NanoUsd) -> LedgerRow {
    LedgerRow { reservation, settlement, cost, held: NanoUsd::ZERO, held_tokens: 0 }
}

/// A stable reservation id for the `count`th attempt of owner `epoch`.
pub(crate) fn reservation_id(epoch: u32, count: u64) -> Result<ReservationId> {
    ReservationId::new(epoch, count)
        .ok_or_else(|| StoreError::Unavailable("reservation ids are exhausted; restart the gateway".to_owned()))
}
