//! The operator's API: what bodies it takes, paging, repeated calls.

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::{Admin, Scene, ledger};
use serde_json::{Value, json};

pub(crate) async fn send(admin: &Admin, method: &Method, path: &str, body: &Value) -> openclawmu_tests::Reply {
    if body.is_null() {
        admin.send(method.clone(), path).await
    } else {
        admin.send_json(method.clone(), path, body).await
    }
}

pub(crate) fn assert_admin_error(reply: &openclawmu_tests::Reply, what: &str) {
    let error = &reply.json()["error"];
    assert!(error["code"].is_string() && error["message"].is_string(), "{what}: {}", reply.text());
}

/// N-03
#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_and_wrong_types_are_400_and_name_the_field() {
    let scene = Scene::new().await;
    let before = ledger::dump(&scene.gateway.data(), &["audit_outbox"]);
    let cases = [
        (Method::POST, "/v1/tenants", json!({ "id": "x1", "admin": true }), "admin"),
        (Method::POST, "/v1/tenants", json!({ "id": "x1", "status": "deleted" }), "status"),
        (Method::POST, "/v1/tenants", json!({ "id": "x1", "quota": { "usd_per_dya": "1" } }), "usd_per_dya"),
        (Method::POST, "/v1/tenants", json!({ "id": "x1", "quota": { "usd_per_day": "-1" } }), "usd_per_day"),
        (Method::POST, "/v1/tenants", json!({ "id": "x1", "quota": { "usd_per_day": "1e3" } }), "usd_per_day"),
        (Method::POST, "/v1/tenants", json!({ "id": "x1", "quota": { "usd_per_day": "0.0000000001" } }), "usd_per_day"),
        (Method::POST, "/v1/tenants", json!({ "id": "x1", "quota": { "tokens_per_day": -5 } }), "tokens_per_day"),
        (
            Method::POST,
            "/v1/tenants",
            json!({ "id": "x1", "quota": { "on_tight_budget": "ignore" } }),
            "on_tight_budget",
        ),
        (Method::POST, "/v1/tenants", json!({ "id": "Not Valid" }), "id"),
        (Method::POST, "/v1/tenants", json!({ "id": "../acme" }), "id"),
        (Method::PATCH, "/v1/tenants/acme", json!({ "id": "other" }), "id"),
        (Method::PATCH, "/v1/tenants/acme", json!({ "quotas": {} }), "quotas"),
        (Method::POST, "/v1/tenants/acme/tokens", json!({ "value": "tk_acme_mine" }), "value"),
        (Method::POST, "/v1/tenants/acme/tokens", json!({ "expires_at": "tomorrow" }), "expires_at"),
        (Method::POST, "/v1/tenants/acme/tokens", json!({ "allowed_ips": ["not an address"] }), "allowed_ips"),
        (
            Method::PUT,
            "/v1/rates",
            json!({ "effective_from": "2026-01-01T00:00:00Z", "models": { "m": { "input": "1", "outptu": "2" } } }),
            "outptu",
        ),
        (
            Method::PUT,
            "/v1/rates",
            json!({ "effective_from": "2026-01-01T00:00:00Z", "models": { "m": { "input": "-1", "output": "2" } } }),
            "models.m",
        ),
        (Method::PUT, "/v1/rates", json!({ "effective_from": "someday", "models": {} }), "effective_from"),
    ];
    for (method, path, body, field) in cases {
        let reply = send(&scene.admin(), &method, path, &body).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text());
        assert_admin_error(&reply, path);
        assert!(reply.text().contains(field), "{field} is named: {}", reply.text());
    }
    for (path, bytes) in [("/v1/tenants", &b"{"[..]), ("/v1/tenants", b"[]")] {
        let request =
            scene.admin().build(Method::POST, path).header("content-type", "application/json").body(bytes.to_vec());
        let reply = openclawmu_tests::Reply::of(request.send().await.expect("an answer")).await;
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert_admin_error(&reply, path);
    }
    assert_eq!(ledger::dump(&scene.gateway.data(), &["audit_outbox"]), before);
}

/// N-08
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_idempotency_key_repeats_the_answer_and_refuses_another_body() {
    let scene = Scene::new().await;
    let call = |body: Value| {
        let request =
            scene.admin().build(Method::POST, "/v1/tenants").header("idempotency-key", "the-same-key").json(&body);
        async move { openclawmu_tests::Reply::of(request.send().await.expect("an answer")).await }
    };
    let body = json!({ "id": "once", "quota": { "usd_per_day": "3" } });
    let first = call(body.clone()).await;
    assert_eq!(first.status, 201, "{}", first.text());
    let again = call(body).await;
    assert_eq!((again.status, again.json()), (201, first.json()), "the same answer, token and all");
    let other = call(json!({ "id": "twice" })).await;
    assert_eq!(other.status, 422, "{}", other.text());
    assert_admin_error(&other, "another body");
    assert_eq!(scene.admin().send(Method::GET, "/v1/tenants/twice").await.status, 404);
    let token = first.json()["token"]["value"].as_str().expect("a token").to_owned();
    scene.client.with_token(&token).chat(&chat("alpha", "hello", 5)).await.ok();
    let tokens = scene.admin().get("/v1/tenants/once/tokens").await.to_string();
    assert!(!tokens.contains(&token), "a secret is shown by no other call");
    let parallel: Vec<_> = (0..8)
        .map(|_| {
            let request = scene
                .admin()
                .build(Method::POST, "/v1/tenants")
                .header("idempotency-key", "a-race")
                .json(&json!({ "id": "raced" }));
            tokio::spawn(async move { openclawmu_tests::Reply::of(request.send().await.expect("an answer")).await })
        })
        .collect();
    let mut made = Vec::new();
    for call in parallel {
        let reply = call.await.expect("a call");
        if reply.status == 201 {
            made.push(reply.json());
        } else {
            assert_eq!(reply.status, 409, "still being done: {}", reply.text());
        }
    }
    assert!(!made.is_empty() && made.iter().all(|one| *one == made[0]), "one tenant, one token");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_page_without_gap_or_overlap() {
    let scene = Scene::new().await;
    for number in 0..7 {
        scene.admin().tenant(&format!("page-{number}"), json!({})).await;
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    for _ in 0..10 {
        let page = scene.admin().get(&format!("/v1/tenants?limit=3{after}")).await;
        let rows =
            page.as_object().and_then(|fields| fields.values().find_map(Value::as_array)).expect("a list").clone();
        assert!(rows.len() <= 3);
        let Some(last) = rows.last().and_then(|row| row["id"].as_str()).map(str::to_owned) else {
            break;
        };
        seen.extend(rows.iter().filter_map(|row| row["id"].as_str()).map(str::to_owned));
        let cursor = page
            .as_object()
            .and_then(|fields| ["next", "next_after", "after", "last_id"].iter().find_map(|key| fields.get(*key)))
            .and_then(Value::as_str)
            .map_or(last, str::to_owned);
        after = format!("&after={cursor}");
    }
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), seen.len(), "no tenant twice: {seen:?}");
    assert_eq!(seen.len(), 8, "all of them: {seen:?}");
    assert_eq!(scene.admin().send(Method::GET, "/v1/tenants?limit=-1").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_made_tenant_id_follows_the_rule() {
    let scene = Scene::new().await;
    let made = scene.admin().tenant_of(json!({ "name": "No id given" })).await;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    assert!(made.id.len() <= 32 && made.id.bytes().all(|byte| plain(byte) || byte == b'-'), "{}", made.id);
    assert!(made.token.starts_with(&format!("tk_{}_", made.id)));
    assert_eq!(scene.admin().post("/v1/tenants", &json!({ "id": made.id })).await.status, 409);
}
