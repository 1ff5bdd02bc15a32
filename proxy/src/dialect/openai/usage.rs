//! The form's usage in this dialect's words; the other way is `reply`.
//!
//! `prompt_tokens` includes what was read from a cache, written to one, and heard; `completion_tokens` what was thought and spoken.

use openclawmu_store::Usage;

use crate::dialect::json::{Json, member, object};

/// What a client is told.
pub(crate) fn write(usage: &Usage) -> Json<'static> {
    let sum = |parts: &[u32]| parts.iter().map(|part| u64::from(*part)).sum::<u64>();
    let written = sum(&[usage.cache_write, usage.cache_write_1h]);
    let prompt = sum(&[usage.input, usage.cache_read, usage.input_audio]).saturating_add(written);
    let completion = sum(&[usage.output, usage.reasoning, usage.output_audio]);
    let mut prompt_details = vec![
        member("cached_tokens", usage.cache_read),
        member("cache_write_tokens", written),
        member("audio_tokens", usage.input_audio),
    ];
    if written > 0 {
        // LiteLLM's clients look here, and for which of the two caches it was.
        let caches = object! {
            "ephemeral_5m_input_tokens": usage.cache_write,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        };
        prompt_details.push(member("cache_creation_tokens", written));
        prompt_details.push(member("cache_creation_token_details", caches));
    }
    object! {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt.saturating_add(completion),
        "prompt_tokens_details": Json::Object(prompt_details),
        "completion_tokens_details": object! {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.output_audio,
            "accepted_prediction_tokens": 0_u32,
            "rejected_prediction_tokens": 0_u32,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::form::arbitrary;
    use crate::dialect::openai::reply;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_told_is_read_as_the_same(usage in arbitrary::usage()) {
            prop_assert_eq!(reply::usage(&write(&usage).to_string()), Some(usage));
        }
    }
}
