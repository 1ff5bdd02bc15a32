//! What bodies are taken.

use axum::body::Body;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::json;

use crate::admin::tests::scene::{Answer, KEY, Scene, request};

async fn post(scene: &Scene, kind: Option<&str>, body: impl Into<Body>) -> Answer {
    let request = request(Method::POST, "/v1/tenants").header(AUTHORIZATION, format!("Bearer {KEY}"));
    let request = kind.into_iter().fold(request, |request, kind| request.header(CONTENT_TYPE, kind));
    scene.send(request.body(body.into()).unwrap()).await
}

/// Method, path, body, and the field that the answer must name.
const REFUSED: &str = r#"
POST  /v1/tenants | {"id": "x1", "admin": true} | admin
POST  /v1/tenants | {"id": "x1", "status": "suspended"} | status
POST  /v1/tenants | {"id": "x1", "quota": {"usd_per_dya": "1"}} | usd_per_dya
POST  /v1/tenants | {"id": "x1", "quota": {"usd_per_day": "-1"}} | quota.usd_per_day
POST  /v1/tenants | {"id": "x1", "quota": {"usd_per_day": "1e3"}} | quota.usd_per_day
POST  /v1/tenants | {"id": "x1", "quota": {"usd_per_day": 0.1}} | quota.usd_per_day
POST  /v1/tenants | {"id": "x1", "quota": {"tokens_per_day": -5}} | quota.tokens_per_day
POST  /v1/tenants | {"id": "x1", "quota": {"on_tight_budget": "ignore"}} | quota.on_tight_budget
POST  /v1/tenants | {"id": "Not Valid"} | id
POST  /v1/tenants | {"id": "x1", "timezone": "Mars/Base"} | timezone
PATCH /v1/tenants/acme | {"id": "other"} | id
PATCH /v1/tenants/acme | {"quota": {"usd_per_dya": null}} | usd_per_dya
PATCH /v1/tenants/acme | {"status": "deleted"} | status
POST  /v1/tenants/acme/tokens | {"value": "tk_acme_mine"} | value
POST  /v1/tenants/acme/tokens | {"scopes": ["root"]} | scopes
POST  /v1/tenants/acme/tokens | {"expires_at": "tomorrow"} | expires_at
POST  /v1/tenants/acme/tokens | {"expires_at": "2020-01-01T00:00:00Z"} | expires_at
POST  /v1/tenants/acme/tokens | {"allowed_ips": ["not an address"]} | allowed_ips
POST  /v1/tenants/acme/client_secrets | {"scopes": ["usage"]} | scopes
POST  /v1/tenants/acme/client_secrets | {"ttl_seconds": 86401} | ttl_seconds
POST  /v1/tenants/acme/client_secrets | {"max_cost_usd": "-1"} | max_cost_usd
POST  /v1/tenants/acme/client_secrets | {"origin": "*"} | origin
POST  /v1/tenants/acme/tokens/TOKEN/rotate | {"scopes": ["inference"]} | scopes
POST  /v1/tenants/acme/tokens/TOKEN/rotate | {"grace_seconds": -1} | grace_seconds
PUT   /v1/rates | {"models": {"m": {"input": "1", "outptu": "2"}}} | outptu
PUT   /v1/rates | {"models": {"m": {"input": "-1"}}} | models.m
PUT   /v1/rates | {"models": {"m": {"output": "1"}}} | models.m
PUT   /v1/rates | {"effective_from": "someday", "models": {}} | effective_from
PUT   /v1/rates | {} | models
"#;

/// N-03
#[tokio::test]
async fn unknown_fields_and_wrong_values_are_400_and_name_the_field() {
    let scene = Scene::new().await;
    for line in REFUSED.lines().filter(|line| !line.is_empty()) {
        let [target, body, field] = line.split(" | ").collect::<Vec<_>>().try_into().unwrap();
        let (method, path) = target.split_once(' ').unwrap();
        let path = path.trim_start().replace("TOKEN", &scene.token_id());
        let body = serde_json::from_str(body).unwrap();
        let answer = scene.call(method.parse().unwrap(), &path, Some(&body)).await;
        answer.refused(400);
        assert!(answer.text.contains(field), "{line}: {}", answer.text);
    }
    assert_eq!(scene.get("/v1/tenants/x1").await.status, 404);
    let cards = scene.get("/v1/rates/history").await.json();
    assert_eq!(cards["data"], json!([]));
}

#[tokio::test]
async fn a_body_is_one_json_object_within_the_limit() {
    let scene = Scene::new().await;
    let json = Some("application/json");
    for bad in [
        "",
        "{",
        "[]",
        " [\"x1\"]",
        "null",
        "\"x\"",
        "{\"id\":\"x1\"} {}",
        "{\"id\":\"x1\",\"id\":\"x2\"}",
        "{\"name\":\"\\ud800\"}",
    ] {
        post(&scene, json, bad).await.refused(400);
    }
    post(&scene, json, vec![0xff, 0xfe]).await.refused(400);
    post(&scene, json, format!("{{\"metadata\":{}{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000)))
        .await
        .refused(400);
    let large = |bytes: usize| format!("{{\"name\":\"{}\"}}", "x".repeat(bytes));
    assert_eq!(post(&scene, json, large(1 << 20)).await.refused(413), "body_too_large");
    post(&scene, json, large((1 << 20) - 100)).await.refused(400);
}

#[tokio::test]
async fn only_json_is_taken() {
    let scene = Scene::new().await;
    for kind in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data"),
        Some("application/jsonp"),
    ] {
        assert_eq!(post(&scene, kind, "{\"id\":\"x1\"}").await.refused(415), "json_needed", "{kind:?}");
    }
    assert_eq!(post(&scene, Some("application/json; charset=utf-8"), "{\"id\":\"x1\"}").await.status, 201);
    assert_eq!(post(&scene, None, "").await.status, 201, "no body at all says as much as an empty object");
    let overlay = "/v1/tenants/x1/config";
    assert_eq!(scene.call(Method::PUT, overlay, Some(&json!({"default_model": "m"}))).await.status, 200);
    scene.call(Method::PUT, overlay, None).await.refused(400);
    assert_eq!(scene.get(overlay).await.json()["overlay"]["default_model"], "m", "nothing said clears nothing");
    assert_eq!(scene.call(Method::PUT, overlay, Some(&json!({}))).await.status, 200);
    assert_eq!(scene.get(overlay).await.json()["overlay"], json!({}), "an empty object does");
}

#[tokio::test]
async fn an_unknown_query_is_refused() {
    let scene = Scene::new().await;
    for path in [
        "/v1/tenants?limt=3",
        "/v1/tenants/acme/usage?form=2026-11-01",
        "/v1/tenants/acme/usage?from=yesterday",
        "/v1/tenants/acme/usage?from=2026-11-02&to=2026-11-01",
        "/v1/tenants/acme/usage?group_by=day,planet",
        "/v1/reports/usage",
        "/v1/reports/usage?period=2026-13",
        "/v1/reports/usage?period=2026-11&format=xml",
        "/v1/rates?at=2026-11-01T00:00:00Z",
        "/v1/rates?model=x&at=now",
        "/v1/rates/history?after=x",
    ] {
        scene.get(path).await.refused(400);
    }
}
