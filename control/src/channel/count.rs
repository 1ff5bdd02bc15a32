//! What is counted of channels, in Prometheus' text format. No series names a tenant.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of this process.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Requests that were proved, by what became of their messages.
    pub(super) queued: AtomicU64,
    pub(super) known: AtomicU64,
    pub(super) strangers: AtomicU64,
    /// Requests that were not.
    pub(super) not_genuine: AtomicU64,
    pub(super) foreign: AtomicU64,
    /// Turns.
    pub(super) answered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) postponed: AtomicU64,
    /// Deliveries.
    pub(super) delivered: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) given_up: AtomicU64,
}

/// A metric: its name, its help, and each outcome's count.
type Family<'a> = (&'a str, &'a str, &'a [(&'a str, &'a AtomicU64)]);

impl Counts {
    pub(super) fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        let families: [Family<'_>; 3] = [
            (
                "channel_messages",
                "What came in by channels",
                &[
                    ("queued", &self.queued),
                    ("known", &self.known),
                    ("stranger", &self.strangers),
                    ("not_genuine", &self.not_genuine),
                    ("foreign", &self.foreign),
                ],
            ),
            (
                "channel_turns",
                "Turns of agents for channels",
                &[("answered", &self.answered), ("refused", &self.refused), ("postponed", &self.postponed)],
            ),
            (
                "channel_replies",
                "Answers that went out by channels",
                &[("delivered", &self.delivered), ("retried", &self.retried), ("given_up", &self.given_up)],
            ),
        ];
        for (name, help, series) in families {
            // Writing to a string can't fail.
            let _ = writeln!(text, "# HELP openclawmu_{name} {help}.\n# TYPE openclawmu_{name} counter");
            for (outcome, count) in series {
                let count = count.load(Ordering::Relaxed);
                let _ = writeln!(text, "openclawmu_{name}_total{{outcome=\"{outcome}\"}} {count}");
            }
        }
        text
    }
}
