//! What is counted, and its Prometheus names.

use std::fmt::Write;
use std::sync::Arc;

use openclawmu_store::Store;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// A finished request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    /// The route's path.
    pub(crate) route: &'static str,
    /// The status that the client got.
    pub(crate) status: u16,
}

/// An attempt at an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct AttemptLabels {
    /// The upstream's name.
    pub(crate) upstream: Upstream,
    /// How it went.
    pub(crate) outcome: AttemptOutcome,
}

/// An upstream's name as a label, shared with the upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Upstream(Arc<str>);

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
struct WebhookLabels {
    outcome: WebhookOutcome,
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

/// Every metric.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    webhooks: Family<WebhookLabels, Counter>,
    /// Seconds from the request's head to the end of its answer.
    duration: Histogram,
    /// Open connections of the edge.
    pub(crate) connections: Gauge,
    /// Settlements above their reservation: a tariff or limit of the rate card is wrong.
    pub(crate) over_reserved: Counter,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
        let metrics = Self {
            registry: Registry::with_prefix("openclawmu"),
            requests: Family::default(),
            attempts: Family::default(),
            webhooks: Family::default(),
            duration: Histogram::new(buckets),
            connections: Gauge::default(),
            over_reserved: Counter::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register("requests", "Finished requests of the edge", self.requests.clone());
        registry.register("upstream_requests", "Attempts at upstreams", self.attempts.clone());
        registry.register("webhooks", "Attempts at webhooks", self.webhooks.clone());
        registry.register(
            "request_duration_seconds",
            "Time from a request's head to the end of its answer",
            self.duration.clone(),
        );
        registry.register("edge_connections", "Open connections of the edge", self.connections.clone());
        registry.register("over_reserved", "Settlements above their reservation", self.over_reserved.clone());
        self
    }

    /// Counts a finished request.
    pub(crate) fn request(&self, labels: RequestLabels, took: std::time::Duration) {
        self.requests.get_or_create(&labels).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts an attempt.
    pub(crate) fn attempt(&self, upstream: &Arc<str>, outcome: AttemptOutcome) {
        self.attempts.get_or_create(&AttemptLabels { upstream: Upstream(Arc::clone(upstream)), outcome }).inc();
    }

    /// Counts an attempt at a webhook.
    pub(crate) fn webhook(&self, outcome: WebhookOutcome) {
        self.webhooks.get_or_create(&WebhookLabels { outcome }).inc();
    }

    /// The Prometheus text, with what the store counts.
    pub(crate) fn render(&self, store: &Store) -> String {
        let mut text = String::new();
        for (name, kind, help, value) in [
            ("openclawmu_store_token_reads_total", "counter", "Token rows looked up", store.token_reads()),
            ("openclawmu_store_healthy", "gauge", "1 while the store takes writes", u64::from(store.healthy())),
            (
                "openclawmu_in_flight",
                "gauge",
                "Attempts in flight or not yet durable",
                u64::try_from(store.in_flight()).unwrap_or(u64::MAX),
            ),
            (
                "openclawmu_webhooks_pending",
                "gauge",
                "Webhooks that are still to be delivered",
                store.pending_webhooks().unwrap_or(0),
            ),
        ] {
            // Writing to a string can't fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
        if let Err(err) = encode(&mut text, &self.registry) {
            tracing::error!(%err, "metrics can't be encoded");
        }
        text
    }
}
