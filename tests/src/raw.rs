//! HTTP/1.1 over a bare socket, for what a client library would hide or refuse to send. Reads are bounded by a deadline.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest that a raw read waits.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A request or an answer, as it was on the wire.
#[derive(Debug, Clone)]
pub struct Message {
    /// The first line.
    pub start: String,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body with the transfer coding taken off.
    pub body: Vec<u8>,
    /// The chunks that the body came in, where it was chunked.
    pub chunks: Vec<Vec<u8>>,
}

impl Message {
    /// The first header of this name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// An answer's status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.start
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("no status in {:?}", self.start))
    }

    /// A request's method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// A request's target.
    #[must_use]
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}

/// Reads one request; `None` at the end of the connection or when what comes is no HTTP.
pub(crate) async fn read_request(reader: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<Message> {
    read_message(reader, buffer, true).await
}

async fn fill(reader: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<usize> {
    let mut piece = vec![0_u8; 64 * 1024];
    let count = reader.read(&mut piece).await.ok()?;
    buffer.extend_from_slice(&piece[..count]);
    Some(count)
}

async fn read_message(reader: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>, request: bool) -> Option<Message> {
    let head_end = loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            break at;
        }
        if fill(reader, buffer).await? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    buffer.drain(..head_end + 4);
    let mut lines = head.split("\r\n");
    let start = lines.next()?.to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut message = Message { start, headers, body: Vec::new(), chunks: Vec::new() };
    if message.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        read_chunks(reader, buffer, &mut message).await?;
    } else if let Some(length) = message.header("content-length").and_then(|length| length.parse::<usize>().ok()) {
        while buffer.len() < length {
            if fill(reader, buffer).await? == 0 {
                return None;
            }
        }
        message.body = buffer.drain(..length).collect();
    } else if !request && !matches!(message.status(), 100..=199 | 204 | 304) {
        while fill(reader, buffer).await? > 0 {}
        message.body = std::mem::take(buffer);
    }
    Some(message)
}

async fn read_chunks(reader: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>, message: &mut Message) -> Option<()> {
    loop {
        let line_end = loop {
            if let Some(at) = find(buffer, b"\r\n") {
                break at;
            }
            if fill(reader, buffer).await? == 0 {
                return None;
            }
        };
        let line = String::from_utf8_lossy(&buffer[..line_end]).into_owned();
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        while buffer.len() < line_end + 2 + size + 2 {
            if fill(reader, buffer).await? == 0 {
                return None;
            }
        }
        let chunk = buffer[line_end + 2..line_end + 2 + size].to_vec();
        buffer.drain(..line_end + 2 + size + 2);
        if size == 0 {
            return Some(());
        }
        message.body.extend_from_slice(&chunk);
        message.chunks.push(chunk);
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// A raw client connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the listener answers");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes as they are; false when the other side has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Sends nothing more; the other side may still answer.
    pub async fn end(&mut self) {
        // It may have closed already.
        let _closed: std::io::Result<()> = self.stream.shutdown().await;
    }

    /// The next answer, or `None` when the connection ended without a whole one.
    pub async fn answer(&mut self) -> Option<Message> {
        tokio::time::timeout(PATIENCE, read_message(&mut self.stream, &mut self.buffer, false))
            .await
            .expect("an answer or the end, in time")
    }

    /// Reads what comes next; empty at the end.
    pub async fn some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            let read = tokio::time::timeout(PATIENCE, fill(&mut self.stream, &mut self.buffer)).await;
            let _ended: Option<usize> = read.expect("bytes or the end, in time");
        }
        std::mem::take(&mut self.buffer)
    }

    /// Everything up to the end of the connection.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let piece = self.some().await;
            if piece.is_empty() {
                return all;
            }
            all.extend_from_slice(&piece);
        }
    }

    /// What comes until the end of the connection or for `limit`, and whether the end came.
    pub async fn rest_within(&mut self, limit: Duration) -> (Vec<u8>, bool) {
        let end = tokio::time::Instant::now() + limit;
        let mut all = Vec::new();
        loop {
            match tokio::time::timeout_at(end, fill(&mut self.stream, &mut self.buffer)).await {
                Err(_) => return (all, false),
                Ok(_) if self.buffer.is_empty() => return (all, true),
                Ok(_) => all.append(&mut self.buffer),
            }
        }
    }

    /// True when the other side closes within [`PATIENCE`] without another byte.
    pub async fn closes(&mut self) -> bool {
        self.some().await.is_empty()
    }
}

/// The bytes of a request with a body of known length.
#[must_use]
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A blocking GET, for where no runtime may be used (a drop). `None` when nobody answers.
#[must_use]
pub fn blocking_get(address: SocketAddr, target: &str, bearer: &str) -> Option<(u16, String)> {
    let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let head = format!(
        "GET {target} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {bearer}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let at = find(&bytes, b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let mut body = bytes[at + 4..].to_vec();
    if text.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = unchunked(&body)?;
    }
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let at = find(rest, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..at]).ok()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(out);
        }
        out.extend_from_slice(rest.get(at + 2..at + 2 + size)?);
        rest = rest.get(at + 4 + size..)?;
    }
}
