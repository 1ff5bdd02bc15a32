//! A client of a terminal's WebSocket, by the table of its frames: the first byte says what it is, numbers are big-endian.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::client::Client;
use crate::socket::{Ended, Refused, Socket};
use crate::wait::SOON;

/// The subprotocol.
pub const PROTOCOL: &str = "openclawmu.terminal.v1";

/// A client that is attached.
pub struct Terminal {
    stream: WebSocketStream<TcpStream>,
    /// The last greeting.
    pub hello: Value,
    /// What was shown since the greeting.
    pub shown: Vec<u8>,
    /// The next byte that it wants.
    pub seen: u64,
    /// Drivers, observers and moderators, once that was said.
    pub viewers: Option<[u16; 3]>,
    /// The shell's end.
    pub exit: Option<i32>,
    /// The last error.
    pub error: Option<Value>,
    /// Whether it tells how far it is.
    pub acknowledges: bool,
}

/// A ticket for a terminal, by this call.
pub async fn ticket(client: &Client, body: &Value) -> Value {
    let reply = client.post("/v1/terminal/tickets", body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()
}

impl Terminal {
    /// Asks with these subprotocols beside the protocol's own, and these headers. A greeting is not waited for.
    pub async fn ask(edge: SocketAddr, credential: &str, headers: &[(&str, &str)]) -> Result<Self, Refused> {
        let protocols = if credential.is_empty() { PROTOCOL.to_owned() } else { format!("{PROTOCOL}, {credential}") };
        let mut all = vec![("sec-websocket-protocol", protocols.as_str())];
        all.extend_from_slice(headers);
        let socket = Socket::try_open(edge, "/v1/terminal", &all).await?;
        assert_eq!(socket.protocol.as_deref(), Some(PROTOCOL), "the credential never comes back");
        Ok(Self {
            stream: socket.into_stream(),
            hello: Value::Null,
            shown: Vec::new(),
            seen: 0,
            viewers: None,
            exit: None,
            error: None,
            acknowledges: true,
        })
    }

    /// Attaches with a ticket's value, as one who has not been there; panics where it is refused.
    pub async fn attach(edge: SocketAddr, ticket: &str) -> Self {
        let asked = Self::ask(edge, &format!("ticket.{ticket}"), &[]).await;
        let mut terminal = asked.unwrap_or_else(|refused| panic!("the gateway refuses: {refused:?}"));
        terminal.send(&frame(4, &7_u64.to_be_bytes())).await;
        terminal.greeted().await;
        terminal
    }

    /// Opens a terminal of the client's tenant.
    pub async fn open(edge: SocketAddr, client: &Client) -> Self {
        let made = ticket(client, &json!({})).await;
        Self::attach(edge, made["ticket"].as_str().expect("a ticket")).await
    }

    /// Comes back to where another was, by its return ticket.
    pub async fn resume(edge: SocketAddr, before: &Self) -> Self {
        let back = before.hello["return_ticket"].as_str().expect("a return ticket");
        let mut terminal = Self::ask(edge, &format!("ticket.{back}"), &[]).await.expect("a way back");
        let body = [before.seen.to_be_bytes().as_slice(), before.session().as_bytes()].concat();
        terminal.send(&frame(7, &body)).await;
        terminal.greeted().await;
        terminal
    }

    /// The terminal's name.
    #[must_use]
    pub fn session(&self) -> &str {
        self.hello["session"].as_str().expect("a greeting")
    }

    /// What was shown, as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Types.
    pub async fn keys(&mut self, text: &str) {
        self.send(&frame(1, text.as_bytes())).await;
    }

    /// Says how large its window is.
    pub async fn resize(&mut self, cols: u16, rows: u16) {
        self.send(&frame(2, &[cols.to_be_bytes(), rows.to_be_bytes()].concat())).await;
    }

    /// Says how far it is.
    pub async fn acknowledge(&mut self) {
        self.send(&frame(3, &self.seen.to_be_bytes())).await;
    }

    /// Ends the terminal, and waits for the end.
    pub async fn end(mut self) -> Ended {
        self.stream.send(Message::text(r#"{"type":"end"}"#)).await.expect("an open WebSocket");
        self.closed().await
    }

    /// Asks for its end, and goes on.
    pub async fn ask_for_end(&mut self) {
        self.stream.send(Message::text(r#"{"type":"end"}"#)).await.expect("an open WebSocket");
    }

    /// Reads on until this was shown; panics where it ends before.
    pub async fn until_shown(&mut self, text: &str) {
        self.until(text, |terminal| contains(&terminal.shown, text.as_bytes())).await;
    }

    /// Reads on until this holds; panics where it ends before.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            if let Err(ended) = self.next().await {
                panic!("{ended:?} before {what}; error {:?}, shown: {:?}", self.error, self.text());
            }
        }
    }

    /// Reads on to the end.
    pub async fn closed(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.next().await {
                return ended;
            }
        }
    }

    async fn greeted(&mut self) {
        self.until("a greeting", |terminal| terminal.hello.is_object()).await;
    }

    async fn send(&mut self, frame: &[u8]) {
        self.stream.send(Message::binary(frame.to_vec())).await.expect("an open WebSocket");
    }

    /// Takes the next message.
    async fn next(&mut self) -> Result<(), Ended> {
        let message = tokio::time::timeout(SOON, self.stream.next()).await;
        match message.unwrap_or_else(|_| panic!("nothing came; shown: {:?}", self.text())) {
            Some(Ok(Message::Binary(bytes))) => self.take(&bytes).await,
            Some(Ok(Message::Text(text))) => {
                let said: Value = serde_json::from_str(&text).expect("JSON");
                if said["type"] == "hello" {
                    self.seen = said["seq"].as_u64().expect("a number");
                    self.shown.clear();
                    self.hello = said;
                } else {
                    assert_eq!(said["type"], "error", "{said}");
                    self.error = Some(said);
                }
            }
            Some(Ok(Message::Close(frame))) => {
                return Err(Ended::Closed(frame.map_or(1005, |frame| frame.code.into())));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(Ended::Broken),
        }
        Ok(())
    }

    async fn take(&mut self, bytes: &[u8]) {
        let (kind, rest) = bytes.split_first().expect("a first byte");
        match kind {
            0 => {
                let (seq, bytes) = rest.split_at(8);
                assert_eq!(u64::from_be_bytes(seq.try_into().expect("8 bytes")), self.seen, "no byte is lost");
                self.seen += bytes.len() as u64;
                self.shown.extend_from_slice(bytes);
                if self.acknowledges {
                    // The gateway may have closed it meanwhile; then that is read next.
                    let _gone = self.stream.send(Message::binary(frame(3, &self.seen.to_be_bytes()))).await;
                }
            }
            4 => assert_eq!(rest, 7_u64.to_be_bytes(), "a ping comes back"),
            5 => self.exit = Some(i32::from_be_bytes(rest.try_into().expect("4 bytes"))),
            6 => self.viewers = Some([0, 2, 4].map(|at| u16::from_be_bytes([rest[at], rest[at + 1]]))),
            other => panic!("a frame of kind {other}"),
        }
    }
}

fn frame(kind: u8, rest: &[u8]) -> Vec<u8> {
    [&[kind], rest].concat()
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}
