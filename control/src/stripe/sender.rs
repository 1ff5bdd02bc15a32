//! Events to Stripe: many customers at once, each customer's one after the other, as Stripe wants it (one call at a time for
//! each customer and meter). Waits where Stripe says so, and ends the push where waiting does not help.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openclawmu_store::{Store, StoreError, StripeEvent};
use tokio::task::JoinSet;

use crate::stripe::account::{Answer, StripeAccount};
use crate::stripe::report::{FailedEvent, PushReport};

/// Customers that are served at once: far below Stripe's 1,000 calls a second.
const AT_ONCE: usize = 16;
/// Attempts at one event.
const ATTEMPTS: u32 = 6;
/// The first pause; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest that Stripe may ask us to wait; past it the push ends and the next one goes on.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// One push's way to Stripe.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) store: Store,
    pub(super) account: Arc<StripeAccount>,
    pub(super) sent: Arc<AtomicU64>,
    pub(super) deadline: Instant,
    /// Why nothing more is sent.
    pub(super) stopped: Arc<Mutex<Option<String>>>,
}

/// What came of an event.
enum Fate {
    Sent {
        known: bool,
    },
    Failed(FailedEvent),
    /// To be sent later; `doubtful` if Stripe may have it.
    Left {
        identifier: String,
        doubtful: bool,
    },
}

impl Sender {
    /// Sends events that are on record as tried.
    pub(super) async fn send(&self, events: Vec<StripeEvent>, report: &mut PushReport) -> Result<(), StoreError> {
        let mut by_customer: BTreeMap<String, Vec<StripeEvent>> = BTreeMap::new();
        for event in events {
            by_customer.entry(event.customer.clone()).or_default().push(event);
        }
        let (mut running, mut untried) = (JoinSet::new(), Vec::new());
        for (_, events) in by_customer {
            if running.len() >= AT_ONCE
                && let Some(done) = running.join_next().await
            {
                self.note(done, report, &mut untried);
            }
            let this = self.clone();
            running.spawn(async move { this.send_in_turn(events).await });
        }
        while let Some(done) = running.join_next().await {
            self.note(done, report, &mut untried);
        }
        self.store.stripe_untried(untried).await
    }

    fn note(
        &self,
        done: Result<Vec<Fate>, tokio::task::JoinError>,
        report: &mut PushReport,
        untried: &mut Vec<String>,
    ) {
        let fates = done.unwrap_or_else(|err| {
            tracing::error!(%err, "a part of a push to Stripe broke off; its events are pending");
            self.stop("a part of the push broke off; see the log".to_owned());
            Vec::new()
        });
        for fate in fates {
            match fate {
                Fate::Sent { known } => {
                    report.sent += 1;
                    report.known += u64::from(known);
                }
                Fate::Failed(failed) => {
                    untried.push(failed.identifier.clone());
                    report.failed.add(failed);
                }
                Fate::Left { identifier, doubtful } => {
                    report.pending += 1;
                    if !doubtful {
                        untried.push(identifier);
                    }
                }
            }
        }
    }

    async fn send_in_turn(self, events: Vec<StripeEvent>) -> Vec<Fate> {
        let mut fates = Vec::with_capacity(events.len());
        for event in events {
            fates.push(self.send_one(event).await);
        }
        fates
    }

    async fn send_one(&self, event: StripeEvent) -> Fate {
        // An earlier process may have sent it, whatever this one finds.
        let mut doubtful = event.tried_at.is_some();
        let mut failures = 0;
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=ATTEMPTS {
            if self.is_stopped() {
                break;
            }
            match self.account.send(&event, failures).await {
                Answer::Taken => return self.arrived(&event, false).await,
                Answer::Known => return self.arrived(&event, true).await,
                Answer::Refused(reason) => {
                    tracing::error!(event = event.identifier, reason, "Stripe refused a meter event");
                    return Fate::Failed(FailedEvent { identifier: event.identifier, tenant: event.tenant, reason });
                }
                Answer::Denied(why) => {
                    self.stop(format!("{why}; see stripe.api_key"));
                    break;
                }
                Answer::Later { why, wait, doubtful: may_have, answered } => {
                    doubtful |= may_have;
                    failures += u32::from(answered);
                    let wait = wait.unwrap_or(pause);
                    let in_time = Instant::now() + wait < self.deadline;
                    if attempt == ATTEMPTS || wait > MAX_WAIT || !in_time {
                        self.stop(why);
                        break;
                    }
                    tracing::debug!(event = event.identifier, why, "a meter event is sent again");
                    tokio::time::sleep(wait.saturating_add(jitter(wait))).await;
                    pause = pause.saturating_mul(2);
                }
            }
        }
        Fate::Left { identifier: event.identifier, doubtful }
    }

    async fn arrived(&self, event: &StripeEvent, known: bool) -> Fate {
        match self.store.stripe_sent(vec![event.identifier.clone()]).await {
            Ok(()) => {
                self.sent.fetch_add(1, Ordering::Relaxed);
                Fate::Sent { known }
            }
            Err(err) => {
                self.stop(format!("an event that arrived can't be noted: {err}"));
                Fate::Left { identifier: event.identifier.clone(), doubtful: true }
            }
        }
    }

    /// Sends nothing more. The first reason is the one that counts.
    pub(super) fn stop(&self, why: String) {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }

    pub(super) fn is_stopped(&self) -> bool {
        if !self.store.owns_ledger() {
            self.stop("this process is handing over to its successor, which goes on".to_owned());
        }
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// Up to a quarter more, so that those who wait do not come back together.
fn jitter(wait: Duration) -> Duration {
    let mut random = [0_u8; 1];
    if let Err(err) = getrandom::fill(&mut random) {
        tracing::warn!(%err, "no random bytes for a pause");
    }
    let [random] = random;
    wait.saturating_mul(random.into()) / 1024
}
