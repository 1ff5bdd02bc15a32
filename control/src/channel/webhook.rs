//! Any program, through webhooks as standardwebhooks.com specifies them: signed in both directions with one secret.
//!
//! In: `{"type": "message", "data": {"from": "user-7", "text": "Hello"}}`. Out, to the URL that the tenant named:
//! `{"type": "message.reply", "timestamp": "…", "data": {"to": "user-7", "text": "…", "in_reply_to": "msg_…"}}`, under one
//! `webhook-id` however often it is sent. A 410 ends the channel.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use openclawmu_store::{NewMessage, UnixMs};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::adapter::{
    Account, Adapter, Doing, Field, Guide, Incoming, MAX_TEXT_BYTES, NotGenuine, NotPaired, NotSent, Outgoing, Parsed,
    Place, Then, Unreadable, WINDOW_SECONDS, required,
};
use super::credential::Credentials;
use crate::outbound::{Answer, TenantCalls, TenantReach};
use crate::webhook::WebhookSecret;

const URL: &str = "url";
const SECRET: &str = "secret";
/// The longest name of a sender, and of an event: with the channel's id it is still the name of a session.
const MAX_NAME_BYTES: usize = 80;

pub(super) struct Webhook {
    pub(super) calls: TenantCalls,
    pub(super) reach: TenantReach,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "type")]
    kind: String,
    data: Option<Said>,
}

#[derive(Deserialize)]
struct Said {
    from: Option<String>,
    text: Option<String>,
}

impl Adapter for Webhook {
    fn guide(&self) -> Guide {
        Guide {
            before: &[
                "Make a secret that both sides keep: echo whsec_$(openssl rand -base64 32)",
                "Have your program take POST requests at a URL of its own, and verify them with a library of standardwebhooks.com.",
            ],
            fields: &[
                Field {
                    name: URL,
                    label: "URL that answers go to",
                    example: "https://app.example.com/replies",
                    secret: false,
                },
                Field { name: SECRET, label: "Secret", example: "whsec_…", secret: true },
            ],
            after: &[
                "Have your program POST what people say, signed with the same secret, to {url}",
                "A message is {\"type\":\"message\",\"data\":{\"from\":\"user-7\",\"text\":\"hello\"}}; send one to see the answer arrive at your URL as message.reply.",
            ],
        }
    }

    fn pair<'a>(&'a self, given: &'a mut Credentials, _url: &'a str) -> Doing<'a, Result<Account, NotPaired>> {
        Box::pin(async move {
            let (url, secret) = (required(given, URL, 1)?, required(given, SECRET, 24)?);
            let url = self.reach.parse(&url).map_err(|why| NotPaired::Field(URL, why))?;
            WebhookSecret::parse(&SecretString::from(secret)).map_err(|why| NotPaired::Field(SECRET, why))?;
            let host = url::Url::parse(url.as_str()).ok().and_then(|url| url.host_str().map(str::to_owned));
            Ok(Account { identity: None, label: host.unwrap_or_default().chars().take(100).collect() })
        })
    }

    fn verify(&self, incoming: &Incoming, with: &Credentials, now: UnixMs) -> Result<(), NotGenuine> {
        let header = |name: &str| incoming.header(name).ok_or(NotGenuine);
        let (id, at, proofs) = (header("webhook-id")?, header("webhook-timestamp")?, header("webhook-signature")?);
        let secret = WebhookSecret::parse(&SecretString::from(with.of(SECRET))).map_err(|_| NotGenuine)?;
        let seconds: i64 = at.parse().map_err(|_| NotGenuine)?;
        let age = now.0.div_euclid(1_000).saturating_sub(seconds).saturating_abs();
        let genuine = secret.proves((id, at, &incoming.body), proofs);
        if genuine && age <= WINDOW_SECONDS && is_name(id) { Ok(()) } else { Err(NotGenuine) }
    }

    fn parse(&self, incoming: &Incoming, place: Place<'_>) -> Result<Parsed, Unreadable> {
        let body: Body = serde_json::from_slice(&incoming.body)
            .map_err(|_| Unreadable("the body must be {\"type\":\"message\",\"data\":{\"from\":…,\"text\":…}}"))?;
        if body.kind != "message" {
            return Ok(Parsed::Messages(Vec::new()));
        }
        let said = body.data.ok_or(Unreadable("data is missing"))?;
        let from = said.from.filter(|from| is_name(from));
        let from = from.ok_or(Unreadable("data.from must be 1 to 80 letters, digits, and any of ._@+:-"))?;
        let text = said.text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let text = text.filter(|text| text.len() <= MAX_TEXT_BYTES);
        let text = text.ok_or(Unreadable("data.text must be a text of at most 65536 bytes"))?;
        let event = incoming.header("webhook-id").ok_or(Unreadable("webhook-id is missing"))?.to_owned();
        let session = format!("webhook:{}:{from}", place.channel);
        let reply_to = json!({"to": from, "in_reply_to": event}).to_string();
        Ok(Parsed::Messages(vec![NewMessage { event, sender: from, label: String::new(), session, text, reply_to }]))
    }

    fn part_units(&self) -> usize {
        usize::MAX
    }

    fn reply<'a>(&'a self, part: Outgoing<'a>, with: &'a Credentials) -> Doing<'a, Result<(), NotSent>> {
        Box::pin(async move {
            // What may be called may have changed since.
            let url = self.reach.parse(with.of(URL)).map_err(|why| NotSent::never(format!("the URL {why}")))?;
            let secret = WebhookSecret::parse(&SecretString::from(with.of(SECRET))).map_err(NotSent::never)?;
            let mut data: serde_json::Value =
                serde_json::from_str(part.reply_to).map_err(|_| NotSent::never("nobody knows where it goes"))?;
            if let Some(fields) = data.as_object_mut() {
                fields.insert("text".to_owned(), part.text.into());
            }
            // The same bytes in every attempt.
            let body = json!({"type": "message.reply", "timestamp": part.made_at.rfc3339(), "data": data}).to_string();
            let headers = headers(&secret, (part.id, part.now), &body)?;
            judge(&self.calls.post(&url, headers, body.into_bytes()).await?)
        })
    }
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@+:-".contains(&byte))
}

fn headers(secret: &WebhookSecret, (id, now): (&str, UnixMs), body: &str) -> Result<HeaderMap, NotSent> {
    let at = now.0.div_euclid(1_000);
    let signature = secret.sign(id, at, body);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("webhook-timestamp"), at.into());
    for (name, value) in [("webhook-id", id), ("webhook-signature", &signature)] {
        let value = HeaderValue::from_str(value).map_err(|_| NotSent::never(format!("{name} is no header")))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(headers)
}

pub(super) fn judge(answer: &Answer) -> Result<(), NotSent> {
    if answer.status.is_success() {
        return Ok(());
    }
    let why = format!("the receiver answered {}", answer.status.as_u16());
    if answer.status == StatusCode::GONE {
        return Err(NotSent { why, then: Then::Disable });
    }
    let wait = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    Err(NotSent { why, then: Then::Again(wait.map(Duration::from_secs)) })
}
