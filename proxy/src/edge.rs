//! Connections: how many, and how long a client may take to ask. Requests are the gateway's.
//!
//! HTTP/1.1 and HTTP/2 share one port; in the clear, HTTP/2 is told by its preface. What the server behind leaves open is closed
//! here, in front of it:
//! - TLS handshakes count as connections, and have the same time as a head; the server behind would give them a minute, uncounted
//! - HTTP/1.1 bodies are framed in one way only (`messages`)
//! - a head has a deadline from its first byte, over HTTP/2 as well, and an end to what is read of it (`connection`)
//! - HTTP/2 frames without content are a flood past a rate, and a connection ends after its requests (`frames`, `guarded`)
//! - connections are capped, at all and for each address (`counts`)

mod connection;
mod counts;
mod frames;
mod guarded;
mod messages;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::protocols::tls::server::handshake;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use prometheus_client::metrics::gauge::Gauge;

use self::connection::Connection;
use self::counts::Counts;
use self::guarded::Guarded;
use crate::config::EdgeConfig;
use crate::gateway::Gateway;

/// Streams at once on one HTTP/2 connection.
const H2_STREAMS: u32 = 256;
/// Largest head of an HTTP/2 request, in bytes.
const H2_HEAD_BYTES: u32 = 32 << 10;
/// What waits on one HTTP/2 stream for its client to take it, in bytes.
const H2_SEND_BYTES: usize = 64 << 10;

tokio::task_local! {
    /// The connection that this task serves. An HTTP/2 stream runs on a task of its own, where there is none.
    static CONNECTION: Arc<Connection>;
}

/// Notes that this connection's request has a head. Does nothing off an HTTP/1.1 connection's own task.
/// Stays a function of its own, as `Notes::stage` does.
#[inline(never)]
pub(crate) fn head_seen() {
    let _ = CONNECTION.try_with(|connection| connection.paid());
}

/// The edge's connections.
pub(crate) struct Edge {
    http: Arc<Requests>,
    counts: Arc<Counts>,
    tls: Option<Acceptor>,
    header_timeout: Duration,
    keepalive_requests: u32,
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
        Self {
            http: Arc::new(http),
            counts: Arc::new(Counts::new(open, config.max_connections, config.max_connections_per_ip)),
            tls: None,
            header_timeout: config.header_timeout,
            keepalive_requests: config.keepalive_requests,
        }
    }

    /// The same over TLS.
    pub(crate) fn over_tls(self, settings: TlsSettings) -> Self {
        Self { tls: Some(settings.build()), ..self }
    }

    /// The stream beneath its requests; `None` where TLS can't be agreed on in time.
    async fn secured(&self, stream: Stream) -> Option<Stream> {
        let Some(acceptor) = &self.tls else { return Some(stream) };
        match tokio::time::timeout(self.header_timeout, handshake(acceptor, Guarded::plain(stream))).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(err)) => {
                tracing::debug!(%err, "a TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("a connection was closed: its TLS handshake took too long");
                None
            }
        }
    }
}

#[async_trait]
impl ServerApp for Edge {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let peer = stream
            .get_socket_digest()
            .and_then(|digest| digest.peer_addr().and_then(|addr| addr.as_inet().map(|addr| addr.ip().to_canonical())));
        let _place = self.counts.take(peer)?;
        let stream = self.secured(stream).await?;
        let mut shutdown = shutdown.clone();
        let ending = *shutdown.borrow_and_update();
        let connection = Arc::new(Connection::new(self.header_timeout, self.keepalive_requests, ending));
        let stream = Box::new(Guarded::new(stream, Arc::clone(&connection)));
        let retired = connection.retired();
        let served = CONNECTION.scope(Arc::clone(&connection), ServerApp::process_new(&self.http, stream, &retired));
        let mut served = std::pin::pin!(served);
        loop {
            tokio::select! {
                biased;
                ended = &mut served => return ended,
                Ok(()) = shutdown.changed() => connection.retire(),
                () = connection.overdue() => {
                    tracing::debug!(?peer, "a connection was closed: no request's head came in time");
                    return None;
                }
            }
        }
    }

    async fn cleanup(&self) {
        ServerApp::cleanup(&*self.http).await;
    }
}

/// What `async_trait` makes of a method.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

// Written out, since a session that went through one more future would be moved and put on the heap once more.
impl HttpServerApp for Requests {
    fn process_new_http<'life0, 'life1, 'a>(
        self: &'life0 Arc<Self>,
        mut session: ServerSession,
        shutdown: &'life1 ShutdownWatch,
    ) -> Boxed<'a, Option<ReusedHttpStream>>
    where
        'life0: 'a,
        'life1: 'a,
    {
        if !session.is_http2() {
            if session.get_keepalive().is_some() {
                session.set_keepalive(Some(self.keepalive));
            }
            session.set_pipelining_enabled(true);
            session.set_read_timeout(Some(self.header_timeout));
            // A first request has its time from the connection's start; a later one may let the connection idle first.
            let idle = Duration::from_secs(self.keepalive);
            let _ = CONNECTION.try_with(|connection| connection.owe(idle));
        }
        self.proxy.process_new_http(session, shutdown)
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = H2Options::default();
        options
            .max_concurrent_streams(H2_STREAMS)
            .max_header_list_size(H2_HEAD_BYTES)
            .max_send_buffer_size(H2_SEND_BYTES)
            .max_concurrent_reset_streams(64)
            .max_pending_accept_reset_streams(64);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    fn http_cleanup<'life0, 'a>(&'life0 self) -> Boxed<'a, ()>
    where
        'life0: 'a,
    {
        self.proxy.http_cleanup()
    }
}
