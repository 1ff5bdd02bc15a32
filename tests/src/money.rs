//! Money as whole nano-dollars, and the test's own price list: what a request must cost, worked out apart from the gateway.
//!
//! Never a float: decimals are read digit by digit.

use serde_json::{Map, Value, json};

use crate::upstream::Bill;

/// Nano-dollars of a decimal string such as `"0.054399000"`; panics on anything else.
#[must_use]
pub fn nanos(decimal: &str) -> i128 {
    let (negative, digits) = match decimal.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, decimal),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let kept = &fraction[..fraction.len().min(9)];
    assert!(fraction[kept.len()..].bytes().all(|digit| digit == b'0'), "finer than a nano-dollar: {decimal}");
    let text = format!("{whole}{kept:0<9}");
    let value: i128 = text.parse().unwrap_or_else(|_| panic!("not a decimal: {decimal:?}"));
    if negative { -value } else { value }
}

/// The decimal string of nano-dollars, for a request body.
#[must_use]
pub fn usd(nanos: i128) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    format!("{sign}{}.{:09}", size / 1_000_000_000, size % 1_000_000_000)
}

/// Prices of one model, in nano-dollars per million tokens.
#[derive(Debug, Clone, Copy)]
pub struct Price {
    /// The model's name.
    pub model: &'static str,
    /// Uncached input.
    pub input: i128,
    /// Input read from the provider's cache.
    pub cache_read: i128,
    /// Output.
    pub output: i128,
    /// Reasoning tokens.
    pub reasoning: i128,
}

const fn price(model: &'static str, rates: [i128; 4]) -> Price {
    Price { model, input: rates[0], cache_read: rates[1], output: rates[2], reasoning: rates[3] }
}

/// The test rate card: `alpha` and `beta` (chat; `beta` has a reasoning rate of its own), `flat` (only output costs, so a
/// reservation is known exactly), `sight` (takes images), `instruct` (legacy completions), `embed` (embeddings), `odd` (rates that need rounding).
pub const PRICES: [Price; 7] = [
    price("alpha", [2_500_000_000, 1_250_000_000, 10_000_000_000, 10_000_000_000]),
    price("beta", [1_100_000_000, 275_000_000, 4_400_000_000, 6_600_000_000]),
    price("flat", [0, 0, 10_000_000_000, 10_000_000_000]),
    price("sight", [2_500_000_000, 1_250_000_000, 10_000_000_000, 10_000_000_000]),
    price("instruct", [1_500_000_000, 1_500_000_000, 2_000_000_000, 2_000_000_000]),
    price("embed", [20_000_000, 20_000_000, 0, 0]),
    price("odd", [1_234_567, 333_333, 7_654_321, 7_654_321]),
];

/// The prices of images and audio, as the rates file has them: `painter` draws by tokens and `poster` by the piece, `voice` speaks by
/// characters and `speaker` by tokens, `ear` listens by the second and `scribe` by tokens, `guard` moderates for money and `omni-moderation-latest` for none.
fn media() -> Value {
    let tokens = |size: &str, counts: [u64; 3]| {
        let of = |quality, tokens| json!({ "size": size, "quality": quality, "tokens": tokens });
        [of("low", counts[0]), of("medium", counts[1]), of("high", counts[2])]
    };
    let drawn = [
        tokens("1024x1024", [272, 1_056, 4_160]),
        tokens("1024x1536", [408, 1_584, 6_240]),
        tokens("1536x1024", [400, 1_568, 6_208]),
    ];
    let posters: Vec<Value> = POSTERS
        .iter()
        .map(|(size, quality, price)| json!({ "size": size, "quality": quality, "price": usd(*price) }))
        .collect();
    json!({
        "painter": { "input": "5", "input_image_tokens": "10", "output": "40", "image_tokens": 581, "images": drawn.concat() },
        "poster": { "images": posters },
        "voice": { "input_characters": "15" },
        "speaker": { "input": "0.6", "output_audio": "12", "audio_tokens_per_minute": 1_200 },
        "ear": { "input_second": "0.0001" },
        "scribe": { "input": "2.5", "input_audio": "6", "output": "10", "context_tokens": 16_000, "max_output_tokens": 2_000 },
        "guard": { "input": "0.1", "context_tokens": 32_768 },
        "omni-moderation-latest": { "input": "0", "context_tokens": 32_768 },
    })
}

/// What `poster` costs by size and quality, in nano-dollars.
const POSTERS: [(&str, &str, i128); 4] = [
    ("1024x1024", "standard", 40_000_000),
    ("1024x1792", "standard", 80_000_000),
    ("1024x1024", "hd", 80_000_000),
    ("1024x1792", "hd", 120_000_000),
];

/// What a bill of [`media`] costs.
fn media_cost(bill: &Bill) -> Option<i128> {
    let pieces = &bill.pieces;
    let per_million = |parts: &[(u64, i128)]| {
        let sum: i128 = parts.iter().map(|(count, price)| i128::from(*count) * price).sum();
        (sum + 500_000) / 1_000_000
    };
    Some(match bill.model.as_str() {
        "painter" => per_million(&[
            (bill.prompt, 5_000_000_000),
            (pieces.image_tokens, 10_000_000_000),
            (bill.completion, 40_000_000_000),
        ]),
        "poster" => pieces
            .images
            .iter()
            .map(|(size, quality)| POSTERS.iter().find(|(s, q, _)| s == size && q == quality).expect("a price").2)
            .sum(),
        "voice" => per_million(&[(pieces.characters, 15_000_000_000)]),
        "speaker" => per_million(&[(bill.prompt, 600_000_000), (pieces.spoken_tokens, 12_000_000_000)]),
        "ear" => i128::from(pieces.heard_ms) * 100,
        "scribe" => per_million(&[
            (bill.prompt, 2_500_000_000),
            (pieces.heard_tokens, 6_000_000_000),
            (bill.completion, 10_000_000_000),
        ]),
        "omni-moderation-latest" => 0,
        _ => return None,
    })
}

/// The most tokens that an answer of a chat model of the card may have.
pub const MAX_OUTPUT_TOKENS: u64 = 4_096;

/// The most tokens that `sight` reads, images included.
pub const CONTEXT_TOKENS: u64 = 128_000;

/// Models of the card.
#[must_use]
pub fn models() -> Vec<&'static str> {
    let media = ["painter", "poster", "voice", "speaker", "ear", "scribe", "guard", "omni-moderation-latest"];
    PRICES.iter().map(|price| price.model).chain(media).collect()
}

/// What a provider's bill costs by [`PRICES`]: each bucket apart, rounded once, half up.
#[must_use]
pub fn cost(bill: &Bill) -> i128 {
    if let Some(cost) = media_cost(bill) {
        return cost;
    }
    let price = PRICES
        .iter()
        .find(|price| price.model == bill.model)
        .unwrap_or_else(|| panic!("no price for {:?}", bill.model));
    let count = |tokens: u64| i128::from(tokens);
    let parts = count(bill.prompt - bill.cached) * price.input
        + count(bill.cached) * price.cache_read
        + count(bill.completion - bill.reasoning) * price.output
        + count(bill.reasoning) * price.reasoning;
    (parts + 500_000) / 1_000_000
}

/// The card as the rates file: USD per million tokens, exact decimals.
#[must_use]
pub fn card() -> Value {
    let mut models: Map<String, Value> = media().as_object().cloned().unwrap_or_default();
    for price in PRICES {
        let mut rates = Map::new();
        rates.insert("input".into(), json!(usd(price.input)));
        rates.insert("cache_read".into(), json!(usd(price.cache_read)));
        rates.insert("output".into(), json!(usd(price.output)));
        rates.insert("reasoning".into(), json!(usd(price.reasoning)));
        if price.output > 0 {
            rates.insert("max_output_tokens".into(), json!(MAX_OUTPUT_TOKENS));
        }
        if price.model == "sight" {
            rates.insert("context_tokens".into(), json!(CONTEXT_TOKENS));
        }
        models.insert(price.model.into(), Value::Object(rates));
    }
    json!({ "effective_from": "2026-01-01T00:00:00Z", "models": models })
}
