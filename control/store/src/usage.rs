//! What one attempt consumed, in disjoint buckets. The dialects translate each provider's convention into these.

use serde::{Deserialize, Serialize};

/// Token counts of one attempt. The buckets are disjoint: `input` is what was neither read from nor written to a
/// cache, `output` what was neither reasoning nor audio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Uncached prompt tokens.
    pub input: u32,
    /// Prompt tokens read from the provider's cache.
    pub cache_read: u32,
    /// Prompt tokens written to the provider's 5-minute cache.
    pub cache_write: u32,
    /// Prompt tokens written to the provider's 1-hour cache.
    pub cache_write_1h: u32,
    /// Visible text tokens of the answer.
    pub output: u32,
    /// Reasoning tokens of the answer.
    pub reasoning: u32,
    /// Audio tokens of the prompt.
    pub input_audio: u32,
    /// Audio tokens of the answer.
    pub output_audio: u32,
    /// Tool calls that the model made.
    pub tool_calls: u32,
}

impl Usage {
    /// Every count, in the order of the fields: the form of fixed size.
    #[must_use]
    pub fn counts(&self) -> [u32; 9] {
        let Self {
            input,
            cache_read,
            cache_write,
            cache_write_1h,
            output,
            reasoning,
            input_audio,
            output_audio,
            tool_calls,
        } = *self;
        [input, cache_read, cache_write, cache_write_1h, output, reasoning, input_audio, output_audio, tool_calls]
    }

    /// The usage whose [`Usage::counts`] these are.
    #[must_use]
    pub fn from_counts(counts: [u32; 9]) -> Self {
        let [input, cache_read, cache_write, cache_write_1h, output, reasoning, input_audio, output_audio, tool_calls] =
            counts;
        Self {
            input,
            cache_read,
            cache_write,
            cache_write_1h,
            output,
            reasoning,
            input_audio,
            output_audio,
            tool_calls,
        }
    }

    /// All prompt tokens; decides which context tier applies.
    #[must_use]
    pub fn prompt_tokens(&self) -> u64 {
        [self.input, self.cache_read, self.cache_write, self.cache_write_1h, self.input_audio]
            .iter()
            .map(|&n| u64::from(n))
            .sum()
    }

    /// All tokens of the answer.
    #[must_use]
    pub fn completion_tokens(&self) -> u64 {
        [self.output, self.reasoning, self.output_audio].iter().map(|&n| u64::from(n)).sum()
    }

    /// Everything that counts against a token quota.
    #[must_use]
    pub fn total_tokens(&self) -> u64 {
        self.prompt_tokens() + self.completion_tokens()
    }
}
