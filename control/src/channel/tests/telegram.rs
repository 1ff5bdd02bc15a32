use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::scene::{NOW, answer, calls, credentials, nowhere, post};
use crate::channel::adapter::{Adapter, NotGenuine, Parsed, Place, Then};
use crate::channel::telegram::{Telegram, judge};

const PLACE: Place<'static> = Place { channel: "cb_1", identity: "42" };

/// One for all: a client reads the system's certificates.
fn telegram() -> &'static Telegram {
    static ONE: LazyLock<Telegram> = LazyLock::new(|| Telegram { calls: calls(), url: nowhere() });
    &ONE
}

fn update(chat: (&str, i64), text: &str) -> Value {
    json!({"update_id": 10_000, "message": {"message_id": 1365, "date": 1_441_645_532, "text": text,
        "from": {"id": 1111, "is_bot": false, "first_name": "Test"}, "chat": {"id": chat.1, "type": chat.0}}})
}

fn parsed(body: &Value) -> Parsed {
    telegram().parse(&post(&[], body.to_string().as_bytes()), PLACE).unwrap()
}

#[test]
fn c_01_only_the_secret_that_telegram_was_told_is_genuine() {
    let (adapter, with, name) =
        (telegram(), credentials(&[("secret_token", "5ec7e7")]), "x-telegram-bot-api-secret-token");
    assert_eq!(adapter.verify(&post(&[(name, "5ec7e7")], b"{}"), &with, NOW), Ok(()));
    for bad in [&[][..], &[(name, "")], &[(name, "5ec7e8")], &[(name, "5ec7e7"), (name, "5ec7e7")]] {
        assert_eq!(adapter.verify(&post(bad, b"{}"), &with, NOW), Err(NotGenuine), "{bad:?}");
    }
    assert_eq!(adapter.verify(&post(&[(name, "")], b"{}"), &credentials(&[]), NOW), Err(NotGenuine));
}

#[test]
fn a_person_is_answered_where_they_wrote_and_a_bot_is_not() {
    let Parsed::Messages(said) = parsed(&update(("private", 1111), " hello ")) else { panic!("messages") };
    assert_eq!((said[0].event.as_str(), said[0].sender.as_str(), said[0].text.as_str()), ("10000", "1111", "hello"));
    assert_eq!(said[0].session, "telegram:42:1111");
    let reply_to: Value = serde_json::from_str(&said[0].reply_to).unwrap();
    assert_eq!((&reply_to["chat_id"], &reply_to["reply_parameters"]["message_id"]), (&json!(1111), &json!(1365)));
    let Parsed::Messages(said) = parsed(&update(("group", -5), "hello")) else { panic!("messages") };
    assert_eq!(said[0].session, "telegram:42:-5:1111");
    let mut bot = update(("private", 1111), "hello");
    bot["message"]["from"]["is_bot"] = json!(true);
    for ignored in
        [bot, update(("private", 1), " "), json!({"update_id": 1}), json!({"update_id": 2, "edited_message": {}})]
    {
        assert_eq!(parsed(&ignored), Parsed::Messages(Vec::new()), "{ignored}");
    }
}

#[test]
fn a_blocked_bot_is_not_tried_again_and_a_flood_waits() {
    assert_eq!(judge(&answer(200, &[], "{\"ok\":true}")), Ok(()));
    let then = |status: u16, body: &Value| judge(&answer(status, &[], &body.to_string())).unwrap_err().then;
    let blocked = json!({"ok": false, "error_code": 403, "description": "Forbidden: bot was blocked by the user"});
    assert_eq!(then(403, &blocked), Then::Never);
    let flood = json!({"ok": false, "description": "Too Many Requests", "parameters": {"retry_after": 7}});
    assert_eq!(then(429, &flood), Then::Again(Some(std::time::Duration::from_secs(7))));
    assert_eq!(then(401, &json!({"ok": false})), Then::Disable);
    assert_eq!((then(502, &json!({})), then(200, &json!({}))), (Then::Again(None), Then::Again(None)));
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,60}") {
        drop(telegram().parse(&post(&[], &body), PLACE));
        let Parsed::Messages(said) = parsed(&update(("private", 1), &text)) else { panic!("messages") };
        prop_assert_eq!(said.len(), usize::from(!text.trim().is_empty()));
    }
}
