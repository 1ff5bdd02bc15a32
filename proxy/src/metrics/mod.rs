//! What is counted, and its Prometheus names.
//!
//! - `label`: what metrics are told apart by
//! - `used`: tokens and cost, by model and perhaps by tenant
//! - `live`: what is looked at when somebody asks: the store, the upstreams, the process
//! - `process`: what the system says of this process

mod label;
mod live;
pub(crate) mod process;
mod used;

use std::sync::Arc;
use std::time::Duration;

use openclawmu_store::{NanoUsd, Reservation, TenantId, Ticket, UnixMs, Usage};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::catalog::Target;
use crate::context::Shared;
use crate::refusal::Refusal;
use label::{AttemptLabels, ReasonLabels, RouteLabels, Upstream, UpstreamLabels, WebhookLabels};
pub(crate) use label::{AttemptOutcome, RequestLabels, WebhookOutcome};
use live::{Live, OwnProcess};
use used::Used;

/// The prefix of every metric but the process's.
const PREFIX: &str = "openclawmu";
/// Upper ends of the buckets of durations, in seconds.
const SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// Every metric.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    webhooks: Family<WebhookLabels, Counter>,
    refusals: Family<ReasonLabels, Counter>,
    /// Seconds from the request's head to the end of its answer.
    duration: Family<RouteLabels, Histogram, fn() -> Histogram>,
    /// Seconds from admission to the first byte of an upstream's answer.
    first_byte: Family<UpstreamLabels, Histogram, fn() -> Histogram>,
    used: Arc<Used>,
    started: UnixMs,
    /// Open connections of the edge.
    pub(crate) connections: Gauge,
    /// Settlements above their reservation: a tariff or limit of the rate card is wrong.
    pub(crate) over_reserved: Counter,
    /// Finished requests that nobody was told of: they came too fast.
    pub(crate) untold: Counter,
    /// Lines of the access log that could not be written.
    pub(crate) access_lost: Counter,
    /// Spans that reached no collector.
    pub(crate) spans_lost: Counter,
}

impl Metrics {
    /// All at zero. At most `tenants` tenants get counts of their own.
    pub(crate) fn new(tenants: usize, started: UnixMs) -> Self {
        let metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            requests: Family::default(),
            attempts: Family::default(),
            webhooks: Family::default(),
            refusals: Family::default(),
            duration: Family::new_with_constructor(seconds),
            first_byte: Family::new_with_constructor(seconds),
            used: Arc::new(Used::new(tenants)),
            started,
            connections: Gauge::default(),
            over_reserved: Counter::default(),
            untold: Counter::default(),
            access_lost: Counter::default(),
            spans_lost: Counter::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        // There from the start, at zero: a rate of what has never been is none, and no alert.
        for reason in label::REASONS {
            drop(self.refusals.get_or_create(&ReasonLabels { reason }));
        }
        for outcome in [WebhookOutcome::Delivered, WebhookOutcome::Retried, WebhookOutcome::Failed] {
            drop(self.webhooks.get_or_create(&WebhookLabels { outcome }));
        }
        let registry = &mut self.registry;
        registry.register("build", "This program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("requests", "Finished requests of the edge", self.requests.clone());
        registry.register("upstream_requests", "Attempts at upstreams", self.attempts.clone());
        registry.register("webhooks", "Attempts at webhooks", self.webhooks.clone());
        registry.register("quota_refusals", "Requests that a quota refused", self.refusals.clone());
        let help = "Time from a request's head to the end of its answer";
        registry.register("request_duration_seconds", help, self.duration.clone());
        let help = "Time from a request's admission to the first byte of its upstream's answer";
        registry.register("upstream_first_byte_seconds", help, self.first_byte.clone());
        registry.register("edge_connections", "Open connections of the edge", self.connections.clone());
        registry.register("over_reserved", "Settlements above their reservation", self.over_reserved.clone());
        let help = "Finished requests that are in no access log and no trace, since they came too fast";
        registry.register("untold_requests", help, self.untold.clone());
        let help = "Lines of the access log that could not be written";
        registry.register("access_log_lost", help, self.access_lost.clone());
        registry.register("trace_spans_lost", "Spans that reached no collector", self.spans_lost.clone());
        registry.register_collector(Box::new(Arc::clone(&self.used)));
        self
    }

    /// Counts a finished request.
    pub(crate) fn request(&self, labels: RequestLabels, took: Duration) {
        self.requests.get_or_create(&labels).inc();
        self.duration.get_or_create(&RouteLabels { route: labels.route }).observe(took.as_secs_f64());
    }

    /// Counts an attempt.
    pub(crate) fn attempt(&self, upstream: &Arc<str>, outcome: AttemptOutcome) {
        self.attempts.get_or_create(&AttemptLabels { upstream: Upstream(Arc::clone(upstream)), outcome }).inc();
    }

    /// Counts an answer's first byte.
    pub(crate) fn first_byte(&self, upstream: &Arc<str>, ms: u32) {
        let labels = UpstreamLabels { upstream: Upstream(Arc::clone(upstream)) };
        self.first_byte.get_or_create(&labels).observe(Duration::from_millis(ms.into()).as_secs_f64());
    }

    /// Counts a bill. `ticket` is the one that it is made out for.
    pub(crate) fn bill(&self, target: &Target, (tenant, ticket): (&TenantId, Keys), bill: (&Usage, NanoUsd)) {
        self.used.bill((ticket.names, target), (ticket.tenant, tenant), bill);
    }

    /// Counts a refusal, where it is a quota's.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        if let Refusal::Quota { refused, .. } = refusal {
            self.refusals.get_or_create(&ReasonLabels { reason: label::reason(refused) }).inc();
        }
    }

    /// Counts an attempt at a webhook.
    pub(crate) fn webhook(&self, outcome: WebhookOutcome) {
        self.webhooks.get_or_create(&WebhookLabels { outcome }).inc();
    }
}

/// The store's keys of what a ticket is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    /// Upstream and model.
    names: (u32, u32),
    tenant: openclawmu_store::TenantKey,
}

impl Keys {
    /// Those of an open ticket.
    pub(crate) fn of(ticket: &Ticket) -> Option<Self> {
        ticket.reservation().map(Self::of_reservation)
    }

    /// Those of what was reserved.
    pub(crate) fn of_reservation(reservation: &Reservation) -> Self {
        Self { names: (reservation.upstream, reservation.model), tenant: reservation.tenant }
    }
}

/// The Prometheus text: what was counted, and a look at everything else.
pub(crate) fn render(shared: &Arc<Shared>) -> String {
    let metrics = &shared.metrics;
    let mut live = Registry::with_prefix(PREFIX);
    live.register_collector(Box::new(Live(Arc::clone(shared))));
    let mut process = Registry::with_prefix("process");
    let started_seconds = metrics.started.0.div_euclid(1_000);
    process.register_collector(Box::new(OwnProcess { started_seconds }));
    let mut text = String::new();
    let encoded = [&metrics.registry, &live, &process]
        .into_iter()
        .try_for_each(|registry| encode_registry(&mut text, registry))
        .and_then(|()| encode_eof(&mut text));
    if let Err(err) = encoded {
        tracing::error!(%err, "metrics can't be encoded");
    }
    text
}
