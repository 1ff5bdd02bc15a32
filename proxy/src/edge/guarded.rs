//! A connection's bytes on their way to the HTTP/2 library: looked at, never changed. What must not go on ends as a broken read.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Connection;
use super::frames::{Frames, PREFACE};

/// Requests that a client may still send after it was told that the connection ends.
const LATE_REQUESTS: u32 = 1_000;

/// A connection's stream.
#[derive(Debug)]
pub(super) struct Guarded {
    io: Stream,
    /// What was read of it already, to be read again.
    again: Bytes,
    watched: Option<(Arc<Connection>, Box<Frames>)>,
}

impl Guarded {
    /// A stream of HTTP/2, of which `again` was read already, whose requests are watched.
    pub(super) fn new(io: Stream, again: Bytes, connection: Arc<Connection>) -> Self {
        let frames = Box::new(Frames::after(PREFACE.len(), Instant::now()));
        Self { io, again, watched: Some((connection, frames)) }
    }

    /// A stream as it is, such as one beneath TLS.
    pub(super) fn plain(io: Stream) -> Self {
        Self { io, again: Bytes::new(), watched: None }
    }
}

/// What a client owes after its frames so far, and whether it has asked enough.
fn account(frames: &Frames, connection: &Connection) -> Result<()> {
    if frames.owes_head() {
        connection.owe(Duration::ZERO);
    } else {
        connection.paid();
    }
    let most = connection.requests();
    if frames.streams() >= most.saturating_add(LATE_REQUESTS) {
        return Err(refused("requests go on after the connection's end was announced"));
    }
    if frames.streams() >= most {
        connection.retire();
    }
    Ok(())
}

fn refused(why: &str) -> Error {
    tracing::debug!(why, "a connection is cut");
    Error::new(ErrorKind::InvalidData, why.to_owned())
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.again.is_empty() {
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        } else {
            let read = this.again.split_to(this.again.len().min(buf.remaining()));
            buf.put_slice(&read);
        }
        let read = buf.filled().get(before..).unwrap_or_default();
        if let Some((connection, frames)) = &mut this.watched
            && !read.is_empty()
        {
            frames.pass(read, Instant::now()).map_err(|flood| refused(&flood.to_string()))?;
            account(frames, connection)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Guarded {
    async fn shutdown(&mut self) {
        self.io.shutdown().await;
    }
}

#[async_trait]
impl Peek for Guarded {
    async fn try_peek(&mut self, _buf: &mut [u8]) -> Result<bool> {
        // What it speaks is known already.
        Ok(false)
    }
}

impl UniqueID for Guarded {
    fn id(&self) -> UniqueIDType {
        self.io.id()
    }
}

impl Ssl for Guarded {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.io.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.io.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.io.selected_alpn_proto()
    }
}

impl GetTimingDigest for Guarded {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.io.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.io.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.io.get_write_pending_time()
    }
}

impl GetProxyDigest for Guarded {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.io.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.io.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Guarded {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.io.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.io.set_socket_digest(digest);
    }
}
