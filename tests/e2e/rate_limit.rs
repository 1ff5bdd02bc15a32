//! The other buckets: requests and tokens a minute, tokens a day, requests at once, USD a month. A refusal takes nothing from any of them.

use openclawmu_tests::client::chat;
use openclawmu_tests::money::usd;
use openclawmu_tests::wait::{until, until_true};
use openclawmu_tests::{Behaviour, Gate, Reply, Scene, ledger};
use serde_json::json;

fn assert_retry_headers(reply: &Reply) {
    let seconds: u64 = reply.header("retry-after").and_then(|text| text.parse().ok()).expect("retry-after");
    let millis: u64 = reply.header("retry-after-ms").and_then(|text| text.parse().ok()).expect("retry-after-ms");
    assert!(seconds >= 1 && millis >= 1 && millis <= seconds * 1_000, "{seconds} s, {millis} ms");
    assert_ne!(reply.header("x-should-retry"), Some("false"), "a rate limit may be retried");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_the_minute_rate_are_429_of_type_requests() {
    let scene = Scene::with_quota(json!({ "requests_per_minute": 5 })).await;
    let mut refused = None;
    let mut good = 0;
    for _ in 0..12 {
        let reply = scene.client.chat(&chat("alpha", "hi", 4)).await;
        if reply.status == 200 {
            good += 1;
            assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("5"));
            let reset = reply.header("x-ratelimit-reset-requests").expect("a reset");
            assert!(reset.ends_with('s'), "a Go duration: {reset}");
        } else {
            refused.get_or_insert(reply);
        }
    }
    let reply = refused.expect("the rate is too low for twelve");
    reply.refused(429, "requests", "rate_limit_exceeded");
    assert_retry_headers(&reply);
    assert!((5..=7).contains(&good), "five, and what a few seconds refill: {good}");
    assert_eq!(scene.upstream.calls(), good);
}

/// Anthropic's clients read other names, and an instant
#[tokio::test(flavor = "multi_thread")]
async fn rates_are_told_in_the_words_of_the_clients_dialect() {
    let scene = Scene::with_quota(json!({ "requests_per_minute": 5, "tokens_per_minute": 50_000 })).await;
    let messages = json!([{ "role": "user", "content": "hi" }]);
    for stream in [false, true] {
        let body = json!({ "model": "alpha", "max_tokens": 4, "messages": messages, "stream": stream });
        let reply = scene.client.post("/v1/messages", &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("anthropic-ratelimit-requests-limit"), Some("5"));
        assert_eq!(reply.header("anthropic-ratelimit-tokens-limit"), Some("50000"));
        let count = |name: &str| reply.header(name).and_then(|text| text.parse::<u64>().ok()).expect("a count");
        assert!(count("anthropic-ratelimit-requests-remaining") < 5);
        assert!((49_000..=50_000).contains(&count("anthropic-ratelimit-tokens-remaining")));
        for kind in ["requests", "tokens"] {
            let reset = reply.header(&format!("anthropic-ratelimit-{kind}-reset")).expect("a reset");
            let form = |(at, byte): (usize, u8)| match at {
                4 | 7 => byte == b'-',
                10 => byte == b'T',
                13 | 16 => byte == b':',
                19 => byte == b'.',
                23 => byte == b'Z',
                _ => byte.is_ascii_digit(),
            };
            assert!(reset.len() == 24 && reset.bytes().enumerate().all(form), "{kind} {reset}: RFC 3339 in UTC");
        }
        assert_eq!(reply.header("x-ratelimit-limit-requests"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_over_the_minute_rate_are_429_of_type_tokens() {
    let scene = Scene::with_quota(json!({ "tokens_per_minute": 2_500 })).await;
    scene.upstream.always(Behaviour::words(900));
    assert_eq!(scene.client.chat(&chat("alpha", "hi", 900)).await.status, 200);
    assert_eq!(scene.client.chat(&chat("alpha", "hi", 900)).await.status, 200);
    let reply = scene.client.chat(&chat("alpha", "hi", 900)).await;
    reply.refused(429, "tokens", "rate_limit_exceeded");
    assert_retry_headers(&reply);
    assert_eq!(scene.upstream.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn daily_tokens_are_a_budget_settled_at_what_was_used() {
    let scene = Scene::with_quota(json!({ "tokens_per_day": 2_000 })).await;
    scene.upstream.always(Behaviour::words(10));
    assert_eq!(scene.client.chat(&chat("alpha", "hi", 1_000)).await.status, 200);
    until("the unused tokens to come back", || async {
        let quota = scene.admin().get("/v1/tenants/acme/quota").await;
        let remaining = quota["tokens_per_day"]["remaining"].clone();
        let left = remaining.as_u64().or_else(|| remaining.as_str().and_then(|text| text.parse().ok()));
        (left == Some(1_989)).then_some(())
    })
    .await;
    let reply = scene.client.chat(&chat("alpha", "hi", 1_990)).await;
    reply.refused(429, "insufficient_quota", "insufficient_quota");
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    assert_eq!(scene.upstream.calls(), 1);
}

/// `LiteLLM` 20256, 27955, 39309: a leaked slot locks the key (`complaint` has what a dead process leaves)
#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_are_limited_and_a_slot_is_always_given_back() {
    let scene = Scene::with_quota(json!({ "concurrent_requests": 2 })).await;
    for round in 0..3 {
        let gate = Gate::new();
        scene.upstream.always(Behaviour::gated(4, 1, &gate));
        let mut first = scene.client.stream(&chat("alpha", "hi", 4)).await;
        let mut second = scene.client.stream(&chat("alpha", "hi", 4)).await;
        first.texts(1).await;
        second.texts(1).await;
        let reply = scene.client.chat(&chat("alpha", "hi", 4)).await;
        reply.refused(429, "requests", "rate_limit_exceeded");
        assert_retry_headers(&reply);
        if round % 2 == 0 {
            gate.open();
            first.rest().await;
            second.rest().await;
        } else {
            drop((first, second));
        }
        scene.upstream.always(Behaviour::default());
        until("a slot is free again", || async {
            (scene.client.chat(&chat("alpha", "hi", 4)).await.status == 200).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_months_budget_holds_too() {
    let scene = Scene::with_quota(json!({ "usd_per_month": usd(200_000), "usd_per_day": "10" })).await;
    scene.upstream.always(Behaviour::words(10));
    assert_eq!(scene.client.chat(&chat("flat", "hi", 10)).await.status, 200);
    assert_eq!(scene.client.chat(&chat("flat", "hi", 10)).await.status, 200);
    let reply = scene.client.chat(&chat("flat", "hi", 10)).await;
    reply.refused(429, "insufficient_quota", "insufficient_quota");
    let wait: u64 = reply.header("retry-after").and_then(|text| text.parse().ok()).expect("retry-after");
    assert!(wait <= 31 * 86_400, "{wait}");
    assert_eq!(scene.admin().budget("acme", "usd_per_month").await.posted, 200_000);
    assert_eq!(scene.settled().await.posted, 200_000);
}

/// A refused request takes nothing from any bucket, and writes no row.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_one_bucket_takes_nothing_from_the_others() {
    let scene = Scene::with_quota(json!({ "usd_per_day": usd(100_000), "requests_per_minute": 60, "tokens_per_day": 1_000, "concurrent_requests": 1 })).await;
    scene.upstream.always(Behaviour::words(10));
    let before = scene.admin().get("/v1/tenants/acme/quota").await;
    let rows = ledger::rows(&scene.gateway.data(), "acme").len();
    for _ in 0..80 {
        scene.client.chat(&chat("flat", "hi", 11)).await.refused(429, "insufficient_quota", "insufficient_quota");
    }
    let after = scene.admin().get("/v1/tenants/acme/quota").await;
    for bucket in ["usd_per_day", "tokens_per_day"] {
        assert_eq!(after[bucket], before[bucket], "{bucket}");
    }
    assert_eq!(ledger::rows(&scene.gateway.data(), "acme").len(), rows);
    until_true("nothing upstream", || scene.upstream.calls() == 0).await;
    assert_eq!(
        scene.client.chat(&chat("flat", "hi", 10)).await.status,
        200,
        "eighty refusals used up no request of the minute"
    );
}
