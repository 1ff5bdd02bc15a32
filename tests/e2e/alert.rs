//! Thresholds of budgets, told once to the audit log and by signed webhook, whatever happens to the receiver or the gateway.

use openclawmu_tests::client::chat;
use openclawmu_tests::clock::FakeClock;
use openclawmu_tests::money::usd;
use openclawmu_tests::raw::Message;
use openclawmu_tests::receiver::{Receiver, as_evidence};
use openclawmu_tests::wait::{until, until_true};
use openclawmu_tests::{Behaviour, Gateway, Scene, Setup, Upstream, ledger, sdk};
use serde_json::{Value, json};
use tempfile::TempDir;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn hooked(setup: Setup, receiver: &Receiver) -> Setup {
    let mut setup =
        setup.line(&format!("[alerts]\nwebhook_url = \"{}\"\nwebhook_secret = \"env:HOOK_SECRET\"\n", receiver.url()));
    setup.env.push(("HOOK_SECRET".into(), SECRET.into()));
    setup
}

/// A gateway with a webhook, and a tenant whose day has room for ten requests.
async fn scene(receiver: &Receiver) -> Scene {
    let upstream = Upstream::start().await;
    upstream.always(Behaviour::words(10));
    let setup = hooked(Setup::with(&upstream), receiver);
    Scene::of(upstream, setup, json!({ "usd_per_day": usd(1_000_000) })).await
}

/// Requests of 100,000 nano-dollars each.
async fn spend(scene: &Scene, requests: usize) {
    for _ in 0..requests {
        assert_eq!(scene.client.chat(&chat("flat", "hi", 10)).await.status, 200);
    }
}

fn percents(received: &[Message]) -> Vec<u64> {
    let mut percents: Vec<u64> = received
        .iter()
        .map(|message| message.json()["data"]["threshold_percent"].as_u64().expect("a number"))
        .collect();
    percents.sort_unstable();
    percents
}

async fn verified(dir: &std::path::Path, received: &[Message]) -> Vec<Value> {
    let file = dir.join("evidence.json");
    std::fs::write(&file, as_evidence(received).to_string()).expect("a writable temp dir");
    let result = sdk::run_python("webhook_verify.py", &[SECRET, file.to_str().expect("UTF-8")]).await;
    for altered in result["altered"].as_array().expect("a list") {
        assert!(altered["refused"].is_string(), "{altered}");
    }
    let verified = result["verified"].as_array().expect("a list").clone();
    assert_eq!(verified.len(), received.len());
    for one in &verified {
        assert!(one["type"].is_string(), "{one}");
    }
    verified
}

fn audited(scene: &Scene) -> usize {
    let dump = ledger::dump(&scene.gateway.data(), &[]);
    dump.lines().filter(|line| line.starts_with("audit_outbox|") && line.contains("budget.threshold")).count()
}

/// ledger.md: soft thresholds; the official library vouches for the signatures
#[tokio::test(flavor = "multi_thread")]
async fn each_threshold_reaches_the_receiver_signed_and_once() {
    let receiver = Receiver::start().await;
    let scene = scene(&receiver).await;
    spend(&scene, 4).await;
    spend(&scene, 6).await;
    scene.client.chat(&chat("flat", "hi", 10)).await.refused(429, "insufficient_quota", "insufficient_quota");
    let received = receiver.received_once(3).await;
    assert_eq!(percents(&received), [50, 80, 100]);
    let events = verified(scene.gateway.dir(), &received).await;
    let half = events.iter().find(|event| event["data"]["threshold_percent"] == 50).expect("the first");
    assert_eq!(half["type"], "budget.threshold_reached");
    let data = &half["data"];
    assert_eq!((&data["tenant"], &data["bucket"]), (&json!("acme"), &json!("usd_per_day")));
    assert_eq!(
        (&data["cap"], &data["posted"], &data["held"]),
        (&json!("0.001000000"), &json!("0.000500000"), &json!("0.000000000"))
    );
    assert_eq!(audited(&scene), 3);
    let metric = scene.admin().metric("openclawmu_webhooks_total", &["Delivered"]).await;
    assert_eq!(metric, 3);
}

/// A receiver that is down, then up; a gateway that is killed meanwhile: nothing is lost
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_comes_up_late_gets_what_it_missed_over_a_kill() {
    let mut receiver = Receiver::down();
    let mut scene = scene(&receiver).await;
    scene.gateway.leave_unsettled();
    spend(&scene, 8).await;
    let pending = || async { (scene.admin().get("/v1/alerts").await["data"].as_array()?.len() == 2).then_some(()) };
    until("two in the outbox", pending).await;
    until("a failed attempt", || async {
        let listed = scene.admin().get("/v1/alerts").await;
        listed["data"].as_array()?.iter().all(|one| one["last_error"].is_string()).then_some(())
    })
    .await;
    let ids = |listed: &Value| {
        let mut ids: Vec<String> = listed["data"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one["id"].as_str().expect("an id").to_owned())
            .collect();
        ids.sort();
        ids
    };
    let before = ids(&scene.admin().get("/v1/alerts").await);
    scene.gateway.kill_9();
    receiver.up().await;
    scene.restarted().await;
    let received = receiver.received_once(2).await;
    assert_eq!(percents(&received), [50, 80]);
    let mut arrived: Vec<_> = received.iter().map(|one| one.header("webhook-id").expect("an id").to_owned()).collect();
    arrived.sort();
    assert_eq!(arrived, before, "the ids stay");
    until("delivered", || async {
        let listed = scene.admin().get("/v1/alerts").await;
        listed["data"].as_array()?.iter().all(|one| one["state"] == "delivered").then_some(())
    })
    .await;
    verified(scene.gateway.dir(), &received).await;
    assert_eq!(audited(&scene), 2);
}

/// Standard Webhooks: a failed attempt is made again under the same id; a redirect is a failure, 410 is the end
#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_answered_with_the_same_webhook_again_and_gone_with_none() {
    let receiver = Receiver::start().await;
    let dir = TempDir::new().expect("a temp dir");
    let clock = FakeClock::new(dir.path());
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(hooked(Setup::with(&upstream), &receiver).clock(&clock)).await;
    receiver.answer(&[500, 302, 200, 410]);
    let made = gateway.admin().post("/v1/alerts/test", &json!({})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    receiver.received_once(1).await;
    let failed = |attempts: u64, error: &'static str| {
        let gateway = &gateway;
        let id = made.json()["id"].as_str().expect("an id").to_owned();
        until("the attempt's note", move || {
            let (admin, path) = (gateway.admin(), format!("/v1/alerts/{id}"));
            async move {
                let one = admin.get(&path).await;
                (one["attempts"] == attempts && one["last_error"].as_str().unwrap_or_default().contains(error))
                    .then_some(())
            }
        })
    };
    failed(1, "500").await;
    clock.shift(6);
    receiver.received_once(2).await;
    failed(2, "302").await;
    clock.shift(6 + 331);
    let received = receiver.received_once(3).await;
    let id = |at: usize| received[at].header("webhook-id").expect("an id");
    assert_eq!((id(0), id(1)), (id(1), id(2)), "one webhook, one id");
    assert_eq!((&received[0].body, &received[1].body), (&received[1].body, &received[2].body));
    assert_ne!(received[0].header("webhook-timestamp"), received[2].header("webhook-timestamp"));
    assert!(received.iter().all(|one| one.target() == "/hook"), "no redirect is followed");
    let second = gateway.admin().post("/v1/alerts/test", &json!({})).await.json();
    let path = format!("/v1/alerts/{}", second["id"].as_str().expect("an id"));
    until("given up", || async { (gateway.admin().get(&path).await["state"] == "failed").then_some(()) }).await;
    assert_eq!(receiver.received().len(), 4);
    let log = gateway.stderr();
    assert!(log.contains("given up") && !log.contains(SECRET) && !log.contains(&receiver.url()), "{log}");
}

/// The operator can try it
#[tokio::test(flavor = "multi_thread")]
async fn the_cli_sends_a_test_and_says_whether_it_was_taken() {
    let receiver = Receiver::start().await;
    let scene = scene(&receiver).await;
    let said = scene.gateway.cli(&["alerts", "test"]).await;
    assert!(said.ok().contains("took msg_"), "{}", said.stdout);
    let received = receiver.received_once(1).await;
    assert_eq!(received[0].json()["type"], "webhook.test");
    receiver.answer(&[503]);
    let said = scene.gateway.cli(&["alerts", "test"]).await;
    assert!(!said.status.success() && said.stderr.contains("503"), "{}", said.stderr);
    let listed = scene.gateway.cli(&["alerts", "list"]).await;
    assert!(listed.ok().contains("webhook.test") && listed.ok().contains("delivered"), "{}", listed.stdout);
}

/// Without a webhook the audit log alone is told
#[tokio::test(flavor = "multi_thread")]
async fn without_a_webhook_there_is_a_line_and_a_hint() {
    let scene = Scene::with_quota(json!({ "usd_per_day": usd(200_000) })).await;
    scene.upstream.always(Behaviour::words(10));
    spend(&scene, 1).await;
    until_true("a line", || audited(&scene) == 1).await;
    let said = scene.gateway.cli(&["alerts", "test"]).await;
    assert!(!said.status.success() && said.stderr.contains("alerts.webhook_url"), "{}", said.stderr);
}
