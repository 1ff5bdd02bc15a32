//! What a tenant has used and has left, in the contract's shape.

use serde::Serialize;
use utoipa::PartialSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type};

use crate::error::Result;
use crate::id::TenantKey;
use crate::ledger::budget::{Limits, State};
use crate::ledger::refused::Standing;
use crate::ledger::sums::Window;
use crate::money::NanoUsd;
use crate::quota::Quota;
use crate::store::Store;
use crate::window::Zone;

/// Every bucket of a tenant. A `cap` that is absent is unlimited; then `remaining` is absent too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct QuotaStatus {
    /// Dollars of the calendar day.
    #[schema(schema_with = usd_bucket)]
    pub usd_per_day: Bucket<NanoUsd>,
    /// Dollars of the calendar month.
    #[schema(schema_with = usd_bucket)]
    pub usd_per_month: Bucket<NanoUsd>,
    /// Tokens of the calendar day.
    #[schema(schema_with = token_bucket)]
    pub tokens_per_day: Bucket<u64>,
    /// Seconds of the sandbox of the calendar day.
    #[schema(schema_with = token_bucket)]
    pub sandbox_seconds_per_day: Bucket<u64>,
    /// Requests a minute.
    pub requests_per_minute: Rate,
    /// Tokens a minute.
    pub tokens_per_minute: Rate,
    /// Requests in flight.
    pub concurrent_requests: Concurrency,
}

/// A calendar bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bucket<T> {
    /// The cap.
    pub cap: Option<T>,
    /// Billed.
    pub posted: T,
    /// Reserved by what is in flight.
    pub pending: T,
    /// Blocked after a crash, since the provider may have billed it.
    pub held: T,
    /// What a new request may still reserve.
    pub remaining: Option<T>,
    /// When it starts anew, RFC 3339.
    pub resets_at: String,
}

fn usd_bucket() -> Schema {
    bucket(&NanoUsd::schema())
}

fn token_bucket() -> Schema {
    bucket(&u64::schema())
}

/// A [`Bucket`] in the API's document, whose counts are `count`. The derived one knows no null of a generic field.
fn bucket(count: &RefOr<Schema>) -> Schema {
    let or_null =
        || Schema::from(OneOfBuilder::new().item(ObjectBuilder::new().schema_type(Type::Null)).item(count.clone()));
    let instant = SchemaFormat::Custom("date-time".to_owned());
    let object = ObjectBuilder::new()
        .property("cap", or_null())
        .property("posted", count.clone())
        .property("pending", count.clone())
        .property("held", count.clone())
        .property("remaining", or_null())
        .property("resets_at", ObjectBuilder::new().schema_type(Type::String).format(Some(instant)));
    let names = ["cap", "posted", "pending", "held", "remaining", "resets_at"];
    names.into_iter().fold(object, ObjectBuilder::required).into()
}

/// A rate bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Rate {
    /// Units a minute.
    pub limit: Option<u64>,
    /// Units left now.
    pub remaining: Option<u64>,
}

/// The concurrency bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Concurrency {
    /// The cap.
    pub limit: Option<u32>,
    /// In flight now.
    pub in_use: u32,
}

impl Store {
    /// What the tenant has used and has left, as admission sees it at this moment.
    ///
    /// # Errors
    /// [`crate::StoreError::Unavailable`] when its windows can't be read.
    pub fn quota_status_of(&self, tenant: TenantKey, quota: &Quota, zone: &Zone) -> Result<QuotaStatus> {
        let (now, now_ms) = (self.inner.clock.now(), self.inner.clock.monotonic_ms());
        let budget = self.inner.ledger.budget(tenant);
        budget.inspect(&self.inner.reader, Limits { quota, zone, now, now_ms }, |state, standing| {
            status(state, standing, quota)
        })
    }
}

fn status(state: &State, standing: Standing, quota: &Quota) -> QuotaStatus {
    let day = &state.day;
    QuotaStatus {
        usd_per_day: dollars(day, quota.usd_per_day),
        usd_per_month: dollars(&state.month, quota.usd_per_month),
        tokens_per_day: Bucket {
            cap: quota.tokens_per_day,
            posted: day.posted_tokens,
            pending: day.pending_tokens,
            held: day.held_tokens,
            remaining: quota.tokens_per_day.map(|cap| cap.saturating_sub(day.used_tokens())),
            resets_at: day.ends_at.rfc3339(),
        },
        sandbox_seconds_per_day: Bucket {
            cap: quota.sandbox_seconds_per_day,
            posted: day.posted_sandbox_seconds,
            pending: day.pending_sandbox_seconds,
            held: 0,
            remaining: quota.sandbox_seconds_per_day.map(|cap| cap.saturating_sub(day.used_sandbox_seconds())),
            resets_at: day.ends_at.rfc3339(),
        },
        requests_per_minute: Rate {
            limit: quota.requests_per_minute.map(u64::from),
            remaining: standing.requests.map(|rate| rate.remaining),
        },
        tokens_per_minute: Rate {
            limit: quota.tokens_per_minute,
            remaining: standing.tokens.map(|rate| rate.remaining),
        },
        concurrent_requests: Concurrency { limit: quota.concurrent_requests, in_use: state.concurrent },
    }
}

fn dollars(window: &Window, cap: Option<NanoUsd>) -> Bucket<NanoUsd> {
    Bucket {
        cap,
        posted: window.posted,
        pending: window.pending,
        held: window.held,
        remaining: cap.map(|cap| cap.saturating_sub(window.used()).max(NanoUsd::ZERO)),
        resets_at: window.ends_at.rfc3339(),
    }
}
