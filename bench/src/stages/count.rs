//! From parts to stages: what each stage of each request took, and the least of it over many. What is done now and then (a look
//! whether the registry changed, a timer) only ever adds, and when it falls due is a matter of time.

use std::ops::Range;

use anyhow::{Context as _, Result, ensure};

use crate::stages::dump::{self, Mark, Part};

/// What a request that an upstream answers consists of, from mark to mark: the seven stages, the head before them, and after them
/// what is left of the request and the wait for the next.
pub(crate) const ANSWERED: &[&str] =
    &["head", "authenticate", "read", "admit", "route", "forward", "relay", "settle", "after"];
/// The same of one that is refused at admission.
pub(crate) const REFUSED: &[&str] = &["head", "authenticate", "read", "admit", "after"];
/// The name of all of it.
pub(crate) const WHOLE: &str = "whole";
/// Parts of a question after health, which is none of the scenarios'.
const HEALTH: usize = 3;

/// One request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Instructions from mark to mark.
    pub(crate) parts: Vec<u64>,
    /// Where they stand in the file.
    pub(crate) ranges: Vec<Range<u64>>,
}

/// What a scenario took, part by part, the whole last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Count {
    /// The scenario.
    pub(crate) scenario: String,
    /// Names and instructions.
    pub(crate) parts: Vec<(String, u64)>,
}

/// The requests that were served, in order, without questions after health.
pub(crate) fn requests(parts: &[Part]) -> Result<Vec<Request>> {
    let thread = dump::serving(parts)?;
    let (mut requests, mut open) = (Vec::new(), None::<Request>);
    for at_once in parts.chunk_by(|one, next| one.number == next.number) {
        let mark = at_once.iter().find_map(|part| part.mark);
        let own = at_once.iter().find(|part| part.thread == thread);
        if let Some(request) = &mut open {
            request.parts.push(own.map_or(0, |part| part.instructions));
            request.ranges.extend(own.map(|part| part.bytes.clone()));
        }
        if mark == Some(Mark::Head) {
            requests.extend(open.replace(Request::default()));
        }
    }
    requests.retain(|request| request.parts.len() != HEALTH);
    Ok(requests)
}

/// The least that each part took over `requests`, and the least of the wholes.
pub(crate) fn count(scenario: &str, names: &[&str], requests: &[&Request]) -> Result<Count> {
    for request in requests {
        let parts = request.parts.len();
        ensure!(parts == names.len(), "{scenario}: a request of {parts} parts instead of {}", names.len());
    }
    let least = |value: &dyn Fn(&Request) -> Option<u64>| {
        requests.iter().filter_map(|request| value(request)).min().with_context(|| format!("{scenario}: no requests"))
    };
    let mut parts = Vec::with_capacity(names.len() + 1);
    for (index, name) in names.iter().enumerate() {
        parts.push(((*name).to_owned(), least(&|request| request.parts.get(index).copied())?));
    }
    parts.push((WHOLE.to_owned(), least(&|request| Some(request.parts.iter().sum()))?));
    Ok(Count { scenario: scenario.to_owned(), parts })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMPS: &str = include_str!("dumps.txt");

    fn of(parts: &[u64]) -> Request {
        Request { parts: parts.to_vec(), ranges: Vec::new() }
    }

    #[test]
    fn a_request_is_what_the_serving_thread_did_from_head_to_head() {
        let parts = dump::read(DUMPS.as_bytes()).unwrap();
        assert_eq!(dump::serving(&parts).unwrap(), 2);
        let requests = requests(&parts).unwrap();
        let counted: Vec<_> = requests.iter().map(|request| request.parts.clone()).collect();
        assert_eq!(
            counted,
            [vec![10, 20, 30, 40, 50]],
            "neither health nor the request that is open, nor other threads"
        );
        let [range, ..] = requests[0].ranges.as_slice() else { panic!("no range") };
        let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        assert!(DUMPS[start..end].starts_with("part: 5") && DUMPS[start..end].ends_with("totals: 10\n"));
    }

    #[test]
    fn the_least_is_taken_of_each_part_and_of_the_whole() {
        let requests = [&of(&[1, 12, 100]), &of(&[2, 10, 200]), &of(&[9, 15, 900])];
        let count = count("some", &["a", "b", "c"], &requests).unwrap();
        let parts: Vec<_> = count.parts.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(parts, [("a", 1), ("b", 10), ("c", 100), (WHOLE, 113)]);
    }

    #[test]
    fn a_request_that_went_another_way_is_an_error() {
        let fault = count("some", &["a", "b"], &[&of(&[1, 2, 3])]).unwrap_err();
        assert!(format!("{fault}").contains("3 parts instead of 2"), "{fault}");
        assert!(count("some", &["a"], &[]).is_err(), "and so are none at all");
    }
}
