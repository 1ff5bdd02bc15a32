//! Connections to the admin API: how many there may be, and how long a client may take over a head, a body and an answer. Who
//! sends or takes nothing is cut, so that nobody keeps the operator out by holding connections.

use std::convert::Infallible;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tower::ServiceExt;

use crate::admin::peer::Peer;

/// What a client of the admin API may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once, of each listener.
    pub(super) connections: usize,
    /// The longest time to a whole head; an idle connection is closed after it.
    pub(super) head: Duration,
    /// The longest time to a whole body.
    pub(super) body: Duration,
    /// The longest time in which nothing of an answer is taken.
    pub(super) pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connections: 256, head: seconds(15), body: seconds(60), pause: seconds(30) }
    }
}

/// How long a connection that has asked nothing yet is listened to after the shutdown.
const LAST_HEAD: Duration = Duration::from_secs(1);
/// The largest head, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// A listener that knows who connects.
pub(super) trait Accepts: Listener {
    /// Who is at the other end.
    fn peer(io: &Self::Io, address: &Self::Addr) -> Peer;
}

impl Accepts for TcpListener {
    fn peer(_: &Self::Io, address: &Self::Addr) -> Peer {
        Peer::Network(address.ip().to_canonical())
    }
}

impl Accepts for UnixListener {
    fn peer(io: &Self::Io, _: &Self::Addr) -> Peer {
        Peer::Local(io.peer_cred().ok().map(|user| user.uid()))
    }
}

/// Serves until `stopped`'s sender is gone, then lets calls in progress end.
pub(super) async fn serve<L: Accepts>(mut listener: L, app: Router, limits: Limits, mut stopped: watch::Receiver<()>) {
    let (mut running, app) = (JoinSet::new(), Arc::new(app));
    let until = stopped.clone();
    loop {
        let (io, address) = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = running.join_next() => continue,
            Err(_) = stopped.changed() => break,
        };
        if running.len() >= limits.connections {
            tracing::warn!(most = limits.connections, "a connection to the admin API was refused: so many are open");
            continue;
        }
        let peer = L::peer(&io, &address);
        running.spawn(connection(Draining::new(io, limits.pause), (Arc::clone(&app), peer), limits, until.clone()));
    }
    drop(listener);
    while running.join_next().await.is_some() {}
}

async fn connection<I: AsyncRead + AsyncWrite + Unpin>(
    io: I,
    (app, peer): (Arc<Router>, Peer),
    limits: Limits,
    mut stopped: watch::Receiver<()>,
) {
    let asked = Notify::new();
    let service = service_fn(|request| {
        asked.notify_one();
        answer(Router::clone(&app), (peer, limits.body), request)
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(MAX_HEAD_BYTES);
    let mut served = std::pin::pin!(server.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = closed(&mut stopped) => {
            // Whoever was accepted at the last moment has its request on the way: told to end now, hyper would close unheard.
            tokio::select! {
                ended = served.as_mut() => ended,
                () = first(&asked) => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            }
        }
    };
    if let Err(err) = ended {
        tracing::debug!(?peer, %err, "a connection to the admin API was cut");
    }
}

/// Ends when something was asked, or nothing for too long to be on the way.
async fn first(asked: &Notify) {
    let _late = tokio::time::timeout(LAST_HEAD, asked.notified()).await;
}

/// Ends when the sender is gone.
async fn closed(stopped: &mut watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}

async fn answer(
    app: Router,
    (peer, patience): (Peer, Duration),
    request: Request<Incoming>,
) -> std::result::Result<Response<Body>, Infallible> {
    let mut request = request.map(|body| Body::new(Prompt { body, late: Box::pin(tokio::time::sleep(patience)) }));
    request.extensions_mut().insert(ConnectInfo(peer));
    app.oneshot(request).await
}

/// A request's body that breaks when it is not whole in time.
struct Prompt {
    body: Incoming,
    late: Pin<Box<Sleep>>,
}

impl hyper::body::Body for Prompt {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        ready!(self.late.as_mut().poll(cx));
        Poll::Ready(Some(Err(too_late().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn too_late() -> Error {
    Error::new(ErrorKind::TimedOut, "the client takes too long")
}

/// A connection that breaks when nothing of what is written is taken for too long.
struct Draining<I> {
    io: I,
    pause: Duration,
    late: Option<Pin<Box<Sleep>>>,
}

impl<I> Draining<I> {
    fn new(io: I, pause: Duration) -> Self {
        Self { io, pause, late: None }
    }

    /// Whether a write may go on waiting.
    fn check(&mut self, polled: Poll<Result<usize>>, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        if polled.is_ready() {
            self.late = None;
            return polled;
        }
        let late = self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.pause)));
        ready!(late.as_mut().poll(cx));
        Poll::Ready(Err(too_late()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Draining<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Draining<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.check(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.check(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
