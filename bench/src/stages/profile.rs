//! Where the instructions of some requests are: functions by themselves, functions with what they call, lines of source. Read from
//! Callgrind's own format (its manual, "Callgrind Format Specification"), since `callgrind_annotate` takes a merged dump for another.

use std::collections::HashMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};

/// Instructions by place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    own: HashMap<String, u64>,
    with_calls: HashMap<String, u64>,
    calls: HashMap<String, u64>,
    lines: HashMap<String, u64>,
}

/// Names by number: a name is spelled out once, and then stands for it.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    /// The name that `(12) name`, `(12)` or `name` is.
    fn of(&mut self, text: &str) -> String {
        let Some((number, name)) = text.strip_prefix('(').and_then(|rest| rest.split_once(')')) else {
            return text.to_owned();
        };
        match name.trim() {
            "" => self.0.get(number).cloned().unwrap_or_else(|| format!("({number})")),
            name => {
                self.0.insert(number.to_owned(), name.to_owned());
                name.to_owned()
            }
        }
    }
}

impl Profile {
    /// Of a dump, or of several behind each other.
    pub(crate) fn read(dump: &str) -> Result<Self> {
        let (mut profile, mut functions, mut files) = (Self::default(), Names::default(), Names::default());
        let (mut function, mut called, mut file) = (String::new(), String::new(), String::new());
        let (mut line, mut calls) = (0_u64, false);
        for text in dump.lines() {
            if let Some((key, value)) = text.split_once('=') {
                match key {
                    "fn" => function = functions.of(value),
                    "cfn" => called = functions.of(value),
                    "fl" | "fi" | "fe" => file = files.of(value),
                    "cfl" | "cfi" => drop(files.of(value)),
                    "calls" => calls = true,
                    _ => {}
                }
                continue;
            }
            let Some((position, cost)) = text.split_once(' ') else { continue };
            let Some(at) = moved(line, position) else { continue };
            line = at;
            let cost: u64 = cost.trim().parse().with_context(|| format!("a line that is no cost: {text}"))?;
            add(&mut profile.with_calls, &function, cost);
            if std::mem::take(&mut calls) {
                if is_of_memory(&called) {
                    add(&mut profile.calls, &format!("{called} for {function}"), cost);
                }
                continue;
            }
            add(&mut profile.own, &function, cost);
            if file != "???" {
                add(&mut profile.lines, &format!("{file}:{line}"), cost);
            }
        }
        Ok(profile)
    }

    /// The dearest of each kind, for one of `requests`.
    pub(crate) fn text(&self, requests: usize, rows: usize) -> Result<String> {
        let requests = u64::try_from(requests.max(1))?;
        let total = self.own.values().sum::<u64>();
        let mut text = format!("{} instructions for each of {requests} requests\n", total / requests);
        let kinds = [
            ("in the function itself", &self.own),
            ("with what it calls", &self.with_calls),
            ("copied, compared, allocated and freed for", &self.calls),
            ("by line, what is inlined there as well", &self.lines),
        ];
        for (title, costs) in kinds {
            writeln!(text, "\n{title}:")?;
            let mut sorted: Vec<_> = costs.iter().map(|(name, cost)| (*cost, name)).collect();
            sorted.sort_by(|one, other| other.cmp(one));
            for (cost, name) in sorted.into_iter().take(rows) {
                writeln!(text, "{:>10} {:>3} %  {name}", cost / requests, cost * 100 / total.max(1))?;
            }
        }
        Ok(text)
    }
}

/// Whether a function is one that everybody calls, so that only its callers tell anything.
fn is_of_memory(function: &str) -> bool {
    ["__mem", "mi_", "_mi_"].iter().any(|start| function.starts_with(start))
}

/// The line that `12`, `+3`, `-3` or `*` is after `line`; none of what is no position.
fn moved(line: u64, position: &str) -> Option<u64> {
    if position == "*" {
        Some(line)
    } else if let Some(further) = position.strip_prefix('+') {
        Some(line + further.parse::<u64>().ok()?)
    } else if let Some(back) = position.strip_prefix('-') {
        Some(line.saturating_sub(back.parse().ok()?))
    } else {
        position.parse().ok()
    }
}

fn add(costs: &mut HashMap<String, u64>, name: &str, cost: u64) {
    match costs.get_mut(name) {
        Some(sum) => *sum += cost,
        None => {
            costs.insert(name.to_owned(), cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "part: 7\ndesc: Trigger: x\nevents: Ir\nsummary: 30\n\nfl=(1) src/a.rs\nfn=(1) outer\n10 4\n+2 5\n\
        cfi=(2) src/b.rs\ncfn=(2) inner\ncalls=3 -7 \n* 20\n-1 1\n\nfl=(2)\nfn=(2)\n3 20\n\ntotals: 30\n";

    #[test]
    fn a_call_is_its_callers_with_what_it_calls_and_the_callees_by_itself() {
        let profile = Profile::read(&DUMP.repeat(2)).unwrap();
        assert_eq!((profile.own["outer"], profile.own["inner"]), (20, 40));
        assert_eq!((profile.with_calls["outer"], profile.with_calls["inner"]), (60, 40));
        assert_eq!(
            (profile.lines["src/a.rs:12"], profile.lines["src/a.rs:11"], profile.lines["src/b.rs:3"]),
            (10, 2, 40)
        );
    }

    #[test]
    fn figures_are_of_one_request_and_the_dearest_is_first() {
        let text = Profile::read(&DUMP.repeat(2)).unwrap().text(2, 1).unwrap();
        assert!(text.starts_with("30 instructions for each of 2 requests"), "{text}");
        let rows: Vec<&str> = text.lines().filter(|line| line.contains(" %  ")).map(str::trim).collect();
        assert_eq!(rows, ["20  66 %  inner", "30 100 %  outer", "20  66 %  src/b.rs:3"]);
    }
}
