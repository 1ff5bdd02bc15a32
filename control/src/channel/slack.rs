//! Slack: the Events API in, `chat.postMessage` out (docs.slack.dev: "Verifying requests from Slack", "The Events API").
//!
//! A channel is paired with one bot in one workspace: `T…:U…`. An event counts where its `team_id` is that workspace and, if it
//! says for whom it was sent, that bot is among them. Direct messages are taken, and elsewhere what names the bot. Who speaks in
//! a channel has another conversation than in private: what was said there is not for everybody.

use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use openclawmu_store::{NewMessage, UnixMs};
use serde::Deserialize;
use serde_json::{Value, json};

use super::adapter::{
    Account, Adapter, Doing, Field, Guide, Incoming, MAX_TEXT_BYTES, NotGenuine, NotPaired, NotSent, Outgoing, Parsed,
    Place, Then, Unreadable, WINDOW_SECONDS, reachable, required,
};
use super::credential::Credentials;
use super::signature;
use crate::outbound::{Answer, OperatorCalls, OutboundUrl};

/// The longest text that Slack advises for one message.
const PART_UNITS: usize = 4_000;
const TOKEN: &str = "bot_token";
const SECRET: &str = "signing_secret";
/// Errors that go away (docs.slack.dev, "chat.postMessage", errors).
const PASSING: [&str; 6] =
    ["ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"];

pub(super) struct Slack {
    pub(super) calls: OperatorCalls,
    pub(super) url: Option<OutboundUrl>,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    challenge: Option<String>,
    team_id: Option<String>,
    event_id: Option<String>,
    event: Option<Event>,
    #[serde(default)]
    authorizations: Vec<Authorization>,
}

#[derive(Deserialize)]
struct Authorization {
    team_id: Option<String>,
    user_id: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    subtype: Option<String>,
    bot_id: Option<String>,
    user: Option<String>,
    text: Option<String>,
    channel: Option<String>,
    channel_type: Option<String>,
    ts: Option<String>,
    thread_ts: Option<String>,
}

impl Adapter for Slack {
    fn guide(&self) -> Guide {
        Guide {
            before: &[
                "Open https://api.slack.com/apps, choose “Create New App”, “From scratch”, and your workspace.",
                "Under “OAuth & Permissions” add the bot token scopes chat:write, im:history and app_mentions:read. Under “App Home” switch the Messages Tab on and allow messages to the app.",
                "Choose “Install to Workspace”. Copy the Bot User OAuth Token from “OAuth & Permissions”, and the Signing Secret from “Basic Information”, and paste both here.",
            ],
            fields: &[
                Field { name: TOKEN, label: "Bot User OAuth Token", example: "xoxb-…", secret: true },
                Field { name: SECRET, label: "Signing Secret", example: "32 hexadecimal digits", secret: true },
            ],
            after: &[
                "Under “Event Subscriptions” switch events on and paste this Request URL; Slack says “Verified” at once: {url}",
                "Under “Subscribe to bot events” add message.im and app_mention, and save.",
                "Send the app a direct message, for example “hello”: the answer comes in a thread below it.",
            ],
        }
    }

    fn pair<'a>(&'a self, given: &'a mut Credentials, _url: &'a str) -> Doing<'a, Result<Account, NotPaired>> {
        Box::pin(async move {
            let token = required(given, TOKEN, 20)?;
            required(given, SECRET, 20)?;
            let answer = self.call("auth.test", &token, &json!({})).await;
            let answer = answer.map_err(|err| NotPaired::Provider(format!("Slack can't be asked: {}", err.why)))?;
            let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let text = |name: &str| said.get(name).and_then(Value::as_str);
            match (said.get("ok").and_then(Value::as_bool), text("team_id"), text("user_id")) {
                (Some(true), Some(team), Some(user)) => Ok(Account {
                    identity: Some(format!("{team}:{user}")),
                    label: text("team").unwrap_or(team).chars().take(100).collect(),
                }),
                _ => {
                    let error: String =
                        text("error").unwrap_or("no answer that can be read").chars().take(100).collect();
                    Err(NotPaired::Field(TOKEN, format!("is refused by Slack: {error}")))
                }
            }
        })
    }

    fn verify(&self, incoming: &Incoming, with: &Credentials, now: UnixMs) -> Result<(), NotGenuine> {
        let at = incoming.header("x-slack-request-timestamp").ok_or(NotGenuine)?;
        let seconds: i64 = at.parse().map_err(|_| NotGenuine)?;
        let proof = incoming.header("x-slack-signature").and_then(|text| text.strip_prefix("v0=")).ok_or(NotGenuine)?;
        let parts: [&[u8]; 4] = [b"v0:", at.as_bytes(), b":", &incoming.body];
        let genuine = signature::hmac_hex(with.of(SECRET).as_bytes(), &parts, proof);
        let age = now.0.div_euclid(1_000).saturating_sub(seconds).saturating_abs();
        if genuine && age <= WINDOW_SECONDS { Ok(()) } else { Err(NotGenuine) }
    }

    fn parse(&self, incoming: &Incoming, place: Place<'_>) -> Result<Parsed, Unreadable> {
        let said: Envelope =
            serde_json::from_slice(&incoming.body).map_err(|_| Unreadable("the body is no event of Slack's"))?;
        if said.kind == "url_verification" {
            return said.challenge.map(Parsed::Echo).ok_or(Unreadable("challenge is missing"));
        }
        let (team, bot) = place.identity.split_once(':').unwrap_or_default();
        let is_ours = |one: &Authorization| {
            one.user_id.as_deref() == Some(bot) && one.team_id.as_deref().is_none_or(|named| named == team)
        };
        if said.team_id.as_deref() != Some(team)
            || !(said.authorizations.is_empty() || said.authorizations.iter().any(is_ours))
        {
            return Ok(Parsed::Foreign);
        }
        let (Some(event), Some(id)) = (said.event, said.event_id) else { return Ok(Parsed::Messages(Vec::new())) };
        Ok(Parsed::Messages(message(event, id, (team, bot)).into_iter().collect()))
    }

    fn part_units(&self) -> usize {
        PART_UNITS
    }

    fn reply<'a>(&'a self, part: Outgoing<'a>, with: &'a Credentials) -> Doing<'a, Result<(), NotSent>> {
        Box::pin(async move {
            let mut body: Value =
                serde_json::from_str(part.reply_to).map_err(|_| NotSent::never("nobody knows where it goes"))?;
            if let Some(fields) = body.as_object_mut() {
                fields.insert("text".to_owned(), escape(part.text).into());
            }
            judge(&self.call("chat.postMessage", with.of(TOKEN), &body).await?)
        })
    }
}

impl Slack {
    async fn call(&self, method: &str, token: &str, body: &Value) -> Result<Answer, NotSent> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| NotSent::never("the bot token is no header"))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        Ok(self.calls.post_beneath((reachable(self.url.as_ref())?, &[method]), headers, body.to_string()).await?)
    }
}

/// What an event says to the bot, if anything.
fn message(event: Event, id: String, (team, bot): (&str, &str)) -> Option<NewMessage> {
    let is_direct = event.kind == "message" && event.channel_type.as_deref() == Some("im");
    let by_a_person = event.bot_id.is_none() && matches!(event.subtype.as_deref(), None | Some("file_share"));
    let (user, channel, ts) = (event.user?, event.channel?, event.ts?);
    if !(is_direct || event.kind == "app_mention") || !by_a_person || user == bot {
        return None;
    }
    let text = unescape(event.text?.replace(&format!("<@{bot}>"), "").trim());
    if text.is_empty() || text.len() > MAX_TEXT_BYTES {
        return None;
    }
    let session = if is_direct { format!("slack:{team}:{user}") } else { format!("slack:{team}:{channel}:{user}") };
    let reply_to = json!({"channel": channel, "thread_ts": event.thread_ts.unwrap_or(ts)}).to_string();
    Some(NewMessage { event: id, sender: user, label: String::new(), session, text, reply_to })
}

/// Slack writes three characters as entities, and no others.
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// The same the other way: an answer can't mention a channel, or hide a link behind a text.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

pub(super) fn judge(answer: &Answer) -> Result<(), NotSent> {
    let wait = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    if answer.status == StatusCode::TOO_MANY_REQUESTS {
        let then = Then::Again(wait.map(std::time::Duration::from_secs));
        return Err(NotSent { why: "Slack asks to wait (429)".to_owned(), then });
    }
    if !answer.status.is_success() {
        return Err(NotSent::again(format!("Slack answered {}", answer.status.as_u16())));
    }
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (said.get("ok").and_then(Value::as_bool), said.get("error").and_then(Value::as_str)) {
        (Some(true), _) => Ok(()),
        (_, Some(error)) if PASSING.contains(&error) => Err(NotSent::again(format!("Slack answered {error}"))),
        (_, Some(error)) => Err(NotSent::never(format!("Slack refused: {error}"))),
        (_, None) => Err(NotSent::again("Slack's answer can't be read")),
    }
}
