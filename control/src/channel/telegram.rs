//! Telegram's Bot API (core.telegram.org/bots/api): `setWebhook` once, updates in, `sendMessage` out.
//!
//! The secret of the webhook is made here and told to Telegram, so that nobody has to paste a URL. In a group the bot answers whom
//! it can see, each in a conversation of its own.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
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

/// The longest message, by the reference of `sendMessage`.
const PART_UNITS: usize = 4_096;
const TOKEN: &str = "bot_token";
const SECRET: &str = "secret_token";

pub(super) struct Telegram {
    pub(super) calls: OperatorCalls,
    pub(super) url: Option<OutboundUrl>,
}

#[derive(Deserialize)]
struct Update {
    update_id: i64,
    message: Option<Message>,
}

#[derive(Deserialize)]
struct Message {
    message_id: i64,
    from: Option<User>,
    chat: Chat,
    text: Option<String>,
}

#[derive(Deserialize)]
struct User {
    id: i64,
    #[serde(default)]
    is_bot: bool,
    first_name: Option<String>,
}

#[derive(Deserialize)]
struct Chat {
    id: i64,
    #[serde(rename = "type")]
    kind: String,
}

impl Adapter for Telegram {
    fn guide(&self) -> Guide {
        Guide {
            before: &[
                "In Telegram, write /newbot to @BotFather and answer its two questions.",
                "Copy the token that it gives you, and paste it here.",
            ],
            fields: &[Field { name: TOKEN, label: "Bot token", example: "110201543:AAH…", secret: true }],
            after: &[
                "Telegram was told where to send what people write to the bot ({url}): there is nothing to paste.",
                "Open the chat with your bot and write “hello”: the answer comes to that chat.",
            ],
        }
    }

    fn pair<'a>(&'a self, given: &'a mut Credentials, url: &'a str) -> Doing<'a, Result<Account, NotPaired>> {
        Box::pin(async move {
            let token = required(given, TOKEN, 20)?;
            let is_token = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_-".contains(&byte));
            if !is_token {
                return Err(NotPaired::Field(TOKEN, "is digits, a colon, and letters behind it".to_owned()));
            }
            let unasked = |why: String| NotPaired::Provider(format!("Telegram can't be asked: {why}"));
            let said = self.ask(&token, "getMe", &json!({})).await.map_err(|err| unasked(err.why))?;
            let (Some(id), Some(name)) = (
                said.pointer("/result/id").and_then(Value::as_i64),
                said.pointer("/result/username").and_then(Value::as_str),
            ) else {
                return Err(NotPaired::Field(TOKEN, format!("is refused by Telegram: {}", description(&said))));
            };
            let mut random = [0_u8; 32];
            getrandom::fill(&mut random).map_err(|err| unasked(format!("no random bytes: {err}")))?;
            let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            let hook = json!({"url": url, "secret_token": secret, "allowed_updates": ["message"]});
            let set = self.ask(&token, "setWebhook", &hook).await.map_err(|err| unasked(err.why))?;
            if set.get("ok").and_then(Value::as_bool) != Some(true) {
                return Err(NotPaired::Provider(format!("Telegram does not take {url}: {}", description(&set))));
            }
            given.set(SECRET, &secret);
            Ok(Account {
                identity: Some(id.to_string()),
                label: format!("@{}", name.chars().take(64).collect::<String>()),
            })
        })
    }

    fn verify(&self, incoming: &Incoming, with: &Credentials, _now: UnixMs) -> Result<(), NotGenuine> {
        // No time is signed: what comes again is known by its id.
        let told = incoming.header("x-telegram-bot-api-secret-token").unwrap_or_default();
        if signature::same(with.of(SECRET), told) { Ok(()) } else { Err(NotGenuine) }
    }

    fn parse(&self, incoming: &Incoming, place: Place<'_>) -> Result<Parsed, Unreadable> {
        let update: Update =
            serde_json::from_slice(&incoming.body).map_err(|_| Unreadable("the body is no update of Telegram's"))?;
        Ok(Parsed::Messages(message(update, place.identity).into_iter().collect()))
    }

    fn part_units(&self) -> usize {
        PART_UNITS
    }

    fn reply<'a>(&'a self, part: Outgoing<'a>, with: &'a Credentials) -> Doing<'a, Result<(), NotSent>> {
        Box::pin(async move {
            let mut body: Value =
                serde_json::from_str(part.reply_to).map_err(|_| NotSent::never("nobody knows where it goes"))?;
            if let Some(fields) = body.as_object_mut() {
                fields.insert("text".to_owned(), part.text.into());
            }
            let answer = self.call(with.of(TOKEN), "sendMessage", &body).await?;
            judge(&answer)
        })
    }
}

impl Telegram {
    async fn call(&self, token: &str, method: &str, body: &Value) -> Result<Answer, NotSent> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let path = [&*format!("bot{token}"), method];
        Ok(self.calls.post_beneath((reachable(self.url.as_ref())?, &path), headers, body.to_string()).await?)
    }

    async fn ask(&self, token: &str, method: &str, body: &Value) -> Result<Value, NotSent> {
        let answer = self.call(token, method, body).await?;
        Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
    }
}

fn message(update: Update, bot: &str) -> Option<NewMessage> {
    let message = update.message?;
    let from = message.from.filter(|from| !from.is_bot)?;
    let text = message.text?.trim().to_owned();
    if text.is_empty() {
        return None;
    }
    let (user, chat) = (from.id, message.chat.id);
    let session = if message.chat.kind == "private" {
        format!("telegram:{bot}:{user}")
    } else {
        format!("telegram:{bot}:{chat}:{user}")
    };
    let reply_to = json!({
        "chat_id": chat,
        "reply_parameters": {"message_id": message.message_id, "allow_sending_without_reply": true},
    });
    Some(NewMessage {
        event: update.update_id.to_string(),
        sender: user.to_string(),
        label: from.first_name.unwrap_or_default().chars().take(100).collect(),
        session,
        text,
        reply_to: reply_to.to_string(),
    })
}

fn description(said: &Value) -> String {
    let text = said.get("description").and_then(Value::as_str).unwrap_or("no answer that can be read");
    text.chars().take(150).collect()
}

pub(super) fn judge(answer: &Answer) -> Result<(), NotSent> {
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status.is_success() && said.get("ok").and_then(Value::as_bool) == Some(true) {
        return Ok(());
    }
    let why = format!("Telegram answered {}: {}", answer.status.as_u16(), description(&said));
    let wait = said.pointer("/parameters/retry_after").and_then(Value::as_u64).map(Duration::from_secs);
    let then = match answer.status {
        StatusCode::TOO_MANY_REQUESTS => Then::Again(wait),
        // The token was revoked, or the bot deleted.
        StatusCode::UNAUTHORIZED => Then::Disable,
        status if status.is_client_error() => Then::Never,
        _ => Then::Again(wait),
    };
    Err(NotSent { why, then })
}
