//! The form's usage in this dialect's words; the other way is `reply`.
//!
//! `prompt_tokens` includes what was read from a cache, written to one, and heard; `completion_tokens` what was thought and spoken.

use openclawmu_store::Usage;
use serde_json::{Value, json};

/// What a client is told.
pub(crate) fn write(usage: &Usage) -> Value {
    let sum = |parts: &[u32]| parts.iter().map(|part| u64::from(*part)).sum::<u64>();
    let written = sum(&[usage.cache_write, usage.cache_write_1h]);
    let prompt = sum(&[usage.input, usage.cache_read, usage.input_audio]).saturating_add(written);
    let completion = sum(&[usage.output, usage.reasoning, usage.output_audio]);
    let mut told = json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt.saturating_add(completion),
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": written,
            "audio_tokens": usage.input_audio,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.output_audio,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    });
    if written > 0
        && let Some(details) = told.get_mut("prompt_tokens_details").and_then(Value::as_object_mut)
    {
        // LiteLLM's clients look here, and for which of the two caches it was.
        details.insert("cache_creation_tokens".into(), written.into());
        let caches = json!({
            "ephemeral_5m_input_tokens": usage.cache_write,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        });
        details.insert("cache_creation_token_details".into(), caches);
    }
    told
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
