//! How far a backup or a restore is, for whoever waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// How far it is. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<State>);

#[derive(Debug, Default)]
struct State {
    phase: Mutex<&'static str>,
    done: AtomicU64,
    total: AtomicU64,
    sent: AtomicU64,
}

/// How far it was at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// What it is doing; empty before it begins.
    pub phase: &'static str,
    /// Bytes that it is done with.
    pub done_bytes: u64,
    /// Bytes that it knows of; 0 while it does not know.
    pub total_bytes: u64,
    /// Bytes that were sent or fetched.
    pub moved_bytes: u64,
}

impl Progress {
    /// Another thing is being done, with `total` bytes ahead.
    pub(crate) fn phase(&self, phase: &'static str, total: u64) {
        *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        self.0.done.store(0, Ordering::Relaxed);
        self.0.total.store(total, Ordering::Relaxed);
    }

    pub(crate) fn done(&self, bytes: u64) {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Something is begun anew: it is as far again as it was before.
    pub(crate) fn back_to(&self, bytes: u64) {
        self.0.done.store(bytes, Ordering::Relaxed);
    }

    /// Bytes have come from a place.
    pub(crate) fn fetched(&self, bytes: u64) {
        self.done(bytes);
        self.moved(bytes);
    }

    pub(crate) fn moved(&self, bytes: u64) {
        self.0.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How far it is now.
    #[must_use]
    pub fn shown(&self) -> Shown {
        Shown {
            phase: *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner),
            done_bytes: self.0.done.load(Ordering::Relaxed),
            total_bytes: self.0.total.load(Ordering::Relaxed),
            moved_bytes: self.0.sent.load(Ordering::Relaxed),
        }
    }
}
