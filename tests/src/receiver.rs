//! A receiver of webhooks: a real HTTP server on a fixed port, whose answers are scripted, and which can be down.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::gateway::free_address;
use crate::raw::{self, Message};
use crate::wait;

#[derive(Default)]
struct State {
    statuses: Mutex<VecDeque<u16>>,
    received: Mutex<Vec<Message>>,
}

/// A receiver; down until it is brought up.
pub struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

impl Receiver {
    /// One that nobody can connect to yet.
    #[must_use]
    pub fn down() -> Self {
        Self { address: free_address(), state: Arc::default(), accepting: None }
    }

    /// One that listens.
    pub async fn start() -> Self {
        let mut receiver = Self::down();
        receiver.up().await;
        receiver
    }

    /// Listens from now on.
    pub async fn up(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the receiver's port");
        let state = Arc::clone(&self.state);
        self.accepting = Some(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                tokio::spawn(async move { serve(stream, &state).await });
            }
        }));
    }

    /// The URL of its hook.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The next requests get these statuses, the ones after them 200.
    pub fn answer(&self, statuses: &[u16]) {
        self.state.statuses.lock().expect("unpoisoned").extend(statuses);
    }

    /// Everything received so far, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Message> {
        self.state.received.lock().expect("unpoisoned").clone()
    }

    /// Everything received once there are `count`; panics when there are more.
    pub async fn received_once(&self, count: usize) -> Vec<Message> {
        let received = wait::until(&format!("{count} webhooks"), || async {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
        .await;
        assert_eq!(received.len(), count, "{received:#?}");
        received
    }
}

/// What an official library is asked to verify: headers and body of each message, as received.
#[must_use]
pub fn as_evidence(messages: &[Message]) -> Value {
    let headers =
        |message: &Message| message.headers.iter().cloned().map(|(name, value)| (name, json!(value))).collect();
    messages
        .iter()
        .map(|message| json!({ "headers": Value::Object(headers(message)), "body": message.text() }))
        .collect()
}

async fn serve(stream: TcpStream, state: &State) {
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = Vec::new();
    while let Some(message) = raw::read_request(&mut reader, &mut buffer).await {
        let status = state.statuses.lock().expect("unpoisoned").pop_front().unwrap_or(200);
        state.received.lock().expect("unpoisoned").push(message);
        let location = if status / 100 == 3 { "location: /elsewhere\r\n" } else { "" };
        let answer = format!("HTTP/1.1 {status} X\r\n{location}content-length: 2\r\n\r\nok");
        if writer.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
