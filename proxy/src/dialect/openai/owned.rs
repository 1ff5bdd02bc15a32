//! The fields of a JSON request that decide over money, each read exactly once: a repeated one, or one that another parser
//! could take for it, is refused.

use std::ops::Range;

use serde::Deserialize;

use crate::dialect::scan::{self, Nested};
use crate::refusal::Refusal;

/// Where they stand in a body.
#[derive(Debug)]
pub(crate) struct Owned<const N: usize> {
    names: &'static [&'static str; N],
    values: [Option<Range<usize>>; N],
    /// Whom the request is for: only read, never changed.
    pub(crate) user: Option<Range<usize>>,
    /// The client's own notes: only read, never changed.
    pub(crate) metadata: Option<Range<usize>>,
    /// What was seen inside values.
    pub(crate) nested: Nested,
    problem: Option<Refusal>,
}

impl<const N: usize> Owned<N> {
    /// Finds them in a body.
    ///
    /// # Errors
    /// 400 for a body that is no JSON object, or that has one of them twice.
    pub(crate) fn read(body: &str, names: &'static [&'static str; N]) -> Result<Self, Refusal> {
        let mut owned = Self {
            names,
            values: [const { None }; N],
            user: None,
            metadata: None,
            nested: Nested::default(),
            problem: None,
        };
        let nested = scan::members(body, |key, range| owned.take(&key, range)).map_err(|err| Refusal::Bad {
            status: 400,
            param: None,
            code: Some("invalid_json"),
            message: format!("We could not parse the JSON body of your request: it {err}."),
        })?;
        owned.nested = nested;
        owned.problem.take().map_or(Ok(owned), Err)
    }

    fn take(&mut self, key: &str, range: Range<usize>) {
        let Some(at) = self.names.iter().position(|owned| folds_to(key, owned)) else {
            match key {
                "user" => self.user = Some(range),
                "metadata" => self.metadata = Some(range),
                _ => {}
            }
            return;
        };
        let (Some(name), Some(slot)) = (self.names.get(at).copied(), self.values.get_mut(at)) else {
            return;
        };
        if key != name {
            self.problem =
                Some(Refusal::bad(name, format!("`{key}` may be read as `{name}` by some servers; spell it exactly.")));
        } else if slot.replace(range).is_some() {
            self.problem = Some(Refusal::bad(name, format!("`{name}` is given twice.")));
        }
    }

    /// A value as it stands in the body.
    pub(crate) fn get<'a>(&self, body: &'a str, name: &str) -> Option<&'a str> {
        body.get(self.range(name)?)
    }

    /// Where a value stands.
    pub(crate) fn range(&self, name: &str) -> Option<Range<usize>> {
        let at = self.names.iter().position(|owned| *owned == name)?;
        self.values.get(at)?.clone()
    }
}

/// Whether a parser that ignores case (Go's) would take `key` for `owned`. It folds two letters outside ASCII as well.
pub(crate) fn folds_to(key: &str, owned: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key == owned || (key.len() >= owned.len() && key.chars().map(fold).eq(owned.chars()))
}

/// Reads a raw value.
///
/// # Errors
/// 400 that names the field and says what it must be.
pub(crate) fn parse<'a, T: Deserialize<'a>>(
    raw: Option<&'a str>,
    name: &'static str,
    what: &str,
) -> Result<Option<T>, Refusal> {
    raw.map(|raw| serde_json::from_str(raw).map_err(|_| Refusal::bad(name, format!("`{name}` must be {what}."))))
        .transpose()
}

/// A whole number as digits alone: one with a sign, a fraction or an exponent is not whole, whatever its value.
///
/// # Errors
/// 400 that names the field.
pub(crate) fn count(raw: &str, name: &'static str, (least, largest): (u64, u64)) -> Result<u32, Refusal> {
    let digits = !raw.is_empty() && raw.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| raw.parse::<u64>().ok()).flatten();
    let number =
        number.filter(|number| (least..=largest).contains(number)).and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| {
        let message =
            format!("`{name}` must be a whole number from {least} to {largest}; leave it out for the default.");
        Refusal::bad(name, message)
    })
}
