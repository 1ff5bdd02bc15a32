//! A client's WebSocket to the edge: events as JSON, each awaited with a deadline.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::wait::SOON;

/// An open WebSocket.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// The subprotocol that the gateway chose.
    pub protocol: Option<String>,
}

/// What came instead of a WebSocket.
#[derive(Debug)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// The body, as JSON where it is.
    pub body: Value,
}

/// How a WebSocket ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this code.
    Closed(u16),
    /// Without a word.
    Broken,
}

impl Socket {
    /// Opens one; panics where it is refused.
    pub async fn open(edge: SocketAddr, path: &str, token: &str) -> Self {
        let bearer = format!("Bearer {token}");
        match Self::try_open(edge, path, &[("authorization", &bearer)]).await {
            Ok(socket) => socket,
            Err(refused) => panic!("the gateway refuses: {refused:?}"),
        }
    }

    /// Asks for one with these headers.
    pub async fn try_open(edge: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, Refused> {
        let mut request = format!("ws://{edge}{path}").into_client_request().expect("a request");
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a header's name");
            request.headers_mut().append(name, HeaderValue::from_str(value).expect("a header's value"));
        }
        let stream = TcpStream::connect(edge).await.expect("the edge");
        let opened = tokio::time::timeout(SOON, client_async(request, stream)).await.expect("an answer");
        match opened {
            Ok((stream, answer)) => {
                let protocol = answer.headers().get("sec-websocket-protocol");
                let protocol = protocol.map(|value| value.to_str().expect("text").to_owned());
                Ok(Self { stream, protocol })
            }
            Err(Error::Http(answer)) => {
                let body = answer.body().clone().unwrap_or_default();
                Err(Refused {
                    status: answer.status().as_u16(),
                    body: serde_json::from_slice(&body).unwrap_or_default(),
                })
            }
            Err(err) => panic!("no HTTP: {err}"),
        }
    }

    /// The WebSocket itself, for what speaks no events.
    #[must_use]
    pub fn into_stream(self) -> WebSocketStream<TcpStream> {
        self.stream
    }

    /// Sends an event.
    pub async fn send(&mut self, event: &Value) {
        self.send_text(&event.to_string()).await;
    }

    /// Sends a text message.
    pub async fn send_text(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.expect("an open WebSocket");
    }

    /// The next event, or how it ended; panics when neither comes soon.
    pub async fn next(&mut self) -> Result<Value, Ended> {
        loop {
            let message = tokio::time::timeout(SOON, self.stream.next()).await.expect("an event or the end");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("an event is JSON")),
                Some(Ok(Message::Close(frame))) => {
                    return Err(Ended::Closed(frame.map_or(1005, |frame| frame.code.into())));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Ended::Broken),
            }
        }
    }

    /// All events up to and with the first of this type; panics when it ends before.
    pub async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Ok(event) => {
                    let found = event["type"] == kind;
                    events.push(event);
                    if found {
                        return events;
                    }
                }
                Err(ended) => panic!("{ended:?} before {kind}, after {events:#?}"),
            }
        }
    }

    /// The first event of this type; panics when it ends before.
    pub async fn event(&mut self, kind: &str) -> Value {
        self.until(kind).await.pop().expect("it was found")
    }

    /// All events to the end, and the end.
    pub async fn rest(&mut self) -> (Vec<Value>, Ended) {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Ok(event) => events.push(event),
                Err(ended) => return (events, ended),
            }
        }
    }

    /// Closes it as a client does that is done.
    pub async fn close(mut self) {
        self.stream.close(None).await.expect("an open WebSocket");
        while let Some(Ok(_)) = self.stream.next().await {}
    }
}
