//! Google's `usageMetadata` and the disjoint buckets of [`Usage`].
//!
//! `promptTokenCount` includes the cached part, and audio by its modality; `toolUsePromptTokenCount` comes on top of it.
//! `candidatesTokenCount` excludes `thoughtsTokenCount`, except on those servers where the total shows that it doesn't.

use openclawmu_store::Usage;
use serde::{Deserialize, Serialize};

/// The provider's counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_content_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thoughts_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_use_prompt_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<Vec<Detail>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_tokens_details: Option<Vec<Detail>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates_tokens_details: Option<Vec<Detail>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_use_prompt_tokens_details: Option<Vec<Detail>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Detail {
    modality: String,
    token_count: u64,
}

fn audio(details: Option<&Vec<Detail>>) -> u64 {
    let sound = |detail: &&Detail| detail.modality == "AUDIO";
    details.into_iter().flatten().filter(sound).fold(0, |sum, detail| sum.saturating_add(detail.token_count))
}

impl Metadata {
    /// The counts as disjoint buckets; `None` when it states none.
    pub(super) fn disjoint(&self) -> Option<Usage> {
        if self.prompt_token_count.is_none()
            && self.candidates_token_count.is_none()
            && self.total_token_count.is_none()
        {
            return None;
        }
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let tools = self.tool_use_prompt_token_count.unwrap_or(0);
        let prompt = self.prompt_token_count.unwrap_or(0).saturating_add(tools);
        let thoughts = self.thoughts_token_count.unwrap_or(0);
        let candidates = self.candidates(prompt, thoughts);
        let cache_read = self.cached_content_token_count.unwrap_or(0).min(prompt);
        let heard = audio(self.prompt_tokens_details.as_ref())
            .saturating_add(audio(self.tool_use_prompt_tokens_details.as_ref()))
            .saturating_sub(audio(self.cache_tokens_details.as_ref()));
        let input_audio = heard.min(prompt - cache_read);
        let output_audio = audio(self.candidates_tokens_details.as_ref()).min(candidates);
        Some(Usage {
            input: small(prompt - cache_read - input_audio),
            cache_read: small(cache_read),
            output: small(candidates - output_audio),
            reasoning: small(thoughts),
            input_audio: small(input_audio),
            output_audio: small(output_audio),
            ..Usage::default()
        })
    }

    /// The answer's tokens without the thoughts.
    fn candidates(&self, prompt: u64, thoughts: u64) -> u64 {
        match (self.candidates_token_count, self.total_token_count) {
            (Some(candidates), Some(total)) if thoughts > 0 && prompt.checked_add(candidates) == Some(total) => {
                candidates.saturating_sub(thoughts)
            }
            (Some(candidates), _) => candidates,
            (None, Some(total)) => total.saturating_sub(prompt).saturating_sub(thoughts),
            (None, None) => 0,
        }
    }

    /// The buckets in Google's words. What was written to a cache is part of the prompt here.
    pub(super) fn of(usage: &Usage) -> Self {
        let sum = |counts: &[u32]| counts.iter().map(|&count| u64::from(count)).sum::<u64>();
        let some = |count: u32| (count > 0).then(|| u64::from(count));
        let text = sum(&[usage.input, usage.cache_read, usage.cache_write, usage.cache_write_1h]);
        let details = |text: u64, audio: u32| {
            let detail = |modality: &str, token_count| Detail { modality: modality.to_owned(), token_count };
            (audio > 0).then(|| vec![detail("TEXT", text), detail("AUDIO", u64::from(audio))])
        };
        let prompt = text + u64::from(usage.input_audio);
        let candidates = sum(&[usage.output, usage.output_audio]);
        Self {
            prompt_token_count: Some(prompt),
            candidates_token_count: Some(candidates),
            total_token_count: Some(prompt + candidates + u64::from(usage.reasoning)),
            cached_content_token_count: some(usage.cache_read),
            thoughts_token_count: some(usage.reasoning),
            prompt_tokens_details: details(text, usage.input_audio),
            candidates_tokens_details: details(u64::from(usage.output), usage.output_audio),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> Option<Usage> {
        serde_json::from_str::<Metadata>(json).unwrap().disjoint()
    }

    #[test]
    fn m_11_the_parts_of_a_usage_are_made_disjoint() {
        let json = r#"{"promptTokenCount":100,"cachedContentTokenCount":60,"candidatesTokenCount":20,"thoughtsTokenCount":30,
            "toolUsePromptTokenCount":7,"totalTokenCount":157,"trafficType":"ON_DEMAND",
            "promptTokensDetails":[{"modality":"TEXT","tokenCount":85},{"modality":"AUDIO","tokenCount":15}],
            "cacheTokensDetails":[{"modality":"TEXT","tokenCount":55},{"modality":"AUDIO","tokenCount":5}],
            "candidatesTokensDetails":[{"modality":"AUDIO","tokenCount":8},{"modality":"TEXT","tokenCount":12}]}"#;
        let expected = Usage {
            input: 37,
            cache_read: 60,
            input_audio: 10,
            output: 12,
            output_audio: 8,
            reasoning: 30,
            ..Usage::default()
        };
        assert_eq!(read(json), Some(expected));
    }

    #[test]
    fn m_11_thoughts_that_the_candidates_include_are_counted_once() {
        let json = r#"{"promptTokenCount":10,"candidatesTokenCount":50,"thoughtsTokenCount":30,"totalTokenCount":60}"#;
        assert_eq!(read(json), Some(Usage { input: 10, output: 20, reasoning: 30, ..Usage::default() }));
        let json = r#"{"promptTokenCount":10,"thoughtsTokenCount":30,"totalTokenCount":60}"#;
        assert_eq!(read(json), Some(Usage { input: 10, output: 20, reasoning: 30, ..Usage::default() }));
    }

    #[test]
    fn m_06_what_states_no_count_states_no_usage() {
        assert_eq!(read(r#"{"trafficType":"ON_DEMAND"}"#), None);
    }

    #[test]
    fn counts_that_contradict_each_other_never_underflow() {
        let json = r#"{"promptTokenCount":5,"cachedContentTokenCount":9,"candidatesTokenCount":1,
            "promptTokensDetails":[{"modality":"AUDIO","tokenCount":7}],"candidatesTokensDetails":[{"modality":"AUDIO","tokenCount":7}]}"#;
        assert_eq!(read(json), Some(Usage { cache_read: 5, output_audio: 1, ..Usage::default() }));
        let most =
            format!(r#"{{"promptTokenCount":{0},"toolUsePromptTokenCount":{0},"totalTokenCount":{0}}}"#, u64::MAX);
        assert_eq!(read(&most).unwrap().input, u32::MAX);
    }

    proptest! {
        #[test]
        fn a_usage_goes_out_and_comes_back(counts: [u16; 6]) {
            let [input, cache_read, output, reasoning, input_audio, output_audio] = counts.map(u32::from);
            let usage = Usage { input, cache_read, output, reasoning, input_audio, output_audio, ..Usage::default() };
            let json = serde_json::to_string(&Metadata::of(&usage)).unwrap();
            prop_assert_eq!(read(&json), Some(usage));
        }
    }
}
