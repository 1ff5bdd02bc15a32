//! What a demand is told: why it was refused, or what is left.

use crate::clock::UnixMs;
use crate::ledger::bucket::RateStanding;
use crate::money::NanoUsd;

/// A budget bucket of a calendar window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetKind {
    /// `usd_per_day`
    UsdPerDay,
    /// `usd_per_month`
    UsdPerMonth,
    /// `tokens_per_day`
    TokensPerDay,
    /// `sandbox_seconds_per_day`
    SandboxSecondsPerDay,
}

impl BudgetKind {
    /// The name in a quota.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UsdPerDay => "usd_per_day",
            Self::UsdPerMonth => "usd_per_month",
            Self::TokensPerDay => "tokens_per_day",
            Self::SandboxSecondsPerDay => "sandbox_seconds_per_day",
        }
    }
}

/// A rate bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateKind {
    /// `requests_per_minute`
    Requests,
    /// `tokens_per_minute`
    Tokens,
}

/// A cap of a client secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretLimit {
    /// `max_cost_usd`
    Cost,
    /// `max_requests`
    Requests,
}

/// Why a demand was refused. Nothing was taken from any bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The upper bound does not fit what is left of a window.
    #[error("the {kind:?} budget is spent")]
    Budget {
        /// Which window.
        kind: BudgetKind,
        /// Dollars that are left under the tighter dollar cap, if there is one.
        usd_left: Option<NanoUsd>,
        /// Tokens that are left under the token cap, if there is one.
        tokens_left: Option<u64>,
        /// When the window ends.
        resets_at: UnixMs,
    },
    /// Too fast.
    #[error("the {kind:?} rate is exceeded")]
    Rate {
        /// Which rate.
        kind: RateKind,
        /// Units a minute.
        limit: u64,
        /// Milliseconds until the demand fits; `None` when it is larger than a whole minute's worth.
        retry_after_ms: Option<u64>,
    },
    /// What the client secret may use is spent, or does not cover the upper bound. It never comes back.
    #[error("the client secret's cap on its {limit:?} is spent")]
    ClientSecret {
        /// Which cap.
        limit: SecretLimit,
        /// Dollars that are left under the tightest dollar cap, the tenant's included, if there is one.
        usd_left: Option<NanoUsd>,
        /// When the secret ends.
        ends_at: UnixMs,
    },
    /// Too many at once.
    #[error("{limit} requests are in flight")]
    Concurrency {
        /// The cap.
        limit: u32,
    },
    /// The quota can't be proved now. 503, retryable.
    #[error("the quota cannot be proved: {0}")]
    Unavailable(String),
}

/// What is left after an admission or a settlement, for the answer's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The requests-per-minute bucket.
    pub requests: Option<RateStanding>,
    /// The tokens-per-minute bucket.
    pub tokens: Option<RateStanding>,
    /// Dollars left under the tighter dollar cap.
    pub usd_left: Option<NanoUsd>,
    /// When it was so.
    pub at: UnixMs,
}
