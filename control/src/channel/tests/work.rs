//! Turns and deliveries, from what comes in to what goes out, with scripted agents and a receiver on this machine.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post as on_post;
use http::{HeaderMap, StatusCode};
use openclawmu_store::{ActorKind, Channel, ChannelPolicy, Clock, NewPairing};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::scene::{nowhere, post};
use crate::admin::tests::scene::Scene;
use crate::agent::{Agents, Turn, TurnEnd, TurnRefused};
use crate::channel::{ChannelConfig, Channels, Incoming, NotTaken, Work};
use crate::key::MasterKey;
use crate::outbound::{HostList, TenantReach};
use crate::webhook::WebhookSecret;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Agents that end their turns as they are told, and else repeat what they heard.
#[derive(Default)]
struct Scripted {
    ends: Mutex<VecDeque<TurnEnd>>,
    turns: Mutex<Vec<Turn>>,
}

impl Agents for Scripted {
    fn turn(&self, turn: Turn) -> Pin<Box<dyn Future<Output = TurnEnd> + Send>> {
        let end = self.ends.lock().unwrap().pop_front().unwrap_or_else(|| Ok(format!("you said {}", turn.text)));
        self.turns.lock().unwrap().push(turn);
        Box::pin(async move { end })
    }
}

#[derive(Clone, Default)]
struct Receiver {
    statuses: Arc<Mutex<VecDeque<u16>>>,
    received: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    receiver.received.lock().unwrap().push((headers, String::from_utf8(body.to_vec()).unwrap()));
    let status = receiver.statuses.lock().unwrap().pop_front().unwrap_or(200);
    StatusCode::from_u16(status).unwrap()
}

struct World {
    scene: Scene,
    channels: Arc<Channels>,
    agents: Arc<Scripted>,
    receiver: Receiver,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    channel: String,
    sent: std::cell::Cell<u32>,
}

impl World {
    async fn new() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let (scene, receiver, mut tasks) = (Scene::new().await, Receiver::default(), JoinSet::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/replies", on_post(receive)).with_state(receiver.clone());
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        let config = ChannelConfig {
            public_url: "http://gw".to_owned(),
            slack_url: nowhere(),
            whatsapp_url: None,
            telegram_url: None,
            reach: TenantReach::new(None, HostList::parse(&[address.to_string()]).unwrap()),
        };
        let master = Arc::new(MasterKey::load_or_create(scene.store.dir()).unwrap());
        let channels = Channels::new(scene.store.clone(), master, config).unwrap();
        let mut world = Self {
            scene,
            channels: Arc::new(channels),
            agents: Arc::default(),
            receiver,
            stop: watch::channel(false).0,
            tasks,
            channel: String::new(),
            sent: std::cell::Cell::new(0),
        };
        let form = format!("url=http%3A%2F%2F{address}%2Freplies&secret={SECRET}");
        let paired = world.pair("webhook", &form).await;
        assert_eq!(paired.status, 200, "{}", paired.body);
        assert!(paired.body.contains("http://gw/channels/webhook/cb_") && !paired.body.contains(SECRET));
        world.channel = world.shown().id;
        world
    }

    async fn pair(&self, kind: &str, form: &str) -> crate::channel::Page {
        let acme = "acme".parse().unwrap();
        let new = NewPairing { kind: kind.to_owned(), agent: "helper".to_owned(), policy: ChannelPolicy::Open };
        let link = self.scene.store.create_pairing(&openclawmu_store::Actor::system(), &acme, new).await.unwrap();
        let actor = openclawmu_store::Actor { kind: ActorKind::Unknown, ..openclawmu_store::Actor::system() };
        self.channels.pair(&link.expose(), (&HeaderMap::new(), form.as_bytes()), &actor).await
    }

    fn shown(&self) -> Channel {
        self.scene.store.channels(&"acme".parse().unwrap()).unwrap().remove(0)
    }

    fn work(&mut self) {
        let work = Work {
            channels: Arc::clone(&self.channels),
            agents: Arc::<Scripted>::clone(&self.agents),
            busy: Arc::new(|| Box::new(())),
        };
        let mut stop = self.stop.subscribe();
        self.tasks.spawn(work.run(async move { drop(stop.wait_for(|stop| *stop).await) }));
    }

    fn message(&self, id: &str, text: &str) -> Incoming {
        let body = json!({"type": "message", "data": {"from": "user-7", "text": text}}).to_string();
        let at = self.scene.clock.now().0.div_euclid(1_000);
        let proof = WebhookSecret::parse(&SecretString::from(SECRET)).unwrap().sign(id, at, &body);
        post(
            &[("webhook-id", id), ("webhook-timestamp", &at.to_string()), ("webhook-signature", &proof)],
            body.as_bytes(),
        )
    }

    async fn say(&self, text: &str) {
        self.sent.set(self.sent.get() + 1);
        let (path, id) = (format!("webhook/{}", self.channel), format!("in_{}", self.sent.get()));
        self.channels.receive(&path, &self.message(&id, text)).await.unwrap();
    }

    /// What the receiver got, once there is so much of it.
    async fn received(&self, count: usize) -> Vec<(HeaderMap, Value)> {
        self.until(|| self.receiver.received.lock().unwrap().len() >= count).await;
        let received = self.receiver.received.lock().unwrap().clone();
        assert_eq!(received.len(), count);
        received.into_iter().map(|(headers, body)| (headers, serde_json::from_str(&body).unwrap())).collect()
    }

    async fn until(&self, mut holds: impl FnMut() -> bool) {
        let held = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), held).await.expect("it comes about");
    }

    fn move_seconds(&self, seconds: i64) {
        self.scene.clock.set(self.scene.clock.now().plus_ms(seconds * 1_000));
    }

    fn texts(received: &[(HeaderMap, Value)]) -> Vec<&str> {
        received.iter().map(|(_, body)| body["data"]["text"].as_str().unwrap()).collect()
    }
}

/// C-03, and what waits when nobody works is worked on later
#[tokio::test]
async fn what_is_said_is_answered_once_signed_and_in_order() {
    let mut world = World::new().await;
    world.say("one").await;
    world.say("two").await;
    let path = format!("webhook/{}", world.channel);
    world.channels.receive(&path, &world.message("in_1", "one")).await.unwrap();
    world.work();
    let received = world.received(2).await;
    assert_eq!(World::texts(&received), ["you said one", "you said two"]);
    let (headers, body) = &received[0];
    let header = |name: &str| headers[name].to_str().unwrap();
    let secret = WebhookSecret::parse(&SecretString::from(SECRET)).unwrap();
    let raw = world.receiver.received.lock().unwrap()[0].1.clone();
    assert!(
        secret.proves((header("webhook-id"), header("webhook-timestamp"), raw.as_bytes()), header("webhook-signature"))
    );
    assert_eq!(
        (&body["type"], &body["data"]["to"], &body["data"]["in_reply_to"]),
        (&json!("message.reply"), &json!("user-7"), &json!("in_1"))
    );
    let turns = world.agents.turns.lock().unwrap().clone();
    assert_eq!(turns.len(), 2, "the one that came twice had one turn");
    assert_eq!((turns[0].tenant.as_str(), turns[0].agent.as_str()), ("acme", "helper"));
    assert_eq!(turns[0].by, format!("channel:{}", world.channel));
    assert_eq!(turns[0].session, format!("webhook:{}:user-7", world.channel));
    world.until(|| world.shown().undelivered == 0).await;
    assert!(world.channels.metrics().contains("openclawmu_channel_messages_total{outcome=\"known\"} 1"));
    world.stop.send_replace(true);
}

#[tokio::test]
async fn a_refused_turn_is_told_once_and_one_that_may_soon_go_better_is_tried_again() {
    let mut world = World::new().await;
    let refused = |seconds: Option<u64>| {
        Err(TurnRefused { message: "no budget".to_owned(), retry_after: seconds.map(Duration::from_secs) })
    };
    world.agents.ends.lock().unwrap().extend([refused(Some(5)), refused(Some(3_600)), refused(None)]);
    world.work();
    world.say("one").await;
    world.until(|| world.agents.turns.lock().unwrap().len() == 1).await;
    assert!(world.receiver.received.lock().unwrap().is_empty(), "it is not refused for long");
    world.until(|| world.channels.metrics().contains("outcome=\"postponed\"} 1")).await;
    world.move_seconds(5);
    let received = world.received(1).await;
    assert_eq!(World::texts(&received), ["no budget"], "an hour is long");
    world.say("two").await;
    assert_eq!(World::texts(&world.received(2).await), ["no budget", "no budget"]);
    assert_eq!(world.agents.turns.lock().unwrap().len(), 3);
    world.say("three").await;
    assert_eq!(World::texts(&world.received(3).await)[2], "you said three");
}

#[tokio::test]
async fn an_answer_is_sent_again_under_its_id_until_it_is_taken_and_a_410_ends_the_channel() {
    let mut world = World::new().await;
    world.receiver.statuses.lock().unwrap().extend([500, 302, 200, 410]);
    world.work();
    world.say("one").await;
    world.received(1).await;
    world.until(|| world.shown().last_error.as_deref() == Some("the receiver answered 500")).await;
    world.move_seconds(6);
    world.received(2).await;
    world.until(|| world.shown().last_error.as_deref() == Some("the receiver answered 302")).await;
    world.move_seconds(6 * 60);
    let received = world.received(3).await;
    let ids: Vec<_> = received.iter().map(|(headers, _)| &headers["webhook-id"]).collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
    assert_eq!(received[0].1, received[2].1, "and the same bytes");
    world.until(|| world.shown().undelivered == 0).await;
    world.say("two").await;
    world.received(4).await;
    world.until(|| world.shown().disabled.is_some()).await;
    assert_eq!(world.shown().given_up, 1);
    let path = format!("webhook/{}", world.channel);
    let late = world.channels.receive(&path, &world.message("in_9", "late")).await;
    assert_eq!(late, Err(NotTaken::Unknown));
}

/// C-01, C-05: from outside, at the desk
#[tokio::test]
async fn what_is_not_proved_or_not_here_is_refused_and_nothing_is_queued() {
    let world = World::new().await;
    let mut forged = world.message("in_1", "hello");
    forged.body.push(b' ');
    let path = format!("webhook/{}", world.channel);
    assert_eq!(world.channels.receive(&path, &forged).await, Err(NotTaken::NotGenuine));
    for other in
        [format!("slack/{}", world.channel), "webhook/cb_none".to_owned(), "teams/x".to_owned(), world.channel.clone()]
    {
        assert_eq!(
            world.channels.receive(&other, &world.message("in_1", "hello")).await,
            Err(NotTaken::Unknown),
            "{other}"
        );
    }
    assert_eq!(world.shown().waiting, 0);
    world.say("hello").await;
    assert_eq!(world.shown().waiting, 1, "the twin");
}

/// C-02
#[tokio::test]
async fn c_02_five_failures_end_a_link_and_none_makes_a_channel() {
    let world = World::new().await;
    let acme = "acme".parse().unwrap();
    let new = NewPairing { kind: "webhook".to_owned(), agent: "helper".to_owned(), policy: ChannelPolicy::Open };
    let system = openclawmu_store::Actor::system();
    let link = world.scene.store.create_pairing(&system, &acme, new).await.unwrap().expose();
    assert_eq!(world.channels.pairing_page(&link).await.status, 200);
    for left in (1..5).rev() {
        let page = world.channels.pair(&link, (&HeaderMap::new(), b"url=https://a.example.com&secret="), &system).await;
        assert_eq!(page.status, 422);
        assert!(page.body.contains(&format!("Tries left: {left}")), "{}", page.body);
    }
    let last = world.channels.pair(&link, (&HeaderMap::new(), b"url=x&secret=short-secret-canary"), &system).await;
    assert!(last.status == 404 && !last.body.contains("canary"));
    assert_eq!(world.channels.pairing_page(&link).await.status, 404);
    assert_eq!(world.scene.store.channels(&acme).unwrap().len(), 1);
}
