//! What a run says: a table and the bars for a person, JSON for a program. Ratios are the median of the
//! ratios of each pair, not the ratio of the medians: the two of a pair ran within seconds of each other.

use std::fmt::Write as _;

use serde::Serialize;

use crate::bar::Bar;
use crate::quiet::Others;
use crate::scenario::{Scenario, Unit};
use crate::stats::Spread;

/// One measurement of one proxy.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Figure {
    /// Microseconds of CPU for each unit.
    pub(crate) cpu_us: f64,
    /// Whether the kernel's nanosecond counts were to be had (else clock ticks).
    pub(crate) exact: bool,
    /// Units: requests, or events of streams.
    pub(crate) units: u64,
    /// Writes that the events came in, by the transfer coding; zero without streams.
    pub(crate) frames: u64,
    /// Wall time of the load, in seconds.
    pub(crate) elapsed_s: f64,
    /// Median latency, in microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile of the latency, in microseconds.
    pub(crate) p99_us: f64,
}

/// The measurements that are compared.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Pair {
    /// The bare proxy.
    pub(crate) floor: Figure,
    /// The gateway, or the second floor.
    pub(crate) subject: Figure,
    /// nginx, where it was measured too.
    pub(crate) nginx: Option<Figure>,
}

/// One scenario, measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    /// Its name.
    pub(crate) scenario: &'static str,
    /// What CPU time is divided by.
    pub(crate) unit: Unit,
    /// Microseconds of the floor.
    pub(crate) floor_us: Spread,
    /// Microseconds of the subject.
    pub(crate) subject_us: Spread,
    /// Microseconds of nginx.
    pub(crate) nginx_us: Option<Spread>,
    /// Subject over floor.
    pub(crate) ratio: Spread,
    /// What the subject adds to the floor's median latency, in microseconds.
    pub(crate) added_p50_us: Option<Spread>,
    /// The same for the 99th percentile.
    pub(crate) added_p99_us: Option<Spread>,
    /// The bars, each against a median.
    pub(crate) bars: Vec<Bar>,
    /// All of it.
    pub(crate) pairs: Vec<Pair>,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The processor, its count, and the kernel.
    pub(crate) machine: String,
    /// What else the machine did before the run.
    pub(crate) others: Others,
    /// What was compared with the floor.
    pub(crate) subject: &'static str,
    /// Worker threads of either proxy.
    pub(crate) threads: usize,
    /// Milliseconds between the events of a stream.
    pub(crate) pace_ms: u64,
    /// Resident memory of the floor before any load, in bytes.
    pub(crate) floor_idle_bytes: u64,
    /// Resident memory of the subject before any load, in bytes.
    pub(crate) subject_idle_bytes: u64,
    /// Resident memory of the subject after all of it, in bytes.
    pub(crate) subject_end_bytes: u64,
    /// Scenario by scenario.
    pub(crate) lines: Vec<Line>,
}

impl Line {
    /// Sums up the pairs of a scenario; none where there are no pairs.
    pub(crate) fn of(scenario: &Scenario, pairs: Vec<Pair>) -> Option<Self> {
        let spread = |value: fn(&Pair) -> f64| Spread::of(pairs.iter().map(value));
        let ratio = spread(|pair| pair.subject.cpu_us / pair.floor.cpu_us)?;
        let added = |value: fn(&Pair) -> f64| spread(value).filter(|_| scenario.has_latency);
        let added_p50_us = added(|pair| pair.subject.p50_us - pair.floor.p50_us);
        let added_p99_us = added(|pair| pair.subject.p99_us - pair.floor.p99_us);
        let bars = [
            ("CPU, ratio", scenario.bars.ratio, Some(ratio)),
            ("added p50, us", scenario.bars.added_p50_us, added_p50_us),
            ("added p99, us", scenario.bars.added_p99_us, added_p99_us),
        ];
        let held =
            bars.into_iter().filter_map(|(figure, most, spread)| Some(Bar::at_most(figure, most?, spread?.median)));
        Some(Self {
            scenario: scenario.name,
            unit: scenario.unit,
            floor_us: spread(|pair| pair.floor.cpu_us)?,
            subject_us: spread(|pair| pair.subject.cpu_us)?,
            nginx_us: Spread::of(pairs.iter().filter_map(|pair| pair.nginx).map(|nginx| nginx.cpu_us)),
            ratio,
            added_p50_us,
            added_p99_us,
            bars: held.collect(),
            pairs,
        })
    }
}

impl Report {
    /// Whether every bar is met.
    pub(crate) fn all_met(&self) -> bool {
        self.lines.iter().flat_map(|line| &line.bars).all(Bar::is_met)
    }

    /// The table and the bars.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        writeln!(text, "{}\n{}", self.machine, self.others.text())?;
        writeln!(
            text,
            "{} worker thread(s) each; CPU of the whole process tree; median (min..max) of the pairs\n",
            self.threads
        )?;
        writeln!(
            text,
            "{:<22} {:<8} {:>22} {:>22} {:>22} {:>20} {:>22} {:>22}",
            "scenario",
            "per",
            "nginx us",
            "floor us",
            format!("{} us", self.subject),
            "ratio",
            "added p50 us",
            "added p99 us"
        )?;
        for line in &self.lines {
            line.write_row(&mut text)?;
        }
        self.write_notes(&mut text)?;
        Ok(text)
    }

    fn write_notes(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "\nidle RSS: floor {}, {} {}; {} after the run",
            mebibytes(self.floor_idle_bytes),
            self.subject,
            mebibytes(self.subject_idle_bytes),
            mebibytes(self.subject_end_bytes)
        )?;
        for line in self.lines.iter().filter(|line| line.unit == Unit::Chunk) {
            let joined = |figure: fn(&Pair) -> Figure| {
                let figures = line.pairs.iter().map(figure);
                Spread::of(figures.map(|figure| figure.units as f64 / figure.frames as f64))
            };
            let (Some(floor), Some(subject)) = (joined(|pair| pair.floor), joined(|pair| pair.subject)) else {
                continue;
            };
            writeln!(
                text,
                "{}: events per write: floor {}, {} {}",
                line.scenario,
                shown(floor, 2),
                self.subject,
                shown(subject, 2)
            )?;
        }
        for line in &self.lines {
            let inexact = line.pairs.iter().any(|pair| !pair.floor.exact || !pair.subject.exact);
            if inexact {
                writeln!(text, "{}: a thread ended in between; counted in clock ticks", line.scenario)?;
            }
        }
        writeln!(text)?;
        for line in &self.lines {
            for bar in &line.bars {
                writeln!(text, "{}", bar.text(line.scenario))?;
            }
        }
        Ok(())
    }
}

impl Line {
    fn write_row(&self, text: &mut String) -> std::fmt::Result {
        let latency = |spread: Option<Spread>| spread.map_or("-".to_owned(), |s| shown(s, 0));
        writeln!(
            text,
            "{:<22} {:<8} {:>22} {:>22} {:>22} {:>20} {:>22} {:>22}",
            self.scenario,
            self.unit.name(),
            self.nginx_us.map_or("-".to_owned(), |s| shown(s, 1)),
            shown(self.floor_us, 1),
            shown(self.subject_us, 1),
            shown(self.ratio, 2),
            latency(self.added_p50_us),
            latency(self.added_p99_us)
        )
    }
}

fn shown(spread: Spread, digits: usize) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.digits$} ({min:.digits$}..{max:.digits$})")
}

fn mebibytes(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Extent, all};

    fn figure(cpu_us: f64, p50_us: f64) -> Figure {
        let (exact, units, frames, elapsed_s) = (true, 10, 0, 1.0);
        Figure { cpu_us, exact, units, frames, elapsed_s, p50_us, p99_us: p50_us * 2.0 }
    }

    fn line(name: &str, ratios: &[f64]) -> Line {
        let scenario = all(Extent::Full).into_iter().find(|scenario| scenario.name == name).unwrap();
        let pairs = ratios.iter().map(|ratio| Pair {
            floor: figure(50.0, 100.0),
            subject: figure(50.0 * ratio, 130.0),
            nginx: None,
        });
        Line::of(&scenario, pairs.collect()).unwrap()
    }

    fn report(lines: Vec<Line>) -> Report {
        Report {
            machine: "a machine".to_owned(),
            others: Others { load_average: "0.10 0.20 0.30".to_owned(), busy_percent: 1 },
            subject: "gateway",
            threads: 1,
            pace_ms: 10,
            floor_idle_bytes: 10 << 20,
            subject_idle_bytes: (20 << 20) + (1 << 19),
            subject_end_bytes: 30 << 20,
            lines,
        }
    }

    #[test]
    fn a_bar_is_held_against_the_median_of_the_ratios() {
        let met = |name, ratios| line(name, ratios).bars.iter().map(Bar::is_met).collect::<Vec<_>>();
        assert_eq!(met("closed_1k", &[0.9, 1.0, 9.0]), [true]);
        assert_eq!(met("closed_1k", &[0.9, 1.01, 1.3]), [false]);
        assert_eq!(met("streams_200", &[0.86]), [false]);
        assert_eq!(met("refused", &[0.5]), [true]);
        assert_eq!(met("open_100", &[9.0]), [false; 0]);
    }

    #[test]
    fn a_busy_open_loop_is_held_to_its_cost_and_to_what_it_adds_to_either_latency() {
        for name in ["open_1000", "open_1000_sync"] {
            let bars = line(name, &[1.2]).bars;
            let held: Vec<_> = bars.iter().map(|held| (held.limit, held.value, held.is_met())).collect();
            assert_eq!(held, [(1.15, 1.2, false), (50.0, 30.0, true), (150.0, 60.0, true)]);
        }
    }

    #[test]
    fn what_was_measured_of_nginx_is_told_and_what_was_not_is_a_dash() {
        let mut measured = line("closed_1k", &[1.0]);
        let row = |line: &Line| report(vec![line.clone()]).text().unwrap();
        assert!(row(&measured).lines().any(|row| row.starts_with("closed_1k") && row.contains(" - ")));
        measured.nginx_us = Spread::of([23.4]);
        assert!(row(&measured).contains("23.4 (23.4..23.4)"));
    }

    #[test]
    fn one_missed_bar_is_a_missed_run_and_is_named() {
        let text = report(vec![line("closed_1k", &[1.0]), line("streams_200", &[0.8])]);
        assert!(text.all_met());
        let missed = report(vec![line("closed_1k", &[1.0]), line("streams_200", &[1.0])]);
        assert!(!missed.all_met());
        let text = missed.text().unwrap();
        assert!(text.lines().any(|line| line.contains("streams_200") && line.ends_with("MISSED")));
        assert!(text.lines().any(|line| line.contains("closed_1k") && line.ends_with("met")));
    }

    #[test]
    fn only_an_open_loop_has_added_latency() {
        assert_eq!(line("open_1000", &[1.0]).added_p50_us.unwrap().median, 30.0);
        assert!(line("closed_1k", &[1.0]).added_p50_us.is_none());
    }

    #[test]
    fn memory_is_shown_in_mebibytes() {
        let text = report(Vec::new()).text().unwrap();
        assert!(text.contains("floor 10.0 MiB, gateway 20.5 MiB; 30.0 MiB after"), "{text}");
    }
}
