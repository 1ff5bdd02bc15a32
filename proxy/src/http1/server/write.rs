//! What is written on a connection: each answer, or piece of one, in one write.

use std::future::poll_fn;
use std::io::{Error, ErrorKind, Result};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::future::poll_immediate;
use http::{Method, StatusCode, Version};
use pingora_timeout::timeout;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{Answer, Http1};
use crate::answer::Head;
use crate::head::expects_continue;
use crate::http1::answer::{self, CHUNK_END, CHUNK_END_AND_LAST, Framing, LAST_CHUNK};
use crate::http1::body::Body;

/// The longest body that is copied behind its head, to leave with it in one plain write.
pub(super) const COPIED_BYTES: usize = 16 << 10;

impl<S: AsyncRead + AsyncWrite + Unpin> Http1<S> {
    /// Tells a client that waits for it to send its body.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) async fn go_on(&mut self) -> Result<()> {
        self.continued = true;
        if self.head.version != Version::HTTP_11 {
            return Ok(());
        }
        self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        self.send(Bytes::new(), b"").await
    }

    /// Writes the head of an answer whose body follows in pieces; a 101 switches the connection.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) async fn begin(&mut self, head: Head) -> Result<()> {
        if head.status() == StatusCode::SWITCHING_PROTOCOLS {
            (self.answer, self.body, self.persists) = (Answer::UntilClose, Body::UntilClose, false);
            self.out = head.into_text();
            return self.send(Bytes::new(), b"\r\n").await;
        }
        self.answer = if self.head.method == Method::HEAD {
            Answer::Bodiless
        } else if self.head.version == Version::HTTP_11 {
            Answer::Chunked
        } else {
            self.persists = false;
            Answer::UntilClose
        };
        self.write_head(head, None);
        self.send(Bytes::new(), b"").await
    }

    /// Writes a piece of the answer's body, and its end if it `is_last`.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) async fn write(&mut self, piece: Bytes, is_last: bool) -> Result<()> {
        self.sent = self.sent.saturating_add(piece.len());
        let answer = self.answer;
        if is_last {
            self.answer = Answer::Ended;
        }
        match answer {
            Answer::Owed | Answer::Ended => Err(Error::new(ErrorKind::InvalidInput, "a piece of no answer")),
            Answer::Bodiless => Ok(()),
            Answer::UntilClose => self.send(piece, b"").await,
            Answer::Chunked => {
                let end: &[u8] = match (piece.is_empty(), is_last) {
                    (true, false) => return Ok(()),
                    (true, true) => LAST_CHUNK,
                    (false, false) => CHUNK_END,
                    (false, true) => CHUNK_END_AND_LAST,
                };
                if !piece.is_empty() {
                    answer::chunk(&mut self.out, piece.len());
                }
                self.send(piece, end).await
            }
        }
    }

    /// Writes a whole answer; `None` is one that has no body.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) async fn whole(&mut self, head: Head, body: Option<Bytes>) -> Result<()> {
        self.answer = Answer::Ended;
        self.write_head(head, body.as_ref().map(Bytes::len));
        let body = body.filter(|_| self.head.method != Method::HEAD).unwrap_or_default();
        self.sent = self.sent.saturating_add(body.len());
        self.send(body, b"").await
    }

    fn write_head(&mut self, head: Head, length: Option<usize>) {
        if !self.is_body_done() && !self.continued && expects_continue(&self.head.headers) {
            // It may send its body now or not at all, and nothing tells which.
            self.persists = false;
        }
        self.out = head.into_text();
        self.out.reserve(length.unwrap_or(0).min(COPIED_BYTES) + answer::MORE_BYTES);
        let connection = answer::connection(self.head.version, self.persists);
        answer::end_head(
            &mut self.out,
            connection,
            if self.answer == Answer::Chunked { Framing::Chunked } else { Framing::Length(length) },
        );
    }

    /// Writes what is ready, and `body` and `end` behind it.
    async fn send(&mut self, body: Bytes, end: &'static [u8]) -> Result<()> {
        let body = if body.len() <= COPIED_BYTES {
            self.out.extend_from_slice(&body);
            self.out.extend_from_slice(end);
            None
        } else {
            Some(Buf::chain(body, end))
        };
        let written = self.leave(body).await;
        if self.out.capacity() > COPIED_BYTES {
            self.out = Vec::new();
        }
        self.out.clear();
        if written.is_err() {
            self.persists = false;
        }
        written
    }

    /// Writes what is ready, and a long body behind it.
    async fn leave(&mut self, long: Option<impl Buf>) -> Result<()> {
        let Self { stream, out, write_timeout, .. } = self;
        let mut left = out.as_slice();
        let mut write = pin!(async {
            match long {
                None => poll_fn(|cx| poll_written(Pin::new(&mut *stream), cx, &mut left)).await,
                Some(long) => {
                    stream.write_all_buf(&mut Buf::chain(left, long)).await?;
                    stream.flush().await
                }
            }
        });
        // Mostly it leaves at once, and a timer would be for nothing.
        if let Some(written) = poll_immediate(write.as_mut()).await {
            return written;
        }
        match *write_timeout {
            None => write.await,
            Some(most) => timeout(most, write).await.unwrap_or_else(|_| Err(Error::from(ErrorKind::TimedOut))),
        }
    }
}

/// Writes all of it and lets it leave.
fn poll_written<S: AsyncWrite>(mut stream: Pin<&mut S>, cx: &mut Context<'_>, left: &mut &[u8]) -> Poll<Result<()>> {
    while !left.is_empty() {
        let written = ready!(stream.as_mut().poll_write(cx, left))?;
        if written == 0 {
            return Poll::Ready(Err(ErrorKind::WriteZero.into()));
        }
        *left = left.get(written..).unwrap_or_default();
    }
    stream.poll_flush(cx)
}
