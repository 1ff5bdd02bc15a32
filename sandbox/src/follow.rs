//! What every backend does with what goes in and comes out of a run: keeps it, counts it, passes it on, hears process 1, and writes the
//! input. Where it is read from, and what ends a run, is each backend's own.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::capture::Capture;
use crate::status::{MAX_STATUS_BYTES, Status};
use crate::{Captured, Chunk, SandboxError, Stream};

/// What was read of a run.
pub(crate) struct Read {
    pub(crate) stdout: Capture,
    pub(crate) stderr: Capture,
    /// By process 1.
    pub(crate) said: Vec<u8>,
}

/// Who follows both streams of a run.
#[derive(Clone, Copy)]
pub(crate) struct Follower<'f> {
    /// What both together came to.
    pub(crate) written: &'f AtomicU64,
    /// And what they may.
    pub(crate) most: u64,
    pub(crate) output: Option<&'f mpsc::Sender<Chunk>>,
}

impl Read {
    /// Nothing yet; of each stream so much will be kept.
    pub(crate) fn new(kept_bytes: usize) -> Self {
        Self { stdout: Capture::new(kept_bytes), stderr: Capture::new(kept_bytes), said: Vec::new() }
    }

    /// What was kept of both, and what process 1 said.
    pub(crate) fn finish(self) -> (Captured, Captured, Status) {
        (self.stdout.finish(), self.stderr.finish(), Status::parse(&self.said))
    }
}

impl Follower<'_> {
    /// Keeps a piece and passes it on; false when both streams together are more than they may be.
    pub(crate) async fn take(self, stream: Stream, bytes: &[u8], capture: &mut Capture) -> bool {
        capture.push(bytes);
        if let Some(output) = self.output {
            // A reader who has gone changes nothing.
            let _gone = output.send(Chunk { stream, bytes: bytes.to_vec() }).await;
        }
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.written.fetch_add(more, Ordering::Relaxed).saturating_add(more) <= self.most
    }
}

/// Hears a piece of what process 1 says; nothing as soon as it shows that the walls are not what `prove` wants, or is too much.
pub(crate) fn hear(said: &mut Vec<u8>, bytes: &[u8], prove: fn(&Status) -> Result<(), SandboxError>) -> Option<Status> {
    said.extend_from_slice(bytes);
    let status = Status::parse(said);
    let is_held = said.len() <= MAX_STATUS_BYTES && (!status.started || prove(&status).is_ok());
    is_held.then_some(status)
}

/// Writes the input and closes it. Never done: who reads nothing ends otherwise.
pub(crate) async fn feed(stdin: Option<impl AsyncWrite + Unpin>, input: Vec<u8>) -> Infallible {
    if let Some(mut stdin) = stdin {
        // A command that closes its input, or ends, wants no more of it.
        let _closed = stdin.write_all(&input).await;
        let _closed = stdin.shutdown().await;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_streams_count_against_one_limit_and_a_reader_who_has_gone_changes_nothing() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let written = AtomicU64::new(0);
        let follower = Follower { written: &written, most: 6, output: Some(&sender) };
        let mut read = Read::new(100);
        assert!(follower.take(Stream::Stdout, b"abc", &mut read.stdout).await);
        assert!(follower.take(Stream::Stderr, b"def", &mut read.stderr).await);
        assert!(!follower.take(Stream::Stdout, b"g", &mut read.stdout).await);
        let (stdout, stderr, _) = read.finish();
        assert_eq!((stdout.bytes(), stderr.bytes()), (b"abcg".to_vec(), b"def".to_vec()));
    }

    #[test]
    fn what_process_1_says_is_proved_as_soon_as_the_command_starts() {
        let never = |_: &Status| Err(SandboxError::Unproved("no".to_owned()));
        let mut said = Vec::new();
        assert!(hear(&mut said, b"seccomp 2\n", never).is_some());
        assert!(hear(&mut said, b"started\n", never).is_none());
        assert!(hear(&mut Vec::new(), b"started\n", |_| Ok(())).is_some());
        assert!(hear(&mut Vec::new(), &vec![b'x'; MAX_STATUS_BYTES + 1], |_| Ok(())).is_none());
    }
}
