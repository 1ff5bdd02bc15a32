//! Channels on a real store: what is taken once, what outlives a restart, what is whose.

use super::*;
use crate::scene::{Scene, operator, tenant_id};

const LEASE: i64 = 10_000;

fn greeting(code: &str) -> String {
    format!("your code is {code}")
}

fn new_pairing(policy: ChannelPolicy) -> NewPairing {
    NewPairing { kind: "slack".to_owned(), agent: "main".to_owned(), policy }
}

fn new_channel(id: &str, identity: &str) -> NewChannel {
    NewChannel {
        id: id.to_owned(),
        identity: identity.to_owned(),
        label: "Acme".to_owned(),
        sealed: b"sealed".to_vec(),
    }
}

fn message(event: &str, sender: &str, text: &str) -> NewMessage {
    NewMessage {
        event: event.to_owned(),
        sender: sender.to_owned(),
        label: String::new(),
        session: format!("slack:{sender}"),
        text: text.to_owned(),
        reply_to: "there".to_owned(),
    }
}

async fn paired(scene: &Scene, tenant: &str, id: &str, policy: ChannelPolicy) -> SealedChannel {
    let code = scene.store.create_pairing(&operator(), &tenant_id(tenant), new_pairing(policy)).await.unwrap();
    scene.store.bind_channel(&operator(), &code.id, new_channel(id, &format!("T-{id}"))).await.unwrap();
    scene.store.sealed_channel(id).unwrap()
}

async fn queue(scene: &Scene, channel: &SealedChannel, messages: &[NewMessage]) -> Vec<Queued> {
    scene.store.queue_messages(channel, messages.to_vec(), greeting).await.unwrap()
}

/// C-04
#[tokio::test]
async fn c_04_a_code_opens_one_channel_within_ten_minutes_and_five_failures_end_it() {
    let scene = Scene::new();
    scene.tenant("acme");
    let make = async || {
        scene.store.create_pairing(&operator(), &tenant_id("acme"), new_pairing(ChannelPolicy::Open)).await.unwrap()
    };
    let once = make().await;
    let opened = scene.store.pairing(&once.expose()).await.unwrap();
    assert_eq!((opened.tenant.as_str(), opened.kind.as_str(), opened.tries_left), ("acme", "slack", 5));
    scene.store.bind_channel(&operator(), &once.id, new_channel("cb_1", "T1")).await.unwrap();
    assert!(scene.store.pairing(&once.expose()).await.is_err(), "it was used");
    assert!(scene.store.bind_channel(&operator(), &once.id, new_channel("cb_2", "T2")).await.is_err());

    let late = make().await;
    scene.move_ms(10 * 60 * 1000 - 1);
    assert!(scene.store.pairing(&late.expose()).await.is_ok());
    scene.move_ms(1);
    assert!(scene.store.pairing(&late.expose()).await.is_err(), "ten minutes are over");
    assert!(scene.store.bind_channel(&operator(), &late.id, new_channel("cb_3", "T3")).await.is_err());

    let guessed = make().await;
    let wrong = format!("{}{}", guessed.id, "0".repeat(64));
    for _ in 0..4 {
        assert!(scene.store.pairing(&wrong).await.is_err());
    }
    assert_eq!(scene.store.pairing(&guessed.expose()).await.unwrap().tries_left, 1);
    assert!(scene.store.pairing(&wrong).await.is_err());
    assert!(scene.store.pairing(&guessed.expose()).await.is_err(), "the fifth failure was the last");
    assert!(scene.store.bind_channel(&operator(), &guessed.id, new_channel("cb_4", "T4")).await.is_err());
    for none in ["", "x", &"z".repeat(80), &"é".repeat(40), &"0".repeat(80)] {
        assert!(scene.store.pairing(none).await.is_err(), "{none}");
    }
    let secret = late.expose().split_off(16);
    assert!(!format!("{:?}", scene.dump()).contains(&secret), "only a keyed hash of the secret is kept");
}

#[tokio::test]
async fn an_account_is_one_tenants_and_a_channel_is_found_by_its_owner_alone() {
    let scene = Scene::new();
    scene.tenant("acme");
    scene.tenant("rival");
    let channel = paired(&scene, "acme", "cb_a", ChannelPolicy::Open).await;
    let code =
        scene.store.create_pairing(&operator(), &tenant_id("rival"), new_pairing(ChannelPolicy::Open)).await.unwrap();
    let taken = scene.store.bind_channel(&operator(), &code.id, new_channel("cb_b", &channel.identity)).await;
    assert!(matches!(taken, Err(StoreError::Conflict(_))));
    assert!(scene.store.pairing(&code.expose()).await.is_ok(), "nothing was made, so the link is as it was");
    let rival = tenant_id("rival");
    assert_eq!(scene.store.channels(&rival).unwrap(), []);
    assert!(matches!(scene.store.channel(&rival, "cb_a"), Err(StoreError::NotFound(_))));
    assert!(matches!(scene.store.channel_senders(&rival, "cb_a"), Err(StoreError::NotFound(_))));
    assert!(scene.store.remove_channel(&operator(), &rival, "cb_a").await.is_err());
    assert!(scene.store.approve_sender(&operator(), &rival, ("cb_a", "ABCDEFGH"), "hi").await.is_err());
    assert_eq!(scene.store.channels(&tenant_id("acme")).unwrap().len(), 1);
}

/// C-03
#[tokio::test]
async fn c_03_an_event_is_taken_once_in_order_and_outlives_a_restart() {
    let scene = Scene::new();
    scene.tenant("acme");
    let channel = paired(&scene, "acme", "cb_a", ChannelPolicy::Open).await;
    let (first, second) = (message("e1", "U1", "one"), message("e2", "U1", "two"));
    assert_eq!(
        queue(&scene, &channel, &[first.clone(), first.clone(), second]).await,
        [Queued::Waiting, Queued::Known, Queued::Waiting]
    );
    let scene = scene.restarted().unwrap();
    assert_eq!(queue(&scene, &channel, &[first]).await, [Queued::Known]);
    let texts = async || -> Vec<String> {
        scene.store.claim_messages(10, LEASE).await.unwrap().into_iter().map(|one| one.text).collect()
    };
    assert_eq!(texts().await, ["one"], "a conversation is worked on one by one");
    assert!(texts().await.is_empty(), "and by one");
    scene.move_ms(LEASE);
    let again = scene.store.claim_messages(10, LEASE).await.unwrap();
    assert_eq!((again[0].text.as_str(), again[0].attempts), ("one", 1), "whoever had it is gone: it is not lost");
    scene.store.answer_message(again[0].id, Some("answer".to_owned())).await.unwrap();
    assert_eq!(texts().await, ["two"]);
    let replies = scene.store.claim_replies(10, LEASE).await.unwrap();
    assert_eq!(
        replies.iter().map(|one| (one.text.as_str(), one.reply_to.as_str())).collect::<Vec<_>>(),
        [("answer", "there")]
    );
    scene.store.reply_failed(replies[0].row, "no way", Some(5_000)).await.unwrap();
    assert!(scene.store.claim_replies(10, LEASE).await.unwrap().is_empty());
    scene.move_ms(5_000);
    let again = scene.store.claim_replies(10, LEASE).await.unwrap();
    assert_eq!((again[0].attempt, &again[0].id), (2, &replies[0].id));
    scene.store.reply_delivered(again[0].row).await.unwrap();
    let shown = &scene.store.channels(&tenant_id("acme")).unwrap()[0];
    assert_eq!((shown.waiting, shown.undelivered, shown.given_up), (1, 0, 0));
}

#[tokio::test]
async fn a_tenant_with_many_conversations_does_not_keep_the_others_waiting() {
    let scene = Scene::new();
    scene.tenant("acme");
    scene.tenant("rival");
    let (busy, quiet) = (
        paired(&scene, "acme", "cb_a", ChannelPolicy::Open).await,
        paired(&scene, "rival", "cb_b", ChannelPolicy::Open).await,
    );
    let many: Vec<_> = (0..50).map(|at| message(&format!("e{at}"), &format!("U{at}"), "busy")).collect();
    queue(&scene, &busy, &many).await;
    queue(&scene, &quiet, &[message("e", "U", "quiet")]).await;
    let due = scene.store.claim_messages(20, LEASE).await.unwrap();
    assert_eq!(due.iter().filter(|one| one.text == "busy").count(), 8);
    assert_eq!(due.iter().filter(|one| one.text == "quiet").count(), 1);
    assert!(scene.store.claim_messages(20, LEASE).await.unwrap().is_empty(), "until one of them has ended");
}

#[tokio::test]
async fn a_stranger_is_told_a_code_once_an_hour_and_three_wait_at_most() {
    let scene = Scene::new();
    scene.tenant("acme");
    let channel = paired(&scene, "acme", "cb_a", ChannelPolicy::Pairing).await;
    let say = async |event: &str, sender: &str| queue(&scene, &channel, &[message(event, sender, "hi")]).await[0];
    assert_eq!(say("e1", "U1").await, Queued::Asked);
    assert_eq!(say("e2", "U1").await, Queued::Ignored, "it was told a moment ago");
    assert_eq!((say("e3", "U2").await, say("e4", "U3").await), (Queued::Asked, Queued::Asked));
    assert_eq!(say("e5", "U4").await, Queued::Ignored, "three wait already");
    let acme = tenant_id("acme");
    let pending = scene.store.channel_senders(&acme, "cb_a").unwrap().pending;
    assert_eq!(pending.len(), 3);
    let code = &pending[0].code;
    assert!(code.len() == 8 && code.bytes().all(sender_alphabet), "{code}");
    let told = scene.store.claim_replies(10, LEASE).await.unwrap();
    assert_eq!(told.len(), 3);
    assert!(told.iter().any(|one| one.text == greeting(code)));
    assert!(scene.store.claim_messages(10, LEASE).await.unwrap().is_empty(), "no turn before it is approved");
    let wrong = scene.store.approve_sender(&operator(), &acme, ("cb_a", "AAAAAAAA"), "welcome").await;
    assert!(matches!(wrong, Err(StoreError::NotFound(_))));
    let lower = code.to_ascii_lowercase();
    let approved = scene.store.approve_sender(&operator(), &acme, ("cb_a", &lower), "welcome").await.unwrap();
    assert_eq!(say("e6", &approved.sender).await, Queued::Waiting);
    assert!(scene.store.approve_sender(&operator(), &acme, ("cb_a", code), "welcome").await.is_err(), "once");
    let late = pending[1].clone();
    scene.move_ms(60 * 60 * 1000);
    assert!(scene.store.approve_sender(&operator(), &acme, ("cb_a", &late.code), "welcome").await.is_err());
    assert_eq!(say("e7", &late.sender).await, Queued::Asked, "an hour later it may ask again");
    scene.store.remove_sender(&operator(), &acme, ("cb_a", &approved.sender)).await.unwrap();
    assert_eq!(say("e8", &approved.sender).await, Queued::Asked, "who was approved and is not any more is a stranger");
    let actions: Vec<String> = scene.audit().into_iter().map(|row| row.0).collect();
    assert_eq!(actions, ["tenant.create", "pairing.create", "channel.bind", "channel.approve", "channel.block"]);
}

fn sender_alphabet(byte: u8) -> bool {
    (byte.is_ascii_uppercase() || byte.is_ascii_digit()) && !b"0O1I".contains(&byte)
}

#[tokio::test]
async fn nothing_of_a_channel_is_left_behind_it_or_behind_its_tenant() {
    let scene = Scene::new();
    scene.tenant("acme");
    let acme = tenant_id("acme");
    let fill = async |id: &str| {
        let channel = paired(&scene, "acme", id, ChannelPolicy::Pairing).await;
        queue(&scene, &channel, &[message("e1", "U1", "canary"), message("e2", "U2", "hi")]).await;
        let code = scene.store.channel_senders(&acme, id).unwrap().pending[0].code.clone();
        let known = scene.store.approve_sender(&operator(), &acme, (id, &code), "welcome").await.unwrap();
        queue(&scene, &channel, &[message("e3", &known.sender, "canary")]).await;
        channel
    };
    let left = || -> Vec<String> {
        let tables = scene.dump().into_iter().map(|(table, _)| table).filter(|table| table.starts_with("channel"));
        tables.filter(|table| table != "channel_pairings").collect()
    };
    let channel = fill("cb_a").await;
    assert!(left().len() >= 7);
    scene.store.remove_channel(&operator(), &acme, "cb_a").await.unwrap();
    assert_eq!(left(), Vec::<String>::new());
    let late = scene.store.queue_messages(&channel, vec![message("e9", "U1", "late")], greeting).await;
    assert!(matches!(late, Err(StoreError::NotFound(_))), "{late:?}");
    fill("cb_b").await;
    scene.store.delete_tenant(&operator(), &acme).await.unwrap();
    assert_eq!(left(), Vec::<String>::new());
    assert!(scene.store.sealed_channel("cb_b").is_err());
    assert!(!scene.dump().iter().any(|(table, _)| table == "channel_pairings"));
}

#[tokio::test]
async fn a_channel_takes_no_more_than_it_may_keep_and_says_so() {
    let scene = Scene::new();
    scene.tenant("acme");
    let channel = paired(&scene, "acme", "cb_a", ChannelPolicy::Open).await;
    let many: Vec<_> = (0..1_000).map(|at| message(&format!("e{at}"), "U1", "x")).collect();
    queue(&scene, &channel, &many).await;
    let more = scene.store.queue_messages(&channel, vec![message("more", "U1", "x")], greeting).await;
    assert!(matches!(more, Err(StoreError::Conflict(_))));
    let due = scene.store.claim_messages(1, LEASE).await.unwrap();
    scene.store.answer_message(due[0].id, None).await.unwrap();
    assert_eq!(queue(&scene, &channel, &[message("more", "U1", "x")]).await, [Queued::Waiting], "it was not marked");
}
