//! WhatsApp through Meta's Cloud API (developers.facebook.com/docs/whatsapp/cloud-api: "Webhooks", "Messages").
//!
//! One webhook of an app carries the events of all its numbers, several at once: what names another number than the channel's is
//! not for it. Free text may be sent for a day after somebody wrote, and not later.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use openclawmu_store::{NewMessage, UnixMs};
use serde::Deserialize;
use serde_json::{Value, json};

use super::adapter::{
    Account, Adapter, Doing, Field, Guide, Incoming, NotGenuine, NotPaired, NotSent, Outgoing, Parsed, Place, Then,
    Unreadable, reachable, required,
};
use super::credential::Credentials;
use super::signature;
use crate::outbound::{Answer, OperatorCalls, OutboundUrl};

/// The longest text message, by the reference.
const PART_UNITS: usize = 4_096;
const TOKEN: &str = "access_token";
const NUMBER: &str = "phone_number_id";
const SECRET: &str = "app_secret";
const VERIFY: &str = "verify_token";
/// How long free text may be sent after a message, in milliseconds.
const WINDOW_MS: i64 = 24 * 60 * 60 * 1000;

pub(super) struct Whatsapp {
    pub(super) calls: OperatorCalls,
    pub(super) url: Option<OutboundUrl>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    entry: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    field: Option<String>,
    value: Option<Changed>,
}

#[derive(Deserialize)]
struct Changed {
    metadata: Option<Metadata>,
    #[serde(default)]
    contacts: Vec<Contact>,
    #[serde(default)]
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Metadata {
    phone_number_id: String,
}

#[derive(Deserialize)]
struct Contact {
    wa_id: Option<String>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    id: String,
    from: String,
    text: Option<Text>,
    button: Option<Button>,
}

#[derive(Deserialize)]
struct Text {
    body: String,
}

#[derive(Deserialize)]
struct Button {
    text: String,
}

impl Adapter for Whatsapp {
    fn guide(&self) -> Guide {
        Guide {
            before: &[
                "Open https://developers.facebook.com/apps, make an app of the type “Business” and add the product “WhatsApp”.",
                "Make a permanent access token: a system user of your business with the permission whatsapp_business_messaging.",
                "Copy the token, the Phone number ID from “API Setup”, and the App secret from “App settings”, “Basic”, and paste them here.",
            ],
            fields: &[
                Field { name: NUMBER, label: "Phone number ID", example: "106540352242922", secret: false },
                Field { name: TOKEN, label: "Access token", example: "EAA…", secret: true },
                Field { name: SECRET, label: "App secret", example: "32 hexadecimal digits", secret: true },
            ],
            after: &[
                "Under “WhatsApp”, “Configuration” paste this Callback URL: {url}",
                "Paste this Verify token beside it, and choose “Verify and save”: {verify_token}",
                "Under “Webhook fields” subscribe to messages.",
                "Write “hello” to the number from a phone: the answer comes to that chat.",
            ],
        }
    }

    fn pair<'a>(&'a self, given: &'a mut Credentials, _url: &'a str) -> Doing<'a, Result<Account, NotPaired>> {
        Box::pin(async move {
            let (number, token) = (required(given, NUMBER, 5)?, required(given, TOKEN, 20)?);
            required(given, SECRET, 20)?;
            if !number.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(NotPaired::Field(NUMBER, "is made of digits alone".to_owned()));
            }
            let unasked = |why: String| NotPaired::Provider(format!("WhatsApp can't be asked: {why}"));
            let headers = headers(&token).map_err(|err| unasked(err.why))?;
            let url = reachable(self.url.as_ref()).map_err(|err| unasked(err.why))?;
            let answer = self.calls.get_beneath((url, &[&number]), headers).await;
            let answer = answer.map_err(|err| unasked(err.why))?;
            let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            if !answer.status.is_success() || said.get("id").and_then(Value::as_str) != Some(&number) {
                let error = error_of(&said).unwrap_or_else(|| format!("status {}", answer.status.as_u16()));
                return Err(NotPaired::Field(TOKEN, format!("does not open this number at WhatsApp: {error}")));
            }
            let mut random = [0_u8; 24];
            getrandom::fill(&mut random).map_err(|err| unasked(format!("no random bytes: {err}")))?;
            given.set(VERIFY, &random.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
            let shown = said.get("display_phone_number").and_then(Value::as_str).unwrap_or(&number);
            Ok(Account { label: shown.chars().take(100).collect(), identity: Some(number) })
        })
    }

    fn verify(&self, incoming: &Incoming, with: &Credentials, _now: UnixMs) -> Result<(), NotGenuine> {
        let genuine = if incoming.method == Method::GET {
            let token = incoming.param("hub.verify_token").unwrap_or_default();
            incoming.param("hub.mode").as_deref() == Some("subscribe") && signature::same(with.of(VERIFY), &token)
        } else {
            // No time is signed: what comes again is known by its id.
            let proof = incoming.header("x-hub-signature-256").and_then(|text| text.strip_prefix("sha256="));
            proof.is_some_and(|proof| signature::hmac_hex(with.of(SECRET).as_bytes(), &[&incoming.body], proof))
        };
        if genuine { Ok(()) } else { Err(NotGenuine) }
    }

    fn parse(&self, incoming: &Incoming, place: Place<'_>) -> Result<Parsed, Unreadable> {
        if incoming.method == Method::GET {
            return incoming.param("hub.challenge").map(Parsed::Echo).ok_or(Unreadable("hub.challenge is missing"));
        }
        let body: Body =
            serde_json::from_slice(&incoming.body).map_err(|_| Unreadable("the body is no event of WhatsApp's"))?;
        let changes = body.entry.into_iter().flat_map(|entry| entry.changes);
        let changed: Vec<Changed> = changes
            .filter(|change| change.field.as_deref() == Some("messages"))
            .filter_map(|change| change.value)
            .collect();
        let is_ours =
            |one: &Changed| one.metadata.as_ref().is_some_and(|metadata| metadata.phone_number_id == place.identity);
        if !changed.is_empty() && !changed.iter().any(is_ours) {
            return Ok(Parsed::Foreign);
        }
        let ours = changed.into_iter().filter(is_ours);
        Ok(Parsed::Messages(ours.flat_map(|one| messages(one, place.identity)).collect()))
    }

    fn part_units(&self) -> usize {
        PART_UNITS
    }

    fn reply<'a>(&'a self, part: Outgoing<'a>, with: &'a Credentials) -> Doing<'a, Result<(), NotSent>> {
        Box::pin(async move {
            if part.now.0.saturating_sub(part.received_at.0) >= WINDOW_MS {
                return Err(NotSent::never("a day has passed since the message: WhatsApp takes no free text any more"));
            }
            let (to, message) =
                part.reply_to.split_once(' ').ok_or_else(|| NotSent::never("nobody knows where it goes"))?;
            let body = json!({
                "messaging_product": "whatsapp",
                "recipient_type": "individual",
                "to": to,
                "context": {"message_id": message},
                "type": "text",
                "text": {"preview_url": false, "body": part.text},
            });
            let path = [with.of(NUMBER), "messages"];
            let answer = self
                .calls
                .post_beneath((reachable(self.url.as_ref())?, &path), headers(with.of(TOKEN))?, body.to_string())
                .await?;
            judge(&answer)
        })
    }
}

fn messages(changed: Changed, number: &str) -> Vec<NewMessage> {
    let name = |from: &str| {
        let contact = changed.contacts.iter().find(|contact| contact.wa_id.as_deref() == Some(from));
        let name = contact.and_then(|contact| contact.profile.as_ref()).and_then(|profile| profile.name.as_deref());
        name.unwrap_or_default().chars().take(100).collect::<String>()
    };
    let plain = |text: &str| !text.is_empty() && text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic());
    let read = |message: &Message| {
        let text = message.text.as_ref().map(|text| text.body.as_str());
        let text = text.or_else(|| message.button.as_ref().map(|button| button.text.as_str()))?.trim();
        let fits = !text.is_empty() && plain(&message.id) && plain(&message.from);
        fits.then(|| NewMessage {
            event: message.id.clone(),
            sender: message.from.clone(),
            label: name(&message.from),
            session: format!("whatsapp:{number}:{}", message.from),
            text: text.to_owned(),
            reply_to: format!("{} {}", message.from, message.id),
        })
    };
    changed.messages.iter().filter_map(read).collect()
}

fn headers(token: &str) -> Result<HeaderMap, NotSent> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| NotSent::never("the access token is no header"))?;
    bearer.set_sensitive(true);
    headers.insert(AUTHORIZATION, bearer);
    Ok(headers)
}

/// The provider's word: its code and its title.
fn error_of(said: &Value) -> Option<String> {
    let error = said.get("error")?;
    let message = error.get("message").and_then(Value::as_str)?;
    let code = error.get("code").and_then(Value::as_i64).unwrap_or(0);
    Some(format!("{code} {}", message.chars().take(150).collect::<String>()))
}

/// Codes of the reference: 4, 80007, 130429 and 131056 are rate limits; 131047 is the window of a day.
pub(super) fn judge(answer: &Answer) -> Result<(), NotSent> {
    if answer.status.is_success() {
        return Ok(());
    }
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let code = said.pointer("/error/code").and_then(Value::as_i64);
    let why = error_of(&said).map_or_else(
        || format!("WhatsApp answered {}", answer.status.as_u16()),
        |error| format!("WhatsApp refused: {error}"),
    );
    let passing = answer.status.is_server_error()
        || answer.status == StatusCode::TOO_MANY_REQUESTS
        || matches!(code, Some(1 | 2 | 4 | 80_007 | 130_429 | 131_000 | 131_016 | 131_056));
    Err(NotSent { why, then: if passing { Then::Again(None) } else { Then::Never } })
}
