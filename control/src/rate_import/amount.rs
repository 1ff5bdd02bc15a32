//! A JSON number as an exact price. The text is read digit by digit: a float would not hold what the list states.

use openclawmu_store::NanoUsd;

/// The most digits that a price may have.
const MAX_DIGITS: usize = 30;
/// How many digits of a number that a list's maker computed in binary say something; what follows is its noise, as in
/// `1.3200000000000002e-07`.
const MEANT_DIGITS: u32 = 15;

/// What a price is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// One token or character; held for a million of them.
    Token,
    /// One image, second or request.
    Piece,
}

impl Unit {
    /// The power of ten from USD for one to nano-dollars for what is held.
    fn shift(self) -> i32 {
        match self {
            Self::Token => 15,
            Self::Piece => 9,
        }
    }
}

/// A price, and whether it had to be rounded up to the next nano-dollar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) price: NanoUsd,
    pub(super) rounded: bool,
}

/// Reads `raw`, a JSON value.
///
/// # Errors
/// Why it is no price, to follow the field's name.
pub(super) fn read(raw: &str, unit: Unit) -> Result<Amount, &'static str> {
    let (mantissa, exponent) = decimal(raw).ok_or("is not a number that can be read exactly")?;
    if mantissa == 0 {
        return Ok(Amount { price: NanoUsd::ZERO, rounded: false });
    }
    if raw.starts_with('-') {
        return Err("is negative");
    }
    let power = exponent.saturating_add(unit.shift());
    let ten = |power: u32| 10_i128.checked_pow(power);
    let (nanos, rounded) = if power >= 0 {
        let nanos = ten(power.unsigned_abs()).and_then(|ten| mantissa.checked_mul(ten)).ok_or("is too large")?;
        (nanos, false)
    } else {
        // A power past the range of the type is larger than any mantissa.
        let divisor = ten(power.unsigned_abs()).unwrap_or(i128::MAX);
        let rest = mantissa % divisor != 0;
        (mantissa / divisor + i128::from(rest), rest)
    };
    i64::try_from(nanos).map(|nanos| Amount { price: NanoUsd(nanos), rounded }).map_err(|_| "is too large")
}

/// The number as a whole number and a power of ten; its sign is left to the caller.
fn decimal(raw: &str) -> Option<(i128, i32)> {
    let unsigned = raw.strip_prefix('-').unwrap_or(raw);
    let (digits, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if whole.is_empty() || all.len() > MAX_DIGITS || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let places = i32::try_from(fraction.len()).ok()?;
    Some(without_noise(all.parse().ok()?, exponent.checked_sub(places)?))
}

fn without_noise(mantissa: i128, exponent: i32) -> (i128, i32) {
    let digits = mantissa.checked_ilog10().map_or(0, |log| log + 1);
    let noise = digits.saturating_sub(MEANT_DIGITS);
    match (noise, 10_i128.checked_pow(noise)) {
        (1.., Some(divisor)) => {
            ((mantissa + divisor / 2) / divisor, exponent.saturating_add(i32::try_from(noise).unwrap_or(i32::MAX)))
        }
        _ => (mantissa, exponent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_is_read_to_the_last_digit_and_what_is_finer_is_rounded_up() {
        for (raw, unit, nanos, rounded) in [
            ("1.5e-07", Unit::Token, 150_000_000, false),
            ("2.5E-6", Unit::Token, 2_500_000_000, false),
            ("1e-05", Unit::Token, 10_000_000_000, false),
            ("0.0", Unit::Token, 0, false),
            ("-0.0", Unit::Piece, 0, false),
            ("0.00000015", Unit::Token, 150_000_000, false),
            ("3.0001999999999996e-07", Unit::Token, 300_020_000, false),
            ("1.3200000000000002e-07", Unit::Token, 132_000_000, false),
            ("9.499999999999999e-07", Unit::Token, 950_000_000, false),
            ("1.234567891e-07", Unit::Token, 123_456_790, true),
            ("2.9e-16", Unit::Token, 1, true),
            ("1e-400", Unit::Token, 1, true),
            ("0.039", Unit::Piece, 39_000_000, false),
            ("0.001333333333333", Unit::Piece, 1_333_334, true),
            ("1", Unit::Piece, 1_000_000_000, false),
        ] {
            assert_eq!(read(raw, unit), Ok(Amount { price: NanoUsd(nanos), rounded }), "{raw}");
        }
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for raw in ["-1e-9", "\"1e-6\"", "null", "true", "{}", "1e99", "9e9", "1e99999999999", "", ".", "1.2.3", "NaN"]
        {
            assert!(read(raw, Unit::Piece).is_err() || raw == "9e9", "{raw}");
        }
        assert!(read("9e9", Unit::Token).is_err());
        assert!(read(&"1".repeat(31), Unit::Token).is_err());
    }

    proptest! {
        /// Whatever decimal a list states, in any of its spellings, is held exactly.
        #[test]
        fn every_spelling_of_a_decimal_is_the_same_price(nanos in 1..1_000_000_000_000_i64, shift in 0..12_i32) {
            let plain = format!("{nanos}e{}", -15);
            let moved = format!("{nanos}{}e{}", "0".repeat(usize::try_from(shift).unwrap()), -15 - shift);
            let dotted = format!("0.{nanos:015}");
            for raw in [plain, moved, dotted] {
                prop_assert_eq!(read(&raw, Unit::Token), Ok(Amount { price: NanoUsd(nanos), rounded: false }), "{}", raw);
            }
        }
    }
}
