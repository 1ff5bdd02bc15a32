//! Bad input over every route whose body is read: 400 in the caller's dialect that names the field, nothing reserved, nothing
//! billed, nothing sent.

use openclawmu_tests::raw::Connection;
use openclawmu_tests::{Reply, Scene};
use serde_json::{Value, json};

/// A route with a good body, and its name for the output cap where the body has one.
struct Route {
    path: &'static str,
    body: Value,
    cap: Option<&'static str>,
}

fn routes() -> Vec<Route> {
    let messages = json!([{ "role": "user", "content": "hello" }]);
    let route = |path, body, cap| Route { path, body, cap };
    vec![
        route(
            "/v1/chat/completions",
            json!({ "model": "alpha", "messages": messages, "max_tokens": 5 }),
            Some("max_tokens"),
        ),
        route(
            "/v1/completions",
            json!({ "model": "instruct", "prompt": "hello", "max_tokens": 5 }),
            Some("max_tokens"),
        ),
        route("/v1/embeddings", json!({ "model": "embed", "input": "hello" }), None),
        route("/v1/moderations", json!({ "model": "guard", "input": "hello" }), None),
        route("/v1/images/generations", json!({ "model": "painter", "prompt": "hello" }), None),
        route("/v1/audio/speech", json!({ "model": "voice", "input": "hello", "voice": "alloy" }), None),
        route("/v1/messages", json!({ "model": "alpha", "messages": messages, "max_tokens": 5 }), Some("max_tokens")),
        route("/v1/messages/count_tokens", json!({ "model": "alpha", "messages": messages }), None),
        route(
            "/v1/responses",
            json!({ "model": "alpha", "input": "hello", "max_output_tokens": 5 }),
            Some("max_output_tokens"),
        ),
        route(
            "/v1beta/models/alpha:generateContent",
            json!({ "contents": [{ "role": "user", "parts": [{ "text": "hello" }] }], "generationConfig": { "maxOutputTokens": 5 } }),
            Some("generationConfig.maxOutputTokens"),
        ),
        route(
            "/v1beta/models/alpha:streamGenerateContent?alt=sse",
            json!({ "contents": [{ "role": "user", "parts": [{ "text": "hello" }] }], "generationConfig": { "maxOutputTokens": 5 } }),
            Some("generationConfig.maxOutputTokens"),
        ),
    ]
}

/// The body with the member at this path, dots between, replaced.
fn with(body: &Value, path: &str, value: &Value) -> Value {
    let mut body = body.clone();
    *body.pointer_mut(&format!("/{}", path.replace('.', "/"))).expect("a member") = value.clone();
    body
}

/// The body with its member at this path given twice.
fn twice(body: &Value, path: &str) -> Vec<u8> {
    let name = path.rsplit('.').next().expect("a name");
    body.to_string().replacen(&format!("\"{name}\":"), &format!("\"{name}\":7,\"{name}\":"), 1).into_bytes()
}

/// What is wrong with a body whatever it asks for.
fn broken(body: &Value) -> Vec<(&'static str, Vec<u8>)> {
    let text = body.to_string();
    let deep = |open: &str, close: &str| {
        let value = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        format!("{},\"later\":{value}}}", &text[..text.len() - 1]).into_bytes()
    };
    let mut not_utf8 = text.replace("hello", "he\u{1}llo").into_bytes();
    let at = not_utf8.iter().position(|byte| *byte == 1).expect("inside the text");
    not_utf8[at] = 0xff;
    vec![
        ("nothing", Vec::new()),
        ("no object", b"[]".to_vec()),
        ("no JSON", b"hello".to_vec()),
        ("a torn body", text.as_bytes()[..text.len() - 3].to_vec()),
        ("more than one", format!("{text}{text}").into_bytes()),
        ("deep lists", deep("[", "]")),
        ("deep objects", deep("{\"a\":", "}")),
        ("no UTF-8", not_utf8),
    ]
}

/// A 400 in the dialect of the route. `names` is what it must name.
fn assert_refused(reply: &Reply, (path, what): (&str, &str), names: Option<&str>) {
    let text = reply.text();
    assert_eq!(reply.status, 400, "{path}, {what}: {text}");
    let (body, error) = (reply.json(), reply.json()["error"].clone());
    let message = error["message"].as_str().unwrap_or_default();
    assert!(!message.is_empty(), "{path}, {what}: {text}");
    if path.starts_with("/v1/messages") {
        assert_eq!(
            (&body["type"], &error["type"]),
            (&json!("error"), &json!("invalid_request_error")),
            "{path}: {text}"
        );
    } else if path.starts_with("/v1beta") {
        assert_eq!((&error["code"], &error["status"]), (&json!(400), &json!("INVALID_ARGUMENT")), "{path}: {text}");
    } else {
        assert_eq!(error["type"], "invalid_request_error", "{path}, {what}: {text}");
        if let Some(name) = names {
            assert_eq!(error["param"], name, "{path}, {what}: {text}");
        }
    }
    let name = names.map(|name| name.rsplit('.').next().expect("a name"));
    assert!(name.is_none_or(|name| message.contains(name)), "{path}, {what} names {name:?}: {text}");
}

/// E-11 and the list: whatever the route
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_400_in_the_callers_dialect() {
    let scene = Scene::new().await;
    for Route { path, body, .. } in routes() {
        for (what, bytes) in broken(&body) {
            assert_refused(&scene.client.post_bytes(path, bytes).await, (path, what), None);
        }
        if body.get("model").is_some() {
            assert_refused(&scene.client.post_bytes(path, twice(&body, "model")).await, (path, "twice"), Some("model"));
            for value in [json!(5), json!(null), json!(["alpha"]), json!("")] {
                let bytes = with(&body, "model", &value).to_string().into_bytes();
                assert_refused(&scene.client.post_bytes(path, bytes).await, (path, &value.to_string()), Some("model"));
            }
        }
    }
    let budget = scene.budget().await;
    assert_eq!((scene.upstream.calls(), budget.posted, budget.pending), (0, 0, 0));
    assert!(scene.rows().is_empty());
}

/// The cap is what a reservation rests on: given once, as a whole number that is not below zero
#[tokio::test(flavor = "multi_thread")]
async fn a_cap_that_is_none_is_400_and_named() {
    let scene = Scene::new().await;
    for Route { path, body, cap } in routes() {
        let Some(cap) = cap else { continue };
        assert_refused(&scene.client.post_bytes(path, twice(&body, cap)).await, (path, "twice"), Some(cap));
        for value in [json!(-1), json!(1.5), json!("5"), json!([5]), json!(u64::MAX)] {
            let bytes = with(&body, cap, &value).to_string().into_bytes();
            assert_refused(&scene.client.post_bytes(path, bytes).await, (path, &value.to_string()), Some(cap));
        }
    }
    let both = json!({ "model": "alpha", "max_tokens": 5, "max_completion_tokens": 6, "messages": [{ "role": "user", "content": "x" }] });
    let reply = scene.client.post_bytes("/v1/chat/completions", both.to_string().into_bytes()).await;
    assert_refused(&reply, ("/v1/chat/completions", "both caps"), Some("max_tokens"));
    let google = json!({ "contents": [{ "parts": [{ "text": "x" }] }], "generationConfig": {}, "generation_config": { "maxOutputTokens": 5 } });
    let path = "/v1beta/models/alpha:generateContent";
    let reply = scene.client.post_bytes(path, google.to_string().into_bytes()).await;
    assert_refused(&reply, (path, "both spellings"), Some("generationConfig"));
    let budget = scene.budget().await;
    assert_eq!((scene.upstream.calls(), budget.posted, budget.pending), (0, 0, 0));
}

/// A body that ends before its length is not a request, whatever was read of it
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_the_client_cuts_reaches_nobody() {
    let scene = Scene::new().await;
    for Route { path, body, .. } in routes() {
        let (token, text) = (&scene.tenant.token, body.to_string());
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len() + 10
        );
        let mut connection = Connection::open(scene.gateway.edge()).await;
        assert!(connection.send(head.as_bytes()).await);
        connection.end().await;
        let answer = String::from_utf8_lossy(&connection.rest().await).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
    let budget = scene.budget().await;
    assert_eq!((scene.upstream.calls(), budget.posted, budget.pending), (0, 0, 0));
}
