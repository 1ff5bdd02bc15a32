//! Limits and forms of HTTP at the edge: what is too long, too deep or oddly shaped is refused by name, and the connection stays sane.

use std::time::{Duration, Instant};

use openclawmu_tests::client::chat;
use openclawmu_tests::raw::{self, Connection, Message};
use openclawmu_tests::wait::until;
use openclawmu_tests::{Scene, Setup, Upstream};
use serde_json::json;

async fn ask(scene: &Scene, bytes: &[u8]) -> Option<Message> {
    let mut connection = Connection::open(scene.gateway.edge()).await;
    connection.send(bytes).await;
    connection.answer().await
}

fn bearer(scene: &Scene) -> String {
    format!("Bearer {}", scene.tenant.token)
}

/// E-09, headers and URI
#[tokio::test(flavor = "multi_thread")]
async fn a_header_block_over_32_kib_is_431_and_a_uri_over_8_kib_is_414() {
    let scene = Scene::new().await;
    let bearer = bearer(&scene);
    let ask = |target: String, filler: usize| {
        let filler = "f".repeat(filler);
        let bytes =
            raw::request("GET", &target, &[("authorization", bearer.as_str()), ("x-filler", filler.as_str())], b"");
        let scene = &scene;
        async move { self::ask(scene, &bytes).await.map(|answer| answer.status()) }
    };
    assert_eq!(ask("/v1/models".into(), 30 * 1024).await, Some(200), "30 KiB of headers pass");
    assert_eq!(ask("/v1/models".into(), 33 * 1024).await, Some(431));
    assert_eq!(ask(format!("/v1/models?q={}", "u".repeat(7 * 1024)), 10).await, Some(200), "7 KiB of URI pass");
    assert_eq!(ask(format!("/v1/models?q={}", "u".repeat(9 * 1024)), 10).await, Some(414));
}

/// E-09, bodies: counted while they stream
#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_413_however_it_is_framed_and_memory_stays_flat() {
    let scene = Scene::new().await;
    scene.client.chat(&chat("alpha", "warm up", 5)).await.ok();
    let before = scene.gateway.resident_kib();
    let bearer = bearer(&scene);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: {bearer}\r\ncontent-type: application/json\r\n"
    );
    let announced = ask(&scene, format!("{head}content-length: 40000000\r\n\r\n{{").as_bytes())
        .await
        .expect("an answer before the body");
    assert_eq!(announced.status(), 413, "{}", announced.text());
    assert_eq!(announced.json()["error"]["type"], "invalid_request_error");
    let mut connection = Connection::open(scene.gateway.edge()).await;
    connection.send(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).await;
    let mut chunk = b"100000\r\n".to_vec();
    chunk.extend(std::iter::repeat_n(b' ', 0x0010_0000));
    chunk.extend_from_slice(b"\r\n");
    let mut taken = 0;
    while taken < 40 && connection.send(&chunk).await {
        taken += 1;
    }
    if let Some(answer) = connection.answer().await {
        assert_eq!(answer.status(), 413, "{}", answer.text());
    }
    assert!(taken >= 30, "the limit is 32 MiB: {taken} MiB were taken");
    let grown = scene.gateway.resident_kib().saturating_sub(before);
    assert!(grown < 96 * 1024, "one 40 MiB body grew the gateway by {grown} KiB");
    assert_eq!(scene.upstream.calls(), 1);
}

/// E-09: the limit is the operator's
#[tokio::test(flavor = "multi_thread")]
async fn the_body_limit_follows_the_config() {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).edge_key("max_body_bytes = 100000");
    let scene = Scene::of(upstream, setup, json!({})).await;
    let reply = scene.client.chat(&chat("alpha", &"x".repeat(100_001), 5)).await;
    assert_eq!(reply.status, 413, "{}", reply.text());
    scene.client.chat(&chat("alpha", &"x".repeat(90_000), 5)).await.ok();
}

/// E-10
#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_is_refused() {
    let scene = Scene::new().await;
    let body = chat("alpha", "hello", 5).to_string();
    for coding in ["gzip", "br", "deflate", "zstd"] {
        let bytes = raw::request(
            "POST",
            "/v1/chat/completions",
            &[("authorization", &bearer(&scene)), ("content-encoding", coding)],
            body.as_bytes(),
        );
        let answer = ask(&scene, &bytes).await.expect("an answer");
        assert!(matches!(answer.status(), 400 | 415), "{coding}: {} {}", answer.start, answer.text());
    }
    assert_eq!(scene.upstream.calls(), 0);
    let plain = raw::request(
        "POST",
        "/v1/chat/completions",
        &[("authorization", &bearer(&scene)), ("content-encoding", "identity")],
        body.as_bytes(),
    );
    assert_eq!(ask(&scene, &plain).await.expect("an answer").status(), 200);
}

/// E-12
#[tokio::test(flavor = "multi_thread")]
async fn absolute_form_and_a_missing_or_double_host_are_400() {
    let scene = Scene::new().await;
    let bearer = bearer(&scene);
    let cases = [
        format!("GET http://127.0.0.1/v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: {bearer}\r\n\r\n"),
        format!("GET http://evil.example/v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: {bearer}\r\n\r\n"),
        format!("GET /v1/models HTTP/1.1\r\nauthorization: {bearer}\r\n\r\n"),
        format!("GET /v1/models HTTP/1.1\r\nhost: a\r\nhost: b\r\nauthorization: {bearer}\r\n\r\n"),
    ];
    for case in cases {
        let answer = ask(&scene, case.as_bytes()).await;
        assert_eq!(answer.as_ref().map(Message::status), Some(400), "{case}");
    }
    let good = format!("GET /v1/models HTTP/1.1\r\nhost: gateway.example:8080\r\nauthorization: {bearer}\r\n\r\n");
    assert_eq!(ask(&scene, good.as_bytes()).await.expect("an answer").status(), 200);
}

/// E-13
#[tokio::test(flavor = "multi_thread")]
async fn expect_100_with_a_bad_credential_is_401_without_an_invitation_to_send() {
    let scene = Scene::new().await;
    let body = chat("alpha", "hello", 5).to_string();
    let head = |bearer: &str| {
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: {bearer}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
    };
    let mut connection = Connection::open(scene.gateway.edge()).await;
    connection.send(head("Bearer tk_acme_nobody").as_bytes()).await;
    let answer = connection.answer().await.expect("an answer");
    assert_eq!(answer.status(), 401, "no 100 first: {}", answer.start);
    let mut connection = Connection::open(scene.gateway.edge()).await;
    connection.send(head(&bearer(&scene)).as_bytes()).await;
    assert_eq!(connection.answer().await.expect("the invitation").status(), 100);
    connection.send(body.as_bytes()).await;
    assert_eq!(connection.answer().await.expect("an answer").status(), 200);
}

/// pingora.md: `Upgrade` has no place on these routes
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_on_a_plain_route_is_refused() {
    let scene = Scene::new().await;
    let bearer = bearer(&scene);
    let websocket = [
        ("authorization", bearer.as_str()),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let answer = ask(&scene, &raw::request("GET", "/v1/models", &websocket, b"")).await.expect("an answer");
    assert_eq!(answer.status(), 400, "{}", answer.text());
}

/// Names that would speak for the gateway, for a proxy before it, or for the operator's account at a provider.
const TRUSTED: [&str; 18] = [
    "x-openclawmu-tenant",
    "x-openclawmu-token",
    "x-openclawmu-scopes",
    "x-openclawmu-signature",
    "x-openclawmu-request-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-user",
    "forwarded",
    "x-real-ip",
    "true-client-ip",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "openai-organization",
    "openai-project",
    "cookie",
];

/// E-05, E-06: each of them, as it is, with underscores, in capitals, and named by `Connection`, changes nobody and reaches nobody
#[tokio::test(flavor = "multi_thread")]
async fn headers_of_trust_from_outside_change_nobody_and_reach_nobody() {
    const SPOOF: &str = "spoofed-canary";
    let scene = Scene::new().await;
    let (bearer, body) = (bearer(&scene), chat("alpha", "hello", 5).to_string());
    let mut asked = 0;
    for name in TRUSTED {
        for spelled in [name.to_owned(), name.replace('-', "_"), name.to_uppercase()] {
            for connection in ["keep-alive", &format!("keep-alive, {name}"), name] {
                let headers =
                    [("authorization", bearer.as_str()), (spelled.as_str(), SPOOF), ("connection", connection)];
                let bytes = raw::request("POST", "/v1/chat/completions", &headers, body.as_bytes());
                let answer = ask(&scene, &bytes).await.expect("an answer");
                assert_eq!(answer.status(), 200, "{spelled}, {connection}: {}", answer.text());
                let said =
                    answer.headers.iter().any(|(_, value)| value.contains(SPOOF)) || answer.text().contains(SPOOF);
                assert!(!said, "{spelled}: {:?}", answer.headers);
                asked += 1;
            }
        }
    }
    assert_eq!(scene.upstream.calls(), asked);
    for exchange in scene.upstream.exchanges() {
        let passed = exchange.headers.iter().find(|(name, value)| {
            let name = name.replace('_', "-");
            value.contains(SPOOF) || TRUSTED.contains(&name.as_str())
        });
        assert_eq!(passed, None, "upstream");
    }
    let rows = scene.rows_once(asked).await;
    assert!(rows.iter().all(|row| row.cost > 0), "all of it is this tenant's own");
    let away = [("authorization", bearer.as_str()), ("connection", "authorization, x-request-id, host")];
    let answer = ask(&scene, &raw::request("GET", "/v1/quota", &away, b"")).await.expect("an answer");
    assert!(matches!(answer.status(), 200 | 400 | 401), "a credential that is named away: {}", answer.text());
}

/// E-11 on the operator's side: depth is refused where bodies are JSON
#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_the_admin_api_that_is_too_deep_is_400() {
    let scene = Scene::new().await;
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    for nested in [deep("[", "]"), deep("{\"a\":", "}")] {
        for (method, path) in [
            (http::Method::POST, "/v1/tenants"),
            (http::Method::PATCH, "/v1/tenants/acme"),
            (http::Method::POST, "/v1/tenants/acme/tokens"),
            (http::Method::PUT, "/v1/rates"),
            (http::Method::POST, "/v1/rates/import"),
        ] {
            let body = format!("{{\"metadata\":{nested}}}");
            let request =
                scene.admin().build(method.clone(), path).header("content-type", "application/json").body(body);
            let reply = openclawmu_tests::Reply::of(request.send().await.expect("an answer")).await;
            assert_eq!(reply.status, 400, "{method} {path}: {}", reply.text());
        }
    }
    assert_eq!(scene.admin().get("/v1/tenants/acme").await["id"], "acme", "and it lives");
}

/// pingora.md: a connection carries at most 1,000 requests
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_many_requests_and_then_closes() {
    let scene = Scene::new().await;
    let request = raw::request("GET", "/healthz", &[], b"");
    let mut connection = Connection::open(scene.gateway.edge()).await;
    let mut served = 0;
    while served < 1_200 && connection.send(&request).await {
        match connection.answer().await {
            Some(answer) => assert_eq!(answer.status(), 200),
            None => break,
        }
        served += 1;
    }
    assert!((1_000..=1_001).contains(&served), "{served}");
}

/// E-07, for one connection: a head or a body that dribbles is cut at its deadline, whatever bytes still come
#[tokio::test(flavor = "multi_thread")]
async fn a_head_or_a_body_that_dribbles_is_cut() {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).edge_key("header_timeout_seconds = 1").edge_key("body_timeout_seconds = 1");
    let scene = Scene::of(upstream, setup, json!({})).await;
    let bearer = bearer(&scene);
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: {bearer}\r\n");
    let mut slow_head = Connection::open(scene.gateway.edge()).await;
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    while slow_head.send(b"x-filler: y\r\n").await {
        tick.tick().await;
        assert!(began.elapsed() < Duration::from_secs(15), "a head without end is still read");
    }
    let mut slow_body = Connection::open(scene.gateway.edge()).await;
    slow_body.send(format!("{head}content-length: 100000\r\n\r\n{{").as_bytes()).await;
    if let Some(answer) = slow_body.answer().await {
        assert!(matches!(answer.status(), 400 | 408), "{}", answer.text());
    }
    assert_eq!(scene.upstream.calls(), 0);
    scene.client.chat(&chat("alpha", "and a good one", 5)).await.ok();
}

/// pingora.md: connections are capped for each address
#[tokio::test(flavor = "multi_thread")]
async fn one_address_can_open_only_so_many_connections() {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).edge_key("max_connections_per_ip = 8");
    let scene = Scene::of(upstream, setup, json!({})).await;
    let ping = raw::request("GET", "/healthz", &[], b"");
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut connection = Connection::open(scene.gateway.edge()).await;
        connection.send(&ping).await;
        if connection.answer().await.is_some_and(|answer| answer.status() == 200) {
            open.push(connection);
        }
    }
    assert!(open.len() >= 6, "{} of eight were served", open.len());
    let mut refused = 0;
    for _ in 0..8 {
        let mut connection = Connection::open(scene.gateway.edge()).await;
        connection.send(&ping).await;
        match connection.answer().await {
            Some(answer) if answer.status() == 200 => open.push(connection),
            Some(_) | None => refused += 1,
        }
    }
    assert!(open.len() <= 8 && refused >= 8, "{} open, {refused} refused", open.len());
    drop(open);
    until("room again", || async {
        let mut connection = Connection::open(scene.gateway.edge()).await;
        connection.send(&ping).await;
        connection.answer().await.filter(|answer| answer.status() == 200)
    })
    .await;
}
