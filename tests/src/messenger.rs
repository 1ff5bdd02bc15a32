//! What stands in for the providers of messengers: Slack's Web API, Meta's Graph API, Telegram's Bot API, and a tenant's own receiver,
//! each answering as its reference says; and the signatures that they send with.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::listening::Listening;
use crate::raw::{self, Message};
use crate::wait;

/// Credentials that the stand-in takes; distinctive, so that a leak can be searched for.
pub const SLACK_TOKEN: &str = "xoxb-canary-17653672481-19874698323-pdFZKVeTuE8sk7oOcBrzbqgy";
/// A second workspace's.
pub const OTHER_SLACK_TOKEN: &str = "xoxb-canary-27653672481-29874698323-pdFZKVeTuE8sk7oOcBrzbqgy";
/// What Slack signs with.
pub const SLACK_SECRET: &str = "8f742231b10e8888abcd99canaryz85a5";
/// Meta's access token, and what it signs with.
pub const WHATSAPP_TOKEN: &str = "EAAcanaryAccessToken0123456789";
/// See [`WHATSAPP_TOKEN`].
pub const WHATSAPP_SECRET: &str = "0123456789abcdefcanary6789abcdef";
/// The number's id.
pub const WHATSAPP_NUMBER: &str = "106540352242922";
/// A bot's token.
pub const TELEGRAM_TOKEN: &str = "110201543:AAHcanaryMbotTokenGbZ34aAAaBB";
/// What webhooks are signed with.
pub const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[derive(Default)]
struct State {
    received: Mutex<Vec<Message>>,
    statuses: Mutex<VecDeque<u16>>,
}

/// A running stand-in; it ends with its handle.
pub struct Messenger {
    listening: Listening,
    state: Arc<State>,
}

impl Messenger {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let listening = Listening::start(move |stream| {
            let state = Arc::clone(&shared);
            async move { serve(stream, &state).await }
        })
        .await;
        Self { listening, state }
    }

    /// Where.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// The `[channels]` of a gateway that knows no other provider.
    #[must_use]
    pub fn config(&self) -> String {
        let at = self.address();
        format!(
            "[channels]\nslack_url = \"http://{at}/api\"\nwhatsapp_url = \"http://{at}/v23.0\"\ntelegram_url = \"http://{at}\"\ninternal_hosts = [\"{at}\"]\n"
        )
    }

    /// The next answers that go out get these statuses, the ones after them 200.
    pub fn answer(&self, statuses: &[u16]) {
        self.state.statuses.lock().expect("unpoisoned").extend(statuses);
    }

    /// What was sent to people so far, in order.
    #[must_use]
    pub fn sent(&self) -> Vec<Message> {
        let received = self.state.received.lock().expect("unpoisoned");
        received.iter().filter(|message| is_answer(message.target())).cloned().collect()
    }

    /// All requests of this method of an API.
    #[must_use]
    pub fn calls(&self, method: &str) -> Vec<Message> {
        let received = self.state.received.lock().expect("unpoisoned");
        received.iter().filter(|message| message.target().ends_with(method)).cloned().collect()
    }

    /// What was sent to people once there is so much; panics when there is more.
    pub async fn sent_once(&self, count: usize) -> Vec<Message> {
        let sent = wait::until(&format!("{count} answers"), || async {
            let sent = self.sent();
            (sent.len() >= count).then_some(sent)
        })
        .await;
        assert_eq!(sent.len(), count, "{sent:#?}");
        sent
    }
}

fn is_answer(target: &str) -> bool {
    target == "/api/chat.postMessage"
        || target == "/replies"
        || target.ends_with("/messages")
        || target.ends_with("/sendMessage")
}

async fn serve(stream: TcpStream, state: &State) {
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = Vec::new();
    while let Some(message) = raw::read_request(&mut reader, &mut buffer).await {
        let (mut status, mut body) = answer(&message);
        if is_answer(message.target())
            && let Some(scripted) = state.statuses.lock().expect("unpoisoned").pop_front()
        {
            (status, body) = (scripted, json!({"ok": false, "error": "scripted"}));
        }
        state.received.lock().expect("unpoisoned").push(message);
        let body = body.to_string();
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if writer.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// What each provider says to a request, by its reference.
fn answer(message: &Message) -> (u16, Value) {
    let bearer = message.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let slack = |team: &str, body: Value| match message.target() {
        "/api/auth.test" => json!({"ok": true, "team": "Acme", "team_id": team, "user_id": "UBOT", "bot_id": "B1"}),
        _ => body,
    };
    match (message.method(), message.target()) {
        ("POST", "/api/auth.test" | "/api/chat.postMessage") => {
            let posted = json!({"ok": true, "ts": "1503435956.000247"});
            let said = match bearer {
                SLACK_TOKEN => slack("T1", posted),
                OTHER_SLACK_TOKEN => slack("T2", posted),
                _ => json!({"ok": false, "error": "invalid_auth"}),
            };
            (200, said)
        }
        ("GET", target) if target == format!("/v23.0/{WHATSAPP_NUMBER}") && bearer == WHATSAPP_TOKEN => {
            (200, json!({"id": WHATSAPP_NUMBER, "display_phone_number": "+1 555-078-3881", "verified_name": "Acme"}))
        }
        ("POST", target) if target == format!("/v23.0/{WHATSAPP_NUMBER}/messages") && bearer == WHATSAPP_TOKEN => {
            (200, json!({"messaging_product": "whatsapp", "messages": [{"id": "wamid.answer"}]}))
        }
        (_, target) if target.starts_with("/v23.0/") => {
            (401, json!({"error": {"message": "Invalid OAuth access token.", "type": "OAuthException", "code": 190}}))
        }
        ("POST", target) => match target.strip_prefix(&format!("/bot{TELEGRAM_TOKEN}")) {
            Some("/getMe") => (200, json!({"ok": true, "result": {"id": 42, "is_bot": true, "username": "acme_bot"}})),
            Some("/setWebhook") => (200, json!({"ok": true, "result": true})),
            Some("/sendMessage") => (200, json!({"ok": true, "result": {"message_id": 7}})),
            _ if target.starts_with("/bot") => (401, json!({"ok": false, "description": "Unauthorized"})),
            _ if target == "/replies" => (200, json!({})),
            _ => (404, json!({})),
        },
        _ => (404, json!({})),
    }
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from(real).expect("small")
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The headers by which Slack proves a body that it sends at `at`.
#[must_use]
pub fn slack_headers(at: i64, body: &str) -> Vec<(String, String)> {
    let proof = hex(&hmac(SLACK_SECRET.as_bytes(), &[format!("v0:{at}:").as_bytes(), body.as_bytes()]));
    vec![
        ("x-slack-request-timestamp".to_owned(), at.to_string()),
        ("x-slack-signature".to_owned(), format!("v0={proof}")),
    ]
}

/// The header by which Meta proves a body.
#[must_use]
pub fn whatsapp_headers(body: &str) -> Vec<(String, String)> {
    let proof = hex(&hmac(WHATSAPP_SECRET.as_bytes(), &[body.as_bytes()]));
    vec![("x-hub-signature-256".to_owned(), format!("sha256={proof}"))]
}

/// The headers of Standard Webhooks for a body that is sent at `at`.
#[must_use]
pub fn webhook_headers((id, at): (&str, i64), body: &str) -> Vec<(String, String)> {
    let key = STANDARD.decode(WEBHOOK_SECRET.trim_start_matches("whsec_")).expect("base64");
    let proof = STANDARD.encode(hmac(&key, &[format!("{id}.{at}.").as_bytes(), body.as_bytes()]));
    vec![
        ("webhook-id".to_owned(), id.to_owned()),
        ("webhook-timestamp".to_owned(), at.to_string()),
        ("webhook-signature".to_owned(), format!("v1,{proof}")),
    ]
}
