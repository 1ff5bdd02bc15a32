//! One connection: what its client owes, and by when. Shared by the task that serves it, the stream that it reads and who watches both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pingora::server::ShutdownWatch;
use tokio::sync::watch;

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    opened: Instant,
    header_timeout: Duration,
    /// Milliseconds after `opened` at which a head is overdue; 0 while none is owed.
    due_ms: AtomicU64,
    /// Requests after which it ends.
    requests: u32,
    /// Turns true when it shall end once what runs on it is done.
    retire: watch::Sender<bool>,
}

impl Connection {
    /// One that has just been opened: its first head has its time from now on.
    pub(super) fn new(header_timeout: Duration, requests: u32) -> Self {
        let connection = Self {
            opened: Instant::now(),
            header_timeout,
            due_ms: AtomicU64::new(0),
            requests,
            retire: watch::Sender::new(false),
        };
        connection.owe(Duration::ZERO);
        connection
    }

    /// The next head has its time, and `idle` before it, from now on, unless one is owed already.
    pub(super) fn owe(&self, idle: Duration) {
        let due_ms = self.due_in(idle);
        let _owed_already = self.due_ms.compare_exchange(0, due_ms, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// When a head is overdue that begins to come after `idle`.
    fn due_in(&self, idle: Duration) -> u64 {
        let due = self.opened.elapsed() + idle + self.header_timeout;
        u64::try_from(due.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// No head is owed.
    pub(super) fn paid(&self) {
        self.due_ms.store(0, Ordering::Relaxed);
    }

    /// Some of the head has come that is owed: the rest has its time from now on, and no idling before it.
    pub(super) fn begun(&self) {
        let due = self.due_in(Duration::ZERO);
        let _sooner = self.due_ms.fetch_min(due, Ordering::Relaxed);
    }

    /// Whether a head is owed: nothing is being answered.
    pub(super) fn owes(&self) -> bool {
        self.due_ms.load(Ordering::Relaxed) != 0
    }

    /// Whether a head is overdue at this moment.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let due = self.due_ms.load(Ordering::Relaxed);
        due != 0 && Duration::from_millis(due) <= now.saturating_duration_since(self.opened)
    }

    /// Requests after which it ends.
    pub(super) fn requests(&self) -> u32 {
        self.requests
    }

    /// Takes no more requests, and ends when those that run are done.
    pub(super) fn retire(&self) {
        self.retire.send_replace(true);
    }

    /// Whether it shall end once what runs on it is done.
    pub(super) fn is_retired(&self) -> bool {
        *self.retire.borrow()
    }

    /// Turns true when it shall.
    pub(super) fn retired(&self) -> ShutdownWatch {
        self.retire.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_overdue_from_its_beginning_not_from_its_last_byte() {
        let connection = Connection::new(Duration::ZERO, 9);
        let later = || Instant::now() + Duration::from_secs(1);
        connection.owe(Duration::from_secs(3600));
        assert!(connection.is_overdue(later()), "what is owed already is not put off");
        connection.paid();
        assert!(!connection.is_overdue(later()));
        connection.owe(Duration::from_secs(3600));
        assert!(!connection.is_overdue(later()), "a later one may idle first");
        connection.begun();
        assert!(connection.is_overdue(later()), "but not once it has begun");
        connection.paid();
        connection.begun();
        assert!(!connection.owes(), "nothing is owed, whatever comes");
    }
}
