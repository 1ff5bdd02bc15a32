//! Answers of any size in bounded memory: a thread writes chunks, the connection takes them, and neither gets far ahead.
//!
//! Who waits for a report holds a snapshot of the database, so a client that stops reading is cut. A body that could not be
//! finished ends as a broken connection, never as a shorter report.

use std::io::{Error, ErrorKind, Write};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use openclawmu_store::{Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// How long a client may leave a chunk waiting.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a chunk.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that wait for the client.
const CHUNKS: usize = 4;

/// What an answer is, before its body.
pub(super) struct Kind {
    pub(super) content_type: &'static str,
    /// The name under which a browser saves it.
    pub(super) file: Option<String>,
}

impl Kind {
    pub(super) fn json() -> Self {
        Self { content_type: "application/json", file: None }
    }

    pub(super) fn csv(file: impl Into<String>) -> Self {
        Self { content_type: "text/csv; charset=utf-8; header=present", file: Some(file.into()) }
    }
}

/// What comes from the thread that writes.
enum Piece {
    Chunk(Bytes),
    /// All has been sent. A channel that closes without it was broken off.
    End,
    Failed(StoreError),
}

/// Answers with what `write` writes, on a thread of its own, few at a time. An error before the first chunk is full is a
/// proper refusal.
pub(super) async fn answer<F>(state: &AdminState, kind: Kind, write: F) -> Result<Response, Refusal>
where
    F: FnOnce(&Store, &mut dyn Write) -> Result<(), StoreError> + Send + 'static,
{
    // What has been settled by now is in it; a store that can't write can still be read.
    if let Err(err) = state.store.flush().await {
        tracing::warn!(%err, "a report may lack what was settled last");
    }
    let permit = state.reports.clone().acquire_owned().await.map_err(|err| Refusal::internal(&err))?;
    let (sender, mut receiver) = mpsc::channel(CHUNKS);
    let (store, runtime, patience) = (state.store.clone(), Handle::current(), state.patience);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut chunks = Chunks { sender, runtime, patience, filled: Vec::with_capacity(CHUNK_BYTES) };
        let done = write(&store, &mut chunks).and_then(|()| chunks.flush_chunk().map_err(|err| gone(&err)));
        chunks.end(done);
    });
    let first = match receiver.recv().await {
        Some(Piece::Failed(err)) => return Err(err.into()),
        Some(first) => first,
        None => return Err(Refusal::internal(&"a report ended without a word")),
    };
    let mut response = Response::builder().header(CONTENT_TYPE, kind.content_type);
    if let Some(file) = kind.file {
        response = response.header(CONTENT_DISPOSITION, format!("attachment; filename=\"{file}\""));
    }
    response.body(body(first, receiver)).map_err(|err| Refusal::internal(&err))
}

/// The chunks as a body.
fn body(first: Piece, receiver: Receiver<Piece>) -> Body {
    Body::from_stream(futures_util::stream::unfold((Some(first), Some(receiver)), async |(first, receiver)| {
        let mut receiver = receiver?;
        let piece = match first {
            Some(first) => Some(first),
            None => receiver.recv().await,
        };
        match piece {
            Some(Piece::Chunk(chunk)) => Some((Ok(chunk), (None, Some(receiver)))),
            Some(Piece::End) => None,
            Some(Piece::Failed(_)) | None => {
                let broken = Error::new(ErrorKind::UnexpectedEof, "the report was broken off");
                Some((Err(broken), (None, None)))
            }
        }
    }))
}

fn gone(err: &Error) -> StoreError {
    StoreError::Unavailable(format!("the report can't be sent: {err}"))
}

/// Gathers what is written into chunks and waits for the client to take them.
struct Chunks {
    sender: Sender<Piece>,
    runtime: Handle,
    patience: Duration,
    filled: Vec<u8>,
}

impl Chunks {
    fn send(&self, piece: Piece) -> std::io::Result<()> {
        let sent = self.runtime.block_on(self.sender.send_timeout(piece, self.patience));
        sent.map_err(|_| Error::new(ErrorKind::TimedOut, "the client takes nothing any more"))
    }

    fn flush_chunk(&mut self) -> std::io::Result<()> {
        if self.filled.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.filled, Vec::with_capacity(CHUNK_BYTES));
        self.send(Piece::Chunk(Bytes::from(chunk)))
    }

    fn end(&self, done: Result<(), StoreError>) {
        let last = match done {
            Ok(()) => Piece::End,
            Err(err) => {
                tracing::warn!(%err, "a report was not finished");
                Piece::Failed(err)
            }
        };
        if let Err(err) = self.send(last) {
            tracing::debug!(%err, "nobody waits for a report's end");
        }
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = CHUNK_BYTES.saturating_sub(self.filled.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
        self.filled.extend_from_slice(taken);
        if self.filled.len() >= CHUNK_BYTES {
            self.flush_chunk()?;
        }
        Ok(taken.len())
    }

    /// Nothing: a chunk is sent when it is full, and the last one at the end.
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
