//! An answer whose head has come, over whatever HTTP its upstream speaks.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pingora::protocols::Stream;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;

use super::http::{Fault, POOLED, Pools, is_timeout};
use super::http1::Http1;
use crate::pieces::{Pieces, TooLong};

/// An answer whose head has come.
pub(crate) struct Answer {
    source: Source,
    peer: Arc<HttpPeer>,
    pools: Pools,
    /// The longest pause within it.
    idle_timeout: Duration,
}

/// Where it comes from.
pub(super) enum Source {
    /// A connection in the clear.
    Own(Http1<Stream>),
    /// One over TLS: HTTP/2, or HTTP/1.1 where the upstream speaks nothing newer.
    Pingora(Box<HttpSession>),
}

/// Why there is no whole body.
pub(crate) enum NotWhole {
    /// It is longer than it may be.
    TooLong,
    /// It broke off.
    Fault(Fault),
}

impl Source {
    /// Sets the longest wait for more of the body.
    fn set_pause(&mut self, most: Option<Duration>) {
        match self {
            Self::Own(answer) => answer.set_pause(most),
            Self::Pingora(session) => session.set_read_timeout(most),
        }
    }
}

fn broken(err: &std::io::Error, idle_timeout: Duration) -> Fault {
    if err.kind() == ErrorKind::TimedOut { Fault::Timeout(idle_timeout) } else { Fault::Broken(err.to_string()) }
}

impl Answer {
    pub(super) fn new(mut source: Source, peer: Arc<HttpPeer>, pools: Pools, idle_timeout: Duration) -> Self {
        source.set_pause(Some(idle_timeout));
        Self { source, peer, pools, idle_timeout }
    }

    /// The status.
    pub(crate) fn status(&self) -> u16 {
        match &self.source {
            Source::Own(answer) => answer.status(),
            Source::Pingora(session) => session.response_header().map_or(0, |header| header.status.as_u16()),
        }
    }

    /// A header, where it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        match &self.source {
            Source::Own(answer) => answer.header(name),
            Source::Pingora(session) => session.response_header()?.headers.get(name)?.to_str().ok(),
        }
    }

    /// Stops timing each read; returns the longest pause that the caller should allow.
    pub(crate) fn unwatched(&mut self) -> Duration {
        self.source.set_pause(None);
        self.idle_timeout
    }

    /// The next piece of the body; `None` at its proper end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Fault> {
        match &mut self.source {
            Source::Own(answer) => answer.piece().await.map_err(|err| broken(&err, self.idle_timeout)),
            Source::Pingora(session) => session.read_response_body().await.map_err(|err| {
                if is_timeout(&err) { Fault::Timeout(self.idle_timeout) } else { Fault::Broken(err.to_string()) }
            }),
        }
    }

    /// The whole body, or what is left of it.
    ///
    /// # Errors
    /// When it is longer than `most` bytes, or breaks off.
    pub(crate) async fn whole(&mut self, most: usize) -> Result<Bytes, NotWhole> {
        if let Source::Own(answer) = &mut self.source {
            let rest = answer.rest(most).await.map_err(|err| NotWhole::Fault(broken(&err, self.idle_timeout)))?;
            if let Some(rest) = rest {
                return Ok(rest);
            }
        }
        let mut pieces = Pieces::within(most);
        while let Some(piece) = self.piece().await.map_err(NotWhole::Fault)? {
            pieces.push(piece).map_err(|TooLong| NotWhole::TooLong)?;
        }
        Ok(pieces.join())
    }

    /// Gives the connection back to its pool; called when the body has ended.
    pub(crate) async fn release(self) {
        let Self { source, peer, pools, idle_timeout } = self;
        match source {
            Source::Own(answer) => {
                if let Some(stream) = answer.reuse() {
                    pools.plain.put(&peer, stream);
                }
            }
            Source::Pingora(session) => {
                // Large: it is not a part of the future of every request, most of which end in the other arm.
                Box::pin(pools.secure.release_http_session(*session, &*peer, Some(idle_timeout.min(POOLED)))).await;
            }
        }
    }
}
