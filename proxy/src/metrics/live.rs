//! What is not counted but looked at when somebody asks: the store, the upstreams, the process.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use openclawmu_store::PaceTaken;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::process;
use crate::context::Shared;

/// The look.
pub(super) struct Live(pub(super) Arc<Shared>);

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, (name, help): (&str, &str), value: u64) -> Result<(), Error> {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

/// A gauge that is absent while it can't be read: a zero would say that nothing waits.
fn known(encoder: &mut DescriptorEncoder<'_>, name: (&str, &str), value: Option<u64>) -> Result<(), Error> {
    value.map_or(Ok(()), |value| gauge(encoder, name, value))
}

fn counter(encoder: &mut DescriptorEncoder<'_>, (name, help): (&str, &str), value: u64) -> Result<(), Error> {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Collector for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let (shared, encoder) = (&*self.0, &mut encoder);
        gauge(encoder, ("ready", "1 while the gateway can serve"), u64::from(shared.ready().is_ok()))?;
        let active = count(shared.active.load(Ordering::Relaxed));
        gauge(encoder, ("requests_in_flight", "Requests that are being served"), active)?;
        self.store(encoder)?;
        self.upstreams(encoder)
    }
}

impl Live {
    fn store(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let store = &self.0.store;
        let pace = store.pace();
        gauge(encoder, ("store_healthy", "1 while the store takes writes"), u64::from(store.healthy()))?;
        gauge(encoder, ("in_flight", "Attempts in flight or not yet durable"), count(store.in_flight()))?;
        counter(encoder, ("store_token_reads", "Token rows looked up"), store.token_reads())?;
        gauge(encoder, ("store_writer_queue", "Rows and changes that wait for the writer"), count(pace.queued))?;
        counter(encoder, ("store_commit_failures", "Commits that failed"), pace.failed)?;
        commits(encoder, &pace)?;
        let help = "Bytes in the database's write-ahead log, which is begun anew when it is long and nobody reads it";
        gauge(encoder, ("store_log_bytes", help), store.log_bytes())?;
        let running = store.running_batches().ok().map(|running| count(running.len()));
        let help = "Batches at providers that have not ended, and are held for";
        known(encoder, ("batches_running", help), running)?;
        let pending = store.pending_webhooks().ok();
        known(encoder, ("webhooks_pending", "Webhooks that are still to be delivered"), pending)?;
        let audit = store.audit_status();
        let help = "1 while the audit log takes lines; at 0 every change is refused";
        gauge(encoder, ("audit_healthy", help), u64::from(audit.healthy))?;
        counter(encoder, ("audit_lines", "Lines of the audit log"), audit.lines)?;
        counter(encoder, ("audit_failures", "Writes to the audit log that failed"), audit.failures)?;
        known(encoder, ("audit_waiting", "What waits for its line in the audit log"), audit.waiting)
    }

    fn upstreams(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let (catalog, now) = (self.0.catalog.load(), Instant::now());
        let help = "Attempts in flight at an upstream";
        let mut family = encoder.encode_descriptor("upstream_in_flight", help, None, MetricType::Gauge)?;
        for upstream in catalog.all() {
            let load = i64::try_from(upstream.health.load()).unwrap_or(i64::MAX);
            ConstGauge::new(load).encode(family.encode_family(&[("upstream", &*upstream.name)])?)?;
        }
        let help = "Models of an upstream that are left alone for a while, since they failed or asked for it";
        let mut family = encoder.encode_descriptor("upstream_resting_models", help, None, MetricType::Gauge)?;
        for upstream in catalog.all() {
            let resting = i64::try_from(upstream.health.resting(now)).unwrap_or(i64::MAX);
            ConstGauge::new(resting).encode(family.encode_family(&[("upstream", &*upstream.name)])?)?;
        }
        Ok(())
    }
}

fn commits(encoder: &mut DescriptorEncoder<'_>, pace: &PaceTaken) -> Result<(), Error> {
    let mut buckets: Vec<(f64, u64)> = pace.within.iter().map(|(bound, count)| (bound.as_secs_f64(), *count)).collect();
    let slower = pace.within.iter().fold(pace.commits, |rest, (_, count)| rest.saturating_sub(*count));
    buckets.push((f64::MAX, slower));
    let help = "Time of a commit of the ledger, its sync to the disk included";
    let mut histogram = encoder.encode_descriptor("store_commit_seconds", help, None, MetricType::Histogram)?;
    histogram.encode_histogram::<NoLabelSet>(pace.total.as_secs_f64(), pace.commits, &buckets, None)
}

/// The process, under the names that every exporter has for it.
#[derive(Debug)]
pub(super) struct OwnProcess {
    /// When it was started, in seconds since 1970.
    pub(super) started_seconds: i64,
}

impl Collector for OwnProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let encoder = &mut encoder;
        let help = "CPU time of this process, in user and system";
        let cpu = encoder.encode_descriptor("cpu_seconds", help, None, MetricType::Counter)?;
        ConstCounter::new(process::cpu().as_secs_f64()).encode(cpu)?;
        let started = u64::try_from(self.started_seconds).unwrap_or(0);
        gauge(encoder, ("start_time_seconds", "When this process was started, in seconds since 1970"), started)?;
        if let Some(bytes) = process::resident_bytes() {
            gauge(encoder, ("resident_memory_bytes", "Memory of this process"), bytes)?;
        }
        if let Some(open) = process::open_fds() {
            gauge(encoder, ("open_fds", "Open file descriptors"), open)?;
        }
        if let Some(most) = process::max_fds() {
            gauge(encoder, ("max_fds", "Largest number of open file descriptors"), most)?;
        }
        Ok(())
    }
}
