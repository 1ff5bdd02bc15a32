//! What metrics are told apart by. Every label has few values: none is a tenant's or a client's own word.

use std::sync::Arc;

use openclawmu_store::Refused;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// A finished request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    /// The route's path.
    pub(crate) route: &'static str,
    /// The status that the client got.
    pub(crate) status: u16,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabels {
    pub(super) route: &'static str,
}

/// An attempt at an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AttemptLabels {
    pub(super) upstream: Upstream,
    pub(super) outcome: AttemptOutcome,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UpstreamLabels {
    pub(super) upstream: Upstream,
}

/// An upstream's name as a label, shared with the upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Upstream(pub(super) Arc<str>);

impl EncodeLabelValue for Upstream {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&&*self.0, encoder)
    }
}

/// How an attempt at an upstream went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum AttemptOutcome {
    /// Answered in full.
    Complete,
    /// Cut while it was being relayed.
    Partial,
    /// Refused by the upstream.
    Refused,
    /// Not reached, timed out or broken before an answer.
    Failed,
    /// The client left before the answer.
    ClientGone,
}

/// An attempt at a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WebhookLabels {
    pub(super) outcome: WebhookOutcome,
}

/// How an attempt at a webhook went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum WebhookOutcome {
    /// The receiver took it.
    Delivered,
    /// It will be sent again.
    Retried,
    /// It was given up.
    Failed,
}

/// A refusal by a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabels {
    pub(super) reason: &'static str,
}

/// Every reason that [`reason`] gives.
pub(super) const REASONS: [&str; 8] = [
    "usd_per_day",
    "usd_per_month",
    "tokens_per_day",
    "sandbox_seconds_per_day",
    "requests_per_minute",
    "tokens_per_minute",
    "concurrent_requests",
    "unavailable",
];

/// The name of the bucket that refused, as quotas have it.
pub(super) fn reason(refused: &Refused) -> &'static str {
    match refused {
        Refused::Budget { kind, .. } => kind.name(),
        Refused::Rate { kind: openclawmu_store::RateKind::Requests, .. } => "requests_per_minute",
        Refused::Rate { kind: openclawmu_store::RateKind::Tokens, .. } => "tokens_per_minute",
        Refused::ClientSecret { .. } => "client_secret",
        Refused::Concurrency { .. } => "concurrent_requests",
        Refused::Unavailable(_) => "unavailable",
    }
}
