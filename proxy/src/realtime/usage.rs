//! What a response of a conversation used.
//!
//! Here `input_tokens` includes what was cached, and both include text, audio and images; the buckets of [`Usage`] are disjoint.
//! Images count as ordinary prompt tokens: rate cards have no price of their own for them.

use openclawmu_store::Usage;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Raw {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    total_tokens: Option<u64>,
    #[serde(default)]
    input_token_details: Option<Input>,
    #[serde(default)]
    output_token_details: Option<Output>,
}

#[derive(Deserialize, Default)]
struct Input {
    #[serde(default)]
    audio_tokens: Option<u64>,
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    cached_tokens_details: Option<Cached>,
}

#[derive(Deserialize, Default)]
struct Cached {
    #[serde(default)]
    audio_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct Output {
    #[serde(default)]
    audio_tokens: Option<u64>,
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

/// Reads a response's `usage`; `None` when it is null, unreadable or states nothing.
pub(super) fn usage(value: &Value) -> Option<Usage> {
    let raw = Option::<Raw>::deserialize(value).ok().flatten()?;
    if raw.input_tokens.is_none() && raw.output_tokens.is_none() {
        return None;
    }
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let input = raw.input_tokens.unwrap_or(0);
    let output = raw.output_tokens.unwrap_or_else(|| raw.total_tokens.unwrap_or(input).saturating_sub(input));
    let inner = raw.input_token_details.unwrap_or_default();
    let cached = inner.cached_tokens.unwrap_or(0).min(input);
    let audio = inner.audio_tokens.unwrap_or(0).min(input);
    // Where it is not said what of the cached part was audio, text is taken first: audio costs more uncached.
    let cached_audio = match inner.cached_tokens_details.and_then(|details| details.audio_tokens) {
        Some(stated) => stated.min(cached).min(audio),
        None => cached.saturating_sub(input - audio),
    };
    let input_audio = (audio - cached_audio).min(input - cached);
    let outer = raw.output_token_details.unwrap_or_default();
    let output_audio = outer.audio_tokens.unwrap_or(0).min(output);
    let reasoning = outer.reasoning_tokens.unwrap_or(0).min(output - output_audio);
    Some(Usage {
        input: small(input - cached - input_audio),
        cache_read: small(cached),
        input_audio: small(input_audio),
        output: small(output - output_audio - reasoning),
        reasoning: small(reasoning),
        output_audio: small(output_audio),
        ..Usage::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_buckets_are_disjoint_and_whole() {
        // The example of OpenAI's reference.
        let stated = json!({
            "total_tokens": 253, "input_tokens": 132, "output_tokens": 121,
            "input_token_details": {
                "text_tokens": 119, "audio_tokens": 13, "image_tokens": 0, "cached_tokens": 64,
                "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0}
            },
            "output_token_details": {"text_tokens": 30, "audio_tokens": 91}
        });
        let expected =
            Usage { input: 55, cache_read: 64, input_audio: 13, output: 30, output_audio: 91, ..Usage::default() };
        assert_eq!(usage(&stated), Some(expected));
    }

    #[test]
    fn cached_audio_is_not_billed_as_audio_again() {
        let stated = json!({
            "input_tokens": 100, "output_tokens": 0,
            "input_token_details": {"audio_tokens": 80, "cached_tokens": 50, "cached_tokens_details": {"audio_tokens": 45}}
        });
        let expected = Usage { input: 15, cache_read: 50, input_audio: 35, ..Usage::default() };
        assert_eq!(usage(&stated), Some(expected));
    }

    #[test]
    fn images_are_prompt_tokens() {
        let stated = json!({
            "input_tokens": 100, "output_tokens": 1, "input_token_details": {"text_tokens": 10, "audio_tokens": 0, "image_tokens": 90}
        });
        assert_eq!(usage(&stated), Some(Usage { input: 100, output: 1, ..Usage::default() }));
    }

    #[test]
    fn totals_alone_are_a_usage_and_nothing_is_none() {
        assert_eq!(
            usage(&json!({"input_tokens": 3, "output_tokens": 4})),
            Some(Usage { input: 3, output: 4, ..Usage::default() })
        );
        assert_eq!(usage(&json!({"input_tokens": 3, "total_tokens": 7})).map(|usage| usage.output), Some(4));
        for none in [json!(null), json!({}), json!({"total_tokens": 3}), json!("x"), json!({"input_tokens": -1})] {
            assert_eq!(usage(&none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_stated_the_buckets_add_up(
            input in 0_u64..5_000, output in 0_u64..5_000, audio in 0_u64..6_000, cached in 0_u64..6_000,
            cached_audio in proptest::option::of(0_u64..6_000), spoken in 0_u64..6_000, reasoning in 0_u64..6_000,
        ) {
            let details = cached_audio.map(|audio| json!({"audio_tokens": audio}));
            let found = usage(&json!({
                "input_tokens": input, "output_tokens": output,
                "input_token_details": {"audio_tokens": audio, "cached_tokens": cached, "cached_tokens_details": details},
                "output_token_details": {"audio_tokens": spoken, "reasoning_tokens": reasoning}
            })).unwrap();
            prop_assert_eq!(found.prompt_tokens(), input);
            prop_assert_eq!(found.completion_tokens(), output);
        }
    }
}
