//! Stage 7. From what was relayed to the bill, and the rest given back.

use std::sync::Arc;

use openclawmu_store::{End, Outcome, ServiceTier, Settled, TenantId, Ticket, Usage};

use crate::catalog::Target;
use crate::metrics::{AttemptOutcome, Keys, Metrics};
use crate::relay::Relayed;

/// Settles an attempt whose answer was relayed, wholly or in part.
pub(crate) fn settle(
    metrics: &Metrics,
    (target, tenant): (&Target, &TenantId),
    ticket: Ticket,
    relayed: &Relayed,
) -> Settled {
    let (upstream, keys) = (&target.upstream.name, Keys::of(&ticket));
    let outcome = match relayed.outcome {
        Outcome::Complete => AttemptOutcome::Complete,
        Outcome::Partial => AttemptOutcome::Partial,
        Outcome::Void | Outcome::Recovered | Outcome::Abandoned | Outcome::Credit | Outcome::Resolved => {
            AttemptOutcome::Failed
        }
    };
    metrics.attempt(upstream, outcome);
    if relayed.first_byte_ms > 0 || relayed.outcome == Outcome::Complete {
        metrics.first_byte(upstream, relayed.first_byte_ms);
    }
    let settled = ticket.settle(End {
        outcome: relayed.outcome,
        http_status: if relayed.outcome == Outcome::Void { 502 } else { 200 },
        estimated: relayed.estimated,
        usage: relayed.usage,
        service_tier: relayed.service_tier,
        first_byte_ms: relayed.first_byte_ms,
    });
    if let Some(keys) = keys {
        metrics.bill(target, (tenant, keys), (&relayed.usage, settled.cost));
    }
    if settled.over_reserved {
        metrics.over_reserved.inc();
        tracing::error!(%upstream, cost = %settled.cost, "the provider billed more than was reserved; check this model's limits in the rate card");
    }
    settled
}

/// Settles an attempt that came to nothing: a zero row is kept.
pub(crate) fn void(
    metrics: &Metrics,
    upstream: &Arc<str>,
    ticket: Ticket,
    outcome: AttemptOutcome,
    http_status: u16,
) -> Settled {
    metrics.attempt(upstream, outcome);
    ticket.settle(End {
        outcome: Outcome::Void,
        http_status,
        estimated: false,
        usage: Usage::default(),
        service_tier: ServiceTier::Standard,
        first_byte_ms: 0,
    })
}
