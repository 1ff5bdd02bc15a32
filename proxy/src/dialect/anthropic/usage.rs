//! The provider's counts and our buckets, both ways.
//!
//! In this dialect `input_tokens` is what was neither read from nor written to a cache, and `output_tokens` includes thinking.
//! In a stream the counts are totals so far: of each, the last one stated is right, and one that is left out stays.

use std::borrow::Cow;

use openclawmu_store::Usage;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::dialect::json::Json;

/// What the provider has stated so far.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Counts {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation: Option<Creation>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    output_tokens_details: Option<Details>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Creation {
    #[serde(default)]
    ephemeral_5m_input_tokens: Option<u64>,
    #[serde(default)]
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Details {
    #[serde(default)]
    thinking_tokens: Option<u64>,
}

/// A count that may be left out; `None` where it is no count.
#[expect(clippy::option_option, reason = "one says whether it is there, the other whether it can be read")]
fn count(value: &Json<'_>) -> Option<Option<u64>> {
    match value {
        Json::Null => Some(None),
        Json::Number(text) => text.parse().ok().map(Some),
        Json::Bool(_) | Json::Text(_) | Json::List(_) | Json::Object(_) | Json::Known(_) => None,
    }
}

/// The members of an object that may be left out; `None` where it is no object.
fn members<'j, 'a>(value: &'j Json<'a>) -> Option<&'j [(Cow<'a, str>, Json<'a>)]> {
    match value {
        Json::Null => Some(&[]),
        Json::Object(members) => Some(members),
        Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_) | Json::Known(_) => None,
    }
}

impl Counts {
    /// What a whole answer states; `None` where that can't be read.
    pub(super) fn of(usage: &Json<'_>) -> Option<Self> {
        let mut counts = Self::default();
        for (key, value) in members(usage)? {
            match key.as_ref() {
                "input_tokens" => counts.input_tokens = count(value)?,
                "cache_creation_input_tokens" => counts.cache_creation_input_tokens = count(value)?,
                "cache_read_input_tokens" => counts.cache_read_input_tokens = count(value)?,
                "output_tokens" => counts.output_tokens = count(value)?,
                "cache_creation" => {
                    let mut creation = Creation::default();
                    for (key, value) in members(value)? {
                        match key.as_ref() {
                            "ephemeral_5m_input_tokens" => creation.ephemeral_5m_input_tokens = count(value)?,
                            "ephemeral_1h_input_tokens" => creation.ephemeral_1h_input_tokens = count(value)?,
                            _ => {}
                        }
                    }
                    counts.cache_creation = Some(creation);
                }
                "output_tokens_details" => {
                    let mut details = Details::default();
                    for (key, value) in members(value)? {
                        if key == "thinking_tokens" {
                            details.thinking_tokens = count(value)?;
                        }
                    }
                    counts.output_tokens_details = Some(details);
                }
                _ => {}
            }
        }
        Some(counts)
    }

    /// Takes what is stated later.
    pub(super) fn absorb(&mut self, later: Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.cache_creation_input_tokens = later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
    }

    /// The same in disjoint buckets; `None` while nothing is stated.
    pub(super) fn usage(&self) -> Option<Usage> {
        if self.input_tokens.is_none() && self.output_tokens.is_none() {
            return None;
        }
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let creation = self.cache_creation.unwrap_or_default();
        let long = creation.ephemeral_1h_input_tokens.unwrap_or(0);
        let short = creation.ephemeral_5m_input_tokens.unwrap_or(0);
        // The total is what later events update; how much of it lasts an hour is said once.
        let written = self.cache_creation_input_tokens.unwrap_or_else(|| long.saturating_add(short));
        let long = long.min(written);
        let output = self.output_tokens.unwrap_or(0);
        let thinking = self.output_tokens_details.and_then(|details| details.thinking_tokens).unwrap_or(0).min(output);
        Some(Usage {
            input: small(self.input_tokens.unwrap_or(0)),
            cache_read: small(self.cache_read_input_tokens.unwrap_or(0)),
            cache_write: small(written - long),
            cache_write_1h: small(long),
            output: small(output - thinking),
            reasoning: small(thinking),
            ..Usage::default()
        })
    }
}

/// A usage in the provider's shape. Audio has no count of its own here and is part of the whole.
pub(super) fn write(usage: &Usage) -> Value {
    let sum = |counts: &[u32]| counts.iter().map(|&count| u64::from(count)).sum::<u64>();
    let mut object = json!({
        "input_tokens": sum(&[usage.input, usage.input_audio]),
        "cache_creation_input_tokens": sum(&[usage.cache_write, usage.cache_write_1h]),
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.completion_tokens(),
    });
    if usage.reasoning > 0
        && let Some(object) = object.as_object_mut()
    {
        object.insert("output_tokens_details".to_owned(), json!({"thinking_tokens": usage.reasoning}));
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(raw: &str) -> Counts {
        let (whole, in_stream) =
            (Counts::of(&Json::parse(raw).unwrap()).unwrap(), serde_json::from_str::<Counts>(raw).unwrap());
        assert_eq!(whole.usage(), in_stream.usage(), "{raw}");
        whole
    }

    #[test]
    fn m_11_the_parts_of_a_usage_are_made_disjoint() {
        let all = counts(
            r#"{"input_tokens":10,"cache_creation_input_tokens":50,"cache_read_input_tokens":7,"output_tokens":30,
            "cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":30},
            "output_tokens_details":{"thinking_tokens":12},"service_tier":"standard","server_tool_use":null}"#,
        );
        let expected = Usage {
            input: 10,
            cache_read: 7,
            cache_write: 20,
            cache_write_1h: 30,
            output: 18,
            reasoning: 12,
            ..Usage::default()
        };
        assert_eq!(all.usage(), Some(expected));
        assert_eq!(counts("{}").usage(), None);
    }

    #[test]
    fn of_each_count_the_last_one_stated_is_right() {
        let mut all = counts(
            r#"{"input_tokens":10,"cache_creation_input_tokens":50,"cache_creation":{"ephemeral_1h_input_tokens":50},"output_tokens":1}"#,
        );
        all.absorb(counts(r#"{"output_tokens":9,"cache_creation_input_tokens":60}"#));
        let expected = Usage { input: 10, cache_write: 10, cache_write_1h: 50, output: 9, ..Usage::default() };
        assert_eq!(all.usage(), Some(expected));
        all.absorb(counts(r#"{"input_tokens":11,"output_tokens":12}"#));
        assert_eq!(all.usage(), Some(Usage { input: 11, output: 12, ..expected }));
    }

    #[test]
    fn counts_that_contradict_each_other_never_underflow() {
        let odd = r#"{"input_tokens":99999999999,"output_tokens":1,"output_tokens_details":{"thinking_tokens":5},
            "cache_creation_input_tokens":1,"cache_creation":{"ephemeral_1h_input_tokens":18446744073709551615,"ephemeral_5m_input_tokens":5}}"#;
        let expected = Usage { input: u32::MAX, cache_write_1h: 1, reasoning: 1, ..Usage::default() };
        assert_eq!(counts(odd).usage(), Some(expected));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(input: u32, cache_read: u32, cache_write in 0..1_u32 << 31, cache_write_1h in 0..1_u32 << 31,
            output in 0..1_u32 << 31, reasoning in 0..1_u32 << 31) {
            let usage = Usage { input, cache_read, cache_write, cache_write_1h, output, reasoning, ..Usage::default() };
            prop_assert_eq!(counts(&write(&usage).to_string()).usage(), Some(usage));
        }
    }
}
