//! Converse's `usage` as the disjoint buckets of [`Usage`].
//!
//! `inputTokens` excludes what was read from and written to a cache; `cacheDetails` divides what was written by how long it is
//! kept. `outputTokens` includes the reasoning, of which no count is given.

use openclawmu_store::Usage;
use serde::Deserialize;

/// The provider's counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Counts {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
    cache_details: Option<Vec<Detail>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Detail {
    ttl: String,
    input_tokens: u64,
}

impl Counts {
    /// The buckets; `None` when nothing is stated.
    pub(super) fn disjoint(&self) -> Option<Usage> {
        if self.input_tokens.is_none() && self.output_tokens.is_none() {
            return None;
        }
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let written = self.cache_write_input_tokens.unwrap_or(0);
        let hour = self.cache_details.iter().flatten().filter(|detail| detail.ttl == "1h");
        let hour = hour.fold(0_u64, |sum, detail| sum.saturating_add(detail.input_tokens)).min(written);
        Some(Usage {
            input: small(self.input_tokens.unwrap_or(0)),
            cache_read: small(self.cache_read_input_tokens.unwrap_or(0)),
            cache_write: small(written - hour),
            cache_write_1h: small(hour),
            output: small(self.output_tokens.unwrap_or(0)),
            ..Usage::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m_11_the_parts_of_a_usage_are_disjoint_already() {
        let json = r#"{"inputTokens":10,"outputTokens":5,"totalTokens":195,"cacheReadInputTokens":80,"cacheWriteInputTokens":100,
            "cacheDetails":[{"ttl":"1h","inputTokens":70},{"ttl":"5m","inputTokens":30}]}"#;
        let counts: Counts = serde_json::from_str(json).unwrap();
        let expected =
            Usage { input: 10, cache_read: 80, cache_write: 30, cache_write_1h: 70, output: 5, ..Usage::default() };
        assert_eq!(counts.disjoint(), Some(expected));
        assert_eq!(Counts::default().disjoint(), None);
    }
}
