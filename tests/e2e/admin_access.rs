//! Who gets at the operator's API: the admin key, on the admin listener, and nobody else anywhere.

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::raw::{self, Connection};
use openclawmu_tests::{Scene, ledger};
use serde_json::{Value, json};

use crate::admin_api::{assert_admin_error, send};

/// Every route that needs the key, by the admin API's own document, with ids filled in.
async fn routes(scene: &Scene) -> Vec<(Method, String, Value)> {
    let document = scene.admin().get("/openapi.json").await;
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            if operation["security"].is_null() {
                continue;
            }
            let path = path.replace("{id}", "acme").replace("{token}", &scene.tenant.token_id);
            let path = path.replace("{upstream}", "scripted").replace("{event}", "evt_0000000000000000");
            // What else varies names nothing that is there.
            let path: Vec<&str> =
                path.split('/').map(|part| if part.starts_with('{') { "none" } else { part }).collect();
            let mut path = path.join("/");
            if method == "delete" && path == "/v1/tenants/acme" {
                path.push_str("?confirm=acme");
            }
            let body = if operation["requestBody"].is_null() { Value::Null } else { body(&path) };
            found.push((method.to_ascii_uppercase().parse().expect("a method"), path, body));
        }
    }
    assert!(found.len() > 30, "{found:?}");
    found
}

/// A body with which the route would do something.
fn body(path: &str) -> Value {
    let free = json!({ "models": { "alpha": { "input": "0", "output": "0" } } });
    match path {
        "/v1/tenants" => json!({ "id": "intruder" }),
        "/v1/tenants/acme" => json!({ "name": "taken over" }),
        "/v1/tenants/acme/tokens" => json!({ "name": "stolen" }),
        "/v1/tenants/acme/credits" => json!({ "amount_usd": "5", "reason": "mine" }),
        "/v1/tenants/acme/provider_keys/scripted" => json!({ "api_key": "sk-theirs" }),
        "/v1/rates" => free,
        "/v1/rates/import" => json!({ "prices": free, "replace_overrides": true }),
        _ => json!({}),
    }
}

/// N-01
#[tokio::test(flavor = "multi_thread")]
async fn no_admin_route_opens_without_the_admin_key() {
    let scene = Scene::new().await;
    let before = ledger::dump(&scene.gateway.data(), &[]);
    let strangers = ["", scene.tenant.token.as_str(), "ak_wrong-wrong-wrong-wrong-wrong-wrong-wrong"];
    for (place, (method, path, body)) in routes(&scene).await.into_iter().enumerate() {
        // Few enough guesses that none is refused for being one too many.
        let strangers = if place % 4 == 0 { &strangers[..] } else { &strangers[..2] };
        for key in strangers.iter().copied() {
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
    for open in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs/index.html"] {
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
    for (method, path, body) in routes(&scene).await {
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

/// N-04: what a caller says of itself is nothing beside its credential
#[tokio::test(flavor = "multi_thread")]
async fn headers_that_claim_a_role_or_scope_change_nothing() {
    let scene = Scene::new().await;
    let (_, reader) = scene.admin().mint("acme", &json!({ "scopes": ["usage"] })).await;
    let claims = [
        ("x-openclawmu-scopes", "inference,admin"),
        ("x-openclawmu-scope", "inference"),
        ("x-scopes", "inference"),
        ("x-openclawmu-tenant", "other"),
        ("x-role", "admin"),
        ("x-forwarded-user", "root"),
        ("x-admin-key", scene.gateway.key()),
        ("x-original-url", "/v1/tenants"),
        ("x-http-method-override", "DELETE"),
    ];
    for (name, value) in claims {
        let chat = scene.client.with_token(&reader).build(Method::POST, "/v1/chat/completions").header(name, value);
        let reply = openclawmu_tests::Reply::of(chat.json(&chat_body()).send().await.expect("an answer")).await;
        reply.refused(403, "permission_error", "scope_missing");
        for key in ["", scene.tenant.token.as_str()] {
            let asked = scene.admin().with_key(key).build(Method::GET, "/v1/tenants").header(name, value);
            let reply = openclawmu_tests::Reply::of(asked.send().await.expect("an answer")).await;
            assert!(matches!(reply.status, 401 | 403), "{name} with {key:?}: {}", reply.text());
        }
    }
    assert_eq!(scene.upstream.calls(), 0);
    scene.client.chat(&chat_body()).await.ok();
}

fn chat_body() -> Value {
    chat("alpha", "hello", 5)
}

/// N-07
#[tokio::test(flavor = "multi_thread")]
async fn a_search_is_bounded_and_its_words_are_no_patterns() {
    let scene = Scene::new().await;
    scene.client.chat(&chat_body()).await.ok();
    scene.rows_once(1).await;
    let found = |query: String| {
        let admin = scene.admin();
        async move { admin.send(Method::GET, &format!("/v1/tenants/acme/requests?{query}")).await }
    };
    assert_eq!(found("model=alpha".to_owned()).await.ok()["data"].as_array().map(Vec::len), Some(1));
    for pattern in ["%25", "_____", "al%25", "a_pha", "*", "alpha%00"] {
        for name in ["model", "upstream", "token", "user", "tag"] {
            let reply = found(format!("{name}={pattern}")).await;
            let rows = reply.status == 200 && reply.json()["data"] != json!([]);
            assert!(!rows && reply.status < 500, "{name}={pattern}: {}", reply.text());
        }
    }
    for letter in ["%25", "_"] {
        let reply = found(format!("model={}", letter.repeat(20_000))).await;
        assert!(matches!(reply.status, 200 | 400 | 414 | 431), "{}", reply.status);
        let (key, words) = (scene.gateway.key(), letter.repeat(10 << 20));
        let request = format!(
            "GET /v1/tenants/acme/requests?model={words} HTTP/1.1\r\nhost: admin\r\nauthorization: Bearer {key}\r\n\r\n"
        );
        let mut connection = Connection::open(scene.gateway.admin_address()).await;
        connection.send(request.as_bytes()).await;
        let answer = connection.answer().await.map(|answer| answer.status());
        assert!(matches!(answer, None | Some(400 | 414 | 431)), "10 MB are not looked for: {answer:?}");
    }
    assert_eq!(found("model=alpha".to_owned()).await.status, 200, "and the next search is served");
}
