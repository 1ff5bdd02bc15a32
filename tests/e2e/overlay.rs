//! A tenant's configuration: what it prefers, merged under what only the operator may set.

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::{Reply, Scene, ledger};
use serde_json::{Value, json};

const PATH: &str = "/v1/tenants/acme/config";

async fn put(scene: &Scene, overlay: Value) -> Reply {
    scene.admin().send_json(Method::PUT, PATH, &overlay).await
}

/// A chat that names no model.
fn nameless(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": text }], "max_tokens": 5 })
}

fn names_the_model(reply: &Reply) {
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("model")), "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_model_and_names_of_its_own_act_on_the_next_request_of_that_tenant_alone() {
    let scene = Scene::new().await;
    let other = scene.admin().tenant("other", json!({ "usd_per_day": "1" })).await;
    let other = scene.gateway.client(&other.token);
    names_the_model(&scene.client.chat(&nameless("hello")).await);
    let shown = put(&scene, json!({ "default_model": "house", "aliases": { "house": "alpha" } })).await.ok();
    assert_eq!(shown["effective"]["default_model"], "house");
    assert_eq!(shown["effective"]["aliases"], json!({ "house": "alpha" }));
    scene.client.chat(&nameless("hello")).await.ok();
    assert_eq!(scene.upstream.last().json()["model"], "alpha");
    scene.client.chat(&chat("house", "hello", 5)).await.ok();
    assert_eq!(scene.upstream.last().json()["model"], "alpha");
    scene.client.chat(&chat("beta", "hello", 5)).await.ok();
    assert_eq!(scene.upstream.last().json()["model"], "beta", "who names a model gets it");
    let messages = json!({ "max_tokens": 5, "messages": [{ "role": "user", "content": "hello" }] });
    scene.client.post("/v1/messages", &messages).await.ok();
    let listed = scene.client.get("/v1/models").await.ok().to_string();
    assert!(listed.contains("\"house\""), "{listed}");
    names_the_model(&other.chat(&nameless("hello")).await);
    other.chat(&chat("house", "hello", 5)).await.refused(404, "invalid_request_error", "model_not_found");
    put(&scene, json!({})).await.ok();
    names_the_model(&scene.client.chat(&nameless("hello")).await);
    assert_eq!(scene.upstream.calls(), 4, "what was refused went nowhere");
}

/// N-03: what only the operator sets is refused by its name and changes nothing
#[tokio::test(flavor = "multi_thread")]
async fn an_admin_only_key_is_refused_by_its_name_and_nothing_is_merged() {
    let scene = Scene::new().await;
    let before = ledger::dump(&scene.gateway.data(), &["audit_outbox"]);
    let config = scene.admin().get("/v1/config").await;
    let tables = config.as_object().expect("tables").keys().map(String::as_str);
    for key in tables.chain(["quota", "models", "status", "scopes", "provider_keys", "listen", "keys", "timezone"]) {
        let refused = put(&scene, json!({ "default_model": "alpha", key: {} })).await;
        assert_eq!(refused.status, 400, "{key}: {}", refused.text());
        let error = &refused.json()["error"];
        assert_eq!((&error["code"], &error["field"]), (&json!("admin_only_key"), &json!(key)), "{error}");
        assert!(error["hint"].is_string(), "{error}");
    }
    for (overlay, field) in [
        (json!({ "default_modle": "alpha" }), "default_modle"),
        (json!({ "default_model": 5 }), "default_model"),
        (json!({ "aliases": { "a": "b", "b": "c" } }), "aliases"),
        (json!({ "response_ttl_days": -1 }), "response_ttl_days"),
        (json!({ "on_tight_budget": "ignore" }), "on_tight_budget"),
    ] {
        let refused = put(&scene, overlay).await;
        assert_eq!(refused.status, 400, "{field}: {}", refused.text());
        assert!(refused.text().contains(field), "{}", refused.text());
    }
    assert_eq!(ledger::dump(&scene.gateway.data(), &["audit_outbox"]), before);
    assert_eq!(scene.admin().get(PATH).await["overlay"], json!({}));
    assert_eq!(scene.admin().send(Method::GET, "/v1/tenants/nobody/config").await.status, 404);
}

/// An overlay widens nothing: its names lead only to what the tenant and the token may call.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_its_own_leads_past_no_allow_list() {
    let scene = Scene::new().await;
    scene.admin().patch("acme", &json!({ "models": ["alpha", "own-*"] })).await;
    let overlay = json!({ "default_model": "own-beta", "aliases": { "own-alpha": "alpha", "own-beta": "beta" } });
    put(&scene, overlay).await.ok();
    scene.client.chat(&chat("own-alpha", "hello", 5)).await.ok();
    for body in [chat("own-beta", "hello", 5), nameless("hello")] {
        scene.client.chat(&body).await.refused(403, "permission_error", "model_not_allowed");
    }
    let listed = scene.client.get("/v1/models").await.ok().to_string();
    assert!(listed.contains("own-alpha") && !listed.contains("own-beta"), "{listed}");
    assert_eq!(scene.upstream.calls(), 1);
}

/// N-02
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_can_be_written_by_no_tenant_and_the_gateways_own_by_nobody() {
    let scene = Scene::new().await;
    let body = json!({ "default_model": "beta" });
    for path in [PATH, "/v1/config", "/v1/config/reload"] {
        for method in [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE] {
            let on_edge = scene.client.build(method.clone(), path).json(&body).send().await.expect("an answer");
            let on_edge = Reply::of(on_edge).await;
            assert!(matches!(on_edge.status, 404 | 405), "{method} {path} on the edge: {}", on_edge.status);
            let with_token = scene.admin().with_key(&scene.tenant.token).send_json(method.clone(), path, &body).await;
            assert_eq!(with_token.status, 403, "{method} {path} with a token: {}", with_token.text());
        }
    }
    for method in [Method::PUT, Method::POST, Method::PATCH, Method::DELETE] {
        let reply = scene.admin().send_json(method.clone(), "/v1/config", &body).await;
        assert_eq!(reply.status, 405, "{method}: {}", reply.text());
    }
    assert_eq!(scene.admin().get(PATH).await["overlay"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlay_survives_a_restart_and_its_file_is_a_copy() {
    let mut scene = Scene::new().await;
    let set =
        scene.gateway.cli(&["tenants", "config", "set", "acme", "--default-model", "alpha", "--alias", "own=beta"]);
    assert!(set.await.ok().contains("its own"));
    let file = scene.gateway.data().join("tenants/acme/config.toml");
    let text = std::fs::read_to_string(&file).expect("the copy");
    assert!(text.contains("default_model = \"alpha\"") && text.contains("own = \"beta\""), "{text}");
    std::fs::write(&file, "default_model = \"beta\"\n[quota]\n").expect("somebody edits the copy");
    scene.gateway.terminate().await;
    scene.restarted().await;
    scene.client.chat(&nameless("hello")).await.ok();
    assert_eq!(scene.upstream.last().json()["model"], "alpha", "the store has it, not the file");
    assert_eq!(std::fs::read_to_string(&file).expect("the copy"), text, "and the copy is written anew");
    let shown = scene.gateway.cli(&["tenants", "config", "show", "acme", "--json"]).await.json();
    assert_eq!(shown["overlay"], json!({ "default_model": "alpha", "aliases": { "own": "beta" } }));
    assert!(scene.gateway.cli(&["tenants", "config", "set", "acme", "--alias", "own"]).await.status.success());
    assert_eq!(scene.admin().get(PATH).await["overlay"], json!({ "default_model": "alpha" }));
    assert!(scene.gateway.cli(&["tenants", "config", "clear", "acme"]).await.status.success());
    assert!(!file.exists(), "where there is no overlay there is no copy");
}

/// `on_tight_budget` of the overlay acts as that of the quota does.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_may_prefer_a_shorter_answer_to_a_refusal() {
    let scene = Scene::with_quota(json!({ "usd_per_day": "0.005" })).await;
    let long = chat("flat", "hello", 100_000);
    scene.client.chat(&long).await.refused(429, "insufficient_quota", "insufficient_quota");
    put(&scene, json!({ "on_tight_budget": "clamp" })).await.ok();
    scene.client.chat(&long).await.ok();
    let sent = scene.upstream.last().json();
    let cap = sent["max_tokens"].as_u64().or(sent["max_completion_tokens"].as_u64());
    assert!(cap.is_some_and(|cap| cap < 100_000), "{sent}");
    assert!(scene.settled().await.remaining >= Some(0), "and the cap holds");
}
