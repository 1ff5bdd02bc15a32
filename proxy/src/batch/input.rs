//! A batch's whole input, line by line: every line is bounded, or the batch is refused with the number of the line at fault.

use std::collections::HashSet;

use bytes::Bytes;
use openclawmu_store::{BatchBound, PinnedPrice, RateTable};

use super::line::{Endpoint, Line};
use crate::catalog::Target;
use crate::read::Call;
use crate::refusal::Refusal;

/// The most lines of a batch, as at the provider.
const MAX_LINES: usize = 50_000;

/// An input that was understood.
pub(super) struct Input {
    /// The one model that all lines ask.
    pub(super) target: Target,
    /// Its price.
    pub(super) price: PinnedPrice,
    /// What all lines together can cost at most.
    pub(super) bound: BatchBound,
    /// The input as it is sent.
    pub(super) sent: Vec<u8>,
}

/// Who decides over lines.
pub(super) struct Judge<'a> {
    /// What every line asks for.
    pub(super) endpoint: &'a Endpoint,
    /// The prices in effect.
    pub(super) rates: &'a RateTable,
    /// Where a model's name leads for the caller.
    pub(super) target: &'a dyn Fn(&str) -> Result<Target, Refusal>,
    /// Whether the caller may say that, beside its price.
    pub(super) allowed: &'a dyn Fn(&Call) -> Result<(), Refusal>,
    /// The prompts' tokens are counted, where they can be.
    pub(super) exact: bool,
}

impl Judge<'_> {
    /// Reads the whole input. May take long: not for an async thread.
    ///
    /// # Errors
    /// What is wrong with the first line at fault, with its number.
    pub(super) fn read(&self, input: &Bytes) -> Result<Input, Refusal> {
        let mut ids = HashSet::new();
        let mut read: Option<Input> = None;
        let mut named = String::new();
        for (number, line) in lines(input) {
            let at = |refusal| at_line(number, refusal);
            if ids.len() >= MAX_LINES {
                let message = format!("A batch has at most {MAX_LINES} lines; split it.");
                return Err(at(Refusal::bad("line", message)));
            }
            let understood = Line::read(&line, self.endpoint).map_err(at)?;
            (self.allowed)(&understood.call).map_err(at)?;
            let all = match &mut read {
                Some(all) => all,
                None => {
                    named.clone_from(&understood.call.ask.model);
                    read.insert(self.first(&named, input.len()).map_err(at)?)
                }
            };
            let model = &understood.call.ask.model;
            if *model != named && (self.target)(model).map_err(at)?.model != all.target.model {
                let message = format!("All lines of a batch must ask one model: `{named}` before, `{model}` here.");
                return Err(at(Refusal::bad("model", message)));
            }
            let bound = understood
                .bounded((&line, &mut all.sent), (&all.target.model, &all.price.price), self.exact)
                .map_err(at)?;
            all.bound.add(&all.price.price, bound);
            if !ids.insert(understood.custom_id) {
                return Err(at(Refusal::bad("custom_id", "Another line has this `custom_id`.")));
            }
        }
        let read = read.ok_or_else(|| Refusal::bad("input_file_id", "The input file has no line."))?;
        if read.bound.tokens() > u64::from(u32::MAX) {
            return Err(Refusal::bad("input_file_id", "The batch may use more tokens than can be counted; split it."));
        }
        Ok(read)
    }

    fn first(&self, name: &str, length: usize) -> Result<Input, Refusal> {
        let target = (self.target)(name)?;
        let price = target.price(self.rates).ok_or_else(|| Refusal::Forbidden {
            code: "model_not_priced",
            message: format!(
                "The model `{name}` has no price, so it cannot be billed. Ask the operator to add it to the rate card."
            ),
        })?;
        Ok(Input { target, price, bound: BatchBound::default(), sent: Vec::with_capacity(length) })
    }
}

/// The lines that are not empty, with their numbers from 1.
fn lines(input: &Bytes) -> impl Iterator<Item = (usize, Bytes)> + '_ {
    let split = input.split(|byte| *byte == b'\n').enumerate();
    split.map(|(at, line)| (at + 1, input.slice_ref(line.trim_ascii()))).filter(|(_, line)| !line.is_empty())
}

/// A refusal that says which line is at fault.
fn at_line(number: usize, refusal: Refusal) -> Refusal {
    let told = |message: String| format!("Line {number} of the input file: {message}");
    match refusal {
        Refusal::Bad { status, param, code, message } => {
            let param = param.map(|param| format!("line {number}: {param}").into());
            Refusal::Bad { status, param, code, message: told(message) }
        }
        Refusal::Forbidden { code, message } => Refusal::Forbidden { code, message: told(message) },
        Refusal::NotFound { code, message } => Refusal::NotFound { code, message: told(message) },
        other @ (Refusal::Unauthenticated
        | Refusal::Quota { .. }
        | Refusal::Store
        | Refusal::Exhausted
        | Refusal::Sandbox { .. }
        | Refusal::Upstream { .. }
        | Refusal::UpstreamTimeout { .. }) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_as_an_editor_does() {
        let input = Bytes::from_static(b"a\r\n\n  \n b \nc");
        let found: Vec<_> = lines(&input).map(|(number, line)| (number, line.to_vec())).collect();
        assert_eq!(found, [(1, b"a".to_vec()), (4, b"b".to_vec()), (5, b"c".to_vec())]);
    }

    #[test]
    fn a_refusal_names_its_line_and_keeps_its_status() {
        let told = at_line(3, Refusal::bad("body", "It is wrong.")).told();
        assert_eq!((told.status, told.param.as_deref()), (400, Some("line 3: body")));
        assert_eq!(told.message, "Line 3 of the input file: It is wrong.");
        let told = at_line(3, Refusal::Forbidden { code: "model_not_allowed", message: "No.".to_owned() }).told();
        assert_eq!((told.status, told.code), (403, Some("model_not_allowed")));
        assert_eq!(at_line(3, Refusal::Store), Refusal::Store);
    }
}
