//! One call of Stripe's API: `POST /v1/billing/meter_events` (docs.stripe.com/api/billing/meter-event/create), and what its
//! answer means for the event.

use std::fmt;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, InvalidHeaderValue, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use openclawmu_store::StripeEvent;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::outbound::{Limits, OperatorCalls, OutboundUrl};

/// Where meter events go.
const METER_EVENTS: [&str; 3] = ["v1", "billing", "meter_events"];
/// A call's limits; Stripe's own libraries wait 80 s.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(30), max_answer_bytes: 64 << 10 };
/// The version of Stripe's API that this was written for.
const VERSION: &str = "2025-04-30.basil";

/// An account at Stripe. Its `Debug` shows nothing of the key.
pub struct StripeAccount {
    calls: OperatorCalls,
    base_url: OutboundUrl,
    key: SecretString,
}

impl fmt::Debug for StripeAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripeAccount").finish_non_exhaustive()
    }
}

/// What Stripe says to an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has it now.
    Taken,
    /// It had it already.
    Known,
    /// It does not take this one, now or later; the reason is Stripe's.
    Refused(String),
    /// It takes nothing from us: the key is wrong.
    Denied(String),
    /// Not now.
    Later {
        why: String,
        wait: Option<Duration>,
        /// It may have it all the same.
        doubtful: bool,
        /// It answered, so the same idempotency key would get the same answer again.
        answered: bool,
    },
}

impl StripeAccount {
    /// The account of `key` at `base_url`. The process has installed rustls' default provider.
    ///
    /// # Errors
    /// The sentence to show when there can be no HTTP client.
    pub fn new(base_url: &OutboundUrl, key: SecretString) -> Result<Self, String> {
        let calls = OperatorCalls::new(LIMITS).map_err(|err| format!("Stripe can't be called: {err}"))?;
        Ok(Self { calls, base_url: base_url.clone(), key })
    }

    /// Sends an event. Its identifier makes it count once; `attempt` makes an idempotency key of its own, since Stripe keeps
    /// even a failure under one.
    pub(super) async fn send(&self, event: &StripeEvent, attempt: u32) -> Answer {
        let idempotency_key =
            if attempt == 0 { event.identifier.clone() } else { format!("{}-{attempt}", event.identifier) };
        let headers = match self.headers(&idempotency_key) {
            Ok(headers) => headers,
            Err(err) => return Answer::Denied(format!("the key can't be sent: {err}")),
        };
        let answer = match self.calls.post_beneath((&self.base_url, &METER_EVENTS), headers, form(event)).await {
            Ok(answer) => answer,
            Err(err) => {
                let why = format!("Stripe can't be reached: {err}");
                return Answer::Later { why, wait: None, doubtful: err.doubtful, answered: false };
            }
        };
        let wait = answer.headers.get(RETRY_AFTER);
        let wait =
            wait.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok()).map(Duration::from_secs);
        judge(answer.status, wait, &serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    fn headers(&self, idempotency_key: &str) -> Result<HeaderMap, InvalidHeaderValue> {
        let mut key = HeaderValue::try_from(format!("Bearer {}", self.key.expose_secret()))?;
        key.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, key);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(HeaderName::from_static("stripe-version"), HeaderValue::from_static(VERSION));
        headers.insert(HeaderName::from_static("idempotency-key"), HeaderValue::try_from(idempotency_key)?);
        Ok(headers)
    }
}

/// The event as a form, in the order of Stripe's documentation.
fn form(event: &StripeEvent) -> String {
    let (value, timestamp) = (event.value.to_string(), event.timestamp.0.div_euclid(1_000).to_string());
    let fields = [
        ("event_name", event.meter.as_str()),
        ("payload[stripe_customer_id]", &event.customer),
        ("payload[value]", &value),
        ("identifier", &event.identifier),
        ("timestamp", &timestamp),
    ];
    // A URL's query is written in the form's own encoding.
    let Ok(mut url) = Url::parse("http://form/") else { return String::new() };
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

fn judge(status: StatusCode, wait: Option<Duration>, body: &Value) -> Answer {
    let text = |name: &str| body.pointer(&format!("/error/{name}")).and_then(Value::as_str).unwrap_or_default();
    let (code, message) = (text("code"), text("message"));
    let why = || format!("Stripe answered {}: {message}", status.as_u16()).trim_end_matches(": ").to_owned();
    if status.is_success() {
        return Answer::Taken;
    }
    // The sentence is older than the code.
    let known = code == "duplicate_meter_event" || message.starts_with("An event already exists with identifier");
    if status == StatusCode::BAD_REQUEST && known {
        return Answer::Known;
    }
    let later = |doubtful| Answer::Later { why: why(), wait, doubtful, answered: true };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Answer::Denied(why()),
        StatusCode::TOO_MANY_REQUESTS => later(false),
        // Another call with the same idempotency key is in progress, or a time ran out.
        StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT => later(true),
        status if status.is_client_error() => Answer::Refused(why()),
        _ => later(true),
    }
}

#[cfg(test)]
mod tests {
    use openclawmu_store::UnixMs;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_form_is_as_stripe_documents_it() {
        let event = StripeEvent {
            cursor: 1,
            identifier: "acme:2026-11-18:ai_cost:1".to_owned(),
            tenant: "acme".to_owned(),
            customer: "cus_N&1".to_owned(),
            meter: "ai_cost".to_owned(),
            value: 25,
            timestamp: UnixMs(1_795_046_399_000),
            tried_at: None,
        };
        assert_eq!(
            form(&event),
            "event_name=ai_cost&payload%5Bstripe_customer_id%5D=cus_N%261&payload%5Bvalue%5D=25&identifier=acme%3A2026-11-18%3Aai_cost%3A1&timestamp=1795046399"
        );
    }

    #[test]
    fn every_answer_has_its_meaning() {
        let error = |code: &str, message: &str| json!({"error": {"type": "invalid_request_error", "code": code, "message": message}});
        let of = |status: u16, body: &Value| judge(StatusCode::from_u16(status).unwrap(), None, body);
        assert_eq!(of(200, &json!({"object": "billing.meter_event"})), Answer::Taken);
        let sentence = "An event already exists with identifier acme:2026-11-18:ai_cost:1.";
        assert_eq!(of(400, &error("", sentence)), Answer::Known);
        assert_eq!(of(400, &error("duplicate_meter_event", "")), Answer::Known);
        assert!(
            matches!(of(400, &error("resource_missing", "No such customer")), Answer::Refused(why) if why.contains("No such customer"))
        );
        assert!(matches!(of(401, &error("", "Invalid API Key provided")), Answer::Denied(_)));
        assert!(matches!(of(429, &error("rate_limit", "")), Answer::Later { doubtful: false, answered: true, .. }));
        for status in [409, 500, 502, 503, 302] {
            assert!(matches!(of(status, &Value::Null), Answer::Later { doubtful: true, .. }), "{status}");
        }
    }
}
