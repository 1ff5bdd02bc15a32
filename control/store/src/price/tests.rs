//! Prices: goldens, and the bound that no cost may pass.

use proptest::prelude::*;

use super::{Bound, ModelPrice, Prices, ServicePrices, Tier};
use crate::money::NanoUsd;
use crate::usage::{ServiceTier, Usage};

fn price(json: &str) -> ModelPrice {
    serde_json::from_str(json).unwrap()
}

#[test]
fn m_11_every_bucket_has_its_own_rate_goldens() {
    let claude = price(r#"{"input":"3","output":"15","cache_read":"0.3","cache_write":"3.75"}"#);
    let usage = Usage { input: 3, cache_write: 12_304, output: 550, ..Usage::default() };
    assert_eq!(claude.cost(&usage, ServiceTier::Standard).to_string(), "0.054399000");

    let glm = price(r#"{"input":"1.4","output":"4.4","cache_read":"0.26"}"#);
    let usage = Usage { input: 1, cache_read: 27_146, output: 351, ..Usage::default() };
    assert_eq!(glm.cost(&usage, ServiceTier::Standard).to_string(), "0.008603760");
    let usage = Usage { input: 44_341 - 41_518, cache_read: 41_518, ..Usage::default() };
    assert_eq!(glm.cost(&usage, ServiceTier::Standard).to_string(), "0.014746880");
}

#[test]
fn a_tier_prices_the_whole_request() {
    let gemini =
        price(r#"{"input":"1.25","output":"10","tiers":[{"context_over":200000,"input":"2.5","output":"15"}]}"#);
    assert_eq!(
        gemini.cost(&Usage { input: 200_000, output: 10, ..Usage::default() }, ServiceTier::Standard),
        NanoUsd(250_100_000)
    );
    assert_eq!(
        gemini.cost(&Usage { input: 200_001, output: 10, ..Usage::default() }, ServiceTier::Standard),
        NanoUsd(500_152_500)
    );
}

const USD: i64 = 1_000_000_000;

#[test]
fn images_seconds_and_characters_are_billed_by_the_piece_goldens() {
    let standard = |price: &ModelPrice, usage: Usage| price.cost(&usage, ServiceTier::Standard).to_string();
    let painter = price(r#"{"input":"0.3","output":"2.5","input_image":"0.001315","output_image":"0.039"}"#);
    assert_eq!(
        standard(&painter, Usage { input: 7, input_images: 2, output_images: 3, ..Usage::default() }),
        "0.119632100"
    );
    let whisper = price(r#"{"input_second":"0.0001"}"#);
    assert_eq!(standard(&whisper, Usage { input_ms: 61_500, ..Usage::default() }), "0.006150000");
    assert_eq!(standard(&whisper, Usage { input_ms: 1, ..Usage::default() }), "0.000000100");
    let drawn = price(r#"{"input":"5","output":"30","input_image_tokens":"10","output_image_tokens":"40"}"#);
    assert_eq!(
        standard(
            &drawn,
            Usage { input: 50, input_image_tokens: 194, output: 7, output_image_tokens: 1056, ..Usage::default() }
        ),
        "0.044640000"
    );
    let drawn = price(r#"{"input":"5","output":"40"}"#);
    assert_eq!(
        standard(&drawn, Usage { input_image_tokens: 200, output_image_tokens: 100, ..Usage::default() }),
        "0.005000000"
    );
    let speech = price(r#"{"input_characters":"15","output_second":"0.00025"}"#);
    assert_eq!(
        standard(&speech, Usage { input_characters: 1_234, output_ms: 2_000, ..Usage::default() }),
        "0.019010000"
    );
    let sub_nano = price(r#"{"input_characters":"0.0005","output_characters":"0.0005"}"#);
    assert_eq!(standard(&sub_nano, Usage { input_characters: 1, ..Usage::default() }), "0.000000001");
    assert_eq!(
        standard(&sub_nano, Usage { input_characters: 1, output_characters: 2, ..Usage::default() }),
        "0.000000002"
    );
}

#[test]
fn a_service_tier_has_prices_and_context_tiers_of_its_own_goldens() {
    let price = price(
        r#"{"input":"1.25","output":"10","cache_read":"0.125","per_request":"0.01",
            "tiers":[{"context_over":200000,"input":"2.5","output":"15"}],
            "batch":{"input":"0.625","output":"5","tiers":[{"context_over":100000,"input":"1","output":"6"}]},
            "priority":{"input":"2.5","output":"20","cache_read":"0.25"}}"#,
    );
    price.check().unwrap();
    let short = Usage { input: 1_000, cache_read: 500, output: 100, ..Usage::default() };
    let long = Usage { input: 150_000, ..Usage::default() };
    for (tier, of_short, of_long) in [
        (ServiceTier::Standard, "0.012312500", "0.197500000"),
        (ServiceTier::Batch, "0.011437500", "0.160000000"),
        (ServiceTier::Flex, "0.012312500", "0.197500000"),
        (ServiceTier::Priority, "0.014625000", "0.385000000"),
    ] {
        assert_eq!(price.cost(&short, tier).to_string(), of_short, "{tier:?}");
        assert_eq!(price.cost(&long, tier).to_string(), of_long, "{tier:?}");
    }
    assert!(price.lists(ServiceTier::Batch) && price.lists(ServiceTier::Priority));
    assert!(!price.lists(ServiceTier::Flex) && !price.lists(ServiceTier::Standard));
    let bound = Bound { input_tokens: 1_000, output_tokens: 100, ..Bound::default() };
    assert_eq!(price.upper_bound(bound, ServiceTier::Batch), price.upper_bound(bound, ServiceTier::Standard));
    assert_eq!(price.upper_bound(bound, ServiceTier::Priority), NanoUsd(14_500_000));
}

#[test]
fn an_unknown_field_or_a_float_is_refused() {
    for bad in [
        r#"{"input":"1","imput":"2"}"#,
        r#"{"input":1.5}"#,
        r#"{"input":"1","tiers":[{"context_over":1,"input":"1","imput":"2"}]}"#,
        r#"{"input":"1","flex":{"input":"1","per_request":"2"}}"#,
        r#"{"input":"1","flex":{"input":"1","flex":{"input":"1"}}}"#,
    ] {
        assert!(serde_json::from_str::<ModelPrice>(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_price_that_leaves_something_free_by_omission_is_refused() {
    for (bad, field) in [
        (r#"{}"#, "prices nothing"),
        (r#"{"context_tokens":8000}"#, "prices nothing"),
        (r#"{"output":"1"}"#, "`input`"),
        (r#"{"input_image":"0.1","cache_read":"1"}"#, "`input`"),
        (r#"{"input":"-1"}"#, "`input`"),
        (r#"{"input":"1","per_request":"-1"}"#, "`per_request`"),
        (r#"{"input":"1","batch":{"input":"1","output_second":"-1"}}"#, "`batch.output_second`"),
        (r#"{"input":"1","output":"2","flex":{"input":"1"}}"#, "`flex.output`"),
        (r#"{"input":"1","output_image":"2","tiers":[{"context_over":9,"input":"1"}]}"#, "`tiers[0].output_image`"),
        (
            r#"{"input":"1","priority":{"input":"1","output":"2","tiers":[{"context_over":9,"input":"1"}]}}"#,
            "`priority.tiers[0].output`",
        ),
        (r#"{"input":"1","tiers":[{"context_over":9,"input":"1"},{"context_over":9,"input":"2"}]}"#, "twice"),
    ] {
        let message = price(bad).check().unwrap_err();
        assert!(message.contains(field), "{bad}: {message}");
    }
    for good in
        [r#"{"input":"0"}"#, r#"{"per_request":"0.01"}"#, r#"{"input_second":"0.1","flex":{"input_second":"0"}}"#]
    {
        price(good).check().unwrap();
    }
}

#[test]
fn what_an_earlier_release_stored_is_read_as_before() {
    let stored = r#"{"input":"1.000000000","output":"2.000000000","cache_read":"0.100000000","per_request":"0.010000000","tiers":[{"context_over":5,"input":"3.000000000"}],"context_tokens":9}"#;
    let old = price(stored);
    assert_eq!((old.base.input, old.tiers.len()), (Some(NanoUsd(USD)), 1));
    assert_eq!(serde_json::to_string(&old).unwrap(), stored);
}

fn any_prices() -> BoxedStrategy<Prices> {
    let price = proptest::option::of((0..200 * USD).prop_map(NanoUsd));
    let prices = proptest::collection::vec(price, 16).prop_map(|n| Prices {
        input: n[0],
        output: n[1],
        cache_read: n[2],
        cache_write: n[3],
        cache_write_1h: n[4],
        reasoning: n[5],
        input_audio: n[6],
        output_audio: n[7],
        input_characters: n[8],
        output_characters: n[9],
        input_image: n[10],
        output_image: n[11],
        input_second: n[12],
        output_second: n[13],
        input_image_tokens: n[14],
        output_image_tokens: n[15],
    });
    prices.boxed()
}

fn any_tiers() -> BoxedStrategy<Vec<Tier>> {
    let tier = (0..300_000_u64, any_prices()).prop_map(|(context_over, prices)| Tier { context_over, prices });
    proptest::collection::vec(tier, 0..3).boxed()
}

fn any_service() -> BoxedStrategy<Option<Box<ServicePrices>>> {
    proptest::option::of((any_prices(), any_tiers()).prop_map(|(base, tiers)| Box::new(ServicePrices { base, tiers })))
        .boxed()
}

fn any_price() -> BoxedStrategy<ModelPrice> {
    let services = [any_service(), any_service(), any_service()];
    let fee = proptest::option::of((0..200 * USD).prop_map(NanoUsd));
    (any_prices(), any_tiers(), fee, services)
        .prop_map(|(base, tiers, per_request, [batch, flex, priority])| ModelPrice {
            base,
            tiers,
            per_request,
            batch,
            flex,
            priority,
            ..ModelPrice::default()
        })
        .boxed()
}

fn any_tier() -> impl Strategy<Value = ServiceTier> {
    prop_oneof![
        Just(ServiceTier::Standard),
        Just(ServiceTier::Batch),
        Just(ServiceTier::Flex),
        Just(ServiceTier::Priority)
    ]
}

proptest! {
    #[test]
    fn the_cost_never_passes_the_upper_bound(
        price in any_price(),
        n in proptest::array::uniform16(0..100_000_u32),
        more in proptest::array::uniform8(0..1000_u32),
        asked in any_tier(),
        downgraded: bool,
    ) {
        let usage = Usage {
            input: n[0], cache_read: n[1], cache_write: n[2], cache_write_1h: n[3], input_audio: n[4],
            output: n[5], reasoning: n[6], output_audio: n[7], input_images: n[8], output_images: n[9],
            input_characters: n[10], output_characters: n[11], input_ms: n[12], output_ms: n[13],
            input_image_tokens: n[14], output_image_tokens: n[15], ..Usage::default()
        };
        let bound = Bound {
            input_tokens: u32::try_from(usage.prompt_tokens()).unwrap() + more[0],
            output_tokens: u32::try_from(usage.completion_tokens()).unwrap() + more[1],
            input_images: n[8] + more[2],
            output_images: n[9] + more[3],
            input_characters: n[10] + more[4],
            output_characters: n[11] + more[5],
            input_ms: n[12] + more[6],
            output_ms: n[13] + more[7],
        };
        let billed = if downgraded { ServiceTier::Standard } else { asked };
        prop_assert!(price.cost(&usage, billed) <= price.upper_bound(bound, asked));
    }

    #[test]
    fn affordable_output_fits_the_budget(
        price in any_price(),
        input_tokens in 0..400_000_u32,
        (input_images, output_tokens) in (0..9_u32, 0..9_u32),
        budget in 0..2_000 * USD,
        tier in any_tier(),
    ) {
        let bound = Bound { input_tokens, input_images, output_tokens, ..Bound::default() };
        let affordable = price.affordable_output(NanoUsd(budget), bound, tier);
        if affordable > 0 && affordable < u32::MAX {
            let bound = Bound { output_tokens: affordable, ..bound };
            prop_assert!(price.upper_bound(bound, tier) <= NanoUsd(budget));
        }
    }

    #[test]
    fn any_price_is_stored_and_read_as_it_is(price in any_price()) {
        let stored = serde_json::to_string(&price).unwrap();
        prop_assert_eq!(serde_json::from_str::<ModelPrice>(&stored).unwrap(), price);
    }
}
