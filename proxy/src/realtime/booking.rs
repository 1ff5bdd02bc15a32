//! The tickets of one conversation: each covers the largest response that the model can give, a full context window of the
//! dearest input included, at the prices and the quota of its moment.

use openclawmu_store::{
    Bound, Demand, Label, ModelPrice, PinnedPrice, RequestId, ServiceTier, StoreError, TenantId, Ticket,
};

use crate::catalog::Target;
use crate::refusal::Refusal;
use crate::socket::Guard;

/// Who talks to what.
pub(super) struct Booking<'a> {
    pub(super) guard: &'a Guard,
    pub(super) target: &'a Target,
    /// The model as the client calls it.
    pub(super) asked: &'a str,
    pub(super) label: &'a Label,
    pub(super) tenant: &'a TenantId,
}

impl Booking<'_> {
    /// The price of the model now.
    ///
    /// # Errors
    /// 403 where it has none.
    pub(super) fn price(&self) -> Result<PinnedPrice, Refusal> {
        self.target.price(&self.guard.shared.store.rates()).ok_or_else(|| Refusal::Forbidden {
            code: "model_not_priced",
            message: format!(
                "The model `{}` has no price, so it cannot be billed. Ask the operator to add it to the rate card.",
                self.asked
            ),
        })
    }

    /// The most that one response can use.
    ///
    /// # Errors
    /// 400 where the rate card leaves that open.
    pub(super) fn bound(&self, price: &ModelPrice) -> Result<Bound, Refusal> {
        let unbounded = |what: &str| {
            let message =
                format!("The rate card {what} `{}`, so a conversation with it cannot be bounded.", self.asked);
            Refusal::bad("model", message)
        };
        let window = price.context_tokens.ok_or_else(|| unbounded("states no context window (`context_tokens`) of"))?;
        let output = price.max_output_tokens.ok_or_else(|| unbounded("states no `max_output_tokens` of"))?;
        let by_piece = Bound {
            input_images: 1,
            output_images: 1,
            input_characters: 1,
            output_characters: 1,
            input_ms: 1_000,
            output_ms: 1_000,
            ..Bound::default()
        };
        let nothing = price.upper_bound(Bound::default(), ServiceTier::Standard);
        if price.upper_bound(by_piece, ServiceTier::Standard) > nothing {
            return Err(unbounded("bills by the image, the character or the second for"));
        }
        Ok(Bound::tokens(window, output))
    }

    /// Reserves one response of at most `cap` tokens.
    ///
    /// # Errors
    /// Why it is refused: the caller may not ask any more, the model can't be bounded, or a quota does not cover it.
    pub(super) async fn ticket(&self, (request_id, attempt): (RequestId, u16), cap: u32) -> Result<Ticket, Refusal> {
        let store = &self.guard.shared.store;
        let unavailable = |err: StoreError| {
            tracing::error!(%err, "a name can't be stored");
            Refusal::Store
        };
        let model = store.name_key(&self.target.model).await.map_err(unavailable)?;
        let upstream = self.target.upstream.key(store).await.map_err(unavailable)?;
        let caller = self.guard.caller()?;
        let policy = &caller.policy;
        let price = self.price()?;
        let bound = Bound { output_tokens: cap, ..self.bound(&price.price)? };
        let admitted = store.admit(&Demand {
            request_id,
            attempt,
            stream: true,
            tenant: policy.tenant_key,
            token: policy.token_key,
            quota: &policy.quota,
            zone: &policy.zone,
            model,
            upstream,
            price: &price.price,
            rate_card: price.card,
            bound,
            prompt_estimate: 0,
            service_tier: ServiceTier::Standard,
            label: store.label_key(policy.tenant_key, &policy.labelled(self.label)),
            markup: policy.markup,
            cap: policy.cap(),
        });
        let ticket = admitted.map_err(|refused| Refusal::quota(refused, store.clock().now()))?;
        if let Err(err) = ticket.durable().await {
            tracing::error!(%err, "a reservation can't be made durable");
            let (metrics, name) = (&self.guard.shared.metrics, &self.target.upstream.name);
            crate::settle::void(metrics, name, ticket, crate::metrics::AttemptOutcome::Failed, 503);
            return Err(Refusal::Store);
        }
        Ok(ticket)
    }
}
