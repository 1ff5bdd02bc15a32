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

/// The most tokens that an answer of a chat model of the card may have.
pub const MAX_OUTPUT_TOKENS: u64 = 4_096;

/// The most tokens that `sight` reads, images included.
pub const CONTEXT_TOKENS: u64 = 128_000;

/// Models of the card in the order of [`PRICES`].
#[must_use]
pub fn models() -> Vec<&'static str> {
    PRICES.iter().map(|price| price.model).collect()
}

/// What a provider's bill costs by [`PRICES`]: each bucket apart, rounded once, half up.
#[must_use]
pub fn cost(bill: &Bill) -> i128 {
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
    let mut models = Map::new();
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
