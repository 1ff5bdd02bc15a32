//! The public price map, on entries taken from it.

use openclawmu_store::{ModelPrice, NanoUsd, ServiceTier, Usage};
use serde_json::value::RawValue;

use crate::rate_import::{Format, ListError, PriceList, read};

/// Entries of the public map, one or more for each thing that it charges for; see the licence beside it.
const MAP: &str = include_str!("../../../tests/prices/litellm.json");

fn list(text: &str) -> Result<PriceList, ListError> {
    read(&RawValue::from_string(text.to_owned()).unwrap(), None, &[])
}

fn price(list: &PriceList, model: &str) -> ModelPrice {
    list.models.get(model).unwrap_or_else(|| panic!("{model}: {:?}", list.skipped.get(model))).clone().unwrap()
}

/// One model of the map.
fn one(fields: &str) -> Result<ModelPrice, String> {
    let list = list(&format!(r#"{{"m":{{"litellm_provider":"x","mode":"chat",{fields}}}}}"#)).unwrap();
    match list.models.get("m") {
        Some(price) => Ok(price.clone().unwrap()),
        None => Err(list.skipped["m"].clone()),
    }
}

#[test]
fn m_11_every_dimension_of_the_public_map_is_held_exactly() {
    let list = list(MAP).unwrap();
    assert_eq!(list.format, Format::Litellm);
    for (model, expected) in [
        (
            "claude-haiku-5-5",
            r#"{"input":"0.1","output":"0.5","cache_read":"0.01","cache_write":"0.125","cache_write_1h":"0.2",
                "tiers":[{"context_over":100000,"input":"0.5","output":"2.5","cache_read":"0.05","cache_write":"0.625","cache_write_1h":"1"}],
                "batch":{"input":"0.05","output":"0.25","cache_read":"0.005","cache_write":"0.0625","cache_write_1h":"0.2",
                "tiers":[{"context_over":100000,"input":"0.25","output":"1.25","cache_read":"0.025","cache_write":"0.3125","cache_write_1h":"1"}]},
                "context_tokens":1000000,"max_output_tokens":128000}"#,
        ),
        (
            "gpt-5",
            r#"{"input":"1.25","output":"10","cache_read":"0.125","batch":{"input":"0.625","output":"5","cache_read":"0.0625"},
                "flex":{"input":"0.625","output":"5","cache_read":"0.0625"},"priority":{"input":"2.5","output":"20","cache_read":"0.25"},
                "context_tokens":272000,"max_output_tokens":128000}"#,
        ),
        (
            "azure_ai/gpt-5.4",
            r#"{"input":"2.5","output":"15","cache_read":"0.25",
                "tiers":[{"context_over":272000,"input":"5","output":"22.5","cache_read":"0.5"}],
                "priority":{"input":"5","output":"30","cache_read":"0.5","tiers":[{"context_over":272000,"input":"10","output":"45","cache_read":"1"}]},
                "context_tokens":922000,"max_output_tokens":128000}"#,
        ),
        (
            "azure/gpt-audio",
            r#"{"input":"2.5","output":"10","input_audio":"40","output_audio":"80","context_tokens":128000,"max_output_tokens":16384}"#,
        ),
        (
            "dashscope/qwen-flash",
            r#"{"input":"0.05","output":"0.4","tiers":[{"context_over":256000,"input":"0.25","output":"2"}],
                "context_tokens":997952,"max_output_tokens":32768}"#,
        ),
        (
            "amazon.nova-2-multimodal-embeddings-v1:0",
            r#"{"input":"0.135","output":"0","input_image":"0.00006","input_second":"0.0007","context_tokens":8172}"#,
        ),
        ("1024-x-1024/50-steps/bedrock/amazon.nova-canvas-v1:0", r#"{"output_image":"0.06","context_tokens":2600}"#),
        ("whisper-1", r#"{"input_second":"0.0001"}"#),
        ("tts-1", r#"{"input_characters":"15"}"#),
        (
            "perplexity/pplx-70b-online",
            r#"{"input":"0","output":"2.8","per_request":"0.005","context_tokens":4096,"max_output_tokens":4096}"#,
        ),
        ("omni-moderation-latest", r#"{"input":"0","output":"0","context_tokens":32768}"#),
    ] {
        assert_eq!(price(&list, model), serde_json::from_str(expected).unwrap(), "{model}");
    }
    let long_cache = price(&list, "gpt-5.6");
    assert_eq!(long_cache.base.cache_write_1h, Some(NanoUsd(10_000_000_000)), "the longer cache is the dearer one");
}

#[test]
fn what_cannot_be_priced_is_left_out_with_its_reason() {
    let list = list(MAP).unwrap();
    for (model, reason) in [
        ("amazon.rerank-v1:0", "rerank"),
        ("openai/sora-2", "video_generation"),
        ("perplexity/sonar", "searches the web"),
        ("databricks/databricks-gpt-5-nano", "input_dbu_cost_per_token"),
        ("azure/hd/1024-x-1024/dall-e-3", "input_cost_per_pixel"),
        ("gpt-image-1", "image_token"),
        ("bedrock/us-east-1/1-month-commitment/anthropic.claude-v1", "cost_per_second"),
        ("bedrock/*/1-month-commitment/cohere.command-text-v14", "its name"),
        ("xai/grok-voice-3.0", "input_cost_per_text_message"),
    ] {
        let said = list.skipped.get(model).unwrap_or_else(|| panic!("{model} was imported"));
        assert!(said.contains(reason), "{model}: {said}");
    }
    assert!(!list.models.contains_key("sample_spec") && !list.skipped.contains_key("sample_spec"));
    let search = list.remarks.iter().find(|remark| remark.field == "search_context_cost_per_query").unwrap();
    assert!(search.models > 3 && search.reason.contains("refused"), "{search:?}");
    let rounded: Vec<_> = list.rounded.iter().map(|rounded| (rounded.model.as_str(), rounded.price)).collect();
    assert_eq!(rounded, [("azure/gpt-realtime-whisper", NanoUsd(283_334))]);
}

#[test]
fn an_unknown_charge_is_never_dropped_in_silence() {
    let tokens = r#""input_cost_per_token":1e-06,"output_cost_per_token":2e-06"#;
    assert!(one(tokens).is_ok());
    for unknown in
        ["\"input_cost_per_hologram\":0.1", "\"new_surcharge\":{\"a\":1}", "\"output_cost_per_token_over_5\":1e-6"]
    {
        assert!(one(&format!("{tokens},{unknown}")).is_err(), "{unknown}");
    }
    assert!(one(&format!(r#"{tokens},"input_cost_per_hologram":0.0"#)).is_ok());
    let refused = one(&format!(r#"{tokens},"input_cost_per_token_ultrafast":1e-05"#)).unwrap();
    assert_eq!(refused.base.input, Some(NanoUsd(1_000_000_000)));
}

#[test]
fn q_13_a_model_is_free_only_where_the_map_says_so_on_both_sides() {
    for (fields, free) in [
        (r#""input_cost_per_token":0,"output_cost_per_token":0.0"#, true),
        (r#""input_cost_per_token":0.0"#, false),
        (r#""output_cost_per_token":0.0"#, false),
        (r#""input_cost_per_token":1e-06"#, false),
        (r#""max_input_tokens":8000"#, false),
        (r#""input_cost_per_token":null,"output_cost_per_token":1e-06"#, false),
        (r#""input_cost_per_token":-1e-06,"output_cost_per_token":1e-06"#, false),
        (r#""input_cost_per_token":"1e-06","output_cost_per_token":1e-06"#, false),
    ] {
        assert_eq!(one(fields).is_ok(), free, "{fields}");
    }
}

#[test]
fn a_part_without_a_price_at_a_tier_follows_the_whole_there() {
    let price =
        one(r#""input_cost_per_token":3e-07,"output_cost_per_token":2.5e-06,"output_cost_per_reasoning_token":2.5e-06,
           "input_cost_per_token_priority":5.4e-07,"output_cost_per_token_priority":4.5e-06"#)
        .unwrap();
    let usage = Usage { reasoning: 1_000_000, ..Usage::default() };
    assert_eq!(price.cost(&usage, ServiceTier::Standard), NanoUsd(2_500_000_000));
    assert_eq!(price.cost(&usage, ServiceTier::Priority), NanoUsd(4_500_000_000));
}

#[test]
fn the_format_is_told_by_its_shape_and_only_narrows_it() {
    let own = r#"{"effective_from":"2026-11-01T00:00:00Z","models":{"a":{"input":"1"},"b":null,"c-1":{"input":"2"}}}"#;
    let all = list(own).unwrap();
    assert_eq!((all.format, all.models.len(), all.effective_from.is_some()), (Format::Openclawmu, 3, true));
    let raw = RawValue::from_string(own.to_owned()).unwrap();
    let some = read(&raw, None, &["b".to_owned(), "c-*".to_owned()]).unwrap();
    assert_eq!(some.models.keys().collect::<Vec<_>>(), ["b", "c-1"]);
    for bad in ["{}", "[]", "1", r#"{"gpt-4o":{"price":"1"}}"#] {
        assert_eq!(list(bad).unwrap_err(), ListError::Unknown, "{bad}");
    }
    assert!(matches!(list(r#"{"models":{"a":{"input":1.5}}}"#), Err(ListError::Malformed(_))));
    assert!(matches!(read(&raw, Some(Format::Litellm), &[]), Ok(list) if list.models.is_empty()));
}
