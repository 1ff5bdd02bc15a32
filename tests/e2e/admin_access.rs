//! Who gets at the operator's API: the admin key, on the admin listener, and nobody else anywhere.

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::raw::{self, Connection};
use openclawmu_tests::{Scene, ledger};
use serde_json::{Value, json};

use crate::admin_api::{assert_admin_error, send};

/// Every admin route of this part with a body that it would take.
fn routes() -> Vec<(Method, &'static str, Value)> {
    vec![
        (Method::POST, "/v1/tenants", json!({ "id": "intruder" })),
        (Method::GET, "/v1/tenants", Value::Null),
        (Method::GET, "/v1/tenants/acme", Value::Null),
        (Method::PATCH, "/v1/tenants/acme", json!({ "name": "taken over" })),
        (Method::DELETE, "/v1/tenants/acme?confirm=acme", Value::Null),
        (Method::POST, "/v1/tenants/acme/tokens", json!({ "name": "stolen" })),
        (Method::GET, "/v1/tenants/acme/tokens", Value::Null),
        (Method::POST, "/v1/tenants/acme/tokens/TOKEN/rotate", json!({})),
        (Method::DELETE, "/v1/tenants/acme/tokens/TOKEN", Value::Null),
        (Method::GET, "/v1/tenants/acme/usage", Value::Null),
        (Method::GET, "/v1/tenants/acme/requests", Value::Null),
        (Method::GET, "/v1/tenants/acme/quota", Value::Null),
        (Method::GET, "/v1/reports/usage?period=2026-11", Value::Null),
        (Method::GET, "/v1/rates", Value::Null),
        (
            Method::PUT,
            "/v1/rates",
            json!({ "effective_from": "2026-01-01T00:00:00Z", "models": { "alpha": { "input": "0", "output": "0" } } }),
        ),
        (Method::GET, "/v1/rates/history", Value::Null),
        (
            Method::POST,
            "/v1/rates/import",
            json!({ "prices": { "models": { "alpha": { "input": "0", "output": "0" } } }, "replace_overrides": true }),
        ),
        (Method::GET, "/v1/config", Value::Null),
        (Method::POST, "/v1/config/reload", json!({})),
    ]
}

/// N-01
#[tokio::test(flavor = "multi_thread")]
async fn no_admin_route_opens_without_the_admin_key() {
    let scene = Scene::new().await;
    let before = ledger::dump(&scene.gateway.data(), &[]);
    let strangers = ["", "ak_wrong-wrong-wrong-wrong-wrong-wrong-wrong", scene.tenant.token.as_str()];
    for (method, path, body) in routes() {
        let path = path.replace("TOKEN", &scene.tenant.token_id);
        for key in strangers {
            let reply = send(&scene.admin().with_key(key), &method, &path, &body).await;
            assert!(
                matches!(reply.status, 401 | 403),
                "{method} {path} with {key:?}: {} {}",
                reply.status,
                reply.text()
            );
            assert_admin_error(&reply, &path);
        }
        let mut connection = Connection::open(scene.gateway.admin_address()).await;
        connection
            .send(&raw::request(
                method.as_str(),
                &path,
                &[],
                if body.is_null() { Vec::new() } else { body.to_string().into_bytes() }.as_slice(),
            ))
            .await;
        assert_eq!(connection.answer().await.expect("an answer").status(), 401, "{method} {path} without a header");
    }
    assert_eq!(
        ledger::dump(&scene.gateway.data(), &["audit_outbox"]),
        without(&before, "audit_outbox"),
        "nothing changed"
    );
    for open in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(scene.admin().with_key("").send(Method::GET, open).await.status, 200, "{open}");
    }
}

fn without(dump: &str, table: &str) -> String {
    dump.lines().filter(|line| !line.starts_with(&format!("{table}|"))).map(|line| format!("{line}\n")).collect()
}

/// N-01, N-05: the admin API isn't on the tenants' listener, whatever the Host says
#[tokio::test(flavor = "multi_thread")]
async fn admin_routes_are_not_on_the_tenants_listener() {
    let scene = Scene::new().await;
    let admin_host = scene.gateway.admin_address().to_string();
    for (method, path, body) in routes() {
        let path = path.replace("TOKEN", &scene.tenant.token_id);
        for (key, host) in [
            (scene.tenant.token.as_str(), "127.0.0.1"),
            (scene.gateway.key(), "127.0.0.1"),
            (scene.gateway.key(), admin_host.as_str()),
            (scene.gateway.key(), "admin"),
        ] {
            let text = if body.is_null() { String::new() } else { body.to_string() };
            let bytes = format!(
                "{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{text}",
                text.len()
            );
            let mut connection = Connection::open(scene.gateway.edge()).await;
            connection.send(bytes.as_bytes()).await;
            let answer = connection.answer().await.expect("an answer");
            assert!(
                matches!(answer.status(), 401 | 403 | 404 | 405),
                "{method} {path} on the edge: {} {}",
                answer.start,
                answer.text()
            );
        }
    }
    assert!(scene.admin().get("/v1/tenants").await.to_string().contains("acme"));
    assert_eq!(scene.admin().send(Method::GET, "/v1/tenants/intruder").await.status, 404);
}

/// N-04, N-05: credentials of one side are nothing on the other
#[tokio::test(flavor = "multi_thread")]
async fn the_admin_key_is_no_tenants_token() {
    let scene = Scene::new().await;
    scene.client.with_token(scene.gateway.key()).chat(&chat("alpha", "hello", 5)).await.refused(
        401,
        "invalid_request_error",
        "invalid_api_key",
    );
    assert_eq!(scene.upstream.calls(), 0);
}

/// N-09
#[tokio::test(flavor = "multi_thread")]
async fn guessing_the_admin_key_is_limited_and_locks_nobody_out_of_the_machine() {
    let scene = Scene::new().await;
    let guesser = scene.admin().with_key("ak_wrong-wrong-wrong-wrong-wrong-wrong-wrong");
    let mut limited = None;
    for _ in 0..60 {
        let reply = guesser.send(Method::GET, "/v1/tenants").await;
        assert!(matches!(reply.status, 401 | 429), "{}", reply.text());
        if reply.status == 429 {
            limited = Some(reply);
            break;
        }
    }
    let limited = limited.expect("sixty guesses are too many");
    assert_admin_error(&limited, "too many guesses");
    assert!(limited.header("retry-after").is_some());
    let listed = scene.gateway.cli(&["tenants", "list"]).await;
    assert!(listed.ok().contains("acme"), "the socket needs no key");
    scene.client.get("/v1/quota").await.ok();
}
