//! The counts that are committed, and what differs from them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::stages::count::Count;

/// By how much a part may differ, in per mille.
const MARGIN: u64 = 30;
/// The same where another compiler or library made the counts.
const OTHER_MARGIN: u64 = 120;
/// What a part may differ by however small it is: a table that was probed once more.
const ALWAYS: u64 = 100;
const HEAD: &str = "\
# Instructions in user space for one request, stage by stage: what `make stages` counts are compared with.
# Written by `make stages ARGS=--bless`; commit it with the change that moved a figure.
";

/// What decides how many instructions the same source comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toolchain(pub(crate) String);

/// Counts, and what they were made with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Baseline {
    toolchain: Toolchain,
    counts: Vec<Count>,
}

/// How the counts of now compare.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Parts that are dearer than they may be, or of which nothing is known.
    pub(crate) dearer: Vec<String>,
    /// Parts that are cheaper by more than the margin.
    pub(crate) cheaper: Vec<String>,
    /// What the committed counts were made with, where that is something else.
    pub(crate) other: Option<String>,
}

impl Baseline {
    /// Of this run.
    pub(crate) fn new(toolchain: Toolchain, counts: Vec<Count>) -> Self {
        Self { toolchain, counts }
    }

    /// The committed one.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("reading {}; `make stages ARGS=--bless` writes it", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Commits this one.
    pub(crate) fn store(&self, path: &Path) -> Result<()> {
        fs::write(path, self.text()?).with_context(|| format!("writing {}", path.display()))
    }

    fn text(&self) -> Result<String> {
        let mut text = format!("{HEAD}\nwith {}\n", self.toolchain.0);
        for count in &self.counts {
            writeln!(text)?;
            for (name, instructions) in &count.parts {
                writeln!(text, "{:<18} {name:<13} {instructions:>9}", count.scenario)?;
            }
        }
        Ok(text)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let with = lines.next().and_then(|line| line.strip_prefix("with ")).context("no line that says with what")?;
        let mut counts: Vec<Count> = Vec::new();
        for line in lines {
            let mut words = line.split_ascii_whitespace();
            let mut word = || words.next().with_context(|| format!("a line that is no count: {line}"));
            let (scenario, name, instructions) = (word()?, word()?, word()?.parse()?);
            if counts.last().is_none_or(|last| last.scenario != scenario) {
                counts.push(Count { scenario: scenario.to_owned(), parts: Vec::new() });
            }
            let last = counts.last_mut().context("a scenario")?;
            last.parts.push((name.to_owned(), instructions));
        }
        ensure!(!counts.is_empty(), "no counts");
        Ok(Self { toolchain: Toolchain(with.to_owned()), counts })
    }

    /// What was counted for a part; none where it is new.
    pub(crate) fn of(&self, scenario: &str, part: &str) -> Option<u64> {
        let count = self.counts.iter().find(|count| count.scenario == scenario)?;
        count.parts.iter().find(|(name, _)| name == part).map(|(_, instructions)| *instructions)
    }

    /// Holds the counts of now against these.
    pub(crate) fn judge(&self, now: &Self) -> Verdict {
        let same = self.toolchain == now.toolchain;
        let margin = if same { MARGIN } else { OTHER_MARGIN };
        let mut verdict = Verdict { other: (!same).then(|| self.toolchain.0.clone()), ..Verdict::default() };
        for count in &now.counts {
            for (name, counted) in &count.parts {
                let part = format!("{} {name}", count.scenario);
                let Some(before) = self.of(&count.scenario, name) else {
                    verdict.dearer.push(format!("{part}: {counted}, and nothing to compare it with"));
                    continue;
                };
                let allowed = (before * margin / 1_000).max(ALWAYS);
                let told = format!("{part}: {before} -> {counted} ({})", change(before, *counted));
                if *counted > before + allowed {
                    verdict.dearer.push(told);
                } else if counted + allowed < before {
                    verdict.cheaper.push(told);
                }
            }
        }
        verdict
    }
}

/// A difference in per cent, with one digit.
pub(crate) fn change(before: u64, now: u64) -> String {
    let sign = if now < before { '-' } else { '+' };
    let per_mille = now.abs_diff(before) * 1_000 / before.max(1);
    format!("{sign}{}.{} %", per_mille / 10, per_mille % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(with: &str, read: u64, admit: u64) -> Baseline {
        let parts = vec![("read".to_owned(), read), ("admit".to_owned(), admit)];
        Baseline::new(Toolchain(with.to_owned()), vec![Count { scenario: "closed_1k".to_owned(), parts }])
    }

    #[test]
    fn what_is_written_is_read_again() {
        let baseline = counted("rustc 1, valgrind 2", 12_345, 6);
        assert_eq!(Baseline::parse(&baseline.text().unwrap()).unwrap(), baseline);
        assert!(Baseline::parse("").is_err() && Baseline::parse("with x\n").is_err());
        assert!(Baseline::parse("with x\nclosed_1k read many\n").is_err());
    }

    #[test]
    fn a_part_within_three_per_cent_is_neither_dearer_nor_cheaper() {
        let before = counted("x", 100_000, 10_000);
        for (read, admit) in [(100_000, 10_000), (103_000, 10_300), (97_000, 9_700)] {
            assert_eq!(before.judge(&counted("x", read, admit)), Verdict::default());
        }
    }

    #[test]
    fn one_dearer_part_is_told_though_another_became_cheaper_by_as_much() {
        let verdict = counted("x", 100_000, 10_000).judge(&counted("x", 99_690, 10_310));
        assert_eq!(verdict.dearer, ["closed_1k admit: 10000 -> 10310 (+3.1 %)"]);
        assert_eq!(verdict.cheaper, [""; 0]);
        let verdict = counted("x", 100_000, 10_000).judge(&counted("x", 96_000, 10_000));
        assert_eq!((verdict.dearer.len(), verdict.cheaper.len()), (0, 1));
    }

    #[test]
    fn a_few_instructions_of_a_small_part_are_nothing_and_a_part_that_is_new_is_told() {
        assert_eq!(counted("x", 900, 900).judge(&counted("x", 1_000, 800)), Verdict::default());
        let none = Baseline::new(Toolchain("x".to_owned()), Vec::new());
        assert_eq!(none.judge(&counted("x", 1, 1)).dearer.len(), 2);
    }

    #[test]
    fn counts_of_another_toolchain_are_compared_by_a_wider_margin_and_it_is_named() {
        let before = counted("old", 100_000, 10_000);
        let verdict = before.judge(&counted("new", 110_000, 10_000));
        assert_eq!((verdict.dearer.len(), verdict.other.as_deref()), (0, Some("old")));
        assert_eq!(before.judge(&counted("new", 113_000, 10_000)).dearer.len(), 1);
    }
}
