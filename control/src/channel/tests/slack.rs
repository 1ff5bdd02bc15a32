use std::sync::LazyLock;

use openclawmu_store::UnixMs;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::scene::{NOW, answer, calls, credentials, nowhere, post};
use crate::channel::adapter::{Adapter, NotGenuine, Parsed, Place, Then};
use crate::channel::slack::{Slack, judge};

const PLACE: Place<'static> = Place { channel: "cb_1", identity: "T1:UBOT" };

/// One for all: a client reads the system's certificates.
fn slack() -> &'static Slack {
    static ONE: LazyLock<Slack> = LazyLock::new(|| Slack { calls: calls(), url: nowhere() });
    &ONE
}

fn parsed(body: &Value) -> Parsed {
    slack().parse(&post(&[], body.to_string().as_bytes()), PLACE).unwrap()
}

fn envelope(event: &Value) -> Value {
    json!({"type": "event_callback", "team_id": "T1", "api_app_id": "A1", "event_id": "Ev1", "event": event,
        "authorizations": [{"team_id": "T1", "user_id": "UBOT", "is_bot": true}]})
}

fn direct(text: &str) -> Value {
    json!({"type": "message", "channel_type": "im", "user": "U1", "text": text, "channel": "D1", "ts": "17.5"})
}

/// The example of "Verifying requests from Slack", and C-01: wrong, late, changed
#[test]
fn c_01_slacks_own_example_is_genuine_within_five_minutes_and_nothing_else_is() {
    let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let proof = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    let with = credentials(&[("signing_secret", "8f742231b10e8888abcd99yyyzzz85a5")]);
    let (time, at) = ("x-slack-request-timestamp", "1531420618");
    let headers = [(time, at), ("x-slack-signature", proof)];
    let seconds = |seconds: i64| UnixMs((1_531_420_618 + seconds) * 1_000);
    let adapter = slack();
    for offset in [0, 300, -300] {
        assert_eq!(adapter.verify(&post(&headers, body), &with, seconds(offset)), Ok(()), "{offset}");
    }
    for offset in [301, -301, 86_400] {
        assert_eq!(adapter.verify(&post(&headers, body), &with, seconds(offset)), Err(NotGenuine), "{offset}");
    }
    let bad: [&[(&str, &str)]; 7] = [
        &[],
        &[(time, at)],
        &[("x-slack-signature", proof)],
        &[(time, "1531420619"), ("x-slack-signature", proof)],
        &[(time, "-"), ("x-slack-signature", proof)],
        &[(time, at), ("x-slack-signature", &proof[3..])],
        &[(time, at), ("x-slack-signature", proof), ("x-slack-signature", proof)],
    ];
    for headers in bad {
        assert_eq!(adapter.verify(&post(headers, body), &with, seconds(0)), Err(NotGenuine), "{headers:?}");
    }
    assert_eq!(adapter.verify(&post(&headers, &body[1..]), &with, seconds(0)), Err(NotGenuine), "another body");
    for other in [credentials(&[("signing_secret", "8f742231b10e8888abcd99yyyzzz85a6")]), credentials(&[])] {
        assert_eq!(adapter.verify(&post(&headers, body), &other, seconds(0)), Err(NotGenuine), "another secret");
    }
}

#[test]
fn a_direct_message_and_a_mention_are_answered_in_their_thread_in_conversations_of_their_own() {
    let Parsed::Messages(said) = parsed(&envelope(&direct(" a &lt; b &amp;&amp; c "))) else { panic!("messages") };
    assert_eq!((said[0].event.as_str(), said[0].sender.as_str(), said[0].text.as_str()), ("Ev1", "U1", "a < b && c"));
    assert_eq!(said[0].session, "slack:T1:U1");
    assert_eq!(said[0].reply_to, json!({"channel": "D1", "thread_ts": "17.5"}).to_string());
    let mention = json!({"type": "app_mention", "user": "U1", "text": "<@UBOT> hello", "channel": "C1", "ts": "18",
        "thread_ts": "17"});
    let Parsed::Messages(said) = parsed(&envelope(&mention)) else { panic!("messages") };
    assert_eq!((said[0].session.as_str(), said[0].text.as_str()), ("slack:T1:C1:U1", "hello"));
    assert_eq!(said[0].reply_to, json!({"channel": "C1", "thread_ts": "17"}).to_string());
}

#[test]
fn the_bot_answers_no_bot_and_nothing_that_is_not_for_it() {
    let with = |name: &str, value: Value| {
        let mut event = direct("hello");
        event[name] = value;
        envelope(&event)
    };
    for ignored in [
        with("bot_id", json!("B1")),
        with("subtype", json!("message_changed")),
        with("subtype", json!("bot_message")),
        with("user", json!("UBOT")),
        with("user", Value::Null),
        with("channel_type", json!("channel")),
        with("text", json!("<@UBOT>")),
        with("type", json!("reaction_added")),
        json!({"type": "event_callback", "team_id": "T1"}),
    ] {
        assert_eq!(parsed(&ignored), Parsed::Messages(Vec::new()), "{ignored}");
    }
    let challenge =
        json!({"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"});
    let Parsed::Echo(text) = parsed(&challenge) else { panic!("an echo") };
    assert_eq!(text, challenge["challenge"]);
}

/// C-05
#[test]
fn c_05_an_event_of_another_workspace_or_for_another_bot_is_foreign() {
    let mut other = envelope(&direct("hello"));
    other["team_id"] = json!("T2");
    assert_eq!(parsed(&other), Parsed::Foreign);
    let mut other = envelope(&direct("hello"));
    other["authorizations"] = json!([{"team_id": "T1", "user_id": "UOTHER"}]);
    assert_eq!(parsed(&other), Parsed::Foreign);
    other["authorizations"] = json!([{"team_id": "T2", "user_id": "UBOT"}]);
    assert_eq!(parsed(&other), Parsed::Foreign);
    let mut none = envelope(&direct("hello"));
    none["team_id"] = Value::Null;
    assert_eq!(parsed(&none), Parsed::Foreign);
    let mut older = envelope(&direct("hello"));
    older["authorizations"] = json!([]);
    assert!(matches!(parsed(&older), Parsed::Messages(said) if said.len() == 1), "the twin");
}

#[test]
fn an_error_in_a_200_is_one_and_a_429_says_when() {
    assert_eq!(judge(&answer(200, &[], "{\"ok\":true,\"ts\":\"1\"}")), Ok(()));
    let then = |answer| judge(&answer).unwrap_err().then;
    assert_eq!(then(answer(200, &[], "{\"ok\":false,\"error\":\"channel_not_found\"}")), Then::Never);
    assert_eq!(then(answer(200, &[], "{\"ok\":false,\"error\":\"internal_error\"}")), Then::Again(None));
    assert_eq!(then(answer(200, &[], "not json")), Then::Again(None));
    assert_eq!(then(answer(503, &[], "")), Then::Again(None));
    let wait = Some(std::time::Duration::from_secs(30));
    assert_eq!(then(answer(429, &[("retry-after", "30")], "")), Then::Again(wait));
}

proptest! {
    #[test]
    fn whatever_is_signed_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
        let adapter = slack();
        drop(adapter.parse(&post(&[], &body), PLACE));
        drop(adapter.verify(&post(&[("x-slack-signature", "v0="), ("x-slack-request-timestamp", "1")], &body), &credentials(&[]), NOW));
        if let Parsed::Messages(said) = parsed(&envelope(&direct(&text))) {
            for message in said {
                prop_assert!(message.session == "slack:T1:U1" && !message.text.is_empty());
            }
        }
    }
}
