//! `[stripe]`: the account that usage is pushed to, what is counted there, and when.

use openclawmu_control::OutboundUrl;
use openclawmu_store::{Measure, Meter, day_of};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::load::{ConfigError, value};
use super::secret::SecretRef;

/// The longest event name: with a tenant's id, a day and a number it makes Stripe's longest identifier, 100 characters.
const MAX_EVENT_NAME: usize = 45;

/// `[stripe]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawStripe {
    /// Where Stripe's API is.
    pub base_url: String,
    /// The account's secret or restricted key; absent: nothing is pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretRef>,
    /// When to push every night, `HH:MM` in UTC; absent: by hand only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nightly_at: Option<String>,
    /// The first day that is pushed, `YYYY-MM-DD` in each tenant's zone; absent: the first that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// What is counted there.
    #[serde(rename = "meter", skip_serializing_if = "Vec::is_empty")]
    pub meters: Vec<RawMeter>,
}

impl Default for RawStripe {
    fn default() -> Self {
        Self {
            base_url: "https://api.stripe.com".to_owned(),
            api_key: None,
            nightly_at: None,
            since: None,
            meters: Vec::new(),
        }
    }
}

/// `[[stripe.meter]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawMeter {
    /// The meter's event name at Stripe.
    pub event_name: String,
    /// What it counts.
    pub value: String,
}

/// The account that usage is pushed to.
#[derive(Debug)]
pub struct StripeConfig {
    /// Where its API is.
    pub base_url: OutboundUrl,
    /// Its key.
    pub api_key: SecretString,
    /// Seconds after midnight, UTC, of the nightly push.
    pub nightly_at_seconds: Option<i64>,
    /// The first day window that is pushed.
    pub since: Option<i32>,
    /// What is counted there.
    pub meters: Vec<Meter>,
}

pub(super) fn check(raw: RawStripe) -> Result<Option<StripeConfig>, ConfigError> {
    let Some(api_key) = raw.api_key else {
        let asked = [("stripe.nightly_at", raw.nightly_at.is_some()), ("stripe.meter", !raw.meters.is_empty())];
        return match asked.into_iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => Err(value(key, "needs stripe.api_key, such as \"env:STRIPE_API_KEY\"")),
            None => Ok(None),
        };
    };
    if raw.meters.is_empty() {
        let message = "is missing: say what Stripe counts, such as [[stripe.meter]] event_name = \"ai_cost\", value = \"billed_micro_usd\"";
        return Err(value("stripe.meter", message));
    }
    let nightly = raw.nightly_at.as_deref().map(time_of_day).transpose();
    let since = raw.since.as_deref().map(|text| day_of(text).ok_or("must be a day such as \"2026-11-01\"")).transpose();
    Ok(Some(StripeConfig {
        base_url: OutboundUrl::parse(&raw.base_url).map_err(|message| value("stripe.base_url", message))?,
        api_key: api_key.read().map_err(|message| value("stripe.api_key", message))?,
        nightly_at_seconds: nightly.map_err(|message| value("stripe.nightly_at", message))?,
        since: since.map_err(|message| value("stripe.since", message))?,
        meters: meters(raw.meters)?,
    }))
}

fn meters(raw: Vec<RawMeter>) -> Result<Vec<Meter>, ConfigError> {
    let mut meters: Vec<Meter> = Vec::with_capacity(raw.len());
    for RawMeter { event_name, value: counted } in raw {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if event_name.is_empty() || event_name.len() > MAX_EVENT_NAME || !event_name.bytes().all(plain) {
            let message = format!("`{event_name}` is not 1 to {MAX_EVENT_NAME} letters, digits, `-`, `_` or `.`");
            return Err(value("stripe.meter.event_name", message));
        }
        if meters.iter().any(|meter| meter.event_name == event_name) {
            return Err(value("stripe.meter.event_name", format!("two meters are called `{event_name}`")));
        }
        let measure = Measure::parse(&counted).ok_or_else(|| {
            let known: Vec<_> = Measure::all().map(Measure::name).collect();
            value("stripe.meter.value", format!("`{counted}` is not one of {}", known.join(", ")))
        })?;
        meters.push(Meter { event_name, measure });
    }
    Ok(meters)
}

/// Seconds after midnight of `HH:MM`.
fn time_of_day(text: &str) -> Result<i64, &'static str> {
    let part = |text: &str, most: i64| -> Option<i64> {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| digits && *number <= most)
    };
    let parts = text.split_once(':').and_then(|(hour, minute)| Some((part(hour, 23)?, part(minute, 59)?)));
    parts.map(|(hour, minute)| hour * 3_600 + minute * 60).ok_or("must be a time such as \"02:00\", in UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_two_digits_a_colon_and_two() {
        assert_eq!((time_of_day("02:00"), time_of_day("23:59")), (Ok(7_200), Ok(86_340)));
        for text in ["", "2:00", "24:00", "02:60", "02:00:00", "+2:00", "02-00"] {
            assert!(time_of_day(text).is_err(), "{text}");
        }
    }
}
