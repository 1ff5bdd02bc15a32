//! One connection of HTTP/1.1 with a client, and the request that is served on it (RFC 9112).
//!
//! Nothing is held while nobody asks: what is read goes into a buffer of its own size, what is written leaves in one write. What is
//! behind a request is the next one, and stays unread beyond a bound until this one is answered.

mod write;

use std::io::{Error, ErrorKind, Result};
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora_timeout::timeout;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::body::{Body, Taken};
use super::buffer::{READ_BYTES, read_some};
use super::request::{self, Asked, Scan};
use crate::pieces::{Pieces, TooLong};
use crate::refusal::Refusal;

/// What is read at once of a long body.
const LONG_READ_BYTES: usize = 64 << 10;
/// What a client may send ahead while its request is served.
const AHEAD_BYTES: usize = 64 << 10;
/// The most of an unread body that is read so that the connection can go on.
const DRAIN_BYTES: usize = 64 << 10;
/// Longest wait for it, and for a client to take the connection's end.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// One connection.
#[derive(Debug)]
pub(crate) struct Http1<S = Stream> {
    stream: S,
    peer: IpAddr,
    /// What was read and not yet taken.
    buffer: BytesMut,
    scan: Scan,
    /// What is about to be written.
    out: Vec<u8>,
    head: RequestHeader,
    fault: Option<Refusal>,
    body: Body,
    /// Nothing tells what comes behind the head.
    is_opaque: bool,
    /// The client was told to go on.
    continued: bool,
    /// Another request may follow.
    persists: bool,
    answer: Answer,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    received: usize,
    sent: usize,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Owed,
    /// Its head is written; pieces of its body are chunks.
    Chunked,
    /// Its head is written; pieces of its body are written as they are until the connection ends.
    UntilClose,
    /// Its head is written; it has no body, whatever is written of one.
    Bodiless,
    Ended,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http1<S> {
    /// A connection with this client, of which `buffer` was read already.
    pub(crate) fn new(stream: S, peer: IpAddr, buffer: BytesMut) -> Self {
        Self {
            stream,
            peer,
            buffer,
            scan: Scan::default(),
            out: Vec::new(),
            head: blank(),
            fault: None,
            body: Body::Ended,
            is_opaque: false,
            continued: false,
            persists: true,
            answer: Answer::Ended,
            read_timeout: None,
            write_timeout: None,
            received: 0,
            sent: 0,
        }
    }

    /// Waits for the next request, and calls `begun` whenever some of it has come and more is awaited. False where there is none: the connection has
    /// ended, or broke off.
    pub(crate) async fn next(&mut self, begun: impl Fn()) -> bool {
        loop {
            match self.scan.find(&self.buffer) {
                Ok(None) if self.buffer.is_empty() => {}
                Ok(None) => begun(),
                Ok(Some(range)) => {
                    let raw = self.buffer.split_to(range.end).freeze().slice(range);
                    self.begin_request(request::read(&raw));
                    return true;
                }
                Err(fault) => {
                    self.begin_request(Err(fault));
                    return true;
                }
            }
            match self.read_some().await {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
        }
    }

    fn begin_request(&mut self, asked: std::result::Result<Asked, Refusal>) {
        self.scan = Scan::default();
        self.is_opaque = asked.is_err();
        let Asked { head, body, persists, fault } = asked.unwrap_or_else(|fault| Asked {
            head: blank(),
            body: Body::UntilClose,
            persists: false,
            fault: Some(fault),
        });
        (self.head, self.body, self.fault) = (head, body, fault);
        self.persists &= persists;
        (self.continued, self.answer) = (false, Answer::Owed);
        (self.received, self.sent) = (0, 0);
    }

    /// Who asks.
    pub(crate) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// The request's head.
    pub(crate) fn head(&self) -> &RequestHeader {
        &self.head
    }

    /// The request's head, to keep something with it.
    pub(crate) fn head_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    /// What is wrong with the request, once.
    pub(crate) fn take_fault(&mut self) -> Option<Refusal> {
        self.fault.take()
    }

    /// No other request follows.
    pub(crate) fn close(&mut self) {
        self.persists = false;
    }

    /// Sets the longest wait for more of a body; `None` where somebody else watches.
    pub(crate) fn set_read_timeout(&mut self, most: Option<Duration>) {
        self.read_timeout = most;
    }

    /// Sets the longest that one write may take.
    pub(crate) fn set_write_timeout(&mut self, most: Option<Duration>) {
        self.write_timeout = most;
    }

    /// Lets one write take so much longer.
    pub(crate) fn lengthen_write_timeout(&mut self, more: Duration) {
        self.write_timeout = self.write_timeout.map(|most| most.saturating_add(more));
    }

    /// Bytes of the request's body so far, and of the answer's.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        (self.received, self.sent)
    }

    /// Whether all of the request has been read.
    pub(crate) fn is_body_done(&self) -> bool {
        self.body == Body::Ended || self.is_opaque
    }

    /// Whether the answer is whole.
    pub(crate) fn is_answered(&self) -> bool {
        self.answer == Answer::Ended
    }

    /// The next piece of the request's body; `None` at its proper end. Once the connection was switched to another protocol,
    /// whatever comes.
    ///
    /// # Errors
    /// When it breaks off, is not well framed, or pauses for too long.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.body.take(&mut self.buffer)? {
                Taken::Piece(piece) => {
                    self.received = self.received.saturating_add(piece.len());
                    return Ok(Some(piece));
                }
                Taken::End => return Ok(None),
                Taken::More => {}
            }
            if self.fill().await? == 0 {
                if self.body != Body::UntilClose {
                    return Err(Error::new(ErrorKind::UnexpectedEof, "the connection ended within the request"));
                }
                self.body = Body::Ended;
            }
        }
    }

    /// Reads more of the request's body, and gives `pieces` what can't be gathered without a copy here; false at its end.
    /// A body whose length is stated comes in one piece.
    ///
    /// # Errors
    /// As [`Http1::piece`]. [`TooLong`] where `pieces` takes no more.
    pub(crate) async fn gather(&mut self, pieces: &mut Pieces) -> Result<std::result::Result<bool, TooLong>> {
        let Body::Sized(left) = self.body else {
            return Ok(match self.piece().await? {
                Some(piece) => pieces.push(piece).map(|()| true),
                None => Ok(false),
            });
        };
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if self.buffer.len() < left {
            if self.fill().await? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "the connection ended within the request"));
            }
            if self.buffer.len() < left {
                return Ok(pieces.room_for(self.buffer.len()).map(|()| true));
            }
        }
        self.piece().await.map(|piece| piece.map_or(Ok(()), |piece| pieces.push(piece)).map(|()| false))
    }

    /// Bytes of the body that have come, whether or not they were taken.
    pub(crate) fn come(&self) -> usize {
        let held = match self.body {
            Body::Sized(left) => self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
            Body::Ended | Body::Chunked(_) | Body::UntilClose => 0,
        };
        self.received.saturating_add(held)
    }

    /// Reads more of a body; 0 at the connection's end.
    async fn fill(&mut self) -> Result<usize> {
        let most = self.read_timeout;
        let read = async {
            let Body::Sized(left) = self.body else { return self.read_some().await };
            let missing = usize::try_from(left).unwrap_or(usize::MAX).saturating_sub(self.buffer.len());
            if missing < READ_BYTES {
                return self.read_some().await;
            }
            // What is only announced takes no memory yet.
            self.buffer.reserve(missing.min(self.buffer.len().max(LONG_READ_BYTES)));
            self.stream.read_buf(&mut self.buffer).await
        };
        match most {
            None => read.await,
            Some(most) => timeout(most, read).await.unwrap_or_else(|_| Err(Error::from(ErrorKind::TimedOut))),
        }
    }

    /// Reads what is there; 0 at the connection's end. Nothing is lost where it is not waited for, and nothing is held meanwhile.
    async fn read_some(&mut self) -> Result<usize> {
        read_some(&mut self.stream, &mut self.buffer).await
    }

    /// Resolves when the client will send no more: it has closed its side, or the connection is broken.
    pub(crate) async fn gone(&mut self) {
        while self.buffer.len() < AHEAD_BYTES {
            if !matches!(self.read_some().await, Ok(1..)) {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Ends the request; whether another one may follow. What its handler left of its body is thrown away, up to a bound, so that it is
    /// never taken for the next request.
    pub(crate) async fn follows(&mut self) -> bool {
        self.head = blank();
        self.out = Vec::new();
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        self.persists && self.is_answered() && (self.is_body_done() || self.drained().await)
    }

    async fn drained(&mut self) -> bool {
        let rest = async {
            let mut read = 0;
            while let Ok(Some(piece)) = self.piece().await {
                read += piece.len();
                if read > DRAIN_BYTES {
                    return false;
                }
            }
            self.is_body_done()
        };
        tokio::time::timeout(DRAIN_PATIENCE, rest).await.unwrap_or(false)
    }

    /// Ends the connection as its protocol has it; one that broke off in an answer just ends.
    pub(crate) async fn end(mut self) {
        if self.is_answered() {
            let _left = tokio::time::timeout(DRAIN_PATIENCE, self.stream.shutdown()).await;
        }
    }
}

/// A head until there is one.
fn blank() -> RequestHeader {
    let (parts, ()) = Request::new(()).into_parts();
    parts.into()
}

#[cfg(test)]
mod tests;
