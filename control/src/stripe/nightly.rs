//! A push every night, of the days that are over. One that was missed, or could not end, is made up for.

use std::sync::Arc;
use std::time::Duration;

use openclawmu_store::{Actor, UnixMs};

use crate::stripe::push::{PushError, PushRequest, StripePush};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// When a push that was stopped is made up for, in milliseconds.
const AGAIN_MS: i64 = 60 * 60 * 1000;
/// Pause between two looks at the clock.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Pushes at a time of the day, in UTC.
#[derive(Debug)]
pub struct Nightly {
    push: Arc<StripePush>,
    /// Seconds since midnight, UTC.
    at_seconds: i64,
}

impl Nightly {
    /// Pushes `at_seconds` after midnight, UTC.
    #[must_use]
    pub fn new(push: Arc<StripePush>, at_seconds: i64) -> Self {
        Self { push, at_seconds }
    }

    /// Pushes until `stop`: at once, since a night may have been missed, then every night. A push in progress is cut then,
    /// and the next process goes on with it.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) {
        let clock = Arc::clone(self.push.store().clock());
        let mut stop = std::pin::pin!(stop);
        loop {
            let stopped = tokio::select! {
                () = &mut stop => return,
                stopped = self.push_once() => stopped,
            };
            let now = clock.now();
            let tonight = next(now, self.at_seconds);
            let due = if stopped { tonight.min(now.plus_ms(AGAIN_MS)) } else { tonight };
            while clock.now() < due {
                tokio::select! {
                    () = &mut stop => return,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        }
    }

    /// Pushes; whether it had to end before it was done.
    async fn push_once(&self) -> bool {
        if !self.push.store().owns_ledger() {
            return false;
        }
        match self.push.run(&Actor::system(), &PushRequest::default()).await {
            Ok(report) if report.complete => false,
            Ok(report) => {
                tracing::error!(
                    pending = report.pending,
                    failed = report.failed.count,
                    uncertain = report.uncertain.count,
                    expired = report.expired.count,
                    changed = report.changed.count,
                    stopped = report.stopped,
                    "not all usage is at Stripe; see `openclawmu billing push stripe --dry-run`"
                );
                report.pending > 0 || report.stopped.is_some()
            }
            Err(PushError::Busy) => false,
            Err(PushError::Store(err)) => {
                tracing::error!(%err, "the nightly push to Stripe failed");
                true
            }
        }
    }
}

/// The first instant after `now` that is `at_seconds` after a midnight, UTC.
fn next(now: UnixMs, at_seconds: i64) -> UnixMs {
    let today = UnixMs(now.0.div_euclid(DAY_MS) * DAY_MS).plus_ms(at_seconds.saturating_mul(1_000));
    if today > now { today } else { today.plus_ms(DAY_MS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_night_is_always_ahead() {
        let at = |text: &str| UnixMs::parse_rfc3339(text).unwrap();
        let two = 2 * 60 * 60;
        assert_eq!(next(at("2026-11-18T01:59:59Z"), two), at("2026-11-18T02:00:00Z"));
        assert_eq!(next(at("2026-11-18T02:00:00Z"), two), at("2026-11-19T02:00:00Z"));
        assert_eq!(next(at("2026-11-30T12:00:00Z"), 0), at("2026-12-01T00:00:00Z"));
    }
}
