//! What a batch put out, read line by line and counted: `{"custom_id","response":{"status_code","body"},"error"}`.

use openclawmu_store::{BatchTally, ModelPrice};

use crate::dialect::openai::reply;
use crate::dialect::scan;
use crate::upstream::Answer;
use crate::upstream::http::Fault;

/// The longest line.
const MAX_LINE: usize = 64 << 20;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// What was used, and its cost.
    pub(super) tally: BatchTally,
    /// Lines that were answered.
    pub(super) answered: u64,
    /// Of these, lines that don't say what they used.
    pub(super) uncounted: u64,
}

/// Reads a file of answers to its end.
///
/// # Errors
/// When it breaks off, or has a line that is too long: then nothing is counted.
pub(super) async fn count(answer: &mut Answer, price: &ModelPrice) -> Result<Counted, Fault> {
    let (mut counted, mut rest) = (Counted::default(), Vec::new());
    while let Some(piece) = answer.piece().await? {
        let mut lines = piece.split(|byte| *byte == b'\n');
        let last = lines.next_back().unwrap_or_default();
        for end in lines {
            rest.extend_from_slice(end);
            counted.line(&rest, price);
            rest.clear();
        }
        rest.extend_from_slice(last);
        if rest.len() > MAX_LINE {
            return Err(Fault::Broken(format!("a line is longer than {MAX_LINE} bytes")));
        }
    }
    counted.line(&rest, price);
    Ok(counted)
}

impl Counted {
    fn line(&mut self, line: &[u8], price: &ModelPrice) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let body = match std::str::from_utf8(line).ok().and_then(response) {
            Some(Response::Failed) => return,
            Some(Response::Answered(body)) => Some(body),
            None => None,
        };
        self.answered += 1;
        let usage = body.and_then(|body| reply::whole(body.as_bytes())).and_then(|whole| whole.usage);
        if !usage.is_some_and(|usage| self.tally.add(price, &usage)) {
            self.uncounted += 1;
        }
    }
}

/// What came of a line.
enum Response<'a> {
    /// An answer, which is billed.
    Answered(&'a str),
    /// None.
    Failed,
}

/// Reads a line; `None` where it can't be read.
fn response(line: &str) -> Option<Response<'_>> {
    let mut response = None;
    scan::members(line, |key, range| {
        if key == "response" {
            response = line.get(range);
        }
    })
    .ok()?;
    let response = match response {
        None | Some("null") => return Some(Response::Failed),
        Some(response) => response,
    };
    let (mut status, mut body) = (None, None);
    scan::members(response, |key, range| match key.as_ref() {
        "status_code" => status = response.get(range).and_then(|raw| raw.parse::<u16>().ok()),
        "body" => body = response.get(range),
        _ => {}
    })
    .ok()?;
    match status? {
        200..300 => Some(Response::Answered(body?)),
        _ => Some(Response::Failed),
    }
}

#[cfg(test)]
mod tests {
    use openclawmu_store::NanoUsd;

    use super::*;

    #[test]
    fn what_was_answered_is_counted_and_what_failed_is_not() {
        let price = ModelPrice::flat(NanoUsd(1_000_000), NanoUsd(2_000_000));
        let mut counted = Counted::default();
        for line in [
            r#"{"custom_id":"a","response":{"status_code":200,"body":{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}},"error":null}"#,
            r#"{"custom_id":"b","response":{"status_code":200,"body":{"data":[],"usage":{"prompt_tokens":7,"total_tokens":7}}}}"#,
            r#"{"custom_id":"c","response":{"status_code":400,"body":{"error":{}}},"error":null}"#,
            r#"{"custom_id":"d","response":null,"error":{"code":"batch_expired"}}"#,
            " ",
        ] {
            counted.line(line.as_bytes(), &price);
        }
        assert_eq!((counted.answered, counted.uncounted, counted.tally.cost()), (2, 0, NanoUsd(10 + 2 * 5)));
        for line in [
            "{",
            "nothing",
            r#"{"response":{"status_code":200}}"#,
            r#"{"response":{"body":{}}}"#,
            r#"{"response":{"status_code":200,"body":{"choices":[]}}}"#,
            r#"{"response":{"status_code":200,"body":{"usage":null}}}"#,
        ] {
            let before = counted;
            counted.line(line.as_bytes(), &price);
            let expected = Counted { answered: before.answered + 1, uncounted: before.uncounted + 1, ..before };
            assert_eq!(counted, expected, "{line}");
        }
    }
}
