use std::sync::LazyLock;

use openclawmu_store::UnixMs;
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::json;

use super::scene::{answer, credentials, limits, post};
use crate::channel::adapter::{Adapter, NotGenuine, NotPaired, Parsed, Place, Then, Unreadable};
use crate::channel::webhook::{Webhook, judge};
use crate::outbound::{HostList, TenantCalls, TenantReach};
use crate::webhook::WebhookSecret;

const PLACE: Place<'static> = Place { channel: "cb_1", identity: "cb_1" };
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The time of the specification's example.
const AT: i64 = 1_614_265_330;

fn webhook(internal: &[&str]) -> Webhook {
    drop(rustls::crypto::ring::default_provider().install_default());
    let reach = TenantReach::new(None, HostList::parse(internal).unwrap());
    Webhook { calls: TenantCalls::new(limits()).unwrap(), reach }
}

/// C-01, with the example of the specification's own libraries
#[test]
fn c_01_the_specifications_example_is_genuine_within_five_minutes_and_nothing_else_is() {
    let (adapter, with) = (webhook(&[]), credentials(&[("secret", SECRET)]));
    let (id, at) = (("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"), ("webhook-timestamp", "1614265330"));
    let proof = (
        "webhook-signature",
        "v1,bm9ldHUjKzFob2VudXRob2VodWUzMjRvdWVvdW9ldQo= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    );
    let body = b"{\"test\": 2432232314}";
    let check = |headers: &[(&str, &str)], body: &[u8], seconds: i64| {
        adapter.verify(&post(headers, body), &with, UnixMs((AT + seconds) * 1_000))
    };
    assert_eq!(check(&[id, at, proof], body, 300), Ok(()), "any of the listed ones may be it");
    for late in [301, -301] {
        assert_eq!(check(&[id, at, proof], body, late), Err(NotGenuine));
    }
    assert_eq!(check(&[id, at, proof], b"{\"test\": 2432232315}", 0), Err(NotGenuine));
    for bad in
        [&[id, at][..], &[id, proof], &[at, proof], &[id, id, at, proof], &[("webhook-id", "msg_other"), at, proof]]
    {
        assert_eq!(check(bad, body, 0), Err(NotGenuine), "{bad:?}");
    }
    let none = adapter.verify(&post(&[id, at, proof], body), &credentials(&[]), UnixMs(AT * 1_000));
    assert_eq!(none, Err(NotGenuine), "without a secret nothing is proved");
}

/// C-02, S-01
#[tokio::test]
async fn c_02_an_empty_or_short_secret_and_an_inside_url_refuse_to_pair() {
    let adapter = webhook(&["crm.internal"]);
    let pair = async |url: &str, secret: &str| {
        let mut given = credentials(&[("url", url), ("secret", secret)]);
        adapter.pair(&mut given, "").await.map_err(|err| match err {
            NotPaired::Field(field, _) => field,
            NotPaired::Provider(why) => panic!("{why}"),
        })
    };
    let public = "https://app.example.com/replies";
    assert_eq!(pair(public, SECRET).await.unwrap().label, "app.example.com");
    assert!(pair("http://crm.internal/x", SECRET).await.is_ok(), "the operator opened it");
    for short in ["", "whsec_", "whsec_c2hvcnQ=", "short", "whsec_%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%"] {
        assert_eq!(pair(public, short).await, Err("secret"), "{short}");
    }
    for inside in [
        "",
        "http://app.example.com",
        "https://127.0.0.1/",
        "https://169.254.169.254/",
        "https://[::1]/",
        "https://localhost/",
        "https://a.internal/",
        "https://2130706433/",
        "https://user@app.example.com/",
        "ftp://x",
    ] {
        assert_eq!(pair(inside, SECRET).await, Err("url"), "{inside}");
    }
}

#[test]
fn a_message_is_its_senders_and_what_cant_be_used_is_named() {
    let adapter = webhook(&[]);
    let read = |body: &str| adapter.parse(&post(&[("webhook-id", "msg_1")], body.as_bytes()), PLACE);
    let good = json!({"type": "message", "data": {"from": "user-7", "text": " Hello ", "more": 1}}).to_string();
    let Ok(Parsed::Messages(said)) = read(&good) else { panic!("messages") };
    assert_eq!((said[0].event.as_str(), said[0].text.as_str()), ("msg_1", "Hello"));
    assert_eq!(said[0].session, "webhook:cb_1:user-7");
    assert_eq!(read("{\"type\":\"ping\"}"), Ok(Parsed::Messages(Vec::new())));
    for (body, field) in [
        ("[]", "body"),
        ("{\"type\":\"message\"}", "data"),
        ("{\"type\":\"message\",\"data\":{\"text\":\"x\"}}", "data.from"),
        ("{\"type\":\"message\",\"data\":{\"from\":\"../x\",\"text\":\"x\"}}", "data.from"),
        ("{\"type\":\"message\",\"data\":{\"from\":\"x\",\"text\":\" \"}}", "data.text"),
    ] {
        let Err(Unreadable(sentence)) = read(body) else { panic!("{body}") };
        assert!(sentence.contains(field), "{body}: {sentence}");
    }
}

#[test]
fn a_410_ends_the_channel_and_other_refusals_do_not() {
    assert_eq!(judge(&answer(204, &[], "")), Ok(()));
    let then = |status: u16| judge(&answer(status, &[], "")).unwrap_err().then;
    assert_eq!(then(410), Then::Disable);
    for status in [302, 400, 404, 500, 503] {
        assert_eq!(then(status), Then::Again(None), "{status}");
    }
}

proptest! {
    #[test]
    fn whatever_was_signed_here_is_genuine_there(id in "[a-z0-9_]{1,40}", body in prop::collection::vec(any::<u8>(), 0..200)) {
        static ADAPTER: LazyLock<Webhook> = LazyLock::new(|| webhook(&[]));
        let adapter = &*ADAPTER;
        let secret = WebhookSecret::parse(&SecretString::from(SECRET)).unwrap();
        let text = String::from_utf8_lossy(&body).into_owned();
        let proof = secret.sign(&id, AT, &text);
        let at = AT.to_string();
        let headers = [("webhook-id", id.as_str()), ("webhook-timestamp", at.as_str()), ("webhook-signature", proof.as_str())];
        let with = credentials(&[("secret", SECRET)]);
        prop_assert_eq!(adapter.verify(&post(&headers, text.as_bytes()), &with, UnixMs(AT * 1_000)), Ok(()));
        drop(adapter.parse(&post(&headers, &body), PLACE));
    }
}
