//! What a tenant may spend. Absent means unlimited; the enforcement is `ledger`'s.

use serde::{Deserialize, Serialize};

use crate::money::NanoUsd;

/// A tenant's limits, as the admin API reads and echoes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Cap on the calendar day's cost, in the tenant's time zone.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub usd_per_day: Option<NanoUsd>,
    /// Cap on the calendar month's cost, in the tenant's time zone.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "short")]
    pub usd_per_month: Option<NanoUsd>,
    /// Cap on the calendar day's tokens, prompt and answer together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Sustained request rate; the burst is one minute's worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Sustained token rate; the burst is one minute's worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Requests in flight at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_requests: Option<u32>,
    /// Sandbox run time per calendar day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_seconds_per_day: Option<u64>,
    /// Bytes of the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_bytes: Option<u64>,
    /// What to do when the asked output does not fit the budget.
    #[serde(default)]
    pub on_tight_budget: OnTightBudget,
}

/// What to do with a request whose upper bound does not fit what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnTightBudget {
    /// Refuse with 429.
    #[default]
    Reject,
    /// Lower the output cap to what is affordable, and say so in a header.
    Clamp,
}

impl Quota {
    /// Largest accepted number of tokens, requests, seconds or bytes: exact in JSON everywhere and far from overflow.
    pub const MAX_COUNT: u64 = 1 << 53;

    /// Refuses limits that can't be kept: negative money, counts past 2^53.
    ///
    /// # Errors
    /// The field's name and what it must be.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        for (field, amount) in [("quota.usd_per_day", self.usd_per_day), ("quota.usd_per_month", self.usd_per_month)] {
            if amount.is_some_and(|amount| amount < NanoUsd::ZERO) {
                return Err((field, "must not be negative"));
            }
        }
        for (field, count) in [
            ("quota.tokens_per_day", self.tokens_per_day),
            ("quota.tokens_per_minute", self.tokens_per_minute),
            ("quota.sandbox_seconds_per_day", self.sandbox_seconds_per_day),
            ("quota.storage_bytes", self.storage_bytes),
        ] {
            if count.is_some_and(|count| count > Self::MAX_COUNT) {
                return Err((field, "must be at most 2^53"));
            }
        }
        Ok(())
    }
}

#[expect(clippy::ref_option, reason = "serde's serialize_with passes a reference to the field")]
fn short<S: serde::Serializer>(amount: &Option<NanoUsd>, serializer: S) -> Result<S::Ok, S::Error> {
    match amount {
        Some(amount) => serializer.serialize_str(&amount.to_short_string()),
        None => serializer.serialize_none(),
    }
}
