//! Sending what is due, until the receiver takes it or ten attempts have failed.
//!
//! Only the process that owns the ledger delivers. An attempt is on record before it is made: one that was cut, by a crash or
//! the end of this process, is made again under the same id.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use openclawmu_store::{DueWebhook, Store};
use tokio::task::JoinSet;

use crate::outbound::{Limits, OperatorCalls, OutboundUrl};
use crate::pause::{self, MAX_WAIT_SECONDS};
use crate::webhook::WebhookSecret;

/// An attempt's limits: its time by the specification's advice of 15 to 30 s; an answer is read only so that its connection can
/// be used again.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(15), max_answer_bytes: 64 << 10 };
/// When an attempt that nobody heard of again is made once more, in milliseconds: later than any attempt ends.
const LEASE_MS: i64 = 30_000;
/// Pause between two looks at the outbox.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Webhooks taken at one look.
const BATCH: u32 = 64;
/// Attempts at once.
const AT_ONCE: usize = 8;

/// How an attempt ended, for whoever counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver took it.
    Delivered,
    /// It will be sent again.
    Retried,
    /// It was given up.
    Failed,
}

/// Whoever counts.
type Seen = Arc<dyn Fn(DeliveryOutcome) + Send + Sync>;

/// Sends webhooks to one URL.
#[derive(Clone)]
pub struct Deliverer {
    store: Store,
    calls: OperatorCalls,
    url: OutboundUrl,
    secret: WebhookSecret,
    seen: Seen,
}

impl fmt::Debug for Deliverer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliverer").finish_non_exhaustive()
    }
}

/// What came of one attempt.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    /// The receiver wants no more of it.
    Gone,
    Failed {
        why: String,
        /// The receiver's own wish, in seconds.
        wait_seconds: Option<i64>,
    },
}

impl Deliverer {
    /// Sends `store`'s webhooks to `url`. The process has installed rustls' default provider.
    ///
    /// # Errors
    /// The sentence to show when there can be no HTTP client.
    pub fn new(
        store: Store,
        url: OutboundUrl,
        secret: WebhookSecret,
        seen: impl Fn(DeliveryOutcome) + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let calls = OperatorCalls::new(LIMITS).map_err(|err| format!("webhooks can't be sent: {err}"))?;
        Ok(Self { store, calls, url, secret, seen: Arc::new(seen) })
    }

    /// Delivers until `stop`; attempts in progress are cut then, and made again by the next process.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = self.deliver_due() => {}
            }
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn deliver_due(&self) {
        while self.store.owns_ledger() {
            let due = match self.store.claim_webhooks(BATCH, LEASE_MS).await {
                Ok(due) => due,
                Err(err) => {
                    tracing::error!(%err, "webhooks can't be read");
                    return;
                }
            };
            if due.is_empty() {
                return;
            }
            let mut running = JoinSet::new();
            for webhook in due {
                if running.len() >= AT_ONCE {
                    running.join_next().await;
                }
                let this = self.clone();
                running.spawn(async move { this.deliver(&webhook).await });
            }
            while running.join_next().await.is_some() {}
        }
    }

    async fn deliver(&self, webhook: &DueWebhook) {
        let id = &webhook.id;
        let (why, pause) = match self.attempt(webhook).await {
            Verdict::Taken => {
                (self.seen)(DeliveryOutcome::Delivered);
                tracing::debug!(id, event = webhook.event, attempt = webhook.attempt, "a webhook was delivered");
                if let Err(err) = self.store.webhook_delivered(id).await {
                    tracing::error!(%err, id, "a webhook was delivered, which can't be noted: it will be sent again");
                }
                return;
            }
            Verdict::Gone => ("the receiver answered 410: it is gone".to_owned(), None),
            Verdict::Failed { why, wait_seconds } => (why, pause_ms(webhook.attempt, wait_seconds)),
        };
        if pause.is_some() {
            (self.seen)(DeliveryOutcome::Retried);
            tracing::warn!(
                id,
                event = webhook.event,
                attempt = webhook.attempt,
                why,
                "a webhook was not delivered; it will be sent again"
            );
        } else {
            (self.seen)(DeliveryOutcome::Failed);
            tracing::error!(
                id,
                event = webhook.event,
                attempt = webhook.attempt,
                why,
                "a webhook was given up; see alerts.webhook_url"
            );
        }
        if let Err(err) = self.store.webhook_failed(id, &why, pause).await {
            tracing::error!(%err, id, "a failed webhook can't be noted: it will be sent again");
        }
    }

    async fn attempt(&self, webhook: &DueWebhook) -> Verdict {
        let now = self.store.clock().now().0.div_euclid(1_000);
        let signature = self.secret.sign(&webhook.id, now, &webhook.payload);
        let fields = [
            (HeaderName::from_static("webhook-id"), HeaderValue::try_from(&webhook.id)),
            (HeaderName::from_static("webhook-signature"), HeaderValue::try_from(signature)),
        ];
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HeaderName::from_static("webhook-timestamp"), now.into());
        for (name, value) in fields {
            match value {
                Ok(value) => drop(headers.insert(name, value)),
                Err(err) => return Verdict::Failed { why: format!("{name} is no header: {err}"), wait_seconds: None },
            }
        }
        match self.calls.post(&self.url, headers, webhook.payload.clone()).await {
            Ok(answer) => judge(answer.status, &answer.headers),
            Err(err) => Verdict::Failed { why: err.to_string(), wait_seconds: None },
        }
    }
}

fn judge(status: StatusCode, headers: &HeaderMap) -> Verdict {
    if status.is_success() {
        return Verdict::Taken;
    }
    if status == StatusCode::GONE {
        return Verdict::Gone;
    }
    let wait_seconds =
        headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    Verdict::Failed { why: format!("the receiver answered {}", status.as_u16()), wait_seconds }
}

/// Milliseconds until the next attempt; `None` after the last. The receiver may ask for more than is planned.
fn pause_ms(attempt: u32, wait_seconds: Option<i64>) -> Option<i64> {
    let planned = pause::planned(attempt)?;
    Some(pause::spread_ms(planned.max(wait_seconds.unwrap_or(0).min(MAX_WAIT_SECONDS))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pause::PAUSES_SECONDS;

    #[test]
    fn pauses_grow_as_the_specification_suggests_and_end_after_the_tenth_attempt() {
        for (attempt, seconds) in (1..).zip(PAUSES_SECONDS) {
            let pause = pause_ms(attempt, None).unwrap();
            assert!((seconds * 1_000..=seconds * 1_100).contains(&pause), "attempt {attempt}: {pause}");
        }
        assert_eq!(pause_ms(10, None), None);
        assert!(pause_ms(1, Some(60)).unwrap() >= 60_000, "the receiver may ask for more");
        assert!(pause_ms(1, Some(i64::MAX)).unwrap() <= 95_040_000, "but not for ever");
    }

    #[test]
    fn an_answer_is_judged_by_its_status_alone() {
        let none = HeaderMap::new();
        assert_eq!(judge(StatusCode::OK, &none), Verdict::Taken);
        assert_eq!(judge(StatusCode::NO_CONTENT, &none), Verdict::Taken);
        assert_eq!(judge(StatusCode::GONE, &none), Verdict::Gone);
        for status in [StatusCode::FOUND, StatusCode::BAD_REQUEST, StatusCode::BAD_GATEWAY] {
            assert!(matches!(judge(status, &none), Verdict::Failed { wait_seconds: None, .. }), "{status}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, 7.into());
        assert!(matches!(
            judge(StatusCode::TOO_MANY_REQUESTS, &headers),
            Verdict::Failed { wait_seconds: Some(7), .. }
        ));
    }
}
