//! An upstream whose every answer is a function of the request: bytes in, bytes out. For providers whose wire is not OpenAI's.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::listening::Listening;
use crate::raw::{self, Message};

/// What an upstream sends for a request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The bytes, head included.
    pub bytes: Vec<u8>,
    /// The connection is closed after them.
    pub hangs_up: bool,
}

impl Answer {
    /// A whole answer.
    #[must_use]
    pub fn whole(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("HTTP/1.1 {status} Canned\r\n{headers}content-length: {}\r\n\r\n", body.len());
        Self { bytes: [head.as_bytes(), body].concat(), hangs_up: false }
    }

    /// An answer in chunks, one for each piece.
    #[must_use]
    pub fn chunked(headers: &[(&str, &str)], pieces: &[Vec<u8>]) -> Self {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut bytes = format!("HTTP/1.1 200 OK\r\n{headers}transfer-encoding: chunked\r\n\r\n").into_bytes();
        for piece in pieces {
            bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        Self { bytes, hangs_up: false }
    }

    /// The same without its end: the connection is closed instead.
    #[must_use]
    pub fn cut(mut self) -> Self {
        let whole = self.bytes.len() - b"0\r\n\r\n".len();
        self.bytes.truncate(whole);
        self.hangs_up = true;
        self
    }
}

type Answering = dyn Fn(&Message) -> Answer + Send + Sync;

/// A running one; it ends with its handle.
pub struct Canned {
    listening: Listening,
    asked: Arc<Mutex<Vec<Message>>>,
}

impl Canned {
    /// Starts one on a free port of 127.0.0.1.
    pub async fn start(answering: impl Fn(&Message) -> Answer + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, answering): (_, Arc<Answering>) = (Arc::clone(&asked), Arc::new(answering));
        let listening = Listening::start(move |stream| {
            let (noted, answering) = (Arc::clone(&noted), Arc::clone(&answering));
            async move { serve(stream, &noted, &*answering).await }
        })
        .await;
        Self { listening, asked }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// Every request so far, in order of arrival.
    #[must_use]
    pub fn asked(&self) -> Vec<Message> {
        self.asked.lock().expect("unpoisoned").clone()
    }
}

async fn serve(mut stream: TcpStream, noted: &Mutex<Vec<Message>>, answering: &Answering) {
    let mut buffer = Vec::new();
    let (mut reader, mut writer) = stream.split();
    while let Some(message) = raw::read_request(&mut reader, &mut buffer).await {
        let answer = answering(&message);
        noted.lock().expect("unpoisoned").push(message);
        if writer.write_all(&answer.bytes).await.is_err() || answer.hangs_up {
            return;
        }
    }
}
