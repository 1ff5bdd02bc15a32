//! The edge's routes as a user sees them: with and without `/v1`, over HTTP/1.1 and HTTP/2, with the headers of the contract.

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::money::nanos;
use openclawmu_tests::raw::{self, Connection};
use openclawmu_tests::sse::Event;
use openclawmu_tests::{Behaviour, Fault, Reply, Scene, Setup, Upstream};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_with_and_without_the_prefix() {
    let scene = Scene::new().await;
    for prefix in ["/v1", ""] {
        let chat = scene.client.post(&format!("{prefix}/chat/completions"), &chat("alpha", "hello", 5)).await.ok();
        assert_eq!(chat["object"], "chat.completion");
        assert_eq!(scene.upstream.last().path, "/v1/chat/completions");
        let completion = scene
            .client
            .post(&format!("{prefix}/completions"), &json!({ "model": "instruct", "prompt": "once", "max_tokens": 5 }))
            .await
            .ok();
        assert_eq!(completion["object"], "text_completion");
        assert_eq!(scene.upstream.last().path, "/v1/completions");
        let floats = scene
            .client
            .post(&format!("{prefix}/embeddings"), &json!({ "model": "embed", "input": "a text" }))
            .await
            .ok();
        assert_eq!(floats["data"][0]["embedding"], json!([0.125, -0.5, 0.75, 0.25]));
        let base64 = scene
            .client
            .post(
                &format!("{prefix}/embeddings"),
                &json!({ "model": "embed", "input": ["a", "b"], "encoding_format": "base64" }),
            )
            .await
            .ok();
        assert!(base64["data"][1]["embedding"].is_string());
        let ids = scene
            .client
            .post(&format!("{prefix}/embeddings"), &json!({ "model": "embed", "input": [[1, 2, 3], [4]] }))
            .await
            .ok();
        assert_eq!(ids["data"].as_array().map(Vec::len), Some(2), "arrays of token ids");
        let models = scene.client.get(&format!("{prefix}/models")).await.ok();
        assert_eq!(models["object"], "list");
        let model = scene.client.get(&format!("{prefix}/models/alpha")).await.ok();
        assert_eq!((&model["id"], &model["object"]), (&json!("alpha"), &json!("model")));
        assert!(model["created"].is_u64() && model["owned_by"].is_string(), "{model}");
        scene.client.get(&format!("{prefix}/models/nobody")).await.refused(
            404,
            "invalid_request_error",
            "model_not_found",
        );
        assert!(scene.client.get(&format!("{prefix}/usage")).await.ok()["total"].is_object());
        assert!(scene.client.get(&format!("{prefix}/quota")).await.ok()["usd_per_day"].is_object());
    }
    for free in ["/healthz", "/readyz"] {
        assert_eq!(scene.client.with_token("").get(free).await.status, 200, "{free} wants no token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_route_or_method_is_refused_in_the_dialect() {
    let scene = Scene::new().await;
    for (method, path) in [
        (Method::GET, "/v1/nowhere"),
        (Method::POST, "/"),
        (Method::POST, "/v2/chat/completions"),
        (Method::GET, "/v1/v1/models"),
        (Method::GET, "/v1/models/../quota"),
    ] {
        let reply = Reply::of(scene.client.build(method.clone(), path).send().await.expect("an answer")).await;
        assert!(matches!(reply.status, 200 | 404 | 405), "{method} {path}: {} {}", reply.status, reply.text());
        if reply.status != 200 {
            assert_eq!(reply.openai_error().0, "invalid_request_error", "{method} {path}");
        }
    }
    for (method, path) in [
        (Method::GET, "/v1/chat/completions"),
        (Method::DELETE, "/v1/models"),
        (Method::PUT, "/v1/embeddings"),
        (Method::POST, "/v1/models"),
    ] {
        let reply = Reply::of(scene.client.build(method.clone(), path).send().await.expect("an answer")).await;
        assert!(matches!(reply.status, 404 | 405), "{method} {path}: {} {}", reply.status, reply.text());
        assert_eq!(reply.openai_error().0, "invalid_request_error", "{method} {path}");
    }
    assert_eq!(scene.upstream.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn h2c_serves_the_same_answers_and_streams() {
    let scene = Scene::new().await;
    let client = scene.client.over_h2c();
    let reply = client.chat(&chat("alpha", "hello", 5)).await;
    assert_eq!(reply.ok()["choices"][0]["message"]["content"], "word0 word1 word2 word3 word4 ");
    let events = client.stream(&chat("alpha", "hello", 5)).await.rest().await;
    assert!(events.last().is_some_and(Event::done));
    client.with_token("nobody").get("/v1/quota").await.refused(401, "invalid_request_error", "invalid_api_key");
    let at_once: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.chat(&chat("alpha", "hello", 5)).await.status })
        })
        .collect();
    for call in at_once {
        assert_eq!(call.await.expect("a call"), 200);
    }
    let large = client.chat(&chat("alpha", &"long ".repeat(200_000), 5)).await;
    assert_eq!(large.status, 200, "{}", large.text());
    scene.rows_once(53).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_carries_the_headers_of_the_contract() {
    let scene =
        Scene::with_quota(json!({ "usd_per_day": "1", "requests_per_minute": 600, "tokens_per_minute": 200_000 }))
            .await;
    let reply = scene.client.chat(&chat("alpha", "hello", 5)).await;
    assert_eq!(reply.status, 200);
    let text = |name: &str| reply.header(name).unwrap_or_else(|| panic!("{name} in {:?}", reply.headers)).to_owned();
    assert!(text("x-request-id").starts_with("req_"));
    assert_eq!(text("x-openclawmu-model"), "alpha");
    let cost = nanos(&text("x-openclawmu-cost-usd"));
    assert_eq!(nanos(&text("x-openclawmu-budget-remaining-usd")), 1_000_000_000 - cost);
    for kind in ["requests", "tokens"] {
        let limit: u64 = text(&format!("x-ratelimit-limit-{kind}")).parse().expect("a count");
        let remaining: u64 = text(&format!("x-ratelimit-remaining-{kind}")).parse().expect("a count");
        assert!(remaining < limit, "{kind}: {remaining} of {limit}");
        let reset = text(&format!("x-ratelimit-reset-{kind}"));
        assert!(
            reset.ends_with('s') && reset.starts_with(|digit: char| digit.is_ascii_digit()),
            "a Go duration: {reset}"
        );
    }
    let stream = scene.client.stream(&chat("alpha", "hello", 5)).await;
    assert!(stream.header("x-request-id").is_some() && stream.header("x-openclawmu-budget-remaining-usd").is_some());
    assert_eq!(stream.header("x-openclawmu-cost-usd"), None, "not known when a stream begins");
    drop(stream);
    let ids: Vec<String> = [scene.client.get("/v1/models").await, scene.client.get("/nowhere").await]
        .iter()
        .filter_map(|reply| reply.header("x-request-id").map(str::to_owned))
        .collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
}

/// contract.md, "model": an alias, and `<upstream>/<model>`
#[tokio::test(flavor = "multi_thread")]
async fn aliases_and_prefixed_names_reach_their_target() {
    let upstream = Upstream::start().await;
    let alias = "[[model]]\nname = \"fast\"\ntargets = [{ upstream = \"scripted\", model = \"alpha\", weight = 1 }]\n";
    let setup = Setup::with(&upstream).line(alias);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1" })).await;
    for name in ["fast", "scripted/alpha", "alpha"] {
        let reply = scene.client.chat(&chat(name, "hello", 5)).await;
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        assert_eq!(scene.upstream.last().json()["model"], "alpha", "{name}");
    }
    let listed = scene.client.get("/v1/models").await.ok().to_string();
    assert!(listed.contains("\"fast\"") && listed.contains("\"alpha\""), "{listed}");
    scene.client.chat(&chat("nobody/alpha", "hello", 5)).await.refused(404, "invalid_request_error", "model_not_found");
    let rows = scene.rows_once(3).await;
    assert!(rows.iter().all(|row| row.cost == rows[0].cost), "{rows:?}");
}

/// M-09, dialects.md: retry and fallback before the first byte, each attempt its own row, only billed ones cost
#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_serves_when_the_first_target_is_down_and_is_the_only_one_billed() {
    let upstream = Upstream::start().await;
    let spare = Upstream::start().await;
    let alias = "[[model]]\nname = \"safe\"\ntargets = [{ upstream = \"scripted\", model = \"alpha\", weight = 1 }]\nfallbacks = [{ upstream = \"spare\", model = \"beta\" }]\n";
    let setup = Setup::bare()
        .upstream("scripted", upstream.address(), &["alpha"], &[])
        .upstream("spare", spare.address(), &["beta"], &[])
        .line(alias);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1" })).await;
    for code in [503, 429] {
        scene.upstream.always(Behaviour::fault(Fault::Status { code, retry_after: Some(1) }));
        let before = scene.ledger_total();
        let reply = scene.client.chat(&chat("safe", "hello", 5)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("x-openclawmu-model"), Some("beta"));
        assert_eq!(spare.last().json()["model"], "beta");
        let paid = openclawmu_tests::money::cost(&spare.last().bill());
        openclawmu_tests::wait::until_true("the fallback's row", || scene.ledger_total() - before == paid).await;
        let id = reply.header("x-request-id").expect("an id").to_owned();
        let own: Vec<_> = scene.rows().into_iter().filter(|row| row.request_id == id).collect();
        assert!(own.iter().filter(|row| row.cost > 0).count() == 1, "{own:?}");
    }
    scene.upstream.always(Behaviour::fault(Fault::CutAfter(2)));
    let calls = spare.calls();
    let mut stream = scene.client.stream(&chat("alpha", "hello", 5)).await;
    assert!(!stream.rest().await.iter().any(Event::done));
    assert_eq!(spare.calls(), calls, "after the first byte nothing is retried");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_keep_alive_behave() {
    let scene = Scene::new().await;
    let bearer = format!("Bearer {}", scene.tenant.token);
    let mut connection = Connection::open(scene.gateway.edge()).await;
    for _ in 0..3 {
        connection.send(&raw::request("GET", "/v1/quota", &[("authorization", "Bearer nobody")], b"")).await;
        assert_eq!(connection.answer().await.expect("an answer").status(), 401);
        connection.send(&raw::request("GET", "/v1/quota", &[("authorization", &bearer)], b"")).await;
        assert_eq!(connection.answer().await.expect("the same connection lives").status(), 200);
        connection
            .send(&raw::request(
                "POST",
                "/v1/chat/completions",
                &[("authorization", &bearer)],
                chat("nobody", "hello", 5).to_string().as_bytes(),
            ))
            .await;
        assert_eq!(connection.answer().await.expect("and after a refusal with a body").status(), 404);
    }
    connection
        .send(&raw::request("GET", "/v1/quota", &[("authorization", &bearer), ("connection", "close")], b""))
        .await;
    assert_eq!(connection.answer().await.expect("an answer").status(), 200);
    assert!(connection.closes().await);
}
