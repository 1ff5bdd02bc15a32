//! Usage in this dialect, both ways.
//!
//! `input_tokens` includes what was read from a cache and written to one; `output_tokens` what was thought.

use openclawmu_store::Usage;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Raw {
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    input_tokens_details: Option<Input>,
    #[serde(default)]
    output_tokens_details: Option<Output>,
}

#[derive(Deserialize, Default)]
struct Input {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    cache_write_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct Output {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

/// Reads a raw `usage` object; `None` when it is null or unreadable.
pub(super) fn parse(raw: &str) -> Option<Usage> {
    let raw: Raw = serde_json::from_str::<Option<Raw>>(raw).ok()??;
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let (inner, outer) = (raw.input_tokens_details.unwrap_or_default(), raw.output_tokens_details.unwrap_or_default());
    let cache_read = inner.cached_tokens.unwrap_or(0).min(raw.input_tokens);
    let cache_write = inner.cache_write_tokens.unwrap_or(0).min(raw.input_tokens - cache_read);
    let reasoning = outer.reasoning_tokens.unwrap_or(0).min(raw.output_tokens);
    Some(Usage {
        input: small(raw.input_tokens - cache_read - cache_write),
        cache_read: small(cache_read),
        cache_write: small(cache_write),
        output: small(raw.output_tokens - reasoning),
        reasoning: small(reasoning),
        ..Usage::default()
    })
}

/// What a client is told.
pub(super) fn write(usage: &Usage) -> Value {
    let sum = |parts: &[u32]| parts.iter().map(|part| u64::from(*part)).sum::<u64>();
    let written = sum(&[usage.cache_write, usage.cache_write_1h]);
    let input = sum(&[usage.input, usage.cache_read, usage.input_audio]).saturating_add(written);
    let output = sum(&[usage.output, usage.reasoning, usage.output_audio]);
    json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": input.saturating_add(output),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::form::arbitrary;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_told_is_read_as_the_same(usage in arbitrary::usage()) {
            prop_assert_eq!(parse(&write(&usage).to_string()), Some(usage));
        }
    }
}
