//! A tenant's own provider key goes out with its requests, and with nobody else's.

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::setup::PROVIDER_KEY;
use openclawmu_tests::{Behaviour, Fault, Scene, Setup, Upstream};
use serde_json::json;

const OWN_KEY: &str = "sk-own-canary-77f2a1c09d";

fn sent_key(scene: &Scene) -> String {
    scene.upstream.last().header("authorization").unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_own_key_goes_out_with_its_requests_and_with_nobody_elses() {
    let mut scene = Scene::new().await;
    let other = scene.admin().tenant("other", json!({ "usd_per_day": "1" })).await;
    let other = scene.gateway.client(&other.token);
    let path = "/v1/tenants/acme/provider_keys/scripted";
    let put = scene.admin().send_json(Method::PUT, path, &json!({ "api_key": OWN_KEY })).await;
    assert_eq!(put.status, 200, "{}", put.text());
    assert!(!put.text().contains(OWN_KEY), "it is never read back");

    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    assert_eq!(sent_key(&scene), format!("Bearer {OWN_KEY}"));
    other.chat(&chat("alpha", "hello", 5)).await.ok();
    assert_eq!(sent_key(&scene), format!("Bearer {PROVIDER_KEY}"));

    // S-03: at another upstream the tenant has no key of its own.
    let listed = scene.gateway.cli(&["tenants", "provider-key", "list", "acme"]).await;
    assert!(listed.ok().contains("scripted") && !listed.ok().contains(OWN_KEY), "{listed:?}");
    let data = scene.gateway.data();
    for name in ["openclawmu.db", "openclawmu.db-wal"] {
        let bytes = std::fs::read(data.join(name)).unwrap_or_default();
        assert!(!bytes.windows(OWN_KEY.len()).any(|window| window == OWN_KEY.as_bytes()), "{name} holds the key");
    }
    assert!(!scene.gateway.stderr().contains(OWN_KEY));

    scene.gateway.terminate().await;
    scene.gateway.restart().await;
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    assert_eq!(sent_key(&scene), format!("Bearer {OWN_KEY}"), "it survives a restart");
    let removed = scene.gateway.cli(&["tenants", "provider-key", "remove", "acme", "scripted"]).await;
    assert!(removed.ok().contains("the operator's is used"), "{removed:?}");
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    assert_eq!(sent_key(&scene), format!("Bearer {PROVIDER_KEY}"), "the next request is without it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_moved_to_another_tenant_does_not_open_and_nothing_goes_out() {
    let scene = Scene::new().await;
    let other = scene.admin().tenant("other", json!({ "usd_per_day": "1" })).await;
    let path = "/v1/tenants/acme/provider_keys/scripted";
    scene.admin().send_json(Method::PUT, path, &json!({ "api_key": OWN_KEY })).await.ok();
    // As an attacker who can write to the database would.
    let conn = rusqlite::Connection::open(scene.gateway.data().join("openclawmu.db")).expect("the database");
    conn.busy_timeout(std::time::Duration::from_secs(10)).expect("a setting");
    conn.execute("UPDATE provider_keys SET tenant = (SELECT row_id FROM tenants WHERE id = 'other')", [])
        .expect("a moved key");
    let before = scene.upstream.calls();
    let reply = scene.gateway.client(&other.token).chat(&chat("alpha", "hello", 5)).await;
    reply.refused(502, "upstream_error", "upstream_auth");
    assert_eq!(scene.upstream.calls(), before, "neither key is used");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_key_or_an_unknown_upstream_is_refused() {
    let scene = Scene::new().await;
    let put = |upstream: &str, body: serde_json::Value| {
        let (admin, path) = (scene.admin(), format!("/v1/tenants/acme/provider_keys/{upstream}"));
        async move { admin.send_json(Method::PUT, &path, &body).await }
    };
    for bad in [
        json!({}),
        json!({ "api_key": "" }),
        json!({ "api_key": "a b" }),
        json!({ "api_key": "a\nb" }),
        json!({ "api_key": 5 }),
    ] {
        assert_eq!(put("scripted", bad.clone()).await.status, 400, "{bad}");
    }
    let unknown = put("nobody", json!({ "api_key": "k" })).await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("scripted"), "it says which there are: {}", unknown.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_own_name_for_a_model_is_its_own() {
    let scene = Scene::new().await;
    let other = scene.admin().tenant("other", json!({ "usd_per_day": "1" })).await;
    let named = scene.gateway.cli(&["tenants", "update", "acme", "--alias", "house-model=alpha"]).await;
    assert!(named.ok().contains("house-model"), "{named:?}");
    scene.client.chat(&chat("house-model", "hello", 5)).await.ok();
    assert_eq!(scene.upstream.last().json()["model"], "alpha");
    let listed = scene.client.get("/v1/models").await.ok().to_string();
    assert!(listed.contains("house-model"), "{listed}");
    let other = scene.gateway.client(&other.token);
    other.chat(&chat("house-model", "hello", 5)).await.refused(404, "invalid_request_error", "model_not_found");
    assert!(!other.get("/v1/models").await.ok().to_string().contains("house-model"));
    let circle = scene.gateway.cli(&["tenants", "update", "acme", "--alias", "again=house-model"]).await;
    assert!(circle.stderr.contains("alias itself"), "{circle:?}");
}

/// dialects.md, Routing: passive health with a cooldown that honours `retry-after`
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_asks_to_be_left_alone_is_left_alone() {
    let upstream = Upstream::start().await;
    let spare = Upstream::start().await;
    let alias = "[[model]]\nname = \"safe\"\ntargets = [{ upstream = \"scripted\", model = \"alpha\" }]\nfallbacks = [{ upstream = \"spare\", model = \"beta\" }]\n";
    let setup = Setup::bare()
        .upstream("scripted", upstream.address(), &["alpha"], &[])
        .upstream("spare", spare.address(), &["beta"], &[])
        .line(alias);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1" })).await;
    scene.upstream.next(Behaviour::fault(Fault::Status { code: 429, retry_after: Some(60) }));
    scene.client.chat(&chat("safe", "hello", 5)).await.ok();
    assert_eq!((scene.upstream.calls(), spare.calls()), (1, 1));
    for _ in 0..5 {
        scene.client.chat(&chat("safe", "hello", 5)).await.ok();
    }
    assert_eq!((scene.upstream.calls(), spare.calls()), (1, 6), "it is not asked while it rests");
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    assert_eq!(scene.upstream.calls(), 2, "who names it gets it: there is nobody else to ask");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenants_own_key_meets_is_no_reason_to_leave_the_upstream_alone() {
    let upstream = Upstream::start().await;
    let spare = Upstream::start().await;
    let alias = "[[model]]\nname = \"safe\"\ntargets = [{ upstream = \"scripted\", model = \"alpha\" }]\nfallbacks = [{ upstream = \"spare\", model = \"beta\" }]\n";
    let setup = Setup::bare()
        .upstream("scripted", upstream.address(), &["alpha"], &[])
        .upstream("spare", spare.address(), &["beta"], &[])
        .line(alias);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1" })).await;
    let path = "/v1/tenants/acme/provider_keys/scripted";
    scene.admin().send_json(Method::PUT, path, &json!({ "api_key": OWN_KEY })).await.ok();
    let other = scene.admin().tenant("other", json!({ "usd_per_day": "1" })).await;
    scene.upstream.next(Behaviour::fault(Fault::Status { code: 429, retry_after: Some(60) }));
    scene.client.chat(&chat("safe", "hello", 5)).await.ok();
    scene.gateway.client(&other.token).chat(&chat("safe", "hello", 5)).await.ok();
    assert_eq!(scene.upstream.calls(), 2, "the other tenant is served by it");
}

/// A key that no call could carry is refused when it is set, instead of with every call after
#[tokio::test(flavor = "multi_thread")]
async fn a_key_where_none_can_be_used_is_refused_and_the_upstream_goes_on() {
    let upstream = Upstream::start().await;
    let scene = Scene::of(upstream, Setup { rates: None, ..Setup::bare() }, json!({ "usd_per_day": "1" })).await;
    let path = "/v1/tenants/acme/provider_keys/echo";
    let refused = scene.admin().send_json(Method::PUT, path, &json!({ "api_key": OWN_KEY })).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (409, &json!("no_own_key")), "{}", refused.text());
    scene.client.chat(&chat("echo", "hello", 5)).await.ok();
}
