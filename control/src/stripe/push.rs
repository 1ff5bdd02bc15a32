//! A push: what tenants owe Stripe to hear is written as events, and events are sent until none is left.
//!
//! One at a time. It may be cut anywhere: the next one begins with what this one left.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openclawmu_store::{Actor, Meter, Store, StoreError, StripePlan, StripeScope, TenantId, Uncertain};
use serde::Deserialize;

use crate::stripe::account::StripeAccount;
use crate::stripe::report::{LastPush, PushProgress, PushReport, TenantMeter};
use crate::stripe::sender::Sender;

/// Tenants whose sums are read at once.
const TENANTS: u32 = 200;
/// Events that are put on record as tried at once.
const EVENTS: u32 = 64;
/// The longest time of one push; what is left is for the next.
const LONGEST: Duration = Duration::from_secs(2 * 60 * 60);
/// For how long Stripe surely knows an identifier: 24 hours, less one for clocks that differ.
const KNOWN_MS: i64 = 23 * 60 * 60 * 1000;

/// What to push.
#[derive(Clone, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    /// This tenant alone.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// Say what would be sent, and send nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// The day that is not over yet as well.
    #[serde(default)]
    pub include_today: bool,
    /// What became of events that Stripe may have and has forgotten the identifiers of.
    #[serde(default)]
    pub uncertain: Option<Decision>,
}

/// The operator's word on uncertain events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// They arrived.
    Sent,
    /// They did not: send them again.
    Resend,
}

/// Why there was no push.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// Another one runs.
    #[error("a push to Stripe is running")]
    Busy,
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Pushes one store's usage to one account.
#[derive(Debug)]
pub struct StripePush {
    store: Store,
    account: Arc<StripeAccount>,
    meters: Vec<Meter>,
    since: Option<i32>,
    running: AtomicBool,
    sent: Arc<AtomicU64>,
    written: AtomicU64,
    last: Mutex<Option<LastPush>>,
}

/// The one push that runs; however it ends, another may follow.
struct Running<'a>(&'a AtomicBool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl StripePush {
    /// Pushes `meters` of every day from `since` on.
    #[must_use]
    pub fn new(store: Store, account: StripeAccount, meters: Vec<Meter>, since: Option<i32>) -> Self {
        Self {
            store,
            account: Arc::new(account),
            meters,
            since,
            running: AtomicBool::new(false),
            sent: Arc::default(),
            written: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Pushes, and says what was done and what is left.
    ///
    /// # Errors
    /// [`PushError`]; what was sent until then is on record.
    pub async fn run(&self, actor: &Actor, request: &PushRequest) -> Result<PushReport, PushError> {
        if self.running.swap(true, Ordering::AcqRel) {
            return Err(PushError::Busy);
        }
        let _running = Running(&self.running);
        self.sent.store(0, Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
        let scope = StripeScope {
            meters: self.meters.clone(),
            since: self.since,
            tenant: request.tenant.clone(),
            include_today: request.include_today,
        };
        let mut report = PushReport { dry_run: request.dry_run, ..PushReport::default() };
        if !request.dry_run {
            self.store.begin_stripe_push(actor, &scope).await?;
            if let Some(decision) = request.uncertain {
                self.decide(actor, request.tenant.as_ref(), decision).await?;
            }
        }
        self.write(&scope, &mut report).await?;
        if !request.dry_run {
            self.send(scope.tenant.as_ref(), &mut report).await?;
        }
        let report = report.conclude();
        tracing::info!(
            complete = report.complete,
            sent = report.sent,
            pending = report.pending,
            failed = report.failed.count,
            stopped = report.stopped,
            dry_run = report.dry_run,
            "pushed to Stripe"
        );
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(LastPush { at: self.store.clock().now().rfc3339(), report: report.clone() });
        Ok(report)
    }

    /// How far the push is that runs, and how the last one ended.
    #[must_use]
    pub fn progress(&self) -> PushProgress {
        PushProgress {
            running: self.running.load(Ordering::Acquire),
            sent: self.sent.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
            last: self.last.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    async fn decide(&self, actor: &Actor, tenant: Option<&TenantId>, decision: Decision) -> Result<(), StoreError> {
        let decision = match decision {
            Decision::Sent => Uncertain::Sent,
            Decision::Resend => Uncertain::Resend,
        };
        let before = self.store.clock().now().plus_ms(-KNOWN_MS);
        self.store.decide_stripe(actor, tenant, decision, before).await.map(|_| ())
    }

    /// Writes what is owed, or with a dry run says so.
    async fn write(&self, scope: &StripeScope, report: &mut PushReport) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let (plans, next) = self.store.stripe_plans(scope, after, TENANTS)?;
            let Some(next) = next else { return Ok(()) };
            for plan in &plans {
                list(plan, report);
            }
            if !report.dry_run {
                self.store.prepare_stripe(&plans).await?;
            }
            after = next;
            // Reading sums takes this thread's time: others get theirs.
            tokio::task::yield_now().await;
        }
    }

    /// Sends what was written, now or by an earlier push, oldest first.
    async fn send(&self, tenant: Option<&TenantId>, report: &mut PushReport) -> Result<(), StoreError> {
        let sender = Sender {
            store: self.store.clone(),
            account: Arc::clone(&self.account),
            sent: Arc::clone(&self.sent),
            deadline: Instant::now() + LONGEST,
            stopped: Arc::default(),
        };
        let mut after = 0;
        loop {
            let page = self.store.unsent_stripe(tenant, after, EVENTS)?;
            let Some(last) = page.last() else { break };
            after = last.cursor;
            if Instant::now() >= sender.deadline {
                sender.stop("the push took too long; the next one goes on".to_owned());
            }
            let forgotten = self.store.clock().now().plus_ms(-KNOWN_MS);
            let mut ready = Vec::with_capacity(page.len());
            for event in page {
                if event.tried_at.is_some_and(|tried| tried <= forgotten) {
                    report.uncertain.add(event.identifier);
                } else if sender.is_stopped() {
                    report.pending += 1;
                } else {
                    ready.push(event);
                }
            }
            self.written.fetch_add(u64::try_from(ready.len()).unwrap_or(0), Ordering::Relaxed);
            self.store.stripe_tried(ready.iter().map(|event| event.identifier.clone()).collect()).await?;
            sender.send(ready, report).await?;
        }
        report.stopped = sender.stopped.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }
}

/// What a tenant's plan has to say.
fn list(plan: &StripePlan, report: &mut PushReport) {
    let of = |meter: &String, value| TenantMeter { tenant: plan.tenant.clone(), meter: meter.clone(), value };
    for meter in &plan.changed {
        report.changed.add(of(meter, 0));
    }
    if plan.customer.is_none() {
        if !(plan.events.is_empty() && plan.expired.is_empty()) {
            report.skipped.add(plan.tenant.clone());
        }
        return;
    }
    for (meter, value) in &plan.carried {
        report.carried.add(of(meter, *value));
    }
    for event in &plan.expired {
        report.expired.add(event.clone());
    }
    if report.dry_run {
        for event in &plan.events {
            report.planned.add(event.clone());
        }
    }
}
