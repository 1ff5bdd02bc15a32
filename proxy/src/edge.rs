//! Connections: how many, and how long a client may take to ask. Requests are the gateway's.
//!
//! HTTP/1.1 and HTTP/2 share one port; in the clear, HTTP/2 is told by its preface.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use prometheus_client::metrics::gauge::Gauge;

use crate::config::EdgeConfig;
use crate::gateway::Gateway;

/// Pause between two looks at whether a connection's head is overdue.
const LOOK_EVERY: Duration = Duration::from_secs(4);
/// Streams at once on one HTTP/2 connection.
const H2_STREAMS: u32 = 256;
/// Largest head of an HTTP/2 request, in bytes.
const H2_HEAD_BYTES: u32 = 32 << 10;

tokio::task_local! {
    /// When the head of this connection's next request is overdue; `None` while a request is served, or for HTTP/2.
    static HEAD_DUE: Cell<Option<Instant>>;
}

/// Notes that this connection's request has a head. Does nothing off an HTTP/1.1 connection's own task.
pub(crate) fn head_seen() {
    // An HTTP/2 stream runs on a task of its own, where there is nothing to note.
    let _ = HEAD_DUE.try_with(|due| due.set(None));
}

/// The edge's connections.
pub(crate) struct Edge {
    http: Arc<Requests>,
    counts: Arc<Counts>,
    header_timeout: Duration,
}

/// Their requests: Pingora's proxy, with this edge's options.
pub(crate) struct Requests {
    proxy: Arc<HttpProxy<Gateway>>,
    options: HttpServerOptions,
    keepalive: u64,
    header_timeout: Duration,
}

impl Edge {
    /// An edge over `proxy`.
    pub(crate) fn new(proxy: HttpProxy<Gateway>, config: &EdgeConfig, open: Gauge) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        // Pingora counts the requests after the first.
        options.keepalive_request_limit = Some(config.keepalive_requests.saturating_sub(1));
        options.h2_idle_timeout = Some(Duration::from_secs(config.keepalive_seconds));
        let http = Requests {
            proxy: Arc::new(proxy),
            options,
            keepalive: config.keepalive_seconds,
            header_timeout: config.header_timeout,
        };
        let counts = Counts {
            open,
            all: AtomicUsize::new(0),
            by_ip: Mutex::default(),
            most: config.max_connections,
            most_by_ip: config.max_connections_per_ip,
        };
        Self { http: Arc::new(http), counts: Arc::new(counts), header_timeout: config.header_timeout }
    }
}

#[async_trait]
impl ServerApp for Edge {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let peer = stream
            .get_socket_digest()
            .and_then(|digest| digest.peer_addr().and_then(|addr| addr.as_inet().map(|addr| addr.ip().to_canonical())));
        let _place = self.counts.take(peer)?;
        let due = Cell::new(Some(Instant::now() + self.header_timeout));
        HEAD_DUE
            .scope(due, async {
                tokio::select! {
                    biased;
                    ended = ServerApp::process_new(&self.http, stream, shutdown) => ended,
                    () = overdue() => {
                        tracing::debug!(?peer, "a connection was closed: no request's head came in time");
                        None
                    }
                }
            })
            .await
    }

    async fn cleanup(&self) {
        ServerApp::cleanup(&*self.http).await;
    }
}

async fn overdue() {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if HEAD_DUE.with(Cell::get).is_some_and(|due| Instant::now() >= due) {
            return;
        }
    }
}

#[async_trait]
impl HttpServerApp for Requests {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !session.is_http2() {
            if session.get_keepalive().is_some() {
                session.set_keepalive(Some(self.keepalive));
            }
            session.set_pipelining_enabled(true);
            session.set_read_timeout(Some(self.header_timeout));
            // A first request has its time from the connection's start; a later one may let the connection idle first.
            let idle = Duration::from_secs(self.keepalive);
            let _ = HEAD_DUE.try_with(|due| {
                if due.get().is_none() {
                    due.set(Some(Instant::now() + idle + self.header_timeout));
                }
            });
        }
        self.proxy.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        // Called once for each HTTP/2 connection, on its task: its streams have heads of their own.
        head_seen();
        let mut options = H2Options::default();
        options
            .max_concurrent_streams(H2_STREAMS)
            .max_header_list_size(H2_HEAD_BYTES)
            .max_concurrent_reset_streams(64)
            .max_pending_accept_reset_streams(64);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

/// How many connections there are.
struct Counts {
    open: Gauge,
    all: AtomicUsize,
    by_ip: Mutex<HashMap<IpAddr, usize>>,
    most: usize,
    most_by_ip: usize,
}

/// One connection's place among them.
struct Place {
    counts: Arc<Counts>,
    peer: Option<IpAddr>,
}

impl Counts {
    fn take(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<Place> {
        if self.all.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.all.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(most = self.most, "a connection was refused: edge.max_connections are open");
            return None;
        }
        if let Some(peer) = peer {
            let mut by_ip = self.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_ip.entry(peer).or_insert(0);
            if *count >= self.most_by_ip {
                self.all.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(%peer, most = self.most_by_ip, "a connection was refused: edge.max_connections_per_ip are open from this address");
                return None;
            }
            *count += 1;
        }
        self.open.inc();
        Some(Place { counts: Arc::clone(self), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.open.dec();
        self.counts.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(peer) = self.peer {
            let mut by_ip = self.counts.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = by_ip.get_mut(&peer) {
                *count -= 1;
                if *count == 0 {
                    by_ip.remove(&peer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_never_exceeded() {
        let counts = Arc::new(Counts {
            open: Gauge::default(),
            all: AtomicUsize::new(0),
            by_ip: Mutex::default(),
            most: 3,
            most_by_ip: 2,
        });
        let (one, other) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        let first = counts.take(one).unwrap();
        let _second = counts.take(one).unwrap();
        assert!(counts.take(one).is_none());
        let _third = counts.take(other).unwrap();
        assert!(counts.take(other).is_none());
        drop(first);
        let _again = counts.take(other).unwrap();
        assert_eq!(counts.open.get(), 3);
    }
}
