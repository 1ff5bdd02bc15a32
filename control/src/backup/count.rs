//! What is counted of backups.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

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
            self.newest(at);
        }
    }

    /// A backup of the whole gateway of this moment is there, whoever made it.
    pub(super) fn newest(&self, at: UnixMs) {
        self.whole_at_ms.fetch_max(at.0, Ordering::Relaxed);
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

    /// In OpenMetrics' text, without its end. What is not known is absent: a zero would say that all is well, or very old.
    pub(super) fn render(&self, unshipped: Option<u64>, every: Option<Duration>) -> String {
        let mut text = String::new();
        let count = |count: &AtomicU64| Some(i64::try_from(count.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
        let at = |at: &AtomicI64| Some(at.load(Ordering::Relaxed).div_euclid(1_000)).filter(|seconds| *seconds > 0);
        let outcomes = [
            ("_total{outcome=\"succeeded\"}", count(&self.succeeded)),
            ("_total{outcome=\"failed\"}", count(&self.failed)),
        ];
        family(&mut text, ("backups", "counter", "Backups"), &outcomes);
        let help = "The last backup of the whole gateway";
        family(&mut text, ("backup_newest_timestamp_seconds", "gauge", help), &[("", at(&self.whole_at_ms))]);
        let every = every.map(|every| i64::try_from(every.as_secs()).unwrap_or(i64::MAX));
        let help = "How often the whole gateway is to be backed up";
        family(&mut text, ("backup_interval_seconds", "gauge", help), &[("", every)]);
        let help = "Up to when ledger and audit log have been shipped";
        family(&mut text, ("backup_shipped_timestamp_seconds", "gauge", help), &[("", at(&self.shipped_at_ms))]);
        let unshipped = unshipped.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX));
        let help = "Ledger rows that are in no backup yet";
        family(&mut text, ("backup_unshipped_rows", "gauge", help), &[("", unshipped)]);
        let help = "Times that nothing could be shipped";
        family(&mut text, ("backup_ship_failures", "counter", help), &[("_total", count(&self.ship_failed))]);
        text
    }
}

/// One metric: its name, its kind and its help; then what follows the name in each series, and the value, where it is known.
fn family(text: &mut String, (name, kind, help): (&str, &str, &str), series: &[(&str, Option<i64>)]) {
    // Writing to a string can't fail.
    let _ = writeln!(text, "# HELP openclawmu_{name} {help}.\n# TYPE openclawmu_{name} {kind}");
    for (rest, value) in series {
        if let Some(value) = value {
            let _ = writeln!(text, "openclawmu_{name}{rest} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_absent_and_not_zero() {
        let counts = Counts::default();
        let value_of = |counts: &Counts, (unshipped, every): (Option<u64>, Option<Duration>), name: &str| {
            let text = counts.render(unshipped, every);
            assert!(text.contains(&format!("# TYPE {} ", name.trim_end_matches("_total"))), "{text}");
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok())
        };
        let value = |counts: &Counts, unshipped, name: &str| value_of(counts, (unshipped, None), name);
        let interval = "openclawmu_backup_interval_seconds";
        assert_eq!(value(&counts, None, interval), None, "nothing is scheduled");
        assert_eq!(value_of(&counts, (None, Some(Duration::from_secs(5_400))), interval), Some(5_400));
        let (newest, shipped) =
            ("openclawmu_backup_newest_timestamp_seconds", "openclawmu_backup_shipped_timestamp_seconds");
        for name in [newest, shipped, "openclawmu_backup_unshipped_rows"] {
            assert_eq!(value(&counts, None, name), None, "{name}");
        }
        assert_eq!(value(&counts, Some(0), "openclawmu_backup_unshipped_rows"), Some(0));
        assert_eq!(value(&counts, None, "openclawmu_backup_ship_failures_total"), Some(0), "a counter is there");
        counts.newest(UnixMs(7_000));
        counts.newest(UnixMs(5_000));
        counts.shipped(UnixMs(9_000));
        assert_eq!((value(&counts, None, newest), value(&counts, None, shipped)), (Some(7), Some(9)));
    }
}
