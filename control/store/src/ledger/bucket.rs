//! A rate as a bucket that refills steadily. Integer arithmetic; what was not used can be put back.

/// Milliseconds in the unit of every rate: one minute.
const MINUTE_MS: i128 = 60_000;

/// How full a bucket is. One unit is kept as 60,000 parts, so that a refill of `limit` units a minute is exactly `limit`
/// parts a millisecond.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    level: Option<i128>,
    at_ms: i64,
}

/// A bucket's state, for the rate-limit headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateStanding {
    /// Units a minute.
    pub limit: u64,
    /// Whole units left now.
    pub remaining: u64,
    /// Milliseconds until it is full again.
    pub reset_ms: u64,
}

impl Bucket {
    /// Refills up to `now_ms` (monotonic); a new bucket is full, a lowered limit cuts the level.
    pub(crate) fn refill(&mut self, limit: u64, now_ms: i64) {
        let full = i128::from(limit) * MINUTE_MS;
        let passed = i128::from(now_ms.saturating_sub(self.at_ms).max(0));
        let level = self.level.map_or(full, |level| level + passed * i128::from(limit));
        self.level = Some(level.min(full));
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// Milliseconds until `units` are there, 0 when they are now; `None` when they never fit.
    pub(crate) fn wait_ms(&self, limit: u64, units: u64) -> Option<u64> {
        if units > limit {
            return None;
        }
        let missing = i128::from(units) * MINUTE_MS - self.level.unwrap_or_default();
        if missing <= 0 {
            return Some(0);
        }
        let limit = i128::from(limit);
        u64::try_from((missing + limit - 1).checked_div(limit)?).ok()
    }

    /// Takes `units`; the caller has seen that they are there.
    pub(crate) fn take(&mut self, units: u64) {
        self.level = self.level.map(|level| level - i128::from(units) * MINUTE_MS);
    }

    /// Puts back what was reserved and not used.
    pub(crate) fn put_back(&mut self, limit: u64, units: u64) {
        let full = i128::from(limit) * MINUTE_MS;
        self.level = self.level.map(|level| (level + i128::from(units) * MINUTE_MS).min(full));
    }

    /// For the headers; meaningful after [`Bucket::refill`].
    pub(crate) fn standing(&self, limit: u64) -> RateStanding {
        let level = self.level.unwrap_or_default().max(0);
        let full = i128::from(limit) * MINUTE_MS;
        let reset = (full - level)
            .max(0)
            .checked_add(i128::from(limit) - 1)
            .and_then(|parts| parts.checked_div(i128::from(limit)));
        RateStanding {
            limit,
            remaining: u64::try_from(level / MINUTE_MS).unwrap_or(u64::MAX),
            reset_ms: reset.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_at_once_then_at_the_rate() {
        let mut bucket = Bucket::default();
        bucket.refill(60, 0);
        for _ in 0..60 {
            assert_eq!(bucket.wait_ms(60, 1), Some(0));
            bucket.take(1);
        }
        assert_eq!(bucket.wait_ms(60, 1), Some(1000));
        assert_eq!(bucket.standing(60), RateStanding { limit: 60, remaining: 0, reset_ms: 60_000 });
        bucket.refill(60, 999);
        assert_eq!(bucket.wait_ms(60, 1), Some(1));
        bucket.refill(60, 1000);
        assert_eq!(bucket.wait_ms(60, 1), Some(0));
    }

    #[test]
    fn what_is_put_back_is_there_again_and_never_more_than_full() {
        let mut bucket = Bucket::default();
        bucket.refill(100, 0);
        bucket.take(100);
        bucket.put_back(100, 40);
        assert_eq!(bucket.wait_ms(100, 40), Some(0));
        bucket.put_back(100, 1_000);
        assert_eq!(bucket.standing(100).remaining, 100);
    }

    #[test]
    fn what_is_larger_than_the_bucket_never_fits_and_a_zero_limit_refuses_all() {
        let mut bucket = Bucket::default();
        bucket.refill(10, 0);
        assert_eq!(bucket.wait_ms(10, 11), None);
        let mut none = Bucket::default();
        none.refill(0, 0);
        assert_eq!(none.wait_ms(0, 1), None);
        assert_eq!(none.standing(0).reset_ms, 0);
    }

    #[test]
    fn a_clock_that_goes_back_refills_nothing_twice() {
        let mut bucket = Bucket::default();
        bucket.refill(60, 60_000);
        bucket.take(60);
        bucket.refill(60, 0);
        bucket.refill(60, 60_000);
        assert_eq!(bucket.wait_ms(60, 1), Some(1000));
    }
}
