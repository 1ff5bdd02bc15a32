//! A request's session at the edge: what it says, and the way by which its answer goes out. It came over HTTP/1.1, which is read
//! here, or over HTTP/2, which is Pingora's.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AsHeaderName, CONTENT_LENGTH};
use http::{HeaderValue, Method};
use pingora::http::RequestHeader;
use pingora::protocols::http::HttpTask;
use pingora::{Error, ErrorType, Result};

use crate::answer::Head;
use crate::head;
use crate::http1::Http1;
use crate::pieces::{Pieces, TooLong};
use crate::refusal::Refusal;

/// The slowest that a body may be read by its client, in bytes a second.
const SLOWEST_READER: u64 = 16 << 10;

/// A request's session.
pub(crate) enum Session<'a> {
    /// Over HTTP/1.1.
    Http1(&'a mut Http1),
    /// Over HTTP/2.
    Http2(&'a mut pingora::proxy::Session),
}

impl Session<'_> {
    /// The same one.
    pub(crate) fn again(&mut self) -> Session<'_> {
        match self {
            Self::Http1(http) => Session::Http1(http),
            Self::Http2(http) => Session::Http2(http),
        }
    }

    /// The request's head.
    pub(crate) fn req_header(&self) -> &RequestHeader {
        match self {
            Self::Http1(http) => http.head(),
            Self::Http2(http) => http.req_header(),
        }
    }

    /// The request's head, to keep something with it.
    pub(crate) fn req_header_mut(&mut self) -> &mut RequestHeader {
        match self {
            Self::Http1(http) => http.head_mut(),
            Self::Http2(http) => http.req_header_mut(),
        }
    }

    /// The first header of this name.
    pub(crate) fn get_header(&self, name: impl AsHeaderName) -> Option<&HeaderValue> {
        self.req_header().headers.get(name)
    }

    /// What the head must satisfy before anything is believed. To be asked once.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check_head(&mut self) -> std::result::Result<(), Refusal> {
        match self {
            Self::Http1(http) => http.take_fault().map_or(Ok(()), Err),
            Self::Http2(http) => head::check_http2(http.req_header()),
        }
    }

    /// The client's address.
    pub(crate) fn peer(&self) -> IpAddr {
        match self {
            Self::Http1(http) => http.peer(),
            Self::Http2(http) => {
                let address = http.client_addr().and_then(|addr| addr.as_inet());
                address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |addr| addr.ip())
            }
        }
    }

    /// Whether it is one of several on its connection.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// No other request may follow on its connection. Over HTTP/2 that is the connection's affair.
    pub(crate) fn close(&mut self) {
        match self {
            Self::Http1(http) => http.close(),
            Self::Http2(http) => http.set_keepalive(None),
        }
    }

    /// Sets the longest wait for more of a body; `None` where somebody else watches.
    pub(crate) fn set_read_timeout(&mut self, most: Option<Duration>) {
        match self {
            Self::Http1(http) => http.set_read_timeout(most),
            Self::Http2(http) => http.as_downstream_mut().set_read_timeout(most),
        }
    }

    /// Sets the longest that one write may take.
    pub(crate) fn set_write_timeout(&mut self, most: Option<Duration>) {
        match self {
            Self::Http1(http) => http.set_write_timeout(most),
            Self::Http2(http) => http.as_downstream_mut().set_write_timeout(most),
        }
    }

    /// Bytes of the request's body that came, and of the answer's that were written.
    pub(crate) fn body_bytes(&self) -> (usize, usize) {
        match self {
            Self::Http1(http) => http.bytes(),
            Self::Http2(http) => (http.as_downstream().body_bytes_read(), http.as_downstream().body_bytes_sent()),
        }
    }

    /// Whether all of the request has been read.
    pub(crate) fn is_body_done(&mut self) -> bool {
        match self {
            Self::Http1(http) => http.is_body_done(),
            Self::Http2(http) => http.is_body_done() || http.is_body_empty(),
        }
    }

    /// The next piece of the request's body; `None` at its end.
    ///
    /// # Errors
    /// When it breaks off, is not well framed, or pauses for too long ([`ErrorType::ReadTimedout`]).
    pub(crate) async fn read_body(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Http1(http) => http.piece().await.map_err(|err| unread(&err)),
            Self::Http2(http) => http.as_downstream_mut().read_request_body().await,
        }
    }

    /// Reads more of the request's body into `pieces`; false once it is whole there. The second is how many bytes have come.
    ///
    /// # Errors
    /// As [`Session::read_body`]. [`TooLong`] where it has more than `pieces` takes.
    pub(crate) async fn gather(&mut self, pieces: &mut Pieces) -> Result<std::result::Result<(bool, usize), TooLong>> {
        match self {
            Self::Http1(http) => {
                let more = http.gather(pieces).await.map_err(|err| unread(&err))?;
                Ok(more.map(|more| (more, http.come())))
            }
            Self::Http2(http) => Ok(match http.as_downstream_mut().read_request_body().await? {
                Some(piece) => pieces.push(piece).map(|()| (true, pieces.length())),
                None => Ok((false, pieces.length())),
            }),
        }
    }

    /// Tells a client that waits for it to send its body.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) async fn write_continue(&mut self) -> Result<()> {
        match self {
            Self::Http1(http) => http.go_on().await.map_err(|err| unwritten(&err)),
            Self::Http2(http) => http.as_downstream_mut().write_continue_response().await,
        }
    }

    /// Resolves when its client will read no more. What it may have pipelined is kept for the next request.
    pub(crate) async fn gone(&mut self) {
        match self {
            Self::Http1(http) => http.gone().await,
            Self::Http2(http) => {
                // Every return means that: end of stream, reset, or a broken connection. Large, as what is written.
                let _ = Box::pin(http.as_downstream_mut().read_body_or_idle(true)).await;
            }
        }
    }

    /// Writes the head of an answer whose body follows in pieces; a 101 switches the connection to another protocol.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) async fn begin(&mut self, head: Head) -> Result<()> {
        match self {
            Self::Http1(http) => http.begin(head).await.map_err(|err| unwritten(&err)),
            Self::Http2(http) => http.as_downstream_mut().write_response_header(head.to_http2()?).await,
        }
    }

    /// Writes a piece of the answer's body, and its end if it `is_last`.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) async fn write_body(&mut self, piece: Bytes, is_last: bool) -> Result<()> {
        match self {
            Self::Http1(http) => http.write(piece, is_last).await.map_err(|err| unwritten(&err)),
            // Large: it is not a part of the future of every stream.
            Self::Http2(http) => Box::pin(http.as_downstream_mut().write_response_body(piece, is_last)).await,
        }
    }

    /// Writes a whole answer; `None` is one that has no body.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) async fn whole(&mut self, head: Head, body: Option<Bytes>) -> Result<()> {
        // A long answer gets the time that its length needs at the slowest pace.
        let length = body.as_ref().map_or(0, Bytes::len);
        let more = Duration::from_secs(u64::try_from(length).unwrap_or(u64::MAX) / SLOWEST_READER);
        match self {
            Self::Http1(http) => {
                http.lengthen_write_timeout(more);
                http.whole(head, body).await.map_err(|err| unwritten(&err))
            }
            Self::Http2(http) => {
                let timeout = http.as_downstream_mut().get_write_timeout();
                http.as_downstream_mut().set_write_timeout(timeout.map(|timeout| timeout.saturating_add(more)));
                let mut head = head.to_http2()?;
                if let Some(body) = &body {
                    head.insert_header(CONTENT_LENGTH, HeaderValue::from(body.len()))?;
                }
                let tasks = match body {
                    None => vec![HttpTask::Header(head, true)],
                    Some(body) => {
                        let body = Some(body).filter(|_| http.req_header().method != Method::HEAD);
                        vec![HttpTask::Header(head, false), HttpTask::Body(body, true)]
                    }
                };
                http.as_downstream_mut().response_duplex_vec(tasks).await.map(|_| ())
            }
        }
    }
}

fn unread(err: &std::io::Error) -> Box<Error> {
    let kind = if err.kind() == ErrorKind::TimedOut { ErrorType::ReadTimedout } else { ErrorType::ReadError };
    Error::explain(kind, err.to_string()).into_down()
}

fn unwritten(err: &std::io::Error) -> Box<Error> {
    let kind = if err.kind() == ErrorKind::TimedOut { ErrorType::WriteTimedout } else { ErrorType::WriteError };
    Error::explain(kind, err.to_string()).into_down()
}
