//! Who gets an answer: an HTTP session, or a part of the gateway that asks on a tenant's behalf, without a session of its own.
//!
//! It carries an answer and knows whether anybody still waits for it; what the answer says is decided elsewhere.

use bytes::Bytes;
use http::HeaderMap;
use pingora::{Error, ErrorType};
use tokio::sync::{mpsc, oneshot};

use crate::answer::Head;
use crate::origin;
use crate::session::Session;

/// Who gets an answer.
pub(crate) enum Client<'a> {
    /// A client at the edge.
    Http(Session<'a>),
    /// A part of the gateway.
    Pipe(Pipe),
}

/// The asking end of a [`pipe`].
pub(crate) struct Pipe {
    /// The headers that a request would have had.
    headers: HeaderMap,
    pieces: mpsc::Sender<Piped>,
    /// Told of the admission; answers when it may go on.
    admitted: Option<oneshot::Sender<oneshot::Sender<()>>>,
    /// Bytes of the answer's body so far.
    sent: usize,
}

/// What comes out of a pipe, in order: one head, pieces, and one end unless it broke off.
#[derive(Debug)]
pub(crate) enum Piped {
    /// The answer's head.
    Head(Box<Head>),
    /// A piece of its body: one event of a stream, or a whole answer.
    Piece(Bytes),
    /// Its proper end.
    End,
}

/// A pipe that holds `pieces` pieces until they are taken. Dropping the receiver is leaving: the upstream is cut.
pub(crate) fn pipe(headers: HeaderMap, pieces: usize) -> (Pipe, mpsc::Receiver<Piped>) {
    let (sender, receiver) = mpsc::channel(pieces);
    (Pipe { headers, pieces: sender, admitted: None, sent: 0 }, receiver)
}

impl Client<'_> {
    /// The headers of its request.
    pub(crate) fn headers(&self) -> &HeaderMap {
        match self {
            Self::Http(session) => &session.req_header().headers,
            Self::Pipe(pipe) => &pipe.headers,
        }
    }

    /// Tells it that its request is admitted; false where it wants nothing any more.
    pub(crate) async fn admitted(&mut self) -> bool {
        let Self::Pipe(pipe) = self else { return true };
        let Some(admitted) = pipe.admitted.take() else { return true };
        let (go, word) = oneshot::channel();
        admitted.send(go).is_ok() && word.await.is_ok()
    }

    /// Resolves when it will read no more. What it may have pipelined is kept for the next request.
    pub(crate) async fn gone(&mut self) {
        match self {
            Self::Http(session) => session.gone().await,
            Self::Pipe(pipe) => pipe.pieces.closed().await,
        }
    }

    /// Whether who has asked once for [`Client::gone`] is woken by it, also when it does not ask on. A socket wakes who read it last.
    /// A stream of HTTP/2 wakes who asked it for anything last, and a pipe only who still waits.
    pub(crate) fn is_told_once_asked(&self) -> bool {
        match self {
            Self::Http(session) => !session.is_http2(),
            Self::Pipe(_) => false,
        }
    }

    /// Bytes of the answer's body so far.
    pub(crate) fn sent(&self) -> usize {
        match self {
            Self::Http(session) => session.body_bytes().1,
            Self::Pipe(pipe) => pipe.sent,
        }
    }

    /// No other request may follow on its connection.
    pub(crate) fn close(&mut self) {
        if let Self::Http(session) = self {
            session.close();
        }
    }

    /// Writes the head of an answer whose body follows in pieces.
    pub(crate) async fn begin(&mut self, mut head: Head) -> pingora::Result<()> {
        match self {
            Self::Http(session) => {
                origin::open(session.req_header(), &mut head);
                head.seal();
                session.begin(head).await
            }
            Self::Pipe(pipe) => pipe.head(head).await,
        }
    }

    /// Writes a piece of the body.
    pub(crate) async fn piece(&mut self, piece: Bytes) -> pingora::Result<()> {
        match self {
            Self::Http(session) => session.write_body(piece, false).await,
            Self::Pipe(pipe) => pipe.send(Piped::Piece(piece)).await,
        }
    }

    /// Writes the last piece of the body, which may be empty.
    pub(crate) async fn last(&mut self, piece: Bytes) -> pingora::Result<()> {
        match self {
            Self::Http(session) => session.write_body(piece, true).await,
            Self::Pipe(pipe) => pipe.last(piece).await,
        }
    }

    /// Writes an answer that has no body, such as a 204.
    pub(crate) async fn bodiless(&mut self, mut head: Head) -> pingora::Result<()> {
        match self {
            Self::Http(session) => {
                origin::open(session.req_header(), &mut head);
                head.seal();
                session.whole(head, None).await
            }
            Self::Pipe(pipe) => {
                pipe.head(head).await?;
                pipe.last(Bytes::new()).await
            }
        }
    }

    /// Breaks an answer off whose body has begun: its connection, or its stream, ends without the end of the body.
    pub(crate) fn cut(&mut self) -> Box<Error> {
        self.close();
        Error::explain(ErrorType::ConnectionClosed, "the upstream broke off in its answer").into_down()
    }

    /// Writes a whole answer.
    pub(crate) async fn whole(&mut self, mut head: Head, body: Bytes) -> pingora::Result<()> {
        let session = match self {
            Self::Http(session) => session,
            Self::Pipe(pipe) => {
                pipe.head(head).await?;
                return pipe.last(body).await;
            }
        };
        origin::open(session.req_header(), &mut head);
        head.seal();
        session.whole(head, Some(body)).await
    }
}

impl Pipe {
    /// Who is to be told of the admission, once; nothing is sent upstream until it answers.
    pub(crate) fn on_admitted(&mut self, admitted: oneshot::Sender<oneshot::Sender<()>>) {
        self.admitted = Some(admitted);
    }

    async fn head(&mut self, mut head: Head) -> pingora::Result<()> {
        head.seal();
        self.send(Piped::Head(Box::new(head))).await
    }

    async fn send(&mut self, piped: Piped) -> pingora::Result<()> {
        if let Piped::Piece(piece) = &piped {
            self.sent = self.sent.saturating_add(piece.len());
        }
        let gone = |_| Error::explain(ErrorType::WriteError, "nobody waits for the answer any more");
        self.pieces.send(piped).await.map_err(gone)
    }

    async fn last(&mut self, piece: Bytes) -> pingora::Result<()> {
        if !piece.is_empty() {
            self.send(Piped::Piece(piece)).await?;
        }
        self.send(Piped::End).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pipe_carries_an_answer_in_order_and_knows_when_nobody_waits() {
        let (pipe, mut answer) = pipe(HeaderMap::new(), 8);
        let mut client = Client::Pipe(pipe);
        let head = || Head::bare(http::StatusCode::OK);
        client.begin(head()).await.unwrap();
        client.piece(Bytes::from_static(b"a")).await.unwrap();
        client.last(Bytes::new()).await.unwrap();
        client.whole(head(), Bytes::from_static(b"b")).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 6 {
            seen.push(match answer.recv().await.unwrap() {
                Piped::Head(head) => head.status().as_str().to_owned(),
                Piped::Piece(piece) => String::from_utf8(piece.to_vec()).unwrap(),
                Piped::End => "end".to_owned(),
            });
        }
        assert_eq!(seen, ["200", "a", "end", "200", "b", "end"]);
        drop(answer);
        client.gone().await;
        assert!(client.piece(Bytes::from_static(b"c")).await.is_err());
    }
}
