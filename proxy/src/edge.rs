//! Connections: how many, how long a client may take to ask, and what it speaks. Requests are the gateway's.
//!
//! HTTP/1.1 and HTTP/2 share one port; in the clear, HTTP/2 is told by its preface. HTTP/1.1 is served here, HTTP/2 by Pingora's
//! proxy; what that leaves open is closed in front of it:
//! - TLS handshakes count as connections, and have the same time as a head; the server behind would give them a minute, uncounted
//! - a head has a deadline from its first byte, over HTTP/2 as well (`connection`, `watch`)
//! - HTTP/2 frames without content are a flood past a rate, and a connection ends after its requests (`frames`, `guarded`)
//! - connections are capped, at all and for each address (`counts`)

mod connection;
mod counts;
mod frames;
mod guarded;
mod watch;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::protocols::tls::server::handshake;
use pingora::protocols::{ALPN, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use prometheus_client::metrics::gauge::Gauge;

use self::connection::Connection;
use self::counts::Counts;
use self::frames::PREFACE;
use self::guarded::Guarded;
pub(crate) use self::watch::Watch;
use crate::config::EdgeConfig;
use crate::gateway::{self, Gateway};
use crate::http1::{Http1, read_some};
use crate::session::Session;

/// Streams at once on one HTTP/2 connection.
const H2_STREAMS: u32 = 256;
/// Largest head of an HTTP/2 request, in bytes.
const H2_HEAD_BYTES: u32 = 32 << 10;
/// What waits on one HTTP/2 stream for its client to take it, in bytes.
const H2_SEND_BYTES: usize = 64 << 10;

/// Marks that a request has a head. Stays a function of its own, as `Notes::stage` does.
#[inline(never)]
pub(crate) fn head_seen() {
    std::hint::black_box(());
}

/// The edge's connections.
pub(crate) struct Edge {
    gateway: Gateway,
    http2: Arc<Http2>,
    counts: Arc<Counts>,
    tls: Option<Acceptor>,
    header_timeout: Duration,
    keepalive: Duration,
    keepalive_requests: u32,
    watch: Arc<Watch>,
}

/// Requests over HTTP/2: Pingora's proxy, with this edge's options.
pub(crate) struct Http2 {
    proxy: Arc<HttpProxy<Gateway>>,
    options: HttpServerOptions,
}

impl Edge {
    /// An edge over `gateway`, which `proxy` is of.
    pub(crate) fn new(gateway: Gateway, proxy: HttpProxy<Gateway>, config: &EdgeConfig, open: Gauge) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        options.h2_idle_timeout = Some(Duration::from_secs(config.keepalive_seconds));
        Self {
            gateway,
            http2: Arc::new(Http2 { proxy: Arc::new(proxy), options }),
            counts: Arc::new(Counts::new(open, config.max_connections, config.max_connections_per_ip)),
            tls: None,
            header_timeout: config.header_timeout,
            keepalive: Duration::from_secs(config.keepalive_seconds),
            keepalive_requests: config.keepalive_requests,
            watch: Arc::default(),
        }
    }

    /// Its connections, to be watched while they are served.
    pub(crate) fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.watch)
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

    /// Serves a connection until it ends.
    async fn speak(&self, mut stream: Stream, peer: IpAddr, connection: &Arc<Connection>) {
        let mut buffer = BytesMut::new();
        let over_http2 = match stream.get_ssl_digest() {
            Some(_) => Some(matches!(stream.selected_alpn_proto(), Some(ALPN::H2))),
            None => prefers_http2(&mut stream, &mut buffer).await,
        };
        match over_http2 {
            Some(false) => self.speak_http1(Http1::new(stream, peer, buffer), connection).await,
            Some(true) => {
                let stream = Box::new(Guarded::new(stream, buffer.freeze(), Arc::clone(connection)));
                let _ended = ServerApp::process_new(&self.http2, stream, &connection.retired()).await;
            }
            None => {}
        }
    }

    /// Serves one request after the other.
    async fn speak_http1(&self, mut http: Http1, connection: &Connection) {
        for served in 1_u32.. {
            if !http.next(|| connection.begun()).await {
                return;
            }
            connection.paid();
            head_seen();
            if served >= self.keepalive_requests || connection.is_retired() {
                http.close();
            }
            if !self.answer(&mut http).await {
                break;
            }
            connection.owe(self.keepalive);
        }
        http.end().await;
    }

    /// Answers one request; whether another may follow.
    async fn answer(&self, http: &mut Http1) -> bool {
        let mut ctx = self.gateway.context();
        let session = &mut Session::Http1(http);
        let served = self.gateway.serve(session, &mut ctx).await;
        gateway::finish(session, &mut ctx, served.as_ref().err().map(|err| &**err));
        drop(ctx);
        served.is_ok() && http.follows().await
    }
}

/// Whether what comes is the preface of HTTP/2; it is left in `buffer`. `None` where the connection ends before.
async fn prefers_http2(stream: &mut Stream, buffer: &mut BytesMut) -> Option<bool> {
    loop {
        let shared = buffer.len().min(PREFACE.len());
        if shared == PREFACE.len() || buffer.get(..shared) != PREFACE.get(..shared) {
            return Some(shared == PREFACE.len() && buffer.starts_with(PREFACE));
        }
        if read_some(stream, buffer).await.ok()? == 0 {
            return None;
        }
    }
}

#[async_trait]
impl ServerApp for Edge {
    async fn process_new(self: &Arc<Self>, stream: Stream, _shutdown: &ShutdownWatch) -> Option<Stream> {
        let peer = stream
            .get_socket_digest()
            .and_then(|digest| digest.peer_addr().and_then(|addr| addr.as_inet().map(|addr| addr.ip().to_canonical())));
        let place = self.counts.take(peer)?;
        let connection = Arc::new(Connection::new(self.header_timeout, self.keepalive_requests));
        let edge = Arc::clone(self);
        // On a task of its own: the one that accepted it holds what a handshake would have needed.
        self.watch.serve(Arc::clone(&connection), |entry| async move {
            let (_entry, _place) = (entry, place);
            if let Some(stream) = edge.secured(stream).await {
                edge.speak(stream, peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), &connection).await;
            }
        });
        None
    }

    async fn cleanup(&self) {
        self.watch.close_idle();
        ServerApp::cleanup(&*self.http2).await;
    }
}

#[async_trait]
impl HttpServerApp for Http2 {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.proxy.process_new_http(session, shutdown).await
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

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
