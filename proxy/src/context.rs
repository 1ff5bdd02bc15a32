//! What every request needs, and what is noted of one.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use http::{HeaderMap, Method};
use openclawmu_control::channel::Channels;
use openclawmu_store::{RequestId, Store, UnixMs};
use tokio::sync::{Notify, watch};

use crate::agent;
use crate::background::Running;
use crate::catalog::Catalog;
use crate::config::EdgeConfig;
use crate::dialect::Dialect;
use crate::metrics::{Metrics, RequestLabels, process};
use crate::observe::{Finished, Notes, Observer, Sampling, Trace};
use crate::own_key::OwnKeys;
use crate::response::{Seals, Shelf};
use crate::sandbox::Rooms;
use crate::terminal::Desk;
use crate::workspace::Meter;

/// What every request needs.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) catalog: ArcSwap<Catalog>,
    pub(crate) config: EdgeConfig,
    pub(crate) metrics: Metrics,
    /// Who is told of finished requests, if anybody is.
    pub(crate) observer: Option<Observer>,
    /// Each of them is told, and not only those that are traced.
    pub(crate) logs_access: bool,
    /// Which are traced.
    pub(crate) sampling: Option<Sampling>,
    /// Responses that are kept to be continued.
    pub(crate) shelf: Shelf,
    /// Responses that are being worked on in the background.
    pub(crate) running: Running,
    /// Seals what clients carry of their responses.
    pub(crate) seals: Seals,
    /// Opens the tenants' own keys at providers.
    pub(crate) own_keys: OwnKeys,
    /// What runs tenants' code, and where their files are.
    pub(crate) rooms: Rooms,
    /// What those files take of the disk, for the books.
    pub(crate) meter: Meter,
    /// Terminals in tenants' sandboxes.
    pub(crate) terminals: Desk,
    /// Tenants' own agents.
    pub(crate) agents: agent::Desk,
    /// Messengers, by which people reach tenants' agents.
    pub(crate) channels: Arc<Channels>,
    /// Told when a batch is seen to have ended.
    pub(crate) batches: Notify,
    /// The first half of request ids, random for each process.
    pub(crate) id_prefix: u64,
    pub(crate) requests: AtomicUsize,
    /// Requests being served.
    pub(crate) active: AtomicUsize,
    /// The process is about to end: not ready for more.
    pub(crate) draining: AtomicBool,
    /// Turns true when requests still running must end.
    pub(crate) cut: watch::Sender<bool>,
}

/// A request's notes, for metrics and the log.
pub struct Context {
    pub(crate) request_id: RequestId,
    pub(crate) started: Instant,
    pub(crate) route: &'static str,
    pub(crate) status: u16,
    /// What its client speaks.
    pub(crate) dialect: Dialect,
    /// What else is told of it.
    pub(crate) notes: Notes,
    active: Active,
}

/// What was seen of a request's connection.
pub(crate) struct Wire {
    /// The request's method.
    pub(crate) method: Method,
    /// The client's address.
    pub(crate) peer: Option<IpAddr>,
    /// Bytes of the request's body and of the answer's.
    pub(crate) bytes: (usize, usize),
}

/// One request being served; however it ends, it is counted out.
pub(crate) struct Active(Arc<Shared>);

impl Active {
    /// Counts it in.
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.active.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Context {
    /// The notes of a request that begins now.
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            request_id: shared.next_id(),
            started: Instant::now(),
            route: "none",
            status: 0,
            dialect: Dialect::default(),
            notes: Notes::new(shared.logs_access),
            active: Active::new(shared),
        }
    }

    /// Traces the request from now on, where it is sampled. `from` is who asks, where somebody outside does.
    pub(crate) fn trace(&mut self, from: Option<(IpAddr, &HeaderMap)>) {
        let trace = self.shared().sampling.as_ref().and_then(|sampling| Trace::begin(sampling, self.request_id, from));
        self.notes.traced(trace);
    }

    /// What every request needs.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.active.0
    }

    /// Whether the process is about to end, so that no other request should follow on this one's connection.
    pub(crate) fn leaves(&self) -> bool {
        self.shared().draining.load(Ordering::Relaxed)
    }

    /// Counts and tells the request, which has ended. `wire` is asked only where somebody is told.
    /// Stays a function of its own, as `Notes::stage` does.
    #[inline(never)]
    pub(crate) fn finish(&mut self, wire: impl FnOnce() -> Wire) {
        let (shared, took) = (Arc::clone(self.shared()), self.started.elapsed());
        shared.metrics.request(RequestLabels { route: self.route, status: self.status }, took);
        let Some(observer) = shared.observer.as_ref().filter(|_| self.notes.is_on()) else { return };
        let (Wire { method, peer, bytes }, now) = (wire(), shared.store.clock().now());
        observer.tell(Finished {
            at: UnixMs(now.0.saturating_sub(i64::try_from(took.as_millis()).unwrap_or(0))),
            request_id: self.request_id,
            route: self.route,
            method,
            status: self.status,
            dialect: self.dialect,
            peer,
            bytes_in: bytes.0,
            bytes_out: bytes.1,
            started: self.started,
            took,
            notes: std::mem::take(&mut self.notes),
        });
    }
}

impl Shared {
    /// Whether it can serve; if not, why.
    pub(crate) fn ready(&self) -> Result<(), &'static str> {
        if self.draining.load(Ordering::Relaxed) {
            Err("draining")
        } else if !self.store.healthy() {
            Err("the store does not take writes")
        } else if process::is_exhausted() {
            Err("no file descriptor is left")
        } else {
            Ok(())
        }
    }

    pub(crate) fn next_id(&self) -> RequestId {
        let count = u64::try_from(self.requests.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
        RequestId((u128::from(self.id_prefix) << 64) | u128::from(count))
    }
}
