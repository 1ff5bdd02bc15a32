//! Bytes between a session that was switched and whoever speaks over it, with little kept in between: a client that reads
//! slowly stops whoever writes to it, and is cut by the edge's write timeout.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::session::Session;

/// Bytes that are under way in each direction.
const UNDER_WAY: usize = 64 << 10;
/// Bytes that are read at once.
const READ_BYTES: usize = 16 << 10;
/// The largest event of an upstream, in bytes.
pub(crate) const MAX_EVENT_BYTES: usize = 10 << 20;

/// A client's side of a WebSocket.
pub(crate) type ClientSocket = WebSocketStream<DuplexStream>;

/// The limits of a WebSocket whose messages have at most `max_message` bytes.
pub(crate) fn limits(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
}

/// A client's WebSocket, and the other end of its bytes, for [`carry`].
pub(crate) async fn accepted(max_message: usize) -> (ClientSocket, DuplexStream) {
    let (near, far) = tokio::io::duplex(UNDER_WAY);
    (WebSocketStream::from_raw_socket(near, Role::Server, Some(limits(max_message))).await, far)
}

/// Carries bytes until either side has ended. What was written for the client before that end still reaches it.
pub(crate) async fn carry(session: &mut Session<'_>, stream: DuplexStream) {
    // A conversation may pause; how long, whoever speaks over it decides.
    session.set_read_timeout(None);
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (mut inbound, mut outbound) = (Bytes::new(), BytesMut::with_capacity(READ_BYTES));
    let mut listening = true;
    loop {
        tokio::select! {
            piece = session.read_body(), if listening && inbound.is_empty() => match piece {
                Ok(Some(piece)) => inbound = piece,
                Ok(None) | Err(_) => return,
            },
            written = writer.write_buf(&mut inbound), if listening && !inbound.is_empty() => {
                listening = written.is_ok();
            }
            read = reader.read_buf(&mut outbound) => match read {
                Ok(0) | Err(_) => break,
                Ok(_) => {
                    if session.write_body(outbound.split().freeze(), false).await.is_err() {
                        return;
                    }
                }
            },
        }
    }
    if let Err(err) = session.write_body(Bytes::new(), true).await {
        tracing::debug!(%err, "a client's WebSocket was closed first");
    }
}
