//! How fast the writer is: what waits for it, and how long its commits take. Counted, never judged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets, in microseconds; what is slower is counted in none of them.
const BOUNDS_US: [u64; PaceTaken::BUCKETS] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

/// The writer's pace, as it is counted.
#[derive(Debug, Default)]
pub(super) struct Pace {
    within: [AtomicU64; PaceTaken::BUCKETS],
    commits: AtomicU64,
    failed: AtomicU64,
    sum_us: AtomicU64,
}

/// The writer's pace at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceTaken {
    /// Rows and changes that wait for the writer.
    pub queued: usize,
    /// Commits that succeeded, a sync to the disk included.
    pub commits: u64,
    /// Commits that failed.
    pub failed: u64,
    /// The time that the successful ones took together.
    pub total: Duration,
    /// How many of them took at most this long, and longer than the bucket before allows.
    pub within: [(Duration, u64); Self::BUCKETS],
}

impl PaceTaken {
    /// How many buckets there are.
    pub const BUCKETS: usize = 12;
}

impl Pace {
    /// Counts a commit.
    pub(super) fn commit(&self, took: Duration, succeeded: bool) {
        if !succeeded {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
        let buckets = BOUNDS_US.iter().zip(&self.within);
        if let Some((_, bucket)) = buckets.into_iter().find(|(bound, _)| us <= **bound) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted, with what waits now.
    pub(super) fn taken(&self, queued: usize) -> PaceTaken {
        let mut within = BOUNDS_US.map(|bound| (Duration::from_micros(bound), 0));
        for ((_, count), counted) in within.iter_mut().zip(&self.within) {
            *count = counted.load(Ordering::Relaxed);
        }
        PaceTaken {
            queued,
            commits: self.commits.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            total: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)),
            within,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_commit_is_counted_in_the_bucket_that_it_fits() {
        let pace = Pace::default();
        for (us, succeeded) in [(250, true), (251, true), (9_000_000, true), (1, false)] {
            pace.commit(Duration::from_micros(us), succeeded);
        }
        let taken = pace.taken(7);
        assert_eq!((taken.queued, taken.commits, taken.failed), (7, 3, 1));
        assert_eq!(taken.total, Duration::from_micros(9_000_501));
        let counts: Vec<u64> = taken.within.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts[..3], [1, 1, 0]);
        assert_eq!(counts.iter().sum::<u64>(), 2, "what is slower than every bucket is in none");
    }
}
