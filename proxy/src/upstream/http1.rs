//! One answer over HTTP/1.1, read off a connection that carries nothing else meanwhile (RFC 9112).
//!
//! Pieces of a body are cut out of the buffer that the system filled: nothing is copied, and nothing is allocated while each
//! piece is let go before the next one. An answer whose end can be read in two ways is broken. What a connection still holds
//! behind an answer's end would be taken for the answer to somebody else's request: such a connection is never used again.

use std::future::poll_fn;
use std::io::{Error, ErrorKind, Result};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use pingora_timeout::timeout;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::poll_read_buf;

use crate::http1::{Body, READ_BYTES, Taken, broken, digits, poll_some, read_some};

/// The longest head, in bytes.
const MAX_HEAD_BYTES: usize = 256 << 10;
/// Most headers of an answer.
const MAX_HEADERS: usize = 128;
/// Interim answers before an answer.
const MAX_INTERIM: usize = 16;
/// What is read at once of a long body.
const LONG_READ_BYTES: usize = 64 << 10;

/// An answer whose head has come.
#[derive(Debug)]
pub(super) struct Http1<S> {
    stream: S,
    /// What was read and not yet taken.
    buffer: BytesMut,
    head: Box<[u8]>,
    status: u16,
    body: Body,
    /// Its connection may carry another request, once the body has ended.
    persists: bool,
    /// The longest wait for more of the body; `None` where somebody else watches.
    pause: Option<Duration>,
}

impl<S: AsyncRead + Unpin> Http1<S> {
    /// Waits for a head.
    ///
    /// # Errors
    /// When the connection ends or breaks before, or what comes is no answer that can be read in one way.
    pub(super) async fn answer(mut stream: S) -> Result<Self> {
        let mut buffer = BytesMut::new();
        let mut interim = 0;
        loop {
            match Head::parse(&buffer)? {
                Some(head) if (100..200).contains(&head.status) => {
                    // Interim answers (RFC 9110, section 15.2) announce; the answer is still to come.
                    interim += 1;
                    if head.status == 101 || interim > MAX_INTERIM {
                        return Err(broken("interim answers and no answer"));
                    }
                    buffer.advance(head.length);
                }
                Some(Head { status, length, body, persists }) => {
                    // Copied, so that what is read next goes into this buffer, and not into another beside it.
                    let head = buffer.get(..length).unwrap_or_default().into();
                    buffer.advance(length);
                    return Ok(Self { stream, buffer, head, status, body, persists, pause: None });
                }
                None if buffer.len() > MAX_HEAD_BYTES => return Err(broken("its head is too long")),
                None => {
                    if read_some(&mut stream, &mut buffer).await? == 0 {
                        return Err(Error::new(ErrorKind::UnexpectedEof, "the connection ended before the answer"));
                    }
                }
            }
        }
    }

    /// The status.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// A header, where it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split(|byte| *byte == b'\n').skip(1);
        let value = lines.find_map(|line| {
            let (found, value) = line.split_at_checked(memchr(b':', line)?)?;
            found.trim_ascii_end().eq_ignore_ascii_case(name.as_bytes()).then(|| value.get(1..))?
        })?;
        std::str::from_utf8(value).ok().map(str::trim_ascii)
    }

    /// Sets the longest wait for more of the body; past it, reading fails as [`ErrorKind::TimedOut`].
    pub(super) fn set_pause(&mut self, most: Option<Duration>) {
        self.pause = most;
    }

    /// The next piece of the body; `None` at its proper end. Nothing is lost where it is not waited for.
    ///
    /// # Errors
    /// When the body breaks off, is not well framed, or pauses for too long.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>> {
        match self.pause {
            None => poll_fn(|cx| self.poll_piece(cx)).await,
            Some(most) => {
                let piece = poll_fn(|cx| self.poll_piece(cx));
                timeout(most, piece).await.unwrap_or_else(|_| Err(Error::from(ErrorKind::TimedOut)))
            }
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            match self.body.take(&mut self.buffer)? {
                Taken::Piece(piece) => return Poll::Ready(Ok(Some(piece))),
                Taken::End => return Poll::Ready(Ok(None)),
                Taken::More => {}
            }
            let want = match self.body {
                Body::Sized(left) => usize::try_from(left).unwrap_or(usize::MAX).min(LONG_READ_BYTES),
                Body::Ended | Body::Chunked(_) | Body::UntilClose => READ_BYTES,
            };
            let stream = Pin::new(&mut self.stream);
            let read = if want <= READ_BYTES {
                poll_some(stream, cx, &mut self.buffer)
            } else {
                self.buffer.reserve(want);
                poll_read_buf(stream, cx, &mut self.buffer)
            };
            if ready!(read)? == 0 {
                if self.body != Body::UntilClose {
                    let what = "the connection ended within the answer";
                    return Poll::Ready(Err(Error::new(ErrorKind::UnexpectedEof, what)));
                }
                self.body = Body::Ended;
            }
        }
    }

    /// The rest of the body in one piece, where its length is known and it has at most `most` bytes; `None` where not.
    /// Nothing is lost where it is not waited for.
    ///
    /// # Errors
    /// When the body breaks off, or pauses for too long.
    pub(super) async fn rest(&mut self, most: usize) -> Result<Option<Bytes>> {
        let Body::Sized(left) = self.body else { return Ok(None) };
        let Some(length) = usize::try_from(left).ok().filter(|length| *length <= most) else { return Ok(None) };
        while let Some(missing) = length.checked_sub(self.buffer.len()).filter(|missing| *missing > 0) {
            // What is only announced takes no memory yet.
            if self.fill(missing.min(self.buffer.len().max(LONG_READ_BYTES))).await? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "the connection ended within the answer"));
            }
        }
        self.body = Body::Ended;
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// The connection, where it may carry another request.
    pub(super) fn reuse(self) -> Option<S> {
        (self.persists && self.body == Body::Ended && self.buffer.is_empty()).then_some(self.stream)
    }

    /// Reads `want` bytes more, if they are there; 0 at the connection's end.
    async fn fill(&mut self, want: usize) -> Result<usize> {
        let Self { stream, buffer, .. } = self;
        let read = async {
            if want <= READ_BYTES {
                return read_some(stream, buffer).await;
            }
            buffer.reserve(want);
            stream.read_buf(buffer).await
        };
        match self.pause {
            None => read.await,
            Some(most) => timeout(most, read).await.unwrap_or_else(|_| Err(Error::from(ErrorKind::TimedOut))),
        }
    }
}

/// What a head says of its answer.
#[derive(Debug)]
struct Head {
    status: u16,
    /// Of the head itself, in bytes.
    length: usize,
    body: Body,
    persists: bool,
}

impl Head {
    /// `None` while it is not whole.
    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut head, bytes, &mut headers)
            .map_err(|err| Error::new(ErrorKind::InvalidData, format!("what came is no HTTP answer: {err}")))?;
        let httparse::Status::Complete(length) = parsed else { return Ok(None) };
        let (status, is_newer) = (head.code.unwrap_or_default(), head.version == Some(1));
        let framing = Framing::of(head.headers)?;
        let body = match framing {
            _ if matches!(status, 100..200 | 204 | 304) => Body::Ended,
            Framing { chunked: true, .. } if is_newer => Body::chunked(),
            Framing { chunked: true, .. } => return Err(broken("chunks are older than its version of HTTP")),
            Framing { length: Some(length), .. } => Body::sized(length),
            Framing { length: None, .. } => Body::UntilClose,
        };
        let told_twice = framing.chunked && framing.length.is_some();
        let persists = !told_twice && !framing.closes && (is_newer || framing.keeps) && body != Body::UntilClose;
        Ok(Some(Self { status, length, body, persists }))
    }
}

/// How a head frames its body (section 6.3), and what it says of the connection (section 9.3).
#[derive(Clone, Copy, Debug, Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    closes: bool,
    keeps: bool,
}

impl Framing {
    fn of(headers: &[httparse::Header<'_>]) -> Result<Self> {
        let mut framing = Self::default();
        for httparse::Header { name, value } in headers {
            if name.eq_ignore_ascii_case("content-length") {
                let length = digits(value.trim_ascii()).ok_or_else(|| broken("its length is no number"))?;
                if framing.length.replace(length).is_some_and(|other| other != length) {
                    return Err(broken("it has two lengths"));
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                if framing.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(broken("its transfer coding was not asked for"));
                }
                framing.chunked = true;
            } else if name.eq_ignore_ascii_case("connection") {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    framing.closes |= option.eq_ignore_ascii_case(b"close");
                    framing.keeps |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
        }
        Ok(framing)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::http1::MAX_LINE_BYTES;

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n";

    /// A connection on which these pieces come, one after the other, and then nothing; it ends if `closes`.
    fn connection(pieces: Vec<Vec<u8>>, closes: bool) -> DuplexStream {
        let (ours, mut theirs) = duplex(1 << 20);
        #[expect(clippy::disallowed_methods, reason = "a test's peer ends with its runtime")]
        tokio::spawn(async move {
            for piece in pieces {
                theirs.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            if !closes {
                std::future::pending::<()>().await;
            }
        });
        ours
    }

    async fn read(pieces: Vec<Vec<u8>>, closes: bool) -> Result<(u16, Vec<u8>, bool)> {
        let mut answer = Http1::answer(connection(pieces, closes)).await?;
        let mut body = Vec::new();
        while let Some(piece) = answer.piece().await? {
            body.extend_from_slice(&piece);
        }
        Ok((answer.status(), body, answer.reuse().is_some()))
    }

    async fn body_of(text: &str) -> Result<(u16, Vec<u8>, bool)> {
        read(vec![text.as_bytes().to_vec()], true).await
    }

    #[tokio::test]
    async fn each_framing_has_its_end_and_says_whether_the_connection_goes_on() {
        for (text, status, body, persists) in [
            (format!("{OK}content-length: 2\r\n\r\nab"), 200, "ab", true),
            (format!("{OK}content-length: 2\r\ncontent-length: 2\r\n\r\nab"), 200, "ab", true),
            (format!("{OK}content-length: 2\r\nConnection: x, Close\r\n\r\nab"), 200, "ab", false),
            (format!("{OK}content-length: 2\r\n\r\nabc"), 200, "ab", false),
            (format!("{OK}content-length: 0\r\n\r\n"), 200, "", true),
            (
                format!(
                    "{OK}Transfer-Encoding: Chunked\r\n\r\n1;x=\"y\"\r\na\r\n0a\r\n0123456789\r\n0\r\nt: u\r\n\r\n"
                ),
                200,
                "a0123456789",
                true,
            ),
            (
                format!("{OK}transfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n1\r\na\r\n0\r\n\r\n"),
                200,
                "a",
                false,
            ),
            (format!("{OK}\r\nuntil the end"), 200, "until the end", false),
            ("HTTP/1.0 404 No\r\ncontent-length: 1\r\n\r\na".to_owned(), 404, "a", false),
            ("HTTP/1.0 404 No\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\na".to_owned(), 404, "a", true),
            (
                format!(
                    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n{OK}content-length: 1\r\n\r\na"
                ),
                200,
                "a",
                true,
            ),
            ("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n".to_owned(), 204, "", true),
        ] {
            assert_eq!(body_of(&text).await.unwrap(), (status, body.as_bytes().to_vec(), persists), "{text:?}");
        }
    }

    #[tokio::test]
    async fn what_can_be_read_in_two_ways_or_breaks_off_is_broken() {
        let chunks = format!("{OK}transfer-encoding: chunked\r\n\r\n");
        for text in [
            String::new(),
            "HTTP/1.1 200 OK\r\ncontent".to_owned(),
            "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
            format!("{OK}content-length: 3\r\n\r\nab"),
            format!("{OK}content-length: 2\r\ncontent-length: 3\r\n\r\nabc"),
            format!("{OK}content-length: +2\r\n\r\nab"),
            format!("{OK}content-length: 2, 2\r\n\r\nab"),
            format!("{OK}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            format!("{OK}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "HTTP/1.1 101 Switching\r\n\r\n".to_owned(),
            "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_INTERIM + 1),
            format!("{chunks}\r\n"),
            format!("{chunks}-1\r\n"),
            format!("{chunks}0x1\r\na\r\n"),
            format!("{chunks}10000000000000001\r\n"),
            format!("{chunks}1\na\r\n0\r\n\r\n"),
            format!("{chunks}1\r\nab0\r\n\r\n"),
            format!("{chunks}1\r\na\r\n"),
            format!("{chunks}0\r\n"),
            format!("{chunks}{}", "1".repeat(MAX_LINE_BYTES + 1)),
            format!("{chunks}0\r\n{}\r\n", "t: u\r\n".repeat(2_000)),
            format!("{OK}x: {}", "y".repeat(MAX_HEAD_BYTES + READ_BYTES)),
        ] {
            assert!(body_of(&text).await.is_err(), "{:?}", text.get(..200.min(text.len())));
        }
    }

    #[tokio::test]
    async fn a_header_is_found_whatever_its_case() {
        let text = format!("{OK}Retry-After:  7 \r\nx: a:b\r\ncontent-length: 0\r\n\r\n");
        let answer = Http1::answer(connection(vec![text.into_bytes()], false)).await.unwrap();
        assert_eq!((answer.header("content-type"), answer.header("retry-after")), (Some("text/plain"), Some("7")));
        assert_eq!((answer.header("x"), answer.header("200 OK"), answer.header("y")), (Some("a:b"), None, None));
    }

    #[tokio::test]
    async fn the_rest_comes_in_one_piece_within_its_limit() {
        let body = "b".repeat(200_000);
        let text = format!("{OK}content-length: 200000\r\n\r\n{body}").into_bytes();
        let pieces: Vec<Vec<u8>> = text.chunks(7_001).map(<[u8]>::to_vec).collect();
        let mut answer = Http1::answer(connection(pieces.clone(), false)).await.unwrap();
        assert_eq!(answer.rest(199_999).await.unwrap(), None);
        assert_eq!(answer.rest(200_000).await.unwrap().unwrap(), body);
        assert_eq!(answer.rest(200_000).await.unwrap(), None);
        assert_eq!(answer.piece().await.unwrap(), None);
        assert!(answer.reuse().is_some());
        let mut torn = Http1::answer(connection(pieces.into_iter().take(9).collect(), true)).await.unwrap();
        assert!(torn.rest(200_000).await.is_err());
    }

    proptest! {
        #[test]
        fn an_answer_is_the_same_wherever_it_is_cut(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..8),
            framing in 0_u8..3,
            cuts in prop::collection::vec(1_usize..50, 1..20),
        ) {
            let body = chunks.concat();
            let mut bytes = OK.as_bytes().to_vec();
            match framing {
                0 => bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes()),
                1 => bytes.extend(b"transfer-encoding: chunked\r\n\r\n"),
                _ => bytes.extend(b"\r\n"),
            }
            if framing == 1 {
                for chunk in &chunks {
                    bytes.extend([format!("{:X}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
                }
                bytes.extend(b"0\r\n\r\n");
            } else {
                bytes.extend(&body);
            }
            let (mut pieces, mut rest, mut cuts) = (Vec::new(), bytes.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                pieces.push(piece.to_vec());
                rest = later;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let read = runtime.block_on(read(pieces, framing == 2)).unwrap();
            prop_assert_eq!(read, (200, body, framing != 2));
        }

        #[test]
        fn any_bytes_are_judged_without_fault(bytes: Vec<u8>, chunked: bool) {
            let head = if chunked { format!("{OK}transfer-encoding: chunked\r\n\r\n") } else { String::new() };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _either = runtime.block_on(read(vec![[head.as_bytes(), &bytes].concat()], true));
        }
    }
}
