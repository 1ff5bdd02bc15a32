//! A connection's bytes on their way to the HTTP parser: looked at, never changed. What must not go on ends as a broken read,
//! after what came before it.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Connection;
use super::frames::{Frames, PREFACE};
use super::messages::Messages;

/// Requests that a client may still send after it was told that the connection ends.
const LATE_REQUESTS: u32 = 1_000;

/// Why a connection is cut whose bytes can be read in two ways.
const MALFORMED: &str = "a message is malformed";

/// A connection's stream.
#[derive(Debug)]
pub(super) struct Guarded {
    io: Stream,
    watched: Option<(Arc<Connection>, Speaks)>,
}

/// What the client speaks.
#[derive(Debug)]
enum Speaks {
    /// What it said so far is the beginning of HTTP/2's preface, of this many bytes.
    Unknown(usize),
    Http1(Messages),
    Http2(Box<Frames>),
    /// Something that must not go on.
    Nonsense,
}

impl Guarded {
    /// A stream whose requests are watched.
    pub(super) fn new(io: Stream, connection: Arc<Connection>) -> Self {
        Self { io, watched: Some((connection, Speaks::Unknown(0))) }
    }

    /// A stream as it is, such as one beneath TLS.
    pub(super) fn plain(io: Stream) -> Self {
        Self { io, watched: None }
    }
}

impl Speaks {
    /// Looks at what was read; how much of it may go on.
    fn pass(&mut self, connection: &Connection, bytes: &[u8]) -> Result<usize> {
        if let Self::Unknown(known) = self {
            let expected = PREFACE.get(*known..).unwrap_or_default();
            let shared = expected.len().min(bytes.len());
            if expected.get(..shared) != bytes.get(..shared) {
                let mut messages = Messages::default();
                // What begins like a preface and goes on like a request is none; the parser behind says so.
                let _judged_behind = messages.pass(PREFACE.get(..*known).unwrap_or_default());
                *self = Self::Http1(messages);
            } else if shared < expected.len() {
                *known += shared;
            } else {
                *self = Self::Http2(Box::new(Frames::after(shared, Instant::now())));
            }
        }
        match self {
            Self::Unknown(_) => Ok(bytes.len()),
            Self::Http1(_) if !connection.read_of_head(bytes.len()) => Err(refused("a request's head is too long")),
            Self::Http1(messages) => match messages.pass(bytes) {
                Ok(()) => Ok(bytes.len()),
                Err(good) => {
                    *self = Self::Nonsense;
                    if good == 0 { Err(refused(MALFORMED)) } else { Ok(good) }
                }
            },
            Self::Http2(frames) => {
                frames.pass(bytes, Instant::now()).map_err(|flood| refused(&flood.to_string()))?;
                account(frames, connection)?;
                Ok(bytes.len())
            }
            Self::Nonsense => Err(refused(MALFORMED)),
        }
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
        if let Some((_, Speaks::Nonsense)) = this.watched {
            return Poll::Ready(Err(refused(MALFORMED)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        if let Some((connection, speaks)) = &mut this.watched
            && !read.is_empty()
        {
            let good = speaks.pass(connection, read)?;
            buf.set_filled(before + good);
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
    async fn try_peek(&mut self, buf: &mut [u8]) -> Result<bool> {
        self.io.try_peek(buf).await
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
