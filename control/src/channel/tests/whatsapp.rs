use std::sync::LazyLock;

use hmac::{Hmac, KeyInit, Mac};
use openclawmu_store::UnixMs;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::Sha256;

use super::scene::{NOW, answer, calls, credentials, get, nowhere, post};
use crate::channel::adapter::{Adapter, NotGenuine, Outgoing, Parsed, Place, Then};
use crate::channel::whatsapp::{Whatsapp, judge};

const PLACE: Place<'static> = Place { channel: "cb_1", identity: "106540352242922" };
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// One for all: a client reads the system's certificates.
fn whatsapp() -> &'static Whatsapp {
    static ONE: LazyLock<Whatsapp> = LazyLock::new(|| Whatsapp { calls: calls(), url: nowhere() });
    &ONE
}

/// A batch as "Webhooks, Payload examples" has it, for numbers and texts.
fn batch(of: &[(&str, &str, &str)]) -> Value {
    let change = |(number, id, text): &(&str, &str, &str)| {
        json!({"field": "messages", "value": {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "15550783881", "phone_number_id": number},
            "contacts": [{"profile": {"name": "Sheena Nelson"}, "wa_id": "16505551234"}],
            "messages": [{"from": "16505551234", "id": id, "timestamp": "1749416383", "type": "text", "text": {"body": text}}],
        }})
    };
    let changes: Vec<Value> = of.iter().map(change).collect();
    json!({"object": "whatsapp_business_account", "entry": [{"id": "102290129340398", "changes": changes}]})
}

fn parsed(body: &Value) -> Parsed {
    whatsapp().parse(&post(&[], body.to_string().as_bytes()), PLACE).unwrap()
}

/// C-01
#[test]
fn c_01_a_body_is_genuine_under_the_app_secret_alone() {
    let body = batch(&[(PLACE.identity, "wamid.1", "hello")]).to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let proof: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let (name, value) = ("x-hub-signature-256", format!("sha256={proof}"));
    let (adapter, with) = (whatsapp(), credentials(&[("app_secret", SECRET)]));
    assert_eq!(adapter.verify(&post(&[(name, &value)], body.as_bytes()), &with, NOW), Ok(()));
    let changed = body.replace("hello", "hallo");
    assert_eq!(adapter.verify(&post(&[(name, &value)], changed.as_bytes()), &with, NOW), Err(NotGenuine));
    for bad in [&proof, "", "sha256=", &value.replace("sha256", "sha1"), &value[..70]] {
        assert_eq!(adapter.verify(&post(&[(name, bad)], body.as_bytes()), &with, NOW), Err(NotGenuine), "{bad}");
    }
    assert_eq!(adapter.verify(&post(&[], body.as_bytes()), &with, NOW), Err(NotGenuine));
    assert_eq!(adapter.verify(&post(&[(name, &value)], body.as_bytes()), &credentials(&[]), NOW), Err(NotGenuine));
}

#[test]
fn the_challenge_is_answered_to_whoever_knows_the_verify_token() {
    let (adapter, with) = (whatsapp(), credentials(&[("verify_token", "meatyhamhock")]));
    let asked = get("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock");
    assert_eq!(adapter.verify(&asked, &with, NOW), Ok(()));
    assert_eq!(adapter.parse(&asked, PLACE), Ok(Parsed::Echo("1158201444".to_owned())));
    for bad in ["", "hub.mode=subscribe&hub.challenge=1", "hub.mode=subscribe&hub.challenge=1&hub.verify_token=x"] {
        assert_eq!(adapter.verify(&get(bad), &with, NOW), Err(NotGenuine), "{bad}");
    }
    let empty = get("hub.mode=subscribe&hub.challenge=1&hub.verify_token=");
    assert_eq!(adapter.verify(&empty, &credentials(&[]), NOW), Err(NotGenuine), "no token is no token");
}

/// C-05
#[test]
fn c_05_of_a_batch_only_what_names_the_channels_own_number_is_taken() {
    let mixed =
        batch(&[(PLACE.identity, "wamid.1", "mine"), ("999", "wamid.2", "theirs"), (PLACE.identity, "wamid.3", "too")]);
    let Parsed::Messages(said) = parsed(&mixed) else { panic!("messages") };
    assert_eq!(said.iter().map(|one| one.text.as_str()).collect::<Vec<_>>(), ["mine", "too"]);
    assert_eq!((said[0].event.as_str(), said[0].label.as_str()), ("wamid.1", "Sheena Nelson"));
    assert_eq!(said[0].session, "whatsapp:106540352242922:16505551234");
    assert_eq!(parsed(&batch(&[("999", "wamid.2", "theirs")])), Parsed::Foreign);
    let status = json!({"entry": [{"changes": [{"field": "messages", "value": {
        "metadata": {"phone_number_id": PLACE.identity}, "statuses": [{"id": "wamid.1", "status": "read"}]}}]}]});
    assert_eq!(parsed(&status), Parsed::Messages(Vec::new()), "what became of an answer is no message");
    assert_eq!(parsed(&json!({})), Parsed::Messages(Vec::new()));
}

#[tokio::test]
async fn a_day_after_the_message_nothing_is_sent() {
    let (adapter, with) = (whatsapp(), credentials(&[("phone_number_id", "1"), ("access_token", "t")]));
    let at = |ms: i64| Outgoing {
        id: "msg_1",
        reply_to: "16505551234 wamid.1",
        text: "hi",
        received_at: NOW,
        made_at: NOW,
        now: UnixMs(NOW.0 + ms),
    };
    let late = adapter.reply(at(24 * 3_600_000), &with).await.unwrap_err();
    assert_eq!(late.then, Then::Never);
    let in_time = adapter.reply(at(24 * 3_600_000 - 1), &with).await.unwrap_err();
    assert_eq!(in_time.then, Then::Again(None), "it was tried, and nobody is there");
}

#[test]
fn rate_limits_pass_and_a_closed_window_does_not() {
    assert_eq!(judge(&answer(200, &[], "{}")), Ok(()));
    let of = |status: u16, code: i64| {
        judge(&answer(status, &[], &json!({"error": {"message": "m", "code": code}}).to_string())).unwrap_err().then
    };
    assert_eq!((of(400, 131_047), of(401, 190)), (Then::Never, Then::Never));
    assert_eq!((of(400, 130_429), of(429, 0), of(500, 0)), (Then::Again(None), Then::Again(None), Then::Again(None)));
}

proptest! {
    #[test]
    fn whatever_is_signed_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), query in "\\PC{0,60}", text in "\\PC{0,60}") {
        let adapter = whatsapp();
        drop(adapter.parse(&post(&[], &body), PLACE));
        drop(adapter.parse(&get(&query), PLACE));
        let Parsed::Messages(said) = parsed(&batch(&[(PLACE.identity, "wamid.1", &text)])) else { panic!("messages") };
        prop_assert_eq!(said.len(), usize::from(!text.trim().is_empty()));
    }
}
