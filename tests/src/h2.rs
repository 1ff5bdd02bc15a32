//! HTTP/2 in the clear, frame by frame, for what a client library would refuse to send (RFC 9113, RFC 7541).

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::raw::PATIENCE;

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types.
pub const DATA: u8 = 0;
/// See [`DATA`].
pub const HEADERS: u8 = 1;
/// See [`DATA`].
pub const PRIORITY: u8 = 2;
/// See [`DATA`].
pub const RST_STREAM: u8 = 3;
/// See [`DATA`].
pub const SETTINGS: u8 = 4;
/// See [`DATA`].
pub const PING: u8 = 6;
/// See [`DATA`].
pub const GOAWAY: u8 = 7;
/// See [`DATA`].
pub const WINDOW_UPDATE: u8 = 8;
/// See [`DATA`].
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const END_STREAM: u8 = 0x1;
/// See [`END_STREAM`].
pub const ACK: u8 = 0x1;
/// See [`END_STREAM`].
pub const END_HEADERS: u8 = 0x4;
/// See [`END_STREAM`].
pub const PADDED: u8 = 0x8;

/// A frame's bytes.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a payload that fits");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header field as HPACK writes it without any table: literal, not indexed, not compressed.
#[must_use]
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.extend(length(text.len()));
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// A field that goes into the dynamic table, where `index` 62 then stands for it.
#[must_use]
pub fn indexed_literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = literal(name, value);
    bytes[0] = 0x40;
    bytes
}

/// A length in HPACK: a prefix of seven bits.
fn length(mut rest: usize) -> Vec<u8> {
    if rest < 127 {
        return vec![u8::try_from(rest).expect("small")];
    }
    let mut bytes = vec![127];
    rest -= 127;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).expect("small") | 0x80);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).expect("small"));
    bytes
}

/// The header block of a request.
#[must_use]
pub fn request(method: &str, path: &str, bearer: &str) -> Vec<u8> {
    [
        literal(":method", method),
        literal(":scheme", "http"),
        literal(":path", path),
        literal(":authority", "gateway.example"),
        literal("authorization", bearer),
        literal("content-type", "application/json"),
    ]
    .concat()
}

/// A frame that came.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// A client's connection.
pub struct Connection {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
}

impl Connection {
    /// Connects, and says the preface and these settings.
    pub async fn open(address: SocketAddr, settings: &[u8]) -> Self {
        let stream = TcpStream::connect(address).await.expect("the listener answers");
        stream.set_nodelay(true).expect("a socket option");
        let (reader, writer) = stream.into_split();
        let mut connection = Self { reader, writer };
        assert!(connection.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await);
        connection
    }

    /// Sends bytes as they are; false when the other side has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.writer.write_all(bytes).await.is_ok()
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        tokio::time::timeout(PATIENCE, read_frame(&mut self.reader)).await.expect("a frame or the end, in time")
    }

    /// The frames up to the end of the connection.
    pub async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            frames.push(frame);
        }
        frames
    }

    /// Sends these bytes up to `times` times while whatever comes is read and dropped; how often they went out before the
    /// connection ended, or `None` where it did not end.
    pub async fn flood(&mut self, bytes: &[u8], times: usize) -> Option<usize> {
        let Self { reader, writer } = self;
        let sending = async {
            let mut sent = 0;
            while sent < times && writer.write_all(bytes).await.is_ok() {
                sent += 1;
            }
            sent
        };
        let draining = async {
            let mut piece = vec![0_u8; 64 << 10];
            while reader.read(&mut piece).await.is_ok_and(|count| count > 0) {}
        };
        tokio::pin!(sending, draining);
        let sent = tokio::select! {
            sent = &mut sending => sent,
            () = &mut draining => return Some(sending.await),
        };
        // All of it left this side: the other one may still be reading.
        tokio::time::timeout(PATIENCE, draining).await.ok().map(|()| sent)
    }
}

async fn read_frame(reader: &mut OwnedReadHalf) -> Option<Frame> {
    let mut head = [0_u8; 9];
    reader.read_exact(&mut head).await.ok()?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).await.ok()?;
    let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
    Some(Frame { kind: head[3], flags: head[4], stream, payload })
}
