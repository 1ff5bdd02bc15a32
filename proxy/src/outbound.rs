//! What the gateway tells others by itself: webhooks, and usage to Stripe. Runs only in the process that owns the ledger.

use std::sync::Arc;

use openclawmu_control::stripe::{Nightly, StripeAccount, StripePush};
use openclawmu_control::webhook::{Deliverer, DeliveryOutcome};
use openclawmu_store::Store;
use pingora::server::Server;
use pingora::services::background::background_service;
use tokio::sync::watch;

use crate::beside::Beside;
use crate::config::{AlertsConfig, StripeConfig};
use crate::context::Shared;
use crate::metrics::WebhookOutcome;

/// The way to Stripe, where one is configured.
pub(crate) fn stripe_push(store: &Store, config: Option<&StripeConfig>) -> Result<Option<Arc<StripePush>>, String> {
    let Some(config) = config else { return Ok(None) };
    let account = StripeAccount::new(&config.base_url, config.api_key.clone())?;
    let push = StripePush::new(store.clone(), account, config.meters.clone(), config.since);
    Ok(Some(Arc::new(push)))
}

/// The nightly push, where one is configured.
pub(crate) fn nightly(push: Option<&Arc<StripePush>>, config: Option<&StripeConfig>) -> Option<Nightly> {
    Some(Nightly::new(Arc::clone(push?), config?.nightly_at_seconds?))
}

/// Who delivers webhooks, where one is configured.
pub(crate) fn deliverer(shared: &Arc<Shared>, config: &AlertsConfig) -> Result<Option<Deliverer>, String> {
    let Some((url, secret)) = &config.webhook else { return Ok(None) };
    let counting = Arc::clone(shared);
    let seen = move |outcome| {
        counting.metrics.webhook(match outcome {
            DeliveryOutcome::Delivered => WebhookOutcome::Delivered,
            DeliveryOutcome::Retried => WebhookOutcome::Retried,
            DeliveryOutcome::Failed => WebhookOutcome::Failed,
        });
    };
    Deliverer::new(shared.store.clone(), url.clone(), secret.clone(), seen).map(Some)
}

/// Adds what is configured to `server`, until `stop`.
pub(crate) fn serve(
    server: &mut Server,
    deliverer: Option<Deliverer>,
    nightly: Option<Nightly>,
    stop: &watch::Receiver<bool>,
) {
    if let Some(deliverer) = deliverer {
        let task = move |stop| {
            let deliverer = deliverer.clone();
            async move { deliverer.run(stop).await }
        };
        server.add_service(background_service("webhooks", Beside::new(stop.clone(), task)));
    }
    if let Some(nightly) = nightly.map(Arc::new) {
        let task = move |stop| {
            let nightly = Arc::clone(&nightly);
            async move { nightly.run(stop).await }
        };
        server.add_service(background_service("stripe", Beside::new(stop.clone(), task)));
    }
}
