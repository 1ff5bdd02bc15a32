//! How busy the machine is with what is not the run's: figures that were taken beside other work mean little.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// How long is looked.
const LOOK: Duration = Duration::from_secs(2);
/// What others may take of the machine before it is called busy, in per cent.
const MOST_PERCENT: u64 = 5;

/// What others made of the machine before a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Others {
    /// The load averages of 1, 5 and 15 minutes.
    pub(crate) load_average: String,
    /// What was busy of all processors while the run waited, in per cent.
    pub(crate) busy_percent: u64,
}

impl Others {
    /// Looks for a while in which the run does nothing.
    pub(crate) fn look() -> Result<Self> {
        let before = Times::read()?;
        thread::sleep(LOOK);
        let busy_percent = Times::read()?.busy_percent_since(before);
        let average = fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
        let load_average = average.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ");
        Ok(Self { load_average, busy_percent })
    }

    /// Whether they would be seen in the figures.
    pub(crate) fn disturb(&self) -> bool {
        self.busy_percent > MOST_PERCENT
    }

    /// For a report.
    pub(crate) fn text(&self) -> String {
        let Self { load_average, busy_percent } = self;
        let told = format!("load average {load_average}; others took {busy_percent} % of the machine before the run");
        if self.disturb() { format!("{told}: BUSY, do not trust these figures") } else { told }
    }
}

/// Clock ticks of all processors since the start of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    all: u64,
    idle: u64,
}

impl Times {
    fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        Self::parse(&text).context("/proc/stat has no line of all processors")
    }

    /// `cpu user nice system idle iowait irq softirq steal ...` (proc_stat).
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let times: Vec<u64> = line.split_ascii_whitespace().take(8).filter_map(|ticks| ticks.parse().ok()).collect();
        let idle = times.get(3)?.saturating_add(*times.get(4)?);
        Some(Self { all: times.iter().sum(), idle })
    }

    fn busy_percent_since(self, before: Self) -> u64 {
        let all = self.all.saturating_sub(before.all);
        let busy = all.saturating_sub(self.idle.saturating_sub(before.idle));
        busy * 100 / all.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_idle_was_busy() {
        let before = Times::parse("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1 1\n").unwrap();
        let after = Times::parse("cpu  120 0 110 860 5 2 1 2 0 0\n").unwrap();
        assert_eq!(after.busy_percent_since(before), 35);
        assert_eq!(before.busy_percent_since(before), 0);
        assert_eq!(Times::parse("intr 1 2 3\n"), None);
    }

    #[test]
    fn a_busy_machine_is_called_so_and_a_quiet_one_is_not() {
        let others = |busy_percent| Others { load_average: "1.00 2.00 3.00".to_owned(), busy_percent };
        assert!(others(40).text().contains("BUSY") && others(40).disturb());
        assert!(!others(2).text().contains("BUSY") && others(2).text().contains("1.00 2.00 3.00"));
    }
}
