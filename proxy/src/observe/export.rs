//! Sends spans to a collector by OTLP over HTTP, from a thread of its own: a collector that is slow or gone holds nothing up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::InstrumentationScope;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use prometheus_client::metrics::counter::Counter;
use tokio::runtime::Runtime;

use super::notes::Finished;
use super::observer::Sink;
use super::{semantic, spans};

/// Spans that go out together at most.
const BATCH: usize = 512;
/// How long they gather.
const EVERY: Duration = Duration::from_secs(1);
/// Batches that wait for the collector.
const WAITING: usize = 16;
/// Longest wait for the collector.
const PATIENCE: Duration = Duration::from_secs(5);
/// The path of traces below a collector's endpoint (OTLP/HTTP).
const PATH: &str = "/v1/traces";

/// Builds spans and hands them over in batches.
pub(crate) struct Tracer {
    scope: InstrumentationScope,
    spans: Vec<SpanData>,
    since: Instant,
    queue: Option<SyncSender<Vec<SpanData>>>,
    /// Nobody waits for a collector that is gone any more.
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Spans that reached no collector.
    lost: Counter,
}

impl Tracer {
    /// Starts the thread that sends to `endpoint`.
    ///
    /// # Errors
    /// What is wrong with the endpoint, or the system's words.
    pub(crate) fn start(endpoint: &str, lost: Counter) -> Result<Self, String> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|err| err.to_string())?;
        let exporter = exporter(endpoint)?;
        let (queue, batches) = sync_channel(WAITING);
        let (failures, closing) = (lost.clone(), Arc::new(AtomicBool::new(false)));
        let ending = Arc::clone(&closing);
        let thread = std::thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || send((&runtime, &exporter), &batches, &failures, &ending))
            .map_err(|err| err.to_string())?;
        let scope = InstrumentationScope::builder("openclawmu")
            .with_version(env!("CARGO_PKG_VERSION"))
            .with_schema_url(semantic::SCHEMA_URL)
            .build();
        let (spans, since) = (Vec::new(), Instant::now());
        Ok(Self { scope, spans, since, queue: Some(queue), closing, thread: Some(thread), lost })
    }

    fn hand_over(&mut self) {
        self.since = Instant::now();
        let Some(queue) = &self.queue else { return };
        if self.spans.is_empty() {
            return;
        }
        match queue.try_send(std::mem::take(&mut self.spans)) {
            Ok(()) => {}
            Err(TrySendError::Full(spans) | TrySendError::Disconnected(spans)) => count(&self.lost, spans.len()),
        }
    }
}

impl Sink for Tracer {
    fn take(&mut self, finished: &Finished) {
        self.spans.append(&mut spans::of(finished, &self.scope));
        if self.spans.len() >= BATCH {
            self.hand_over();
        }
    }

    fn flush(&mut self) {
        if self.since.elapsed() >= EVERY {
            self.hand_over();
        }
    }

    fn reopen(&mut self) {}
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.hand_over();
        self.closing.store(true, Ordering::Release);
        self.queue.take();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that sends traces panicked");
        }
    }
}

fn count(lost: &Counter, spans: usize) {
    lost.inc_by(u64::try_from(spans).unwrap_or(0));
}

fn exporter(endpoint: &str) -> Result<SpanExporter, String> {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .map_err(|err| err.to_string())?;
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client(client))
        .with_endpoint([endpoint.trim_end_matches('/'), PATH].concat())
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(PATIENCE)
        .build()
        .map_err(|err| err.to_string())?;
    exporter.set_resource(&Resource::builder_empty().with_service_name("openclawmu").build());
    Ok(exporter)
}

fn send(
    (runtime, exporter): (&Runtime, &SpanExporter),
    batches: &Receiver<Vec<SpanData>>,
    lost: &Counter,
    closing: &AtomicBool,
) {
    let mut failing = false;
    for batch in batches {
        let spans = batch.len();
        if failing && closing.load(Ordering::Acquire) {
            count(lost, spans);
            continue;
        }
        match runtime.block_on(exporter.export(batch)) {
            Ok(()) => failing = false,
            Err(err) => {
                count(lost, spans);
                // Once, and again after it has worked: a collector may be gone for days.
                if !failing {
                    tracing::warn!(%err, "traces can't be sent; spans are lost until they can");
                }
                failing = true;
            }
        }
    }
}

/// The exporter's way out.
#[derive(Debug)]
struct Client(reqwest::Client);

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let sent = self.0.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
        let answer = sent.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = Response::new(answer.bytes().await?);
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }
}
