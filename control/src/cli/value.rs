//! How flags are read: limits with underscores, lists, `key=value`, instants, and `none` for what is to be taken away.

use openclawmu_store::{NanoUsd, UnixMs};
use serde_json::{Map, Value};

/// What a person writes to take a limit or an allow-list away.
const NONE: &str = "none";

/// A limit as the API takes it; `null` takes it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Value);

/// Model names; `null` allows all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Models(pub(crate) Value);

/// A note on a tenant; without a value it is taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    key: String,
    value: Option<String>,
}

/// `50`, `12.50`, `1_000`, or `none`.
pub(crate) fn usd(text: &str) -> Result<Limit, String> {
    if text == NONE {
        return Ok(Limit(Value::Null));
    }
    let amount: NanoUsd = plain(text)?.parse().map_err(|err: openclawmu_store::AmountError| err.to_string())?;
    if amount < NanoUsd::ZERO {
        return Err("an amount must not be negative".to_owned());
    }
    Ok(Limit(Value::from(amount.to_short_string())))
}

/// `5.00`: more than nothing.
pub(crate) fn positive_usd(text: &str) -> Result<NanoUsd, String> {
    let amount: NanoUsd = plain(text)?.parse().map_err(|err: openclawmu_store::AmountError| err.to_string())?;
    if amount > NanoUsd::ZERO { Ok(amount) } else { Err("an amount must be more than nothing".to_owned()) }
}

/// `5000000`, `5_000_000`, or `none`.
pub(crate) fn count(text: &str) -> Result<Limit, String> {
    if text == NONE {
        return Ok(Limit(Value::Null));
    }
    let refused = || format!("`{text}` is not a whole number such as 5_000_000, nor `none`");
    plain(text).map_err(|_| refused())?.parse::<u64>().map(|count| Limit(Value::from(count))).map_err(|_| refused())
}

/// `gpt-4o,claude-*`, or `none` for no restriction.
pub(crate) fn models(text: &str) -> Result<Models, String> {
    if text == NONE {
        return Ok(Models(Value::Null));
    }
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    if names.iter().any(|name| name.is_empty()) {
        return Err("give model names with commas between them, such as gpt-4o,claude-*, or `none` for no restriction"
            .to_owned());
    }
    Ok(Models(Value::from(names)))
}

/// `key=value`, or `key` alone.
pub(crate) fn note(text: &str) -> Result<Note, String> {
    let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value.to_owned())));
    if key.is_empty() { Err("give key=value".to_owned()) } else { Ok(Note { key: key.to_owned(), value }) }
}

/// An instant as RFC 3339, or a date for its first moment in UTC.
pub(crate) fn instant(text: &str) -> Result<UnixMs, String> {
    let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    UnixMs::parse_rfc3339(&full)
        .map_err(|_| format!("`{text}` is not an instant such as 2026-11-01T00:00:00Z, nor a date such as 2026-11-01"))
}

/// Notes as the API takes them: `null` takes one away.
pub(crate) fn notes(notes: &[Note]) -> Value {
    Value::Object(
        notes.iter().map(|note| (note.key.clone(), note.value.clone().map_or(Value::Null, Value::from))).collect(),
    )
}

/// Removes what is `null`, for calls that have nothing to take away from.
pub(crate) fn without_nulls(fields: &mut Map<String, Value>) {
    fields.retain(|_, value| !value.is_null());
}

/// The digits without the underscores between them.
fn plain(text: &str) -> Result<String, String> {
    if text.starts_with('_') || text.ends_with('_') || text.contains("__") {
        return Err(format!("`{text}`: an underscore stands between digits"));
    }
    Ok(text.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_take_underscores_and_stay_exact() {
        assert_eq!(count("5_000_000"), Ok(Limit(json!(5_000_000))));
        assert_eq!(usd("1_000.50"), Ok(Limit(json!("1000.5"))));
        assert_eq!(usd("0.000000001"), Ok(Limit(json!("0.000000001"))));
        assert_eq!((count("none"), usd("none")), (Ok(Limit(Value::Null)), Ok(Limit(Value::Null))));
        for bad in ["", "_5", "5_", "5__0", "-5", "5.5", "1e3", "much", "18446744073709551616"] {
            assert!(count(bad).is_err(), "{bad}");
        }
        for bad in ["", "-1", "1e3", "0.0000000001", "$5", "much", "_1"] {
            assert!(usd(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn models_are_a_list_and_none_lifts_it() {
        assert_eq!(models("gpt-4o, claude-*"), Ok(Models(json!(["gpt-4o", "claude-*"]))));
        assert_eq!(models("none"), Ok(Models(Value::Null)));
        assert!(models("a,,b").is_err());
    }

    #[test]
    fn a_note_without_a_value_takes_it_away() {
        let given = ["tier=gold", "sign==", "old"].map(|text| note(text).unwrap());
        assert_eq!(notes(&given), json!({"tier": "gold", "sign": "=", "old": null}));
        assert!(note("=x").is_err());
    }
}
