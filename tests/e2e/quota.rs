//! Budgets are hard: never a cent over, whatever the route, the concurrency or the shape of the request.

use openclawmu_tests::client::chat;
use openclawmu_tests::money::{MAX_OUTPUT_TOKENS, nanos, usd};
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Behaviour, Client, Gate, Reply, Scene, Setup, Upstream};
use serde_json::{Value, json};

/// What one answer of `flat` with ten tokens costs: its input is free and 10 tokens at 10 USD a million.
const TEN_TOKENS: i128 = 100_000;

async fn spray(client: &Client, count: usize, body: impl Fn(usize) -> (&'static str, Value)) -> Vec<Reply> {
    let calls: Vec<_> = (0..count)
        .map(|at| {
            let (client, (path, body)) = (client.clone(), body(at));
            tokio::spawn(async move { client.post(path, &body).await })
        })
        .collect();
    let mut replies = Vec::new();
    for call in calls {
        replies.push(call.await.expect("a call"));
    }
    replies
}

/// Q-01; `LiteLLM` 34732, 26672, 23714: requests at once overspend
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_on_a_budget_of_ten_reach_the_upstream_at_most_ten_times() {
    let cap = TEN_TOKENS * 10;
    let scene = Scene::with_quota(json!({ "usd_per_day": usd(cap) })).await;
    scene.upstream.always(Behaviour::words(10));
    let replies = spray(&scene.client, 200, |_| ("/v1/chat/completions", chat("flat", "hello", 10))).await;
    let good = replies.iter().filter(|reply| reply.status == 200).count();
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        reply.refused(429, "insufficient_quota", "insufficient_quota");
    }
    assert_eq!(scene.upstream.calls(), good, "a refused request never reaches the upstream");
    assert_eq!(good, 10, "the reservation of this model is exact: ten fit");
    let budget = scene.settled().await;
    assert_eq!((budget.posted, budget.held, budget.remaining), (cap, 0, Some(0)));
    assert_eq!(scene.rows_once(10).await.iter().map(|row| row.cost).sum::<i128>(), cap);
}

/// Q-01, all of them in flight at once
#[tokio::test(flavor = "multi_thread")]
async fn reservations_in_flight_count_against_the_cap() {
    let scene = Scene::with_quota(json!({ "usd_per_day": usd(TEN_TOKENS * 3) })).await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(2, 0, &gate));
    let first: Vec<_> = (0..3)
        .map(|_| {
            let client = scene.client.clone();
            tokio::spawn(async move { client.chat(&chat("flat", "hello", 10)).await })
        })
        .collect();
    until_true("three in flight", || scene.upstream.calls() == 3).await;
    let budget = scene.budget().await;
    assert_eq!((budget.posted, budget.pending, budget.remaining), (0, TEN_TOKENS * 3, Some(0)));
    scene.client.chat(&chat("flat", "hello", 10)).await.refused(429, "insufficient_quota", "insufficient_quota");
    gate.open();
    for call in first {
        assert_eq!(call.await.expect("a call").status, 200);
    }
    let budget = scene.settled().await;
    assert_eq!(budget.posted, TEN_TOKENS * 3 / 5, "two tokens of ten each; the rest was given back");
    assert_eq!(scene.client.chat(&chat("flat", "hello", 10)).await.status, 200, "and can be spent");
}

/// Q-03; tensorzero 3648: a 502 for want of `max_tokens`
#[tokio::test(flavor = "multi_thread")]
async fn without_an_output_cap_a_tight_budget_injects_one_and_reserves_it() {
    let scene = Scene::with_quota(json!({ "usd_per_day": "0.005", "on_tight_budget": "clamp" })).await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(5, 0, &gate));
    let client = scene.client.clone();
    let call = tokio::spawn(async move {
        client.chat(&json!({ "model": "flat", "messages": [{ "role": "user", "content": "hello" }] })).await
    });
    until_true("the call upstream", || scene.upstream.calls() == 1).await;
    let sent = scene.upstream.last().json();
    let injected = ["max_tokens", "max_completion_tokens"]
        .iter()
        .find_map(|key| sent[key].as_u64())
        .unwrap_or_else(|| panic!("a cap: {sent}"));
    let pending = scene.budget().await.pending;
    assert_eq!(pending, i128::from(injected) * 10_000, "the reservation is the injected cap at the model's price");
    assert!(pending <= nanos("0.005"), "and fits the budget");
    gate.open();
    assert_eq!(call.await.expect("a call").status, 200);
    assert_eq!(scene.settled().await.posted, 5 * 10_000);
}

/// where the model's limit fits the budget it is what is reserved; where it doesn't, `reject` refuses
#[tokio::test(flavor = "multi_thread")]
async fn without_an_output_cap_the_models_own_limit_is_reserved() {
    let limit = i128::from(MAX_OUTPUT_TOKENS) * 10_000;
    let scene = Scene::with_quota(json!({ "usd_per_day": usd(limit) })).await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(5, 0, &gate));
    let body = json!({ "model": "flat", "messages": [{ "role": "user", "content": "hello" }] });
    let (client, first) = (scene.client.clone(), body.clone());
    let call = tokio::spawn(async move { client.chat(&first).await });
    until_true("the call upstream", || scene.upstream.calls() == 1).await;
    assert_eq!(scene.budget().await.pending, limit);
    gate.open();
    assert_eq!(call.await.expect("a call").status, 200);
    assert_eq!(scene.settled().await.posted, 5 * 10_000);
    scene.client.chat(&body).await.refused(429, "insufficient_quota", "insufficient_quota");
}

///
#[tokio::test(flavor = "multi_thread")]
async fn an_output_cap_that_is_no_sane_number_is_400_and_moves_no_money() {
    let scene = Scene::new().await;
    let before = scene.budget().await;
    for cap in [
        "9223372036854775808",
        "18446744073709551616",
        "-1",
        "\"10\"",
        "1e99",
        "1.5",
        "null",
        "[]",
        "{}",
        "true",
        "7,\"max_tokens\":8",
    ] {
        for field in ["max_tokens", "max_completion_tokens"] {
            let body = format!(
                "{{\"model\":\"alpha\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}],\"{field}\":{}}}",
                cap.replace("max_tokens", field)
            );
            let reply = scene.client.post_bytes("/v1/chat/completions", body.clone().into_bytes()).await;
            assert_eq!(reply.status, 400, "{body}: {}", reply.text());
            assert_eq!(reply.openai_error().0, "invalid_request_error", "{body}");
        }
    }
    for (field, value) in [
        ("n", "-1"),
        ("n", "0"),
        ("n", "1e9"),
        ("n", "\"2\""),
        ("stream", "\"yes\""),
        ("model", "7"),
        ("model", "null"),
    ] {
        let mut body = chat("alpha", "hi", 5);
        body[field] = serde_json::from_str(value).expect("JSON");
        let reply = scene.client.chat(&body).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text());
    }
    assert_eq!(scene.upstream.calls(), 0);
    assert_eq!(scene.budget().await, before);
    assert_eq!(scene.client.chat(&chat("alpha", "hi", 5)).await.status, 200, "a sane cap is fine");
}

/// with the largest sane cap nothing overflows, the budget just doesn't suffice
#[tokio::test(flavor = "multi_thread")]
async fn an_enormous_but_valid_output_cap_is_refused_without_overflow() {
    let scene = Scene::new().await;
    for body in [chat("alpha", "hi", 9_223_372_036_854_775_807), chat("alpha", "hi", 4_000_000_000_000)] {
        let reply = scene.client.chat(&body).await;
        assert!(matches!(reply.status, 400 | 429), "{}", reply.text());
    }
    assert_eq!(scene.upstream.calls(), 0);
    let budget = scene.budget().await;
    assert_eq!((budget.posted, budget.pending, budget.held), (0, 0, 0));
}

/// Q-05, for the routes that exist
#[tokio::test(flavor = "multi_thread")]
async fn the_cap_holds_when_spread_over_every_route_and_shape() {
    let cap = nanos("0.01");
    let scene = Scene::with_quota(json!({ "usd_per_day": usd(cap) })).await;
    scene.upstream.always(Behaviour::words(1_000));
    let replies = spray(&scene.client, 160, |at| match at % 6 {
        0 => ("/v1/chat/completions", chat("alpha", "hello there", 20)),
        1 => ("/chat/completions", json!({ "model": "alpha", "messages": [{ "role": "user", "content": "hi" }], "max_completion_tokens": 30, "n": 8 })),
        2 => ("/v1/completions", json!({ "model": "instruct", "prompt": "once upon a time", "max_tokens": 100 })),
        3 => ("/v1/embeddings", json!({ "model": "embed", "input": ["a text", "another text"] })),
        4 => {
            let mut body = chat("beta", "stream this", 40);
            body["stream"] = json!(true);
            ("/v1/chat/completions", body)
        }
        _ => {
            let tools = json!([{ "type": "function", "function": { "name": "look", "parameters": { "type": "object", "properties": {} } } }]);
            ("/v1/chat/completions", json!({ "model": "alpha", "messages": [{ "role": "user", "content": "use a tool" }], "max_tokens": 25, "tools": tools }))
        }
    })
    .await;
    let refused = replies.iter().filter(|reply| reply.status == 429).count();
    assert!(
        replies.iter().all(|reply| matches!(reply.status, 200 | 429)),
        "{:?}",
        replies.iter().map(|reply| reply.status).collect::<Vec<_>>()
    );
    assert!(refused > 0, "the budget was meant to be too small");
    let billed: i128 = scene.upstream.bills().iter().map(openclawmu_tests::money::cost).sum();
    let budget = scene.settled().await;
    assert!(billed <= cap, "the provider's own bill {billed} is within the cap {cap}");
    assert_eq!(budget.posted, billed, "and is what was posted");
    assert!(budget.posted <= cap);
}

///
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_cap_acts_on_the_next_request_and_running_streams_finish() {
    let scene = Scene::with_quota(json!({ "usd_per_day": usd(TEN_TOKENS * 2) })).await;
    scene.upstream.always(Behaviour::words(10));
    let gate = Gate::new();
    scene.upstream.when("slowly", Behaviour::gated(10, 3, &gate));
    let mut stream = scene.client.stream(&chat("flat", "slowly", 10)).await;
    stream.texts(3).await;
    assert_eq!(scene.client.chat(&chat("flat", "hi", 10)).await.status, 200);
    scene.client.chat(&chat("flat", "hi", 10)).await.refused(429, "insufficient_quota", "insufficient_quota");
    let answer = scene.admin().patch("acme", &json!({ "quota": { "usd_per_day": usd(TEN_TOKENS * 3) } })).await;
    assert!(answer.to_string().contains("usd_per_day"), "the effective policy is echoed: {answer}");
    assert_eq!(scene.client.chat(&chat("flat", "hi", 10)).await.status, 200, "raised");
    scene.admin().patch("acme", &json!({ "quota": { "usd_per_day": usd(TEN_TOKENS) } })).await;
    scene.client.chat(&chat("flat", "hi", 1)).await.refused(429, "insufficient_quota", "insufficient_quota");
    gate.open();
    let events = stream.rest().await;
    assert!(events.last().is_some_and(openclawmu_tests::sse::Event::done), "the running stream finished: {events:?}");
    assert_eq!(scene.settled().await.posted, TEN_TOKENS * 3);
}

///
#[tokio::test(flavor = "multi_thread")]
async fn a_spent_budget_is_429_with_the_seconds_to_the_reset_and_no_retry() {
    let scene = Scene::with_quota(json!({ "usd_per_day": usd(TEN_TOKENS) })).await;
    scene.upstream.always(Behaviour::words(10));
    let first = scene.client.chat(&chat("flat", "hi", 10)).await;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.header("x-openclawmu-cost-usd").map(nanos), Some(TEN_TOKENS));
    assert_eq!(first.header("x-openclawmu-budget-remaining-usd").map(nanos), Some(0));
    let reply = scene.client.chat(&chat("flat", "hi", 10)).await;
    reply.refused(429, "insufficient_quota", "insufficient_quota");
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    let wait: u64 = reply.header("retry-after").and_then(|text| text.parse().ok()).expect("retry-after in seconds");
    assert!((1..=86_400).contains(&wait), "seconds to the end of the day: {wait}");
    let mut streamed = chat("flat", "hi", 10);
    streamed["stream"] = json!(true);
    scene.client.chat(&streamed).await.refused(429, "insufficient_quota", "insufficient_quota");
    for free in ["/v1/models", "/v1/usage", "/v1/quota"] {
        assert_eq!(scene.client.get(free).await.status, 200, "{free} works over quota");
    }
    assert_eq!(scene.upstream.calls(), 1);
}

/// Q-13; `LiteLLM` 35913: a model without a price is free
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_or_unpriced_model_is_refused_never_free() {
    let upstream = Upstream::start().await;
    let setup = Setup::bare().upstream("scripted", upstream.address(), &["alpha", "unpriced"], &[]);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "5" })).await;
    scene.client.chat(&chat("no-such-model", "hi", 5)).await.refused(404, "invalid_request_error", "model_not_found");
    scene.client.chat(&chat("unpriced", "hi", 5)).await.refused(403, "permission_error", "model_not_priced");
    let embedding = scene.client.post("/v1/embeddings", &json!({ "model": "unpriced", "input": "hi" })).await;
    embedding.refused(403, "permission_error", "model_not_priced");
    assert_eq!(scene.upstream.calls(), 0);
    let listed = scene.client.get("/v1/models").await.ok().to_string();
    assert!(
        listed.contains("\"alpha\"") && !listed.contains("unpriced"),
        "only what can be called is listed: {listed}"
    );
    let rates =
        json!({ "effective_from": "2026-01-01T00:00:00Z", "models": { "unpriced": { "input": "1", "output": "2" } } });
    let put = scene.admin().send_json(http::Method::PUT, "/v1/rates", &rates).await;
    assert!(matches!(put.status, 200 | 201), "{}", put.text());
    assert_eq!(scene.client.chat(&chat("unpriced", "hi", 5)).await.status, 200, "with a price it is served");
    scene.client.chat(&chat("alpha", "hi", 5)).await.ok();
}

/// One nano more than ten tokens cost, since rounding keeps one back. ledger.md: `clamp` lowers the output cap to what is affordable, and says so
#[tokio::test(flavor = "multi_thread")]
async fn clamp_lowers_the_output_cap_where_reject_refuses() {
    let scene = Scene::with_quota(json!({ "usd_per_day": usd(TEN_TOKENS + 1), "on_tight_budget": "clamp" })).await;
    scene.upstream.always(Behaviour::words(1_000));
    let reply = scene.client.chat(&chat("flat", "hi", 500)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(scene.upstream.last().json()["max_tokens"], 10, "ten tokens are affordable");
    assert!(
        reply.headers.keys().any(|name| name.as_str().starts_with("x-openclawmu-") && name.as_str().contains("clamp")),
        "said in a header: {:?}",
        reply.headers
    );
    assert_eq!(scene.settled().await.posted, TEN_TOKENS);
    let strict = scene.admin().tenant("strict", json!({ "usd_per_day": usd(TEN_TOKENS) })).await;
    scene.client.with_token(&strict.token).chat(&chat("flat", "hi", 500)).await.refused(
        429,
        "insufficient_quota",
        "insufficient_quota",
    );
}
