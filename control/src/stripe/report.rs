//! What a push did and what it left. Lists are bounded; their counts are not.

use openclawmu_store::PlannedEvent;
use serde::Serialize;

/// The most items that a list shows.
const MOST: usize = 1_000;

/// A list that says how long it is and shows its beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Listed<T> {
    /// How many there are.
    pub count: u64,
    /// At most a thousand of them.
    pub items: Vec<T>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { count: 0, items: Vec::new() }
    }
}

impl<T> Listed<T> {
    pub(super) fn add(&mut self, item: T) {
        self.count = self.count.saturating_add(1);
        if self.items.len() < MOST {
            self.items.push(item);
        }
    }
}

/// An event that Stripe refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FailedEvent {
    /// Its identifier.
    pub identifier: String,
    /// Whose usage.
    pub tenant: String,
    /// Stripe's words.
    pub reason: String,
}

/// A tenant's meter that something is to be said of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct TenantMeter {
    /// The tenant.
    pub tenant: String,
    /// The meter's event name.
    pub meter: String,
    /// How much, in the meter's unit.
    pub value: i64,
}

/// What a push did and what it left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PushReport {
    /// Nothing was written or sent.
    pub dry_run: bool,
    /// Nothing is left to be done.
    pub complete: bool,
    /// Events that arrived.
    pub sent: u64,
    /// Of these, how many had arrived before, unseen.
    pub known: u64,
    /// Events that were written and are still to be sent.
    pub pending: u64,
    /// Tenants that used something and have no `stripe_customer_id`.
    pub skipped: Listed<String>,
    /// Events that Stripe refused; they are sent again by the next push.
    pub failed: Listed<FailedEvent>,
    /// Events that Stripe may have, and has forgotten the identifiers of: the operator must say.
    pub uncertain: Listed<String>,
    /// What was told and has been credited since; it is taken off what comes.
    pub carried: Listed<TenantMeter>,
    /// What is older than Stripe takes.
    pub expired: Listed<PlannedEvent>,
    /// Meters that counted something else before, under the same name.
    pub changed: Listed<TenantMeter>,
    /// With `dry_run`: the events that a push would write now.
    pub planned: Listed<PlannedEvent>,
    /// Why the push ended before it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

/// How a push ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LastPush {
    /// When.
    #[schema(value_type = openclawmu_store::UnixMs)]
    pub at: String,
    /// What it did.
    pub report: PushReport,
}

/// How far a push is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PushProgress {
    /// Whether one runs.
    pub running: bool,
    /// Events that it has sent.
    pub sent: u64,
    /// Events that it has written.
    pub written: u64,
    /// How the last one ended; null before the first.
    #[schema(required = true)]
    pub last: Option<LastPush>,
}

impl PushReport {
    pub(super) fn conclude(mut self) -> Self {
        let left = self.pending + self.failed.count + self.uncertain.count + self.expired.count + self.changed.count;
        self.complete = left == 0 && self.stopped.is_none();
        self
    }
}
