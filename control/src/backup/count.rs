//! What is counted of backups.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use openclawmu_backup::Scope;
use openclawmu_store::UnixMs;

/// Counts and moments; a moment that has not come yet is 0.
#[derive(Debug, Default)]
pub(super) struct Counts {
    succeeded: AtomicU64,
    failed: AtomicU64,
    whole_at_ms: AtomicI64,
    shipped_at_ms: AtomicI64,
    ship_failed: AtomicU64,
}

impl Counts {
    pub(super) fn succeeded(&self, scope: &Scope, at: UnixMs) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
        if *scope == Scope::Gateway {
            self.whole_at_ms.store(at.0, Ordering::Relaxed);
        }
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything up to `at` has been shipped.
    pub(super) fn shipped(&self, at: UnixMs) {
        self.shipped_at_ms.store(at.0, Ordering::Relaxed);
    }

    pub(super) fn ship_failed(&self) {
        self.ship_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn render(&self, unshipped: u64) -> String {
        let mut text = String::new();
        let seconds = |at: &AtomicI64| at.load(Ordering::Relaxed).div_euclid(1_000);
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let head = "openclawmu_backups_total";
        // Writing to a string can't fail.
        let _ = write!(
            text,
            "# HELP {head} Backups\n# TYPE {head} counter\n{head}{{outcome=\"succeeded\"}} {}\n{head}{{outcome=\"failed\"}} {}\n",
            count(&self.succeeded),
            count(&self.failed)
        );
        let gauges = [
            (
                "openclawmu_backup_newest_timestamp_seconds",
                "The last backup of the whole gateway",
                seconds(&self.whole_at_ms),
            ),
            (
                "openclawmu_backup_shipped_timestamp_seconds",
                "Up to when ledger and audit log have been shipped",
                seconds(&self.shipped_at_ms),
            ),
            (
                "openclawmu_backup_unshipped_rows",
                "Ledger rows that are in no backup yet",
                i64::try_from(unshipped).unwrap_or(i64::MAX),
            ),
        ];
        for (name, help, value) in gauges {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
        }
        let name = "openclawmu_backup_ship_failures_total";
        let _ = write!(
            text,
            "# HELP {name} Times that nothing could be shipped\n# TYPE {name} counter\n{name} {}\n",
            count(&self.ship_failed)
        );
        text
    }
}
