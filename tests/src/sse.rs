//! Server-sent events as a client sees them.

use serde_json::Value;

use crate::client::Reply;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field, if any.
    pub name: Option<String>,
    /// The `data:` lines, joined.
    pub data: String,
}

impl Event {
    /// The data as JSON; panics when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.data))
    }

    /// True for `[DONE]`.
    #[must_use]
    pub fn done(&self) -> bool {
        self.data == "[DONE]"
    }

    /// The text that this chunk adds to the first choice.
    #[must_use]
    pub fn text(&self) -> String {
        if self.done() {
            return String::new();
        }
        let chunk = self.json();
        let choice = &chunk["choices"][0];
        choice["delta"]["content"].as_str().or_else(|| choice["text"].as_str()).unwrap_or_default().to_owned()
    }
}

/// Takes the first whole event off `buffer`; comments are passed over.
pub fn take(buffer: &mut Vec<u8>) -> Option<Event> {
    loop {
        let at = buffer.windows(2).position(|window| window == b"\n\n")?;
        let frame: Vec<u8> = buffer.drain(..at + 2).collect();
        let text = String::from_utf8(frame).expect("whole events are whole UTF-8");
        let mut name = None;
        let mut data = Vec::new();
        for line in text.lines() {
            if let Some(value) = line.strip_prefix("data:") {
                data.push(value.strip_prefix(' ').unwrap_or(value).to_owned());
            } else if let Some(value) = line.strip_prefix("event:") {
                name = Some(value.trim().to_owned());
            }
        }
        if !data.is_empty() || name.is_some() {
            return Some(Event { name, data: data.join("\n") });
        }
    }
}

/// All events of a finished stream.
#[must_use]
pub fn all(body: &[u8]) -> Vec<Event> {
    let mut buffer = body.to_vec();
    let mut events = Vec::new();
    while let Some(event) = take(&mut buffer) {
        events.push(event);
    }
    events
}

/// A stream in flight.
pub struct Stream {
    response: reqwest::Response,
    buffer: Vec<u8>,
    /// True when the transfer ended in an error instead of its proper end.
    pub broken: bool,
}

impl Stream {
    /// Reads the stream of an answer; panics when it isn't a 200 event stream.
    pub async fn of(response: reqwest::Response) -> Self {
        if response.status() != 200 {
            let reply = Reply::of(response).await;
            panic!("a stream was expected: {reply:?}");
        }
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        assert!(kind.starts_with("text/event-stream"), "content-type of a stream: {kind:?}");
        Self { response, buffer: Vec::new(), broken: false }
    }

    /// The headers.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// The next event; `None` at the end.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = take(&mut self.buffer) {
                return Some(event);
            }
            let piece = tokio::time::timeout(crate::raw::PATIENCE, self.response.chunk())
                .await
                .expect("an event or the end, in time");
            match piece {
                Ok(Some(bytes)) => self.buffer.extend_from_slice(&bytes),
                Ok(None) => return None,
                Err(_) => {
                    self.broken = true;
                    return None;
                }
            }
        }
    }

    /// Reads on until `count` events with text came; panics at an earlier end.
    pub async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let event = self.next().await.expect("more text");
            let text = event.text();
            if !text.is_empty() {
                texts.push(text);
            }
        }
        texts
    }

    /// Everything up to the end.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}
