//! A client of one terminal, blocking, by the table of its frames: the first byte says what it is, numbers are big-endian.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use http::HeaderValue;
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, client};

use super::PATIENCE;

/// A command whose answer is not in the command.
pub(super) const ASKED: &[u8] = b"echo r$((40+2))y\r";
/// Its answer.
pub(super) const ANSWERED: &[u8] = b"r42y";
/// How long a read waits at most.
const STEP: Duration = Duration::from_millis(100);
/// How much of what was shown is kept to be searched.
const KEPT: usize = 64 << 10;
/// How much comes before it is acknowledged, as a page does it.
const ACK_BYTES: u64 = 64 << 10;

/// A driver that is attached.
pub(super) struct Client {
    socket: WebSocket<TcpStream>,
    shown: Vec<u8>,
    /// The next byte that it wants.
    pub(super) seen: u64,
    acked: u64,
    greeted: bool,
    /// Whether it tells how far it is.
    pub(super) acknowledges: bool,
}

impl Client {
    /// Opens a terminal of the token's tenant.
    pub(super) fn open(edge: SocketAddr, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(edge)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = format!("ws://{edge}/v1/terminal").into_client_request()?;
        let protocols = HeaderValue::from_str(&format!("openclawmu.terminal.v1, token.{token}"))?;
        request.headers_mut().insert("sec-websocket-protocol", protocols);
        let (socket, _) = client(request, stream).map_err(|err| anyhow!("opening a terminal: {err}"))?;
        socket.get_ref().set_read_timeout(Some(STEP))?;
        let mut opened = Self { socket, shown: Vec::new(), seen: 0, acked: 0, greeted: false, acknowledges: true };
        opened.send(4, &1_u64.to_be_bytes())?;
        opened.wait_for("a greeting", |terminal| terminal.greeted)?;
        Ok(opened)
    }

    pub(super) fn keys(&mut self, keys: &[u8]) -> Result<()> {
        self.send(1, keys)
    }

    pub(super) fn acknowledge(&mut self) -> Result<()> {
        self.acked = self.seen;
        self.send(3, &self.seen.to_be_bytes())
    }

    /// Reads on until this was shown, and forgets what was.
    pub(super) fn until(&mut self, wanted: &[u8]) -> Result<()> {
        self.wait_for("what is to be shown", |terminal| contains(&terminal.shown, wanted))?;
        self.shown.clear();
        Ok(())
    }

    /// A command is run and answered.
    pub(super) fn command_answers(&mut self) -> Result<()> {
        self.shown.clear();
        self.keys(ASKED)?;
        self.until(ANSWERED)
    }

    /// Ends the terminal, and waits for the end.
    pub(super) fn end(mut self) -> Result<()> {
        self.socket.send(Message::text(r#"{"type":"end"}"#))?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match self.socket.read() {
                Ok(Message::Close(_)) => return Ok(()),
                Err(Error::Io(err)) if waits(err.kind()) => {}
                Ok(_) => {}
                Err(_) => return Ok(()),
            }
        }
        bail!("a terminal did not end")
    }

    /// Takes one message, if one comes soon.
    pub(super) fn read_some(&mut self) -> Result<()> {
        match self.socket.read() {
            Ok(Message::Binary(bytes)) => self.take(&bytes),
            Ok(Message::Text(text)) => {
                let said: Value = serde_json::from_str(&text)?;
                ensure!(said.pointer("/type").and_then(Value::as_str) == Some("hello"), "the terminal says {said}");
                self.seen = said.pointer("/seq").and_then(Value::as_u64).context("a greeting without seq")?;
                (self.acked, self.greeted) = (self.seen, true);
                Ok(())
            }
            Ok(Message::Close(why)) => bail!("the terminal was closed: {why:?}"),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(()),
            Err(Error::Io(err)) if waits(err.kind()) => Ok(()),
            Err(err) => Err(err).context("reading from a terminal"),
        }
    }

    fn wait_for(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<()> {
        let began = Instant::now();
        while !holds(self) {
            ensure!(began.elapsed() < PATIENCE, "in vain we waited for {what}");
            self.read_some()?;
        }
        Ok(())
    }

    fn take(&mut self, frame: &[u8]) -> Result<()> {
        let Some((seq, bytes)) = output(frame) else { return Ok(()) };
        ensure!(seq == self.seen, "byte {} was to come, {seq} came", self.seen);
        self.seen += bytes.len() as u64;
        self.shown.extend_from_slice(bytes);
        let over = self.shown.len().saturating_sub(KEPT);
        self.shown.drain(..over);
        if self.acknowledges && (self.seen - self.acked >= ACK_BYTES) {
            self.acknowledge()?;
        }
        Ok(())
    }

    fn send(&mut self, kind: u8, rest: &[u8]) -> Result<()> {
        self.socket.send(Message::binary([&[kind], rest].concat())).context("writing to a terminal")
    }
}

/// The place and the bytes of a frame of output; none of another.
fn output(frame: &[u8]) -> Option<(u64, &[u8])> {
    let (seq, bytes) = frame.strip_prefix(&[0])?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*seq), bytes))
}

pub(super) fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

fn waits(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_output_has_a_place_and_bytes_and_no_other_frame_is_one() {
        assert_eq!(output(b"\0\0\0\0\0\0\0\x01\x02ab"), Some((258, &b"ab"[..])));
        assert_eq!(output(b"\x04\0\0\0\0\0\0\0\x01"), None);
        assert_eq!(output(b"\0\0\0"), None);
    }

    #[test]
    fn the_answer_is_not_in_the_command() {
        assert!(!contains(ASKED, ANSWERED) && contains(b"$ r42y\r\n", ANSWERED));
    }
}
