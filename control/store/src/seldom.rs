//! Faults that every request meets, told of without a line for each: a full disk must not be filled by its own complaints.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines about the same fault.
const PAUSE: Duration = Duration::from_secs(10);

/// Decides which occurrences of one fault are told: the first, and then one every ten seconds, with how many were not.
#[derive(Debug)]
pub struct Seldom(Mutex<Told>);

#[derive(Debug)]
struct Told {
    last: Option<Instant>,
    since: u64,
}

impl Seldom {
    /// Nothing was told yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Told { last: None, since: 0 }))
    }

    /// It happened once more. Where it is to be told: how often it had happened unheard before.
    #[must_use]
    pub fn tell(&self) -> Option<u64> {
        self.tell_at(Instant::now())
    }

    fn tell_at(&self, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            told.since = told.since.saturating_add(1);
            return None;
        }
        told.last = Some(now);
        Some(std::mem::take(&mut told.since))
    }
}

impl Default for Seldom {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_next_with_the_number_that_was_not() {
        let (seldom, start) = (Seldom::new(), Instant::now());
        assert_eq!(seldom.tell_at(start), Some(0));
        for second in 1..10 {
            assert_eq!(seldom.tell_at(start + Duration::from_secs(second)), None);
        }
        assert_eq!(seldom.tell_at(start + PAUSE), Some(9));
        assert_eq!(seldom.tell_at(start + PAUSE), None);
        assert_eq!(seldom.tell_at(start + PAUSE * 2), Some(1));
    }
}
