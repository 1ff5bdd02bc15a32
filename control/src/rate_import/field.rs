//! What each field of `LiteLLM`'s public price map means: its name is a thing that is billed, perhaps the size of the prompt
//! from which on it counts, perhaps a service tier.

use openclawmu_store::{NanoUsd, Prices, ServiceTier};

use crate::rate_import::amount::Unit;

/// A place in [`Prices`].
pub(super) type Slot = fn(&mut Prices) -> &mut Option<NanoUsd>;

/// Every place.
pub(super) const SLOTS: [Slot; 14] = [
    |prices| &mut prices.input,
    |prices| &mut prices.output,
    |prices| &mut prices.cache_read,
    |prices| &mut prices.cache_write,
    |prices| &mut prices.cache_write_1h,
    |prices| &mut prices.reasoning,
    |prices| &mut prices.input_audio,
    |prices| &mut prices.output_audio,
    |prices| &mut prices.input_characters,
    |prices| &mut prices.output_characters,
    |prices| &mut prices.input_image,
    |prices| &mut prices.output_image,
    |prices| &mut prices.input_second,
    |prices| &mut prices.output_second,
];

/// What a field charges for.
#[derive(Clone, Copy)]
pub(super) enum Meaning {
    /// A price that is held.
    Price(Slot, Unit),
    /// A fee for each request.
    Request,
    /// A kind of token that has no price of its own here: the same price is no loss, another one can't be held.
    Like(Slot),
    /// The same, of tokens that no answer tells apart.
    Near(Slot, &'static str),
    /// Charged only for what the gateway refuses or a request can't ask for.
    Option(&'static str),
    /// Something that can't be metered.
    Unknown,
}

/// A field's name taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// The thing that is billed.
    pub(super) thing: &'a str,
    /// Prompts of more tokens than this.
    pub(super) over: Option<u64>,
    /// The service tier; `None` for one that the gateway refuses.
    pub(super) service: Option<ServiceTier>,
}

/// Takes a name apart.
pub(super) fn parse(name: &str) -> Field<'_> {
    let tiers = [
        ("_batches", Some(ServiceTier::Batch)),
        ("_flex", Some(ServiceTier::Flex)),
        ("_priority", Some(ServiceTier::Priority)),
        ("_ultrafast", None),
        ("_balanced", None),
        ("_decisions", None),
    ];
    let (rest, service) = tiers
        .iter()
        .find_map(|(suffix, tier)| Some((name.strip_suffix(suffix)?, *tier)))
        .unwrap_or((name, Some(ServiceTier::Standard)));
    let bounded = rest.strip_suffix("k_tokens").and_then(|rest| rest.rsplit_once("_above_"));
    let bounded =
        bounded.and_then(|(thing, thousands)| Some((thing, thousands.parse::<u64>().ok()?.checked_mul(1000)?)));
    let (thing, over) = bounded.map_or((rest, None), |(thing, over)| (thing, Some(over)));
    Field { thing, over, service }
}

/// Whether a field states money at all.
pub(super) fn is_money(name: &str) -> bool {
    ["cost", "pric", "multiplier", "provider_specific_entry", "surcharge", "_fee"]
        .iter()
        .any(|word| name.contains(word))
        && name != "source"
}

/// What a thing is billed as.
pub(super) fn meaning(thing: &str) -> Meaning {
    use Meaning::{Like, Near, Option, Price, Request, Unknown};
    match thing {
        "input_cost_per_token" => Price(|prices| &mut prices.input, Unit::Token),
        "output_cost_per_token" => Price(|prices| &mut prices.output, Unit::Token),
        "cache_read_input_token_cost" | "input_cost_per_token_cache_hit" => {
            Price(|prices| &mut prices.cache_read, Unit::Token)
        }
        "cache_creation_input_token_cost" => Price(|prices| &mut prices.cache_write, Unit::Token),
        // The longer of two caches, whichever its length: the dearer one bounds what a write can cost.
        "cache_creation_input_token_cost_above_1hr" | "cache_creation_input_token_cost_above_12hr" => {
            Price(|prices| &mut prices.cache_write_1h, Unit::Token)
        }
        "output_cost_per_reasoning_token" => Price(|prices| &mut prices.reasoning, Unit::Token),
        "input_cost_per_audio_token" => Price(|prices| &mut prices.input_audio, Unit::Token),
        "output_cost_per_audio_token" => Price(|prices| &mut prices.output_audio, Unit::Token),
        "input_cost_per_character" => Price(|prices| &mut prices.input_characters, Unit::Token),
        "output_cost_per_character" => Price(|prices| &mut prices.output_characters, Unit::Token),
        "input_cost_per_image" => Price(|prices| &mut prices.input_image, Unit::Piece),
        "output_cost_per_image" => Price(|prices| &mut prices.output_image, Unit::Piece),
        "input_cost_per_second" | "input_cost_per_audio_per_second" | "input_cost_per_video_per_second" => {
            Price(|prices| &mut prices.input_second, Unit::Piece)
        }
        "output_cost_per_second" | "output_cost_per_video_per_second" => {
            Price(|prices| &mut prices.output_second, Unit::Piece)
        }
        "input_cost_per_request" | "input_cost_per_query" => Request,
        "input_cost_per_image_token" | "input_cost_per_video_token" => Like(|prices| &mut prices.input),
        "output_cost_per_image_token" | "output_cost_per_video_token" => Like(|prices| &mut prices.output),
        "cache_read_input_image_token_cost" => Like(|prices| &mut prices.cache_read),
        "cache_creation_input_audio_token_cost" => Like(|prices| &mut prices.cache_write),
        "cache_read_input_audio_token_cost" => Near(
            |prices| &mut prices.cache_read,
            "cached audio is billed as other cached tokens: answers don't tell it apart",
        ),
        "explicit_cache_read_input_token_cost" => Near(
            |prices| &mut prices.cache_read,
            "explicitly cached tokens are billed as other cached tokens: answers don't tell them apart",
        ),
        "search_context_cost_per_query" => Option("charged for web search, which is refused"),
        "google_maps_grounding_cost_per_query" => Option("charged for grounding with maps, which no route offers"),
        "code_interpreter_cost_per_session"
        | "computer_use_input_cost_per_1k_tokens"
        | "computer_use_output_cost_per_1k_tokens"
        | "file_search_cost_per_1k_calls"
        | "file_search_cost_per_gb_per_day"
        | "vector_store_cost_per_gb_per_day" => Option("charged for a provider's own tool, which no route offers"),
        "provider_specific_entry"
        | "regional_endpoint_uplift_multiplier"
        | "regional_processing_uplift_multiplier_us"
        | "regional_processing_uplift_multiplier_eu" => Option(
            "charged at a provider's regional or faster endpoint: price `<upstream>/<model>` for an upstream that uses one",
        ),
        _ => Unknown,
    }
}
