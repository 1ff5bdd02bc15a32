//! One connection: what its client owes, and by when. Shared by the task that serves it and the stream that it reads.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pingora::server::ShutdownWatch;
use tokio::sync::watch;

/// Longest pause between two looks at whether a head is overdue.
const LOOK_EVERY: Duration = Duration::from_secs(4);
/// The most that is read for one HTTP/1.1 head: the largest that is answered, and what a client may send after it at once.
const HEAD_BYTES: usize = 96 << 10;

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    opened: Instant,
    header_timeout: Duration,
    /// Milliseconds after `opened` at which a head is overdue; 0 while none is owed.
    due_ms: AtomicU64,
    /// Bytes that were read while one was owed.
    head_bytes: AtomicUsize,
    /// Requests after which it ends.
    requests: u32,
    /// Turns true when it shall end once what runs on it is done.
    retire: watch::Sender<bool>,
}

impl Connection {
    /// One that has just been opened: its first head has its time from now on.
    pub(super) fn new(header_timeout: Duration, requests: u32, retired: bool) -> Self {
        let connection = Self {
            opened: Instant::now(),
            header_timeout,
            due_ms: AtomicU64::new(0),
            head_bytes: AtomicUsize::new(0),
            requests,
            retire: watch::Sender::new(retired),
        };
        connection.owe(Duration::ZERO);
        connection
    }

    /// The next head has its time, and `idle` before it, from now on, unless one is owed already.
    pub(super) fn owe(&self, idle: Duration) {
        let due = self.opened.elapsed() + idle + self.header_timeout;
        let due_ms = u64::try_from(due.as_millis()).unwrap_or(u64::MAX).max(1);
        let _owed_already = self.due_ms.compare_exchange(0, due_ms, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// No head is owed.
    pub(super) fn paid(&self) {
        self.due_ms.store(0, Ordering::Relaxed);
        self.head_bytes.store(0, Ordering::Relaxed);
    }

    /// Counts bytes of an HTTP/1.1 head; false when it is too long to be read any further.
    pub(super) fn read_of_head(&self, bytes: usize) -> bool {
        self.due_ms.load(Ordering::Relaxed) == 0
            || self.head_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= HEAD_BYTES
    }

    /// Resolves when a head is overdue.
    pub(super) async fn overdue(&self) {
        loop {
            let due = match self.due_ms.load(Ordering::Relaxed) {
                0 => LOOK_EVERY,
                due => Duration::from_millis(due).saturating_sub(self.opened.elapsed()),
            };
            if due.is_zero() {
                return;
            }
            tokio::time::sleep(due.min(LOOK_EVERY)).await;
        }
    }

    /// Requests after which it ends.
    pub(super) fn requests(&self) -> u32 {
        self.requests
    }

    /// Takes no more requests, and ends when those that run are done.
    pub(super) fn retire(&self) {
        self.retire.send_replace(true);
    }

    /// Turns true when it shall.
    pub(super) fn retired(&self) -> ShutdownWatch {
        self.retire.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_head_is_overdue_from_its_beginning_not_from_its_last_byte() {
        let connection = Connection::new(Duration::from_millis(30), 9, false);
        connection.owe(Duration::from_secs(3600));
        connection.overdue().await;
        connection.paid();
        connection.owe(Duration::from_secs(3600));
        let waited = tokio::time::timeout(Duration::from_millis(60), connection.overdue()).await;
        assert!(waited.is_err(), "a later one may idle first");
    }

    #[test]
    fn a_head_has_an_end_and_a_body_is_not_counted() {
        let connection = Connection::new(Duration::from_secs(1), 9, false);
        assert!(connection.read_of_head(HEAD_BYTES) && !connection.read_of_head(1));
        connection.paid();
        assert!(connection.read_of_head(usize::MAX) && connection.read_of_head(usize::MAX));
        connection.owe(Duration::ZERO);
        assert!(connection.read_of_head(1));
    }
}
