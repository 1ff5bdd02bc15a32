//! How long, as a person writes it: `90s`, `30m`, `24h`, `7d`, `1d12h`. A bare number is seconds.

/// Reads a duration in seconds.
///
/// # Errors
/// The sentence to show for what is not one.
pub(crate) fn parse_seconds(text: &str) -> Result<u32, String> {
    let refused = || format!("`{text}` is not a duration: write 90s, 30m, 24h, 7d or 1d12h");
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let (mut total, mut digits) = (0_u32, String::new());
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let unit = match letter {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            'd' => 24 * 60 * 60,
            'w' => 7 * 24 * 60 * 60,
            _ => return Err(refused()),
        };
        let count: u32 = std::mem::take(&mut digits).parse().map_err(|_| refused())?;
        total = count.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(refused)?;
    }
    // What is left over has no unit.
    if digits.is_empty() && !text.is_empty() { Ok(total) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("0", 0),
            ("90", 90),
            ("90s", 90),
            ("30m", 1_800),
            ("24h", 86_400),
            ("7d", 604_800),
            ("2w", 1_209_600),
            ("1d12h", 129_600),
        ] {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
        for bad in ["", "h", "24", "1h30", "-1h", "1.5h", "24 h", "24H", "99999999999d", "1y"] {
            assert_eq!(parse_seconds(bad).is_ok(), bad == "24", "{bad}");
        }
    }
}
