//! What recent answers say of an upstream: how much is in flight there, and which of its models should be left alone for a
//! while. Passive: nothing is ever sent only to find out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row after which a model is left alone.
const PATIENCE: u32 = 3;
/// The first pause; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, also where the upstream asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Models that are remembered; past it, none is added.
const KEPT: usize = 1_000;

/// One upstream's.
#[derive(Debug, Default)]
pub(crate) struct Health {
    in_flight: AtomicUsize,
    models: Mutex<HashMap<String, Model>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Model {
    failures: u32,
    rests_until: Option<Instant>,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It answered.
    Answered,
    /// It could not be reached, broke, took too long, or answered 5xx.
    Failed,
    /// It asks to be left alone: 429, 503, 529; for this long, where it says.
    Busy(Option<Duration>),
}

/// An attempt in flight; counted out when it is dropped.
pub(crate) struct InFlight<'a>(&'a Health);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Health {
    /// Counts an attempt in.
    pub(crate) fn enter(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// Attempts in flight.
    pub(crate) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether a model should be left alone at `now`.
    pub(crate) fn rests(&self, model: &str, now: Instant) -> bool {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.get(model).and_then(|model| model.rests_until).is_some_and(|until| now < until)
    }

    /// How many models should be left alone at `now`.
    pub(crate) fn resting(&self, now: Instant) -> usize {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.values().filter(|model| model.rests_until.is_some_and(|until| now < until)).count()
    }

    /// Notes what came of an attempt.
    pub(crate) fn note(&self, model: &str, sign: Sign, now: Instant) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if sign == Sign::Answered {
            // Nearly always there is nothing to forget.
            if !models.is_empty() {
                models.remove(model);
            }
            return;
        }
        if models.len() >= KEPT && !models.contains_key(model) {
            return;
        }
        let noted = models.entry(model.to_owned()).or_default();
        noted.failures = noted.failures.saturating_add(1);
        let pause = match sign {
            Sign::Busy(Some(asked)) => Some(asked.min(LONGEST_PAUSE)),
            Sign::Busy(None) => Some(pause_after(noted.failures)),
            Sign::Failed => (noted.failures >= PATIENCE).then(|| pause_after(noted.failures - PATIENCE + 1)),
            Sign::Answered => None,
        };
        if let Some(pause) = pause {
            noted.rests_until = noted.rests_until.max(Some(now + pause));
        }
    }
}

fn pause_after(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(6));
    doubled.min(LONGEST_PAUSE)
}

/// How long an upstream asks to be left alone: `retry-after` in seconds (RFC 9110, section 10.2.3); its other form, a date,
/// is not read.
pub(crate) fn asked_pause(retry_after: Option<&str>) -> Option<Duration> {
    retry_after?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_model_rests_as_long_as_it_asks_and_the_others_go_on() {
        let (health, now) = (Health::default(), Instant::now());
        health.note("a", Sign::Busy(asked_pause(Some("7"))), now);
        assert!(health.rests("a", now + Duration::from_millis(6_999)));
        assert!(!health.rests("a", now + Duration::from_secs(7)));
        assert!(!health.rests("b", now));
        assert_eq!((health.resting(now), health.resting(now + Duration::from_secs(7))), (1, 0));
        health.note("a", Sign::Busy(asked_pause(Some("99999"))), now);
        assert!(!health.rests("a", now + LONGEST_PAUSE), "no upstream decides for longer than a minute");
        assert_eq!(asked_pause(Some("Wed, 21 Oct 2026 07:28:00 GMT")), None);
    }

    #[test]
    fn one_failure_is_no_reason_and_an_answer_makes_good() {
        let (health, now) = (Health::default(), Instant::now());
        for _ in 1..PATIENCE {
            health.note("a", Sign::Failed, now);
            assert!(!health.rests("a", now));
        }
        health.note("a", Sign::Failed, now);
        assert!(health.rests("a", now) && !health.rests("a", now + FIRST_PAUSE));
        health.note("a", Sign::Failed, now);
        assert!(health.rests("a", now + FIRST_PAUSE), "each further failure doubles the pause");
        health.note("a", Sign::Answered, now);
        assert!(!health.rests("a", now));
        for _ in 0..100 {
            health.note("a", Sign::Failed, now);
        }
        assert!(!health.rests("a", now + LONGEST_PAUSE));
    }

    #[test]
    fn what_is_in_flight_is_counted_out() {
        let health = Health::default();
        let first = health.enter();
        let second = health.enter();
        assert_eq!(health.load(), 2);
        drop(first);
        assert_eq!(health.load(), 1);
        drop(second);
        assert_eq!(health.load(), 0);
    }
}
