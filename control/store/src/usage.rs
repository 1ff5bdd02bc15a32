//! What one attempt consumed, in disjoint buckets. The dialects translate each provider's convention into these.

use serde::{Deserialize, Serialize};

/// Token counts of one attempt. The buckets are disjoint: `input` is what was neither read from nor written to a
/// cache nor audio nor image, `output` what was neither reasoning, audio nor image.
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
    /// Images of the prompt, where they are billed by the piece.
    pub input_images: u32,
    /// Images of the answer, where they are billed by the piece.
    pub output_images: u32,
    /// Characters of the prompt, where they are billed instead of tokens.
    pub input_characters: u32,
    /// Characters of the answer, where they are billed instead of tokens.
    pub output_characters: u32,
    /// Milliseconds of audio or video of the prompt, where they are billed by time; of a run in the sandbox, its whole
    /// seconds.
    pub input_ms: u32,
    /// Milliseconds of audio or video of the answer, where they are billed by time.
    pub output_ms: u32,
    /// Image tokens of the prompt, where the provider tells them apart.
    pub input_image_tokens: u32,
    /// Image tokens of the answer, where the provider tells them apart.
    pub output_image_tokens: u32,
}

/// At which of its speeds a provider served an attempt, where each has prices of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceTier {
    /// The ordinary one.
    #[default]
    Standard,
    /// Within a day, in a batch.
    Batch,
    /// Slower and cheaper.
    Flex,
    /// Faster and dearer.
    Priority,
}

impl ServiceTier {
    /// Every tier with its name in the ledger and its number in the in-flight table.
    const ALL: [(Self, &'static str, u8); 4] = [
        (Self::Standard, "standard", 0),
        (Self::Batch, "batch", 1),
        (Self::Flex, "flex", 2),
        (Self::Priority, "priority", 3),
    ];

    /// The name in the ledger and in rate cards.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(tier, ..)| *tier == self).map_or("", |(_, name, _)| name)
    }

    pub(crate) fn code(self) -> u8 {
        Self::ALL.iter().find(|(tier, ..)| *tier == self).map_or(0, |(.., code)| *code)
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().find(|(.., known)| *known == code).map(|(tier, ..)| *tier)
    }
}

impl Usage {
    /// How many counts there are.
    pub const COUNTS: usize = 17;

    /// Every count, in the order of the fields: the form of fixed size.
    #[must_use]
    pub fn counts(&self) -> [u32; Self::COUNTS] {
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
            input_images,
            output_images,
            input_characters,
            output_characters,
            input_ms,
            output_ms,
            input_image_tokens,
            output_image_tokens,
        } = *self;
        [
            input,
            cache_read,
            cache_write,
            cache_write_1h,
            output,
            reasoning,
            input_audio,
            output_audio,
            tool_calls,
            input_images,
            output_images,
            input_characters,
            output_characters,
            input_ms,
            output_ms,
            input_image_tokens,
            output_image_tokens,
        ]
    }

    /// The usage whose [`Usage::counts`] these are.
    #[must_use]
    pub fn from_counts(counts: [u32; Self::COUNTS]) -> Self {
        let [
            input,
            cache_read,
            cache_write,
            cache_write_1h,
            output,
            reasoning,
            input_audio,
            output_audio,
            tool_calls,
            input_images,
            output_images,
            input_characters,
            output_characters,
            input_ms,
            output_ms,
            input_image_tokens,
            output_image_tokens,
        ] = counts;
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
            input_images,
            output_images,
            input_characters,
            output_characters,
            input_ms,
            output_ms,
            input_image_tokens,
            output_image_tokens,
        }
    }

    /// All prompt tokens; decides which context tier applies.
    #[must_use]
    pub fn prompt_tokens(&self) -> u64 {
        let cached = [self.cache_read, self.cache_write, self.cache_write_1h];
        let fresh = [self.input, self.input_audio, self.input_image_tokens];
        cached.iter().chain(&fresh).map(|&n| u64::from(n)).sum()
    }

    /// All tokens of the answer.
    #[must_use]
    pub fn completion_tokens(&self) -> u64 {
        [self.output, self.reasoning, self.output_audio, self.output_image_tokens].iter().map(|&n| u64::from(n)).sum()
    }

    /// Everything that counts against a token quota.
    #[must_use]
    pub fn total_tokens(&self) -> u64 {
        self.prompt_tokens() + self.completion_tokens()
    }
}
