//! What users of other gateways complain of, with the issue where they do: each a rule here. Complaints that another module's
//! rule answers are named there.

use std::process::Stdio;

use openclawmu_tests::client::chat;
use openclawmu_tests::clock::FakeClock;
use openclawmu_tests::gateway::free_address;
use openclawmu_tests::money::usd;
use openclawmu_tests::sse::Event;
use openclawmu_tests::wait::{until, until_true};
use openclawmu_tests::{Behaviour, Fault, Gate, Scene, Setup, Upstream, ledger};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What one answer of `flat` with ten tokens costs, and what is reserved for it.
const TEN_TOKENS: i128 = 100_000;

async fn refused(scene: &Scene, body: &Value) {
    let calls = scene.upstream.calls();
    scene.client.chat(body).await.refused(429, "insufficient_quota", "insufficient_quota");
    assert_eq!(scene.upstream.calls(), calls, "a refused request never reaches the upstream");
}

/// envoyproxy/ai-gateway 2394: the request that crosses the limit completes, and only the next one is refused
#[tokio::test(flavor = "multi_thread")]
async fn the_request_that_would_cross_the_cap_is_the_one_that_is_refused() {
    let scene = Scene::with_quota(json!({ "usd_per_day": usd(TEN_TOKENS * 2 - 1) })).await;
    scene.upstream.always(Behaviour::words(100));
    scene.client.chat(&chat("flat", "hi", 10)).await.ok();
    refused(&scene, &chat("flat", "hi", 10)).await;
    let mut streamed = chat("flat", "hi", 10);
    streamed["stream"] = json!(true);
    refused(&scene, &streamed).await;
    assert_eq!(scene.settled().await.posted, TEN_TOKENS);
    scene.client.chat(&chat("flat", "hi", 9)).await.ok();
    assert_eq!(scene.settled().await.posted, TEN_TOKENS * 19 / 10, "what fits is served");
}

/// `LiteLLM` 27735, 27639, 28247, 35569: refused for a reservation that nobody holds any more
#[tokio::test(flavor = "multi_thread")]
async fn no_end_of_a_request_leaves_a_reservation_behind() {
    let upstream = Upstream::start().await;
    let keys = ["first_byte_timeout_ms = 300", "idle_timeout_ms = 300"];
    let setup = Setup::with_keys(&upstream, &keys).upstream("gone", free_address(), &["away"], &[]);
    let mut scene = Scene::of(upstream, setup, json!({ "usd_per_day": usd(TEN_TOKENS) })).await;
    let rates = json!({ "effective_from": "2026-01-01T00:00:00Z", "models": { "away": { "input": "0", "output": "10", "max_output_tokens": 4096 } } });
    let put = scene.admin().send_json(http::Method::PUT, "/v1/rates", &rates).await;
    assert!(matches!(put.status, 200 | 201), "{}", put.text());
    let status = |code| Fault::Status { code, retry_after: None };
    let faults = [
        status(400),
        status(401),
        status(429),
        status(500),
        status(503),
        Fault::InvalidJson,
        Fault::Silent,
        Fault::HangUpAtByte(0),
    ];
    for fault in faults {
        scene.upstream.always(Behaviour::fault(fault.clone()));
        for stream in [false, true] {
            let mut body = chat("flat", "hi", 10);
            body["stream"] = json!(stream);
            // One reservation is the whole budget: a leaked one would refuse the next with 429 `insufficient_quota`.
            if let Ok(reply) = scene.client.try_post("/v1/chat/completions", &body).await {
                assert!(!reply.text().contains("insufficient_quota"), "after {fault:?}: {}", reply.text());
            }
            assert_eq!(scene.settled().await.posted, 0, "{fault:?}");
        }
    }
    let away = scene.client.chat(&chat("away", "hi", 10)).await;
    assert_eq!(away.status, 502, "{}", away.text());
    for bad in [json!({ "model": "flat" }), json!({ "model": "flat", "messages": [], "max_tokens": -1 })] {
        assert_eq!(scene.client.chat(&bad).await.status, 400);
    }
    // A client that leaves before anything came.
    scene.upstream.always(Behaviour::fault(Fault::Silent));
    let (client, calls) = (scene.client.clone(), scene.upstream.calls());
    let waiting = tokio::spawn(async move { client.chat(&chat("flat", "hi", 10)).await });
    until_true("the call upstream", || scene.upstream.calls() > calls).await;
    waiting.abort();
    assert_eq!(scene.settled().await.posted, 0);
    assert!(scene.gateway.terminate().await.success());
    scene.restarted().await;
    let budget = scene.budget().await;
    assert_eq!((budget.posted, budget.pending, budget.held), (0, 0, 0));
    scene.upstream.always(Behaviour::words(10));
    scene.client.chat(&chat("flat", "hi", 10)).await.ok();
    assert_eq!(scene.settled().await.posted, TEN_TOKENS, "the whole budget was there");
}

/// `LiteLLM` 40100, 37923: streams are logged at $0
#[tokio::test(flavor = "multi_thread")]
async fn no_stream_that_delivered_text_costs_nothing() {
    let scene = Scene::with_keys(&["first_byte_timeout_ms = 10000", "idle_timeout_ms = 300"]).await;
    let faults = [Fault::None, Fault::NoUsage, Fault::CutAfter(2), Fault::ErrorEventAfter(2), Fault::StallAfter(2)];
    let mut rows = 0;
    for fault in faults {
        scene.upstream.always(Behaviour { words: 6, ..Behaviour::fault(fault.clone()) });
        for client in [scene.client.clone(), scene.client.over_h2c()] {
            for options in [Value::Null, json!({ "include_usage": false }), json!({ "include_usage": true })] {
                let mut body = chat("alpha", "hello there", 20);
                body["stream"] = json!(true);
                if !options.is_null() {
                    body["stream_options"] = options;
                }
                client.post("/v1/chat/completions", &body).await;
                rows += 1;
            }
            let legacy = json!({ "model": "instruct", "prompt": "once upon a time", "max_tokens": 20, "stream": true });
            client.post("/v1/completions", &legacy).await;
            rows += 1;
            let found = scene.rows_once(rows).await;
            let free: Vec<_> = found.iter().filter(|row| row.cost == 0 || row.input == 0 || row.output == 0).collect();
            assert!(free.is_empty(), "{fault:?}: {free:?}");
        }
    }
}

/// `LiteLLM` 41344: the fallback is paid for and no budget asks
#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_that_does_not_fit_the_budget_is_not_called() {
    let upstream = Upstream::start().await;
    let spare = Upstream::start().await;
    spare.always(Behaviour::words(10));
    let alias = "[[model]]\nname = \"safe\"\ntargets = [{ upstream = \"scripted\", model = \"odd\", weight = 1 }]\nfallbacks = [{ upstream = \"spare\", model = \"flat\" }]\n";
    let setup = Setup::bare()
        .upstream("scripted", upstream.address(), &["odd"], &[])
        .upstream("spare", spare.address(), &["flat"], &[])
        .line(alias);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": usd(TEN_TOKENS - 1) })).await;
    scene.upstream.always(Behaviour::words(10));
    scene.client.chat(&chat("safe", "hi", 10)).await.ok();
    let posted = scene.settled().await.posted;
    assert!(posted > 0 && posted < 1_000, "the first target is cheap: {posted}");
    scene.upstream.always(Behaviour::status(503));
    for stream in [false, true] {
        let mut body = chat("safe", "hi", 10);
        body["stream"] = json!(stream);
        let reply = scene.client.chat(&body).await;
        assert_ne!(reply.status, 200, "{}", reply.text());
        assert_eq!(spare.calls(), 0, "ten tokens of the fallback cost more than is left");
    }
    assert_eq!(scene.settled().await.posted, posted);
    scene.admin().patch("acme", &json!({ "quota": { "usd_per_day": usd(TEN_TOKENS * 2) } })).await;
    scene.client.chat(&chat("safe", "hi", 10)).await.ok();
    assert_eq!(spare.calls(), 1, "with the money it is");
    assert_eq!(scene.settled().await.posted, posted + TEN_TOKENS);
}

/// Paths by which other gateways pass requests on unseen. Those of this one are walked from its own list (`walk`).
const PATHS: [&str; 7] = [
    "/v1/rerank",
    "/openai/v1/chat/completions",
    "/openai/deployments/flat/chat/completions",
    "/anthropic/v1/messages",
    "/scripted/chat/completions",
    "/v1/proxy/chat/completions",
    "/v1/engines/flat/completions",
];

/// bifrost 2873, `LiteLLM` 10750, 36646, 38176: pass-through routes skip budget and bill
#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_past_the_listed_routes() {
    let scene = Scene::new().await;
    let body = chat("flat", "hi", 5);
    for path in PATHS {
        for path in [path.to_owned(), path.replacen("/v1/", "/", 1)] {
            scene.client.post(&path, &body).await.refused(404, "invalid_request_error", "unknown_url");
        }
    }
    assert_eq!(scene.upstream.calls(), 0);
    scene.client.post("/v1/chat/completions", &body).await.ok();
    assert_eq!(scene.upstream.calls(), 1, "the same body on a listed route");
    scene.rows_once(1).await;
}

/// `LiteLLM` 20256, 27955, 39309: a slot whose request is gone locks the key
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_died_leaves_no_concurrency_slot_taken() {
    let mut scene = Scene::with_quota(json!({ "concurrent_requests": 1 })).await;
    let gate = Gate::new();
    scene.upstream.when("for ever", Behaviour::gated(10, 2, &gate));
    for _ in 0..2 {
        let mut stream = scene.client.stream(&chat("alpha", "for ever", 10)).await;
        stream.texts(2).await;
        scene.client.chat(&chat("alpha", "hi", 5)).await.refused(429, "requests", "rate_limit_exceeded");
        scene.gateway.kill_9();
        scene.restarted().await;
        scene.client.chat(&chat("alpha", "hi", 5)).await.ok();
        scene.settled().await;
    }
}

/// `LiteLLM` 13202, 40291, bifrost 3547: each process grants the whole limit. Here one process owns a data directory (D-05 in
/// `crash`), and the two of a hand-over share one budget.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_at_once_share_one_budget() {
    let mut scene = Scene::with_quota(json!({ "usd_per_day": usd(TEN_TOKENS * 3) })).await;
    scene.upstream.always(Behaviour::words(10));
    let gate = Gate::new();
    scene.upstream.when("slowly", Behaviour::gated(10, 2, &gate));
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = scene.client.stream(&chat("flat", "slowly", 10)).await;
        stream.texts(2).await;
        streams.push(stream);
    }
    let log = std::fs::File::options().append(true).open(scene.gateway.dir().join("stderr.log")).expect("the log");
    let mut command = scene.gateway.command();
    let new = command
        .arg("--upgrade")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the new binary");
    let old = i64::from(scene.gateway.pid());
    scene.gateway.signal(Signal::QUIT);
    // The new process has registered as the owner; the old one still relays two streams.
    until_true("the new owner", || owners(&scene) == 2).await;
    let client = scene.gateway.client(&scene.tenant.token);
    until("one more is admitted", || async {
        client.try_post("/v1/chat/completions", &chat("flat", "hi", 10)).await.ok().filter(|reply| reply.status == 200)
    })
    .await;
    let over = client.chat(&chat("flat", "hi", 10)).await;
    over.refused(429, "insufficient_quota", "insufficient_quota");
    assert!(std::path::Path::new(&format!("/proc/{old}")).exists(), "the old process still relays");
    gate.open();
    for mut stream in streams {
        assert!(stream.rest().await.last().is_some_and(Event::done));
    }
    assert!(scene.gateway.ended().await.success());
    scene.gateway.adopt(new);
    scene.rows_once(3).await;
    let budget = scene.settled().await;
    assert_eq!((budget.posted, budget.held, budget.remaining), (TEN_TOKENS * 3, 0, Some(0)));
}

fn owners(scene: &Scene) -> i64 {
    ledger::open(&scene.gateway.data()).query_row("SELECT count(*) FROM owners", [], |row| row.get(0)).expect("a count")
}

/// bifrost 4851: at midnight every budget of every tenant is swept
#[tokio::test(flavor = "multi_thread")]
async fn midnight_writes_nothing_and_every_budget_is_whole_again() {
    let dir = TempDir::new().expect("a temp dir");
    let clock = FakeClock::new(dir.path());
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).clock(&clock);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": usd(TEN_TOKENS) })).await;
    scene.upstream.always(Behaviour::words(10));
    let mut clients = vec![("acme".to_owned(), scene.client.clone())];
    for number in 0..20 {
        let id = format!("t-{number}");
        let tenant = scene.admin().tenant(&id, json!({ "usd_per_day": usd(TEN_TOKENS) })).await;
        clients.push((id, scene.client.with_token(&tenant.token)));
    }
    for (id, client) in &clients {
        client.chat(&chat("flat", "hi", 10)).await.ok();
        client.chat(&chat("flat", "hi", 10)).await.refused(429, "insufficient_quota", "insufficient_quota");
        assert_eq!(scene.admin().settled(id).await.posted, TEN_TOKENS);
    }
    let money = || -> Vec<String> {
        let dump = ledger::dump(&scene.gateway.data(), &[]);
        let kept = ["ledger|", "windows|", "usage_days|", "tenants|"];
        dump.lines().filter(|line| kept.iter().any(|table| line.starts_with(table))).map(str::to_owned).collect()
    };
    until_true("every row is there", || money().iter().filter(|line| line.starts_with("ledger|")).count() == 21).await;
    let before = money();
    clock.shift(86_400);
    for (id, _) in &clients {
        let budget = scene.admin().budget(id, "usd_per_day").await;
        assert_eq!((budget.posted, budget.remaining), (0, Some(TEN_TOKENS)), "{id}");
    }
    assert_eq!(money(), before, "a new day is a question, not a write");
    for (_, client) in &clients {
        client.chat(&chat("flat", "hi", 10)).await.ok();
        client.chat(&chat("flat", "hi", 10)).await.refused(429, "insufficient_quota", "insufficient_quota");
    }
}
