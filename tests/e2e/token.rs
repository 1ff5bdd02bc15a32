//! A token's life: minted, rotated, expired, revoked, each effective on the next request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::clock::FakeClock;
use openclawmu_tests::wait::{until, until_true};
use openclawmu_tests::{Behaviour, Gate, Scene, Setup, Upstream};
use serde_json::{Value, json};
use tempfile::TempDir;

///
#[tokio::test(flavor = "multi_thread")]
async fn no_request_that_starts_after_the_answer_to_a_revoke_succeeds() {
    let scene = Scene::new().await;
    let (id, token) = scene.admin().mint(&scene.tenant.id, &json!({ "name": "doomed" })).await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (client, stop, answered) = (scene.client.with_token(&token), Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let started = Instant::now();
                    seen.push((started, client.chat(&chat("alpha", "hello", 4)).await.status));
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                seen
            })
        })
        .collect();
    until_true("load on the token", || answered.load(Ordering::SeqCst) >= 100).await;
    scene.admin().revoke(&scene.tenant.id, &id).await;
    let revoked_at = Instant::now();
    let until_then = answered.load(Ordering::SeqCst);
    until_true("load after the revoke", || answered.load(Ordering::SeqCst) >= until_then + 300).await;
    stop.store(true, Ordering::SeqCst);
    let (mut before, mut after) = (0, 0);
    for worker in workers {
        for (started, status) in worker.await.expect("a worker") {
            if started > revoked_at {
                assert_eq!(status, 401, "a request that started after the revoke was answered");
                after += 1;
            } else if status == 200 {
                before += 1;
            }
        }
    }
    assert!(before >= 90 && after >= 200, "before {before}, after {after}");
    assert_eq!(scene.client.chat(&chat("alpha", "hello", 4)).await.status, 200, "the tenant's other token lives");
}

/// A-07, streams: each is ended soon after the revoke, its upstream cut and what was delivered billed; another token's goes on
#[tokio::test(flavor = "multi_thread")]
async fn a_revoke_ends_the_streams_of_its_token_and_no_others() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(6, 3, &gate));
    let (id, token) = scene.admin().mint(&scene.tenant.id, &json!({ "name": "doomed" })).await;
    let doomed = scene.client.with_token(&token);
    let mut ended = Vec::new();
    for client in [doomed.clone(), doomed.over_h2c()] {
        let mut stream = client.stream(&chat("alpha", "hello", 9)).await;
        assert_eq!(stream.texts(3).await.len(), 3);
        ended.push(stream);
    }
    let mut other = scene.client.stream(&chat("alpha", "hello", 9)).await;
    assert_eq!(other.texts(3).await.len(), 3);
    scene.admin().revoke(&scene.tenant.id, &id).await;
    for mut stream in ended {
        let rest = stream.rest().await;
        let last = rest.last().expect("the stream says why it ends");
        assert!(!rest.iter().any(openclawmu_tests::sse::Event::done), "no proper end: {rest:?}");
        assert_eq!(last.json()["error"]["code"], "invalid_api_key", "{last:?}");
    }
    until_true("the upstream to be cut under both", || {
        scene.upstream.exchanges().iter().filter(|exchange| exchange.closed_at().is_some()).count() == 2
    })
    .await;
    gate.open();
    assert!(
        other.rest().await.last().is_some_and(openclawmu_tests::sse::Event::done),
        "another token's stream goes on"
    );
    let rows = scene.rows_once(3).await;
    assert!(rows.iter().all(|row| row.cost > 0), "what was delivered is billed: {rows:#?}");
    assert_eq!(scene.balanced().await.pending, 0);
}

async fn rotated(scene: &Scene, token: &str, body: &Value) -> (String, String) {
    let reply = scene.admin().post(&format!("/v1/tenants/{}/tokens/{token}/rotate", scene.tenant.id), body).await;
    assert!(matches!(reply.status, 200 | 201), "{}", reply.text());
    let made = reply.json();
    let made = made.get("token").unwrap_or(&made).clone();
    (made["id"].as_str().expect("an id").to_owned(), made["value"].as_str().expect("a value, once").to_owned())
}

async fn clocked() -> (Scene, FakeClock, TempDir) {
    let dir = TempDir::new().expect("a temp dir");
    let clock = FakeClock::new(dir.path());
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).clock(&clock);
    (Scene::of(upstream, setup, json!({})).await, clock, dir)
}

/// A-08, the grace period
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_token_works_until_its_grace_ends_and_not_after() {
    let (scene, clock, _dir) = clocked().await;
    let (_, fresh) = rotated(&scene, &scene.tenant.token_id, &json!({ "grace_seconds": 3600 })).await;
    let (old, new) = (scene.client.clone(), scene.client.with_token(&fresh));
    assert_eq!(new.get("/v1/quota").await.status, 200, "the new one works at once");
    assert_eq!(old.get("/v1/quota").await.status, 200, "the old one works in its grace");
    clock.shift(3_500);
    assert_eq!(old.get("/v1/quota").await.status, 200, "still");
    clock.shift(3_602);
    old.get("/v1/quota").await.refused(401, "invalid_request_error", "invalid_api_key");
    assert_eq!(new.get("/v1/quota").await.status, 200);
}

/// A-08, without a grace
#[tokio::test(flavor = "multi_thread")]
async fn a_token_rotated_without_grace_fails_on_the_next_request() {
    let scene = Scene::new().await;
    let (_, fresh) = rotated(&scene, &scene.tenant.token_id, &json!({ "grace_seconds": 0 })).await;
    scene.client.get("/v1/quota").await.refused(401, "invalid_request_error", "invalid_api_key");
    assert_eq!(scene.client.with_token(&fresh).get("/v1/quota").await.status, 200);
}

/// A-08, a client that swaps
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_swaps_tokens_within_the_grace_never_fails() {
    let scene = Scene::new().await;
    let mut id = scene.tenant.token_id.clone();
    let current = Arc::new(std::sync::Mutex::new(scene.tenant.token.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let worker = {
        let (client, current, stop) = (scene.client.clone(), Arc::clone(&current), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut count = 0;
            while !stop.load(Ordering::SeqCst) {
                let token = current.lock().expect("unpoisoned").clone();
                let reply = client.with_token(&token).chat(&chat("alpha", "hello", 4)).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                count += 1;
            }
            count
        })
    };
    for _ in 0..10 {
        let (next, value) = rotated(&scene, &id, &json!({ "grace_seconds": 60 })).await;
        *current.lock().expect("unpoisoned") = value;
        id = next;
        let seen = scene.upstream.calls();
        until_true("requests with the new token", || scene.upstream.calls() >= seen + 3).await;
    }
    stop.store(true, Ordering::SeqCst);
    assert!(worker.await.expect("no request failed") >= 30);
}

async fn listed(scene: &Scene, id: &str) -> Option<Value> {
    let list = scene.admin().get(&format!("/v1/tenants/{}/tokens", scene.tenant.id)).await;
    let rows = list
        .as_object()
        .and_then(|fields| fields.values().find_map(Value::as_array))
        .expect("a list of tokens")
        .clone();
    rows.into_iter().find(|row| row["id"] == id)
}

///
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_never_widens_what_a_token_may_do() {
    let scene = Scene::new().await;
    let (id, token) = scene.admin().mint(&scene.tenant.id, &json!({ "name": "narrow", "models": ["alpha"] })).await;
    let before = listed(&scene, &id).await.expect("it is listed");
    let path = format!("/v1/tenants/{}/tokens/{id}/rotate", scene.tenant.id);
    for wider in [
        json!({ "scopes": ["*"] }),
        json!({ "models": ["*"] }),
        json!({ "grace_seconds": 5, "scopes": ["ai", "admin"] }),
        json!({ "allowed_ips": [] }),
    ] {
        let reply = scene.admin().post(&path, &wider).await;
        assert_eq!(reply.status, 400, "{wider}: {}", reply.text());
        assert_eq!(listed(&scene, &id).await.expect("it is still listed"), before, "unchanged by {wider}");
    }
    let mint = scene
        .admin()
        .post(&format!("/v1/tenants/{}/tokens", scene.tenant.id), &json!({ "scopes": ["no-such-scope"] }))
        .await;
    assert_eq!(mint.status, 400, "{}", mint.text());
    let (next, value) = rotated(&scene, &id, &json!({})).await;
    let after = listed(&scene, &next).await.expect("the new one is listed");
    assert_eq!((&after["scopes"], &after["models"]), (&before["scopes"], &before["models"]), "the same reach");
    for narrow in [token.as_str(), value.as_str()] {
        let reply = scene.client.with_token(narrow).chat(&chat("beta", "hello", 4)).await;
        assert!(matches!(reply.status, 401 | 403), "beta is out of reach: {}", reply.text());
    }
    scene.client.with_token(&value).chat(&chat("beta", "hello", 4)).await.refused(
        403,
        "permission_error",
        "model_not_allowed",
    );
    assert_eq!(scene.client.with_token(&value).chat(&chat("alpha", "hello", 4)).await.status, 200);
}

///
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_401_and_a_clock_set_back_revives_no_revoked_one() {
    let (scene, clock, _dir) = clocked().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let at = rfc3339(now + 3_600);
    let (_, expiring) = scene.admin().mint(&scene.tenant.id, &json!({ "expires_at": at })).await;
    let (doomed, revoked) = scene.admin().mint(&scene.tenant.id, &json!({})).await;
    let ask = |token: &str| {
        let client = scene.client.with_token(token);
        async move { client.get("/v1/quota").await }
    };
    clock.shift(3_590);
    assert_eq!(ask(&expiring).await.status, 200, "before its time");
    clock.shift(3_602);
    ask(&expiring).await.refused(401, "invalid_request_error", "invalid_api_key");
    scene.admin().revoke(&scene.tenant.id, &doomed).await;
    ask(&revoked).await.refused(401, "invalid_request_error", "invalid_api_key");
    clock.shift(-86_400);
    ask(&revoked).await.refused(401, "invalid_request_error", "invalid_api_key");
    assert_eq!(ask(&scene.tenant.token).await.status, 200, "a live token stands a clock set back");
}

/// UTC seconds as RFC 3339 (Howard Hinnant's days-to-civil).
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (i64::try_from(seconds / 86_400).expect("small"), seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

/// storage.md: the caller's address is part of the credential where a list is set
#[tokio::test(flavor = "multi_thread")]
async fn a_token_bound_to_other_addresses_is_refused() {
    let scene = Scene::new().await;
    let (_, away) = scene.admin().mint(&scene.tenant.id, &json!({ "allowed_ips": ["192.0.2.0/24"] })).await;
    let (_, home) = scene.admin().mint(&scene.tenant.id, &json!({ "allowed_ips": ["127.0.0.0/8"] })).await;
    let reply = scene.client.with_token(&away).chat(&chat("alpha", "hello", 4)).await;
    assert!(matches!(reply.status, 401 | 403), "{}", reply.text());
    let spoofed = scene
        .client
        .with_token(&away)
        .build(Method::GET, "/v1/quota")
        .header("x-forwarded-for", "192.0.2.7")
        .send()
        .await
        .expect("an answer");
    assert!(matches!(spoofed.status().as_u16(), 401 | 403), "a header moves nobody");
    assert_eq!(scene.upstream.calls(), 0);
    assert_eq!(scene.client.with_token(&home).chat(&chat("alpha", "hello", 4)).await.status, 200);
}

/// I-06: a deleted tenant's tokens die with it
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenant_is_out_at_once_and_its_id_is_never_reused() {
    let scene = Scene::new().await;
    assert_eq!(scene.client.chat(&chat("alpha", "hello", 4)).await.status, 200);
    let unconfirmed = scene.admin().send(Method::DELETE, "/v1/tenants/acme").await;
    assert_eq!(unconfirmed.status, 400, "{}", unconfirmed.text());
    assert_eq!(scene.client.get("/v1/quota").await.status, 200, "nothing was deleted without the confirmation");
    let deleted = scene.admin().send(Method::DELETE, "/v1/tenants/acme?confirm=acme").await;
    assert!(matches!(deleted.status, 200 | 204), "{}", deleted.text());
    scene.client.chat(&chat("alpha", "hello", 4)).await.refused(401, "invalid_request_error", "invalid_api_key");
    let again = scene.admin().post("/v1/tenants", &json!({ "id": "acme" })).await;
    assert_eq!(again.status, 409, "{}", again.text());
    until("the ledger keeps the deleted tenant's row", || async { (scene.rows().len() == 1).then_some(()) }).await;
}
