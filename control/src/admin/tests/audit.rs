//! What the audit log knows of the admin API: every change exactly once, every refusal, no secret.

use std::sync::Arc;

use axum::body::Body;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN};
use openclawmu_store::{Actor, AuditLine, AuditQuery, NanoUsd};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::OutboundUrl;
use crate::admin::tests::scene::{Answer, KEY, SENDER, Scene, TERMINAL, request};
use crate::admin::{Endpoint, endpoints, router};
use crate::audit::{self, AuditFile, AuditOptions};
use crate::key::AuditKey;
use crate::stripe::{StripeAccount, StripePush};

impl Scene {
    /// The same with an audit log, a webhook and a way to Stripe.
    pub(super) fn audited(mut self) -> Self {
        let key = AuditKey::load_or_create(self.dir.path(), None, false).unwrap();
        let options = AuditOptions::new(self.dir.path().join("audit"), key);
        self.store.attach_audit(Box::new(AuditFile::open(options.clone(), None).unwrap())).unwrap();
        drop(rustls::crypto::ring::default_provider().install_default());
        let nowhere = OutboundUrl::parse("http://127.0.0.1:1").unwrap();
        let account = StripeAccount::new(&nowhere, SecretString::from("sk_test_key")).unwrap();
        let stripe = Arc::new(StripePush::new(self.store.clone(), account, Vec::new(), None));
        self.state = self.state.clone().with_webhook().with_stripe(stripe).with_audit(options);
        self.app = router(self.state.clone());
        self
    }

    pub(super) fn lines_after(&self, seq: u64) -> Vec<AuditLine> {
        self.store.audit_lines(&AuditQuery { after: Some(seq), limit: 1000, ..AuditQuery::default() }).unwrap()
    }

    pub(super) fn head(&self) -> u64 {
        self.store.audit_head().unwrap().map_or(0, |head| head.seq)
    }

    pub(super) fn text(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("audit/audit.jsonl")).unwrap()
    }

    /// A place for backups that goes with the scene, beside the data directory.
    pub(super) fn place(&self) -> String {
        self.places.path().to_str().unwrap().to_owned()
    }

    pub(super) async fn look(&self) {
        audit::look(&self.store, &self.state.denials, false).await.unwrap();
    }
}

/// A call that changes something: where it goes, what it says, and what the log calls it.
struct Example(String, Value, &'static str);

/// Routes that are no GET and change nothing.
const UNCHANGING: [(Method, &str); 2] = [(Method::POST, "/v1/audit/verify"), (Method::POST, "/v1/backups/verify")];

#[expect(clippy::too_many_lines, reason = "one table")]
/// The example of a route, in a scene that was prepared for it. A new route that changes something gets one here.
async fn example(scene: &Scene, endpoint: &Endpoint) -> Example {
    let token = scene.token_id();
    let rates = json!({"models": {"new": {"input": "1", "output": "2"}}});
    let (path, body, action) = match (endpoint.method.as_str(), endpoint.path.as_str()) {
        ("POST", "/v1/tenants") => (endpoint.path.clone(), json!({"id": "made"}), "tenant.create"),
        ("PATCH", "/v1/tenants/{id}") => (endpoint.path.clone(), json!({"name": "New"}), "tenant.update"),
        ("DELETE", "/v1/tenants/{id}") => (format!("{}?confirm=acme", endpoint.path), Value::Null, "tenant.delete"),
        ("POST", "/v1/tenants/{id}/tokens") => (endpoint.path.clone(), json!({}), "token.create"),
        ("POST", "/v1/tenants/{id}/client_secrets") => (endpoint.path.clone(), json!({}), "client_secret.create"),
        ("DELETE", "/v1/tenants/{id}/tokens/{token}") => (endpoint.path.clone(), Value::Null, "token.revoke"),
        ("POST", "/v1/tenants/{id}/tokens/{token}/rotate") => (endpoint.path.clone(), json!({}), "token.rotate"),
        ("PUT", "/v1/tenants/{id}/provider_keys/{upstream}") => {
            (endpoint.path.clone(), json!({"api_key": "sk-provider-secret"}), "provider_key.put")
        }
        ("DELETE", "/v1/tenants/{id}/provider_keys/{upstream}") => {
            let acme = "acme".parse().unwrap();
            let own = scene.state.master.seal_provider_key(&acme, "openai", &SecretString::from("own")).unwrap();
            scene.store.put_provider_key(&Actor::system(), &acme, own).await.unwrap();
            (endpoint.path.clone(), Value::Null, "provider_key.delete")
        }
        ("POST", "/v1/tenants/{id}/credits") => {
            assert!(scene.bill("m", 1).await > NanoUsd::ZERO);
            (endpoint.path.clone(), json!({"amount_usd": "0.001", "reason": "why"}), "credit.create")
        }
        ("POST", "/v1/tenants/{id}/held/{event}/resolve") => {
            let held = scene.get("/v1/held").await.json()["data"][0]["id"].as_str().unwrap().to_owned();
            let body = json!({"action": "release", "reason": "why"});
            (endpoint.path.replace("{event}", &held), body, "hold.resolve")
        }
        ("PUT", "/v1/rates") => (endpoint.path.clone(), rates, "rates.put"),
        ("POST", "/v1/rates/import") => (endpoint.path.clone(), json!({"prices": rates}), "rates.import"),
        ("POST", "/v1/archives") => {
            scene.bill("m", 1).await;
            scene.clock.set(openclawmu_store::Clock::now(scene.clock.as_ref()).plus_ms(60 * 24 * 3_600_000));
            (endpoint.path.clone(), json!({"month": "2026-11"}), "ledger.archive")
        }
        ("POST", "/v1/alerts/test") => (endpoint.path.clone(), json!({}), "alerts.test"),
        ("POST", "/v1/billing/push/stripe") => (endpoint.path.clone(), json!({}), "stripe.push"),
        ("PUT", "/v1/tenants/{id}/config") => (endpoint.path.clone(), json!({"default_model": "m"}), "config.put"),
        ("POST", "/v1/config/reload") => (endpoint.path.clone(), json!({}), "config.reload"),
        ("POST", "/v1/tenants/{id}/sandbox/exec") => {
            (endpoint.path.clone(), json!({"command": ["true"]}), "sandbox.exec")
        }
        ("POST", "/v1/tenants/{id}/terminal_tickets") => {
            (endpoint.path.clone(), json!({"reason": "why"}), "terminal.ticket")
        }
        ("DELETE", "/v1/terminals/{terminal}") => {
            (endpoint.path.replace("{terminal}", TERMINAL), Value::Null, "terminal.end")
        }
        ("POST", "/v1/tenants/{id}/pairings") => (endpoint.path.clone(), json!({"channel": "slack"}), "pairing.create"),
        ("DELETE", "/v1/tenants/{id}/channels/{binding}") => {
            (endpoint.path.replace("{binding}", &scene.channel().0), Value::Null, "channel.remove")
        }
        ("POST", "/v1/tenants/{id}/channels/{binding}/senders") => {
            let (channel, code) = scene.channel();
            (endpoint.path.replace("{binding}", &channel), json!({"code": code}), "channel.approve")
        }
        ("DELETE", "/v1/tenants/{id}/channels/{binding}/senders/{sender}") => {
            let path = endpoint.path.replace("{binding}", &scene.channel().0).replace("{sender}", SENDER);
            (path, Value::Null, "channel.block")
        }
        ("POST", "/v1/keys/rotate") => (endpoint.path.clone(), json!({}), "keys.rotate"),
        ("POST", "/v1/backups" | "/v1/tenants/{id}/backups") => {
            (endpoint.path.clone(), json!({"to": scene.place()}), "backup.create")
        }
        ("POST", "/v1/restore") => {
            let made = scene.post("/v1/tenants/acme/backups", &json!({"to": scene.place()})).await;
            let from = made.json()["backup"]["url"].clone();
            (endpoint.path.clone(), json!({"from": from, "as": "twin"}), "tenant.copy")
        }
        (method, path) => panic!("{method} {path} has no example of what it changes: give it one here"),
    };
    let path = path.replace("{id}", "acme").replace("{token}", &token).replace("{upstream}", "openai");
    Example(path, body, action)
}

/// U-01
#[tokio::test]
async fn every_route_that_changes_something_leaves_exactly_one_line_that_says_who() {
    let mut tried = 0;
    for endpoint in endpoints() {
        let unchanging = UNCHANGING.contains(&(endpoint.method.clone(), endpoint.path.as_str()));
        if endpoint.method == Method::GET || unchanging {
            continue;
        }
        let scene = Scene::new().await;
        let scene = if endpoint.path.contains("{event}") { scene.with_a_hold().await } else { scene }.audited();
        let Example(path, body, action) = example(&scene, &endpoint).await;
        let before = scene.head();
        let answer = scene.call(endpoint.method.clone(), &path, Some(&body).filter(|body| !body.is_null())).await;
        assert!(answer.status.is_success(), "{} {path}: {} {}", endpoint.method, answer.status, answer.text);
        let lines = scene.lines_after(before);
        assert_eq!(lines.len(), 1, "{} {path}: {lines:#?}", endpoint.method);
        let event = &lines[0].event;
        assert_eq!(event.action, action, "{} {path}", endpoint.method);
        assert_eq!(event.request_id.as_deref(), answer.header("x-request-id"), "{path}");
        assert_eq!((event.actor.kind.as_str(), event.actor.id.as_str()), ("operator", "admin.keys[0]"), "{path}");
        assert_eq!((event.ip.as_deref(), event.outcome.name()), (Some("192.0.2.1"), "ok"), "{path}");
        if endpoint.path.starts_with("/v1/tenants/{id}") {
            assert_eq!(event.tenant.as_deref(), Some("acme"), "{path}");
        }
        for secret in ["sk-provider-secret", KEY, &scene.token] {
            assert!(!scene.text().contains(secret), "{path}");
        }
        scene.look().await;
        assert_eq!(scene.head(), before + 1, "what was done is not told as refused, too");
        tried += 1;
    }
    assert!(tried >= 15);
    // The twin: what changes nothing leaves nothing.
    let scene = Scene::new().await.audited();
    let before = scene.head();
    for endpoint in endpoints().into_iter().filter(|endpoint| endpoint.method == Method::GET) {
        scene.get(&endpoint.path.replace("{id}", "acme").replace("{webhook}", "msg_1")).await;
    }
    let import = json!({"dry_run": true, "prices": {"models": {"m": {"input": "1", "output": "2"}}}});
    assert_eq!(scene.post("/v1/rates/import", &import).await.status, 200);
    assert_eq!(scene.post("/v1/audit/verify", &json!({})).await.status, 200);
    scene.look().await;
    assert_eq!(scene.head(), before);
}

/// U-02, at the API; the disk itself is in the tests of the whole
#[tokio::test]
async fn a_change_that_cant_be_put_on_record_is_503_and_not_made() {
    let scene = Scene::new().await.audited();
    let (folder, away) = (scene.dir.path().join("audit"), scene.dir.path().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let refused = scene.call(Method::PATCH, "/v1/tenants/acme", Some(&json!({"name": "New"}))).await;
    assert_eq!(refused.refused(503), "audit_unavailable");
    assert!(refused.json()["error"]["hint"].is_string() && refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(scene.get("/v1/tenants/acme").await.json()["name"], "Acme");
    assert_eq!(scene.get("/readyz").await.status, 200, "who only reads or calls models is not concerned");
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    scene.look().await;
    assert!(scene.store.audit_status().healthy, "it was noticed without a change");
    let done = scene.call(Method::PATCH, "/v1/tenants/acme", Some(&json!({"name": "New"}))).await;
    assert_eq!(done.status, 200, "{}", done.text);
    let told: Vec<String> = scene.lines_after(1).into_iter().map(|line| line.event.action).collect();
    assert_eq!(told, ["audit.resume", "admin.refused", "tenant.update"]);
}

/// U-06
#[tokio::test]
async fn secrets_and_line_feeds_never_reach_the_log() {
    let scene = Scene::new().await.audited();
    let evil = "x\n{\"seq\":99,\"action\":\"forged\"}\r\u{2028}";
    let made = scene.post("/v1/tenants/acme/tokens", &json!({"name": "ci"})).await;
    let secret = made.json()["value"].as_str().unwrap().to_owned();
    let credit = json!({"amount_usd": "0.0001", "reason": evil});
    scene.post("/v1/tenants/acme/credits", &credit).await;
    scene.call(Method::PATCH, "/v1/tenants/acme", Some(&json!({"metadata": {"note": "metadata-canary"}}))).await;
    let own = json!({"api_key": "sk-provider-canary"});
    scene.call(Method::PUT, "/v1/tenants/acme/provider_keys/openai", Some(&own)).await;
    let strange = request(Method::from_bytes(b"FORGED").unwrap(), "/v1/x%0a%7b%7d?key=query-canary")
        .header("x-request-id", "req_forged")
        .header(AUTHORIZATION, "Bearer wrong-key-canary-0123456789-0123456789")
        .body(Body::empty());
    scene.send(strange.unwrap()).await;
    scene.look().await;
    let text = scene.text();
    for canary in
        [&secret, KEY, "metadata-canary", "sk-provider-canary", "wrong-key", "query-canary", "FORGED", "req_forged"]
    {
        assert!(!text.contains(canary), "{canary} in {text}");
    }
    let seqs: Vec<u64> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=scene.head()).collect::<Vec<_>>(), "one object a line, whatever was sent");
    assert!(text.contains("ci") && text.contains("openai"), "the twin: what is no secret is there");
}

async fn denied(scene: &Scene, times: usize, ip: &str, key: Option<&str>) -> Answer {
    let mut last = None;
    for _ in 0..times {
        let request = request(Method::GET, "/v1/tenants");
        let request = match key {
            Some(key) => request.header(AUTHORIZATION, format!("Bearer {key}")),
            None => request,
        };
        last = Some(scene.send_from(ip, request.body(Body::empty()).unwrap()).await);
    }
    last.unwrap()
}

/// U-08
#[tokio::test]
async fn whoever_is_turned_away_is_in_the_log_and_a_flood_makes_few_lines() {
    let scene = Scene::new().await.audited();
    let before = scene.head();
    let told = |scene: &Scene| -> Vec<(String, u64, u64, Option<String>)> {
        let line = |line: AuditLine| {
            let AuditLine { event, .. } = line;
            let number = |name: &str| event.detail[name].as_u64().unwrap();
            let reason = event.detail["reason"].as_str().unwrap().to_owned();
            assert_eq!((event.actor.kind.as_str(), event.outcome.name()), ("unknown", "denied"));
            (reason, number("status"), number("count"), event.ip)
        };
        scene.lines_after(before).into_iter().map(line).collect()
    };
    assert_eq!(denied(&scene, 1, "203.0.113.9", None).await.status, 401);
    scene.look().await;
    let address = Some("203.0.113.9".to_owned());
    assert_eq!(told(&scene), [("admin_key_needed".to_owned(), 401, 1, address.clone())]);
    assert_eq!(denied(&scene, 300, "203.0.113.9", Some("wrong-wrong-wrong-wrong-wrong-wrong")).await.status, 429);
    assert_eq!(denied(&scene, 1, "203.0.113.10", Some(&scene.token)).await.status, 403);
    for _ in 0..3 {
        scene.look().await;
    }
    assert_eq!(told(&scene).len(), 3, "{:?}", told(&scene));
    scene.clock.set(openclawmu_store::Clock::now(scene.clock.as_ref()).plus_ms(60_000));
    scene.look().await;
    let all = told(&scene);
    let sum = |status: u64| all.iter().filter(|line| line.1 == status).map(|line| line.2).sum::<u64>();
    assert_eq!((sum(401), sum(429), sum(403)), (21, 280, 1), "{all:?}");
    assert!(all.len() <= 5, "{all:?}");
    assert!(!scene.text().contains("wrong-wrong") && !scene.text().contains(&scene.token));
}

/// U-08
#[tokio::test]
async fn a_change_that_is_refused_is_in_the_log_with_who_wanted_it() {
    let scene = Scene::new().await.audited();
    let before = scene.head();
    scene.call(Method::PATCH, "/v1/tenants/acme", Some(&json!({"nam": "x"}))).await.refused(400);
    scene.call(Method::DELETE, "/v1/tenants/nobody?confirm=nobody", None).await.refused(404);
    let foreign = request(Method::PATCH, "/v1/tenants/acme")
        .header(AUTHORIZATION, format!("Bearer {KEY}"))
        .header(ORIGIN, "http://evil.example")
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from("{}"));
    scene.send(foreign.unwrap()).await.refused(403);
    scene.get("/v1/tenants/nobody").await.refused(404); // nothing was to be changed
    scene.look().await;
    let mut lines = scene.lines_after(before);
    lines.sort_by_key(|line| line.event.detail["status"].as_u64());
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let event = &line.event;
            let part = |name: &str| event.detail[name].as_str().unwrap().to_owned();
            (event.action.as_str(), event.actor.kind.as_str(), part("reason"), part("route"), event.tenant.as_deref())
        })
        .collect();
    let [patch, delete] = ["PATCH /v1/tenants/{id}", "DELETE /v1/tenants/{id}"].map(str::to_owned);
    assert_eq!(
        told,
        [
            ("admin.refused", "operator", "invalid_value".to_owned(), patch.clone(), Some("acme")),
            ("admin.denied", "unknown", "foreign_origin".to_owned(), patch, None),
            ("admin.refused", "operator", "not_found".to_owned(), delete, Some("nobody")),
        ]
    );
}

#[tokio::test]
async fn lines_come_by_pages_by_tenant_and_by_action_as_they_stand_in_the_file() {
    let scene = Scene::new().await.audited();
    scene.post("/v1/tenants", &json!({"id": "other"})).await;
    for name in ["a", "b", "c"] {
        scene.call(Method::PATCH, "/v1/tenants/acme", Some(&json!({"name": name}))).await;
    }
    let first = scene.get("/v1/audit?limit=2").await.json();
    assert_eq!((&first["has_more"], &first["next"]), (&json!(true), &json!("2")));
    let rest = scene.get("/v1/audit?after=2").await.json();
    let pages: Vec<&Value> = [&first, &rest].into_iter().flat_map(|page| page["data"].as_array().unwrap()).collect();
    let file: Vec<Value> = scene.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(pages, file.iter().collect::<Vec<_>>());
    let count = |answer: Value| answer["data"].as_array().unwrap().len();
    assert_eq!(count(scene.get("/v1/audit?tenant=other").await.json()), 1);
    assert_eq!(count(scene.get("/v1/audit?tenant=acme&action=tenant.update").await.json()), 3);
    let newest = scene.get("/v1/audit?order=desc&limit=1").await.json();
    assert_eq!(newest["data"][0]["seq"], file.len());
    assert_eq!(scene.get("/v1/audit?order=up").await.refused(400), "invalid_value");
    assert_eq!(scene.get("/v1/audit?after=x").await.refused(400), "invalid_value");
}

#[tokio::test]
async fn the_log_is_verified_over_the_api() {
    let scene = Scene::new().await.audited();
    scene.call(Method::PATCH, "/v1/tenants/acme", Some(&json!({"name": "New"}))).await;
    let sound = scene.post("/v1/audit/verify", &json!({})).await.json();
    assert_eq!((&sound["ok"], &sound["lines"], &sound["anchor_seq"]), (&json!(true), &json!(2), &json!(2)));
    let path = scene.dir.path().join("audit/audit.jsonl");
    std::fs::write(&path, scene.text().replacen("tenant.create", "tenant.deleted", 1)).unwrap();
    let broken = scene.post("/v1/audit/verify", &json!({})).await;
    assert_eq!(broken.status, 200);
    let broken = broken.json();
    assert_eq!(
        (&broken["ok"], &broken["problem"]["seq"], &broken["problem"]["kind"]),
        (&json!(false), &json!(1), &json!("edited"))
    );
    let plain = Scene::new().await;
    assert_eq!(plain.post("/v1/audit/verify", &json!({})).await.refused(409), "no_audit");
}
