//! Money as whole nano-dollars. Never a float; rounded once, in [`NanoUsd::from_product`].

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nano-dollars in one dollar.
const NANOS_PER_USD: i64 = 1_000_000_000;
/// The longest amount, in bytes of text.
pub const AMOUNT_BYTES: usize = 24;
/// The denominator of a price: rate cards quote USD per million tokens.
const TOKENS_PER_PRICE_UNIT: i128 = 1_000_000;

/// An amount of USD in nano-dollars (10^-9 USD). Range ±9.2 billion USD.
///
/// Prints with nine decimals (`0.054399000`); parses any exact decimal of at most nine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, pattern = r"^-?[0-9]{1,10}(\.[0-9]{1,9})?$", example = "12.50")]
pub struct NanoUsd(pub i64);

/// Text that is not an exact decimal amount of at most nine decimals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount: give an exact decimal with at most nine decimals, such as \"12.50\"")]
pub struct AmountError(String);

impl NanoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// `self + other`, or `None` past the range.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// `self - other`, held within the range.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self + other`, held within the range.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The one place where money is rounded: a sum of `tokens x price` products, each price in
    /// nano-dollars per million tokens, becomes an amount, half up.
    #[must_use]
    pub fn from_product(product: i128) -> Self {
        let rounded = product.saturating_add(TOKENS_PER_PRICE_UNIT / 2).div_euclid(TOKENS_PER_PRICE_UNIT);
        Self(i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX }))
    }

    /// The shortest decimal that is exact, for amounts that a person wrote: `50`, `12.5`.
    #[must_use]
    pub fn to_short_string(self) -> String {
        let full = self.to_string();
        full.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

impl NanoUsd {
    /// As it is shown, in a place that the caller has for it: `-1.000000005`. Written with every answer, so without what formatting a
    /// number may be asked for.
    pub fn text(self, place: &mut [u8; AMOUNT_BYTES]) -> &str {
        let (mut left, mut at) = (self.0.unsigned_abs(), AMOUNT_BYTES);
        let mut put = |byte: u8| {
            at -= 1;
            if let Some(slot) = place.get_mut(at) {
                *slot = byte;
            }
        };
        for digit in 0_u8.. {
            if digit > 9 && left == 0 {
                break;
            }
            if digit == 9 {
                put(b'.');
            }
            put(b'0' + u8::try_from(left % 10).unwrap_or(0));
            left /= 10;
        }
        if self.0 < 0 {
            put(b'-');
        }
        std::str::from_utf8(place.get(at..).unwrap_or_default()).unwrap_or_default()
    }
}

impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; AMOUNT_BYTES]))
    }
}

impl FromStr for NanoUsd {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || AmountError(text.chars().take(40).collect());
        if text.is_empty() || text.bytes().any(|byte| !(byte.is_ascii_digit() || byte == b'.' || byte == b'-')) {
            return Err(fail());
        }
        let amount = Decimal::from_str_exact(text).map_err(|_| fail())?;
        let nanos = amount.checked_mul(Decimal::from(NANOS_PER_USD)).ok_or_else(fail)?;
        if !nanos.is_integer() {
            return Err(fail());
        }
        nanos.to_i64().map(Self).ok_or_else(fail)
    }
}

impl Sum for NanoUsd {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Self::saturating_add)
    }
}

/// What an operator adds to the cost, as an exact share: parts per million. In the API a percentage: `17.5`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, pattern = r"^[0-9]{1,4}(\.[0-9]{1,4})?$", example = "17.5")]
pub struct Markup(u32);

/// Text that is not a percentage that can be charged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a markup: give a percentage from 0 to 1000 with at most four decimals, such as \"17.5\"")]
pub struct MarkupError(String);

impl Markup {
    /// Parts per million in one percent.
    const PPM_PER_PERCENT: u32 = 10_000;
    /// The largest, in percent.
    const MAX_PERCENT: u32 = 1_000;

    /// What is added to `cost`, rounded once, half up.
    #[must_use]
    pub fn of(self, cost: NanoUsd) -> NanoUsd {
        NanoUsd::from_product(i128::from(cost.0) * i128::from(self.0))
    }

    /// In parts per million.
    #[must_use]
    pub fn ppm(self) -> u32 {
        self.0
    }

    pub(crate) fn from_ppm(ppm: u32) -> Self {
        Self(ppm)
    }
}

impl fmt::Display for Markup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = Decimal::new(i64::from(self.0), 4).normalize();
        write!(f, "{percent}")
    }
}

impl FromStr for Markup {
    type Err = MarkupError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || MarkupError(text.chars().take(40).collect());
        if text.is_empty() || text.bytes().any(|byte| !(byte.is_ascii_digit() || byte == b'.')) {
            return Err(fail());
        }
        let percent = Decimal::from_str_exact(text).map_err(|_| fail())?;
        let ppm = percent.checked_mul(Decimal::from(Self::PPM_PER_PERCENT)).ok_or_else(fail)?;
        if !ppm.is_integer() || percent > Decimal::from(Self::MAX_PERCENT) {
            return Err(fail());
        }
        ppm.to_u32().map(Self).ok_or_else(fail)
    }
}

impl Serialize for Markup {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a string; a number is refused, since it may not be exact.
impl<'de> Deserialize<'de> for Markup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for NanoUsd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a JSON string (exact) or a whole number; a float is refused, since it is not exact.
impl<'de> Deserialize<'de> for NanoUsd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Whole(i64),
        }
        match Form::deserialize(deserializer) {
            Ok(Form::Text(text)) => text.parse().map_err(serde::de::Error::custom),
            Ok(Form::Whole(usd)) => usd
                .checked_mul(NANOS_PER_USD)
                .map(Self)
                .ok_or_else(|| serde::de::Error::custom(AmountError(usd.to_string()))),
            Err(_) => {
                Err(serde::de::Error::custom("an amount of USD is a string with an exact decimal, such as \"12.50\""))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_both_ways() {
        for (text, nanos, printed) in [
            ("50", 50_000_000_000, "50.000000000"),
            ("0.054399", 54_399_000, "0.054399000"),
            ("-1.000000001", -1_000_000_001, "-1.000000001"),
            ("0.000000001", 1, "0.000000001"),
            ("9223372036.854775807", i64::MAX, "9223372036.854775807"),
            ("-9223372036.854775808", i64::MIN, "-9223372036.854775808"),
        ] {
            let amount: NanoUsd = text.parse().unwrap();
            assert_eq!(amount, NanoUsd(nanos));
            assert_eq!(amount.to_string(), printed);
            assert_eq!(amount.to_short_string(), text);
        }
    }

    #[test]
    fn what_is_not_an_exact_decimal_is_refused() {
        for text in ["", "1e9", "0.0000000001", "1,5", "NaN", "99999999999999999999", "1_000", " 1", "--1"] {
            assert!(text.parse::<NanoUsd>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<NanoUsd>("0.1").is_err());
        assert_eq!(serde_json::from_str::<NanoUsd>("\"0.1\"").unwrap(), NanoUsd(100_000_000));
        assert_eq!(serde_json::from_str::<NanoUsd>("5").unwrap(), NanoUsd(5_000_000_000));
    }

    #[test]
    fn a_markup_is_exact_and_rounded_once() {
        for (text, ppm) in [("0", 0), ("17.5", 175_000), ("0.0001", 1), ("1000", 10_000_000), ("100", 1_000_000)] {
            let markup: Markup = text.parse().unwrap();
            assert_eq!((markup.ppm(), markup.to_string().as_str()), (ppm, text));
        }
        for text in ["", "-1", "0.00001", "1000.0001", "17,5", "1e2", "NaN", "%"] {
            assert!(text.parse::<Markup>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Markup>("17.5").is_err());
        let markup: Markup = "17.5".parse().unwrap();
        assert_eq!(markup.of(NanoUsd(54_399_000)), NanoUsd(9_519_825));
        assert_eq!(markup.of(NanoUsd(10)), NanoUsd(2));
    }

    #[test]
    fn products_are_rounded_half_up() {
        assert_eq!(NanoUsd::from_product(499_999), NanoUsd(0));
        assert_eq!(NanoUsd::from_product(500_000), NanoUsd(1));
        assert_eq!(NanoUsd::from_product(1_499_999), NanoUsd(1));
        assert_eq!(NanoUsd::from_product(i128::MAX), NanoUsd(i64::MAX));
    }
}
