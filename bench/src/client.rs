//! One keep-alive HTTP/1.1 connection of the load generator, blocking: two system calls and one wake a
//! request, so that the generator takes as little as it can of the cores that it shares with the proxy.
//! Never retries: a request that fails is a fault of what is under test.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::wire::{Chunked, Framing, Head};

const READ_BYTES: usize = 128 * 1024;
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that is opened when it is first needed, and again after an answer that closed it.
#[derive(Debug)]
pub(crate) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    received: Vec<u8>,
    scratch: Box<[u8]>,
}

/// What is known of an answer besides its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Chunks of the transfer coding that carried data; zero for a body with a length.
    pub(crate) frames: u64,
}

/// A JSON request, ready to be written in one piece.
pub(crate) fn post(address: SocketAddr, path: &str, bearer: &str, body: &[u8]) -> Vec<u8> {
    let mut request = head("POST", address, path, bearer);
    let fields = format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    request.extend_from_slice(fields.as_bytes());
    request.extend_from_slice(body);
    request
}

/// A request without a body.
pub(crate) fn get(address: SocketAddr, path: &str, bearer: &str) -> Vec<u8> {
    let mut request = head("GET", address, path, bearer);
    request.extend_from_slice(b"\r\n");
    request
}

fn head(method: &str, address: SocketAddr, path: &str, bearer: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {bearer}\r\n\
         accept: application/json\r\nuser-agent: openclawmu-bench\r\n"
    )
    .into_bytes()
}

impl Connection {
    /// A connection to be opened by the first request.
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self { address, stream: None, received: Vec::new(), scratch: vec![0; READ_BYTES].into() }
    }

    /// Opens the connection if it is not open.
    pub(crate) fn open(&mut self) -> Result<&mut TcpStream> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => dial(self.address)?,
        };
        Ok(self.stream.insert(stream))
    }

    /// Sends one request and reads the whole answer; `sink` gets the body as it comes, piece by piece.
    pub(crate) fn call(&mut self, request: &[u8], mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<Answer> {
        self.open()?.write_all(request).context("sending the request")?;
        let (status, framing, closes) = self.read_head()?;
        let frames = match framing {
            Framing::Length(bytes) => self.read_length(bytes, &mut sink).map(|()| 0)?,
            Framing::Chunked => self.read_chunked(&mut sink)?,
            // Allowed by RFC 9112, but then a body that was cut looks whole, and no connection is kept.
            Framing::Unsaid => bail!("an answer with neither content-length nor transfer-encoding"),
        };
        ensure!(self.received.is_empty(), "bytes after the end of the answer");
        if closes {
            self.stream = None;
        }
        Ok(Answer { status, frames })
    }

    /// As [`Self::call`], with the body in one piece.
    pub(crate) fn call_whole(&mut self, request: &[u8], body: &mut Vec<u8>) -> Result<Answer> {
        body.clear();
        self.call(request, |piece| {
            body.extend_from_slice(piece);
            Ok(())
        })
    }

    fn read_head(&mut self) -> Result<(u16, Framing, bool)> {
        loop {
            if let Some((head, taken)) = Head::parse(&self.received) {
                let read = (head.status()?, head.framing()?, head.closes());
                self.received.drain(..taken);
                return Ok(read);
            }
            let read = self.read()?;
            self.received.extend_from_slice(self.scratch.get(..read).unwrap_or_default());
        }
    }

    fn read_length(&mut self, bytes: usize, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        ensure!(self.received.len() <= bytes, "a body longer than its content-length");
        let mut left = bytes - self.received.len();
        sink(&self.received)?;
        self.received.clear();
        while left > 0 {
            let read = self.read()?;
            ensure!(read <= left, "a body longer than its content-length");
            sink(self.scratch.get(..read).unwrap_or_default())?;
            left -= read;
        }
        Ok(())
    }

    fn read_chunked(&mut self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let mut chunked = Chunked::default();
        let taken = chunked.feed(&self.received, sink)?;
        self.received.drain(..taken);
        while !chunked.is_done() {
            let read = self.read()?;
            let piece = self.scratch.get(..read).unwrap_or_default();
            let taken = chunked.feed(piece, sink)?;
            self.received.extend_from_slice(piece.get(taken..).unwrap_or_default());
        }
        Ok(chunked.frames())
    }

    fn read(&mut self) -> Result<usize> {
        let stream = self.stream.as_mut().context("the connection is closed")?;
        match stream.read(&mut self.scratch).context("reading the answer")? {
            0 => bail!("the connection was closed before the answer was whole"),
            read => Ok(read),
        }
    }
}

fn dial(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that sends `answers` one for each request, each in pieces of `piece` bytes, and then hangs up.
    fn server(answers: &'static [&'static str], piece: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            for answer in answers {
                let mut request = [0; 4096];
                assert!(stream.read(&mut request).unwrap() > 0);
                answer.as_bytes().chunks(piece).for_each(|bytes| stream.write_all(bytes).unwrap());
            }
        });
        address
    }

    fn ask(connection: &mut Connection) -> Result<(Answer, String)> {
        let request = post(connection.address, "/v1/chat/completions", "key", b"{}");
        let mut body = Vec::new();
        let answer = connection.call_whole(&request, &mut body)?;
        Ok((answer, String::from_utf8(body)?))
    }

    #[test]
    fn answers_with_a_length_and_chunked_ones_share_a_connection_however_they_are_cut() {
        const ANSWERS: &[&str] = &[
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 429 Too Many Requests\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ];
        for piece in [1, 7, 4096] {
            let mut connection = Connection::to(server(ANSWERS, piece));
            let answers: Vec<_> = (0..3).map(|_| ask(&mut connection).unwrap()).collect();
            assert_eq!(answers[0], (Answer { status: 200, frames: 0 }, "hello".to_owned()));
            assert_eq!(answers[1], (Answer { status: 429, frames: 2 }, "abcde".to_owned()));
            assert_eq!(answers[2], (Answer { status: 200, frames: 0 }, String::new()));
        }
    }

    #[test]
    fn an_answer_that_is_cut_is_an_error() {
        for answer in [
            &["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell"],
            &["HTTP/1.1 200 OK\r\ncontent-le"],
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"],
        ] {
            let error = ask(&mut Connection::to(server(answer, 4096))).unwrap_err();
            assert!(format!("{error:#}").contains("before the answer was whole"), "{error:#}");
        }
    }

    #[test]
    fn an_answer_that_does_not_say_how_it_ends_is_an_error() {
        let error = ask(&mut Connection::to(server(&["HTTP/1.1 200 OK\r\n\r\nhello"], 4096))).unwrap_err();
        assert!(format!("{error:#}").contains("neither"), "{error:#}");
    }

    #[test]
    fn bytes_beyond_the_answer_are_an_error() {
        let address = server(&["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhello"], 4096);
        assert!(ask(&mut Connection::to(address)).is_err());
    }

    #[test]
    fn after_an_answer_that_closes_the_next_request_takes_a_new_connection() {
        let address = server(&["HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"], 64);
        let mut connection = Connection::to(address);
        ask(&mut connection).unwrap();
        assert!(connection.stream.is_none());
    }
}
