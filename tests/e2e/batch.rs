//! Batches: reserved as a whole before the provider hears of one, held until it ends, billed exactly once from what it put out.

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::clock::FakeClock;
use openclawmu_tests::upload::{batch, chat_line, uploaded};
use openclawmu_tests::{
    BatchEnd, Behaviour, Bill, Client, Fault, Gate, Reply, Scene, Setup, Upstream, money, sdk, wait,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// 2026-11-30T23:30:00Z.
const LAST_OF_NOVEMBER: i64 = 1_796_081_400;
const ENDPOINT: &str = "/v1/chat/completions";

/// A scene whose model `alpha` costs half in a batch, as `beta` does not.
async fn scene() -> Scene {
    scene_with(json!({ "usd_per_day": "1000" })).await
}

async fn scene_with(quota: Value) -> Scene {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream);
    scene_of(upstream, setup, quota).await
}

/// A scene under a clock, which shows this second (UNIX) first.
async fn clocked(at: i64) -> (Scene, FakeClock, TempDir) {
    let dir = TempDir::new().expect("a temp dir");
    let clock = FakeClock::new(dir.path());
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).clock(&clock);
    let scene = scene_of(upstream, setup, json!({ "usd_per_day": "1000", "usd_per_month": "1000" })).await;
    set(&clock, at);
    (scene, clock, dir)
}

/// Shifts so that the gateway's clock shows `at` now.
fn set(clock: &FakeClock, at: i64) {
    let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    clock.shift(at - i64::try_from(real).expect("small"));
}

async fn scene_of(upstream: Upstream, setup: Setup, quota: Value) -> Scene {
    let mut card = money::card();
    let price = alpha();
    card["models"]["alpha"]["batch"] = json!({
        "input": money::usd(price.input / 2), "cache_read": money::usd(price.cache_read / 2),
        "output": money::usd(price.output / 2), "reasoning": money::usd(price.reasoning / 2)
    });
    let mut setup = setup.line("[batches]\npoll_seconds = 1\n");
    setup.rates = Some(card);
    Scene::of(upstream, setup, quota).await
}

fn alpha() -> money::Price {
    money::PRICES[0]
}

/// What the provider bills for lines of `alpha`, at half the price, rounded once.
fn provider_bill(bills: &[Bill]) -> i128 {
    let price = alpha();
    let parts: i128 = bills
        .iter()
        .map(|bill| {
            assert_eq!(bill.model, "alpha");
            i128::from(bill.prompt - bill.cached) * (price.input / 2)
                + i128::from(bill.cached) * (price.cache_read / 2)
                + i128::from(bill.completion - bill.reasoning) * (price.output / 2)
                + i128::from(bill.reasoning) * (price.reasoning / 2)
        })
        .sum();
    (parts + 500_000) / 1_000_000
}

fn ask(text: &str) -> Value {
    chat("alpha", text, 5)
}

fn lines(count: usize) -> String {
    (0..count).map(|at| chat_line(&format!("line-{at}"), &ask(&format!("hello number {at}")))).collect()
}

/// Uploads lines and makes a batch of them.
async fn made(client: &Client, input: &str) -> Reply {
    let file = uploaded(client, "batch", input.as_bytes()).await;
    batch(client, &file, ENDPOINT).await
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap_or_else(|| panic!("an id in {value}")).to_owned()
}

async fn status(client: &Client, id: &str) -> Value {
    client.get(&format!("/v1/batches/{id}")).await.ok()
}

/// The batch once it is billed.
async fn ended(client: &Client, id: &str) -> Value {
    wait::until("the batch to be billed", || async {
        let seen = status(client, id).await;
        let over = matches!(seen["status"].as_str(), Some("completed" | "failed" | "expired" | "cancelled"));
        assert!(over || seen["output_file_id"].is_null(), "nothing is seen before it is billed: {seen}");
        over.then_some(seen)
    })
    .await
}

/// M-01 and Q-03: what the gateway bills is what the provider bills, to the nano, and only what was bounded was run
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_held_until_it_ends_and_billed_what_the_provider_bills() {
    let scene = scene().await;
    scene.upstream.answer_lines(Behaviour { cached_tokens: 2, reasoning_tokens: 1, ..Behaviour::words(5) });
    // Its names and caps are the client's own, and its last line has none.
    let uncapped =
        json!({ "model": "scripted/alpha", "messages": [{ "role": "user", "content": "no cap of its own" }] });
    let input = lines(3) + "\n" + &chat_line("uncapped", &uncapped);
    let file = uploaded(&scene.client, "batch", input.as_bytes()).await;
    let body = json!({ "input_file_id": file, "endpoint": ENDPOINT, "completion_window": "24h", "metadata": { "team": "blue" } });
    let reply = scene.client.post("/v1/batches", &body).await;
    let made = reply.ok();
    assert_eq!((&made["status"], &made["metadata"]), (&json!("in_progress"), &json!({ "team": "blue" })));
    assert_eq!(made["input_file_id"], file, "the tenant sees its own file");
    let [running] = <[String; 1]>::try_from(scene.upstream.batches()).expect("one batch");
    assert_eq!(id(&made), running);
    let sent = scene.upstream.batch_input(&running);
    let last: Value = serde_json::from_str(sent.lines().last().expect("lines")).expect("JSON");
    assert_eq!(
        (&last["body"]["model"], &last["body"]["max_tokens"]),
        (&json!("alpha"), &json!(money::MAX_OUTPUT_TOKENS))
    );
    assert_eq!(sent.lines().take(3).collect::<Vec<_>>(), input.lines().take(3).collect::<Vec<_>>(), "as they came");
    assert_eq!(scene.client.get(&format!("/v1/files/{file}/content")).await.body, input.as_bytes());

    let held = scene.settled().await;
    assert!(held.held > 0 && held.posted == 0, "{held:?}");
    scene.upstream.finish_batch(&running, BatchEnd::Completed);
    let done = ended(&scene.client, &running).await;
    assert_eq!((&done["status"], &done["input_file_id"]), (&json!("completed"), &json!(file)));
    let bills = scene.upstream.batch_bills();
    assert_eq!(bills.len(), 4);
    let billed = scene.balanced().await;
    assert_eq!((billed.posted, billed.held), (provider_bill(&bills), 0));
    assert!(billed.posted <= held.held, "within what was held");
    let row = scene.rows().into_iter().find(|row| row.cost > 0).expect("the bill");
    assert_eq!((row.outcome.as_str(), row.service_tier.as_str(), row.estimated), ("complete", "batch", false));
    assert_eq!((row.cache_read, row.reasoning), (8, 4));
    let labels = openclawmu_tests::ledger::labels(&scene.gateway.data(), "acme");
    assert!(labels.contains(&(String::new(), "team=blue".to_owned())), "{labels:?}");
    let output =
        scene.client.get(&format!("/v1/files/{}/content", done["output_file_id"].as_str().expect("an id"))).await;
    assert_eq!((output.status, output.text().lines().count()), (200, 4));
    let calls = scene.upstream.calls();
    assert_eq!(status(&scene.client, &running).await, done);
    assert_eq!(scene.upstream.calls(), calls, "what has ended is the gateway's own to tell");
    assert_eq!(scene.client.get("/v1/batches").await.ok()["data"], json!([done]));
    wait::until_true("the file that was sent is removed", || scene.upstream.files().len() == 2).await;
    assert_eq!(openclawmu_tests::ledger::integrity(&scene.gateway.data()), "ok");
    let books = scene.gateway.cli(&["billing", "reconcile", "--json"]).await.json();
    assert_eq!(books["difference_count"], 0, "{books}");
}

/// I-01, I-04
#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_batch_and_what_it_put_out_are_404_and_no_upstream_is_asked() {
    let scene = scene().await;
    let other = scene.admin().tenant("rival", json!({ "usd_per_day": "1000" })).await;
    let rival = scene.client.with_token(&other.token);
    let input = uploaded(&scene.client, "batch", lines(2).as_bytes()).await;
    let made = batch(&scene.client, &input, ENDPOINT).await.ok();
    let running = id(&made);
    scene.upstream.finish_batch(&running, BatchEnd::Completed);
    let done = ended(&scene.client, &running).await;
    let output = done["output_file_id"].as_str().expect("an id");
    wait::until_true("the file that was sent is removed", || scene.upstream.files().len() == 2).await;
    let calls = scene.upstream.calls();
    for (method, path) in [
        (Method::GET, format!("/v1/batches/{running}")),
        (Method::POST, format!("/v1/batches/{running}/cancel")),
        (Method::GET, format!("/v1/batches?after={running}")),
        (Method::GET, format!("/v1/files/{output}")),
        (Method::GET, format!("/v1/files/{output}/content")),
        (Method::DELETE, format!("/v1/files/{output}")),
        (Method::GET, "/v1/batches/batch_unknown".to_owned()),
        (Method::GET, format!("/v1/files/{running}")),
        (Method::GET, format!("/v1/batches/{output}")),
    ] {
        let reply = Reply::of(rival.build(method, &path).send().await.expect("an answer")).await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
    }
    batch(&rival, &input, ENDPOINT).await.refused(404, "invalid_request_error", "file_not_found");
    assert_eq!(rival.get("/v1/batches").await.ok()["data"], json!([]));
    assert_eq!(rival.get("/v1/files").await.ok()["data"], json!([]));
    assert_eq!(scene.upstream.calls(), calls);
    // A line may not name another's file either.
    let mentions = json!({ "model": "sight", "max_tokens": 5, "messages": [{ "role": "user", "content": [{ "type": "file", "file": { "file_id": output } }] }] });
    let reply = self::made(&rival, &chat_line("a", &mentions)).await;
    reply.refused(404, "invalid_request_error", "file_not_found");
    assert_eq!(scene.upstream.batches().len(), 1);
}

/// all of it or nothing, and nothing is made at the provider
#[tokio::test(flavor = "multi_thread")]
async fn over_budget_is_429_before_anything_is_made_upstream() {
    let scene = scene_with(json!({ "usd_per_day": "0.01", "requests_per_minute": 100 })).await;
    let file = uploaded(&scene.client, "batch", lines(50).as_bytes()).await;
    let refused = batch(&scene.client, &file, ENDPOINT).await;
    refused.refused(429, "insufficient_quota", "insufficient_quota");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!((scene.upstream.files().len(), scene.upstream.batches().len()), (1, 0));
    let budget = scene.settled().await;
    assert_eq!((budget.posted, budget.held), (0, 0));
    made(&scene.client, &lines(3)).await.ok();
    let held = scene.settled().await.held;
    assert!(held > 0 && held <= 10_000_000, "{held}");
    let one = scene
        .admin()
        .tenant("one", json!({ "concurrent_requests": 1, "requests_per_minute": 2, "tokens_per_minute": 5 }))
        .await;
    // A file and a batch: two requests, one at a time, whose tokens no rate of a minute counts.
    made(&scene.client.with_token(&one.token), &lines(3)).await.ok();
}

/// many at once, on a cap that only some of them fit
#[tokio::test(flavor = "multi_thread")]
async fn batches_at_once_never_hold_more_than_the_cap() {
    let scene = scene_with(json!({ "usd_per_day": "0.002" })).await;
    let file = uploaded(&scene.client, "batch", lines(2).as_bytes()).await;
    let asked = (0..12).map(|_| {
        let (client, file) = (scene.client.clone(), file.clone());
        tokio::spawn(async move { batch(&client, &file, ENDPOINT).await })
    });
    let mut statuses = Vec::new();
    for reply in asked.collect::<Vec<_>>() {
        statuses.push(reply.await.expect("a task").status);
    }
    let taken = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    assert!(taken > 0 && taken < 12, "{statuses:?}");
    let held = scene.settled().await;
    assert!(held.held <= 2_000_000, "{held:?}");
    let batches = scene.upstream.batches();
    assert_eq!(batches.len(), taken);
    for id in &batches {
        scene.upstream.finish_batch(id, BatchEnd::Completed);
    }
    for id in &batches {
        ended(&scene.client, id).await;
    }
    let budget = scene.balanced().await;
    assert_eq!(budget.held, 0);
    // Each batch is a row, and each row is rounded by itself.
    let one = provider_bill(&scene.upstream.batch_bills()[..2]);
    assert_eq!(budget.posted, one * i128::try_from(taken).expect("few"));
}

/// whenever the process dies, it is billed once
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_survives_kill_9_and_is_billed_exactly_once() {
    let mut scene = scene().await;
    let running = id(&made(&scene.client, &lines(4)).await.ok());
    let held = scene.settled().await.held;
    scene.gateway.kill_9();
    scene.restarted().await;
    assert_eq!(scene.settled().await.held, held, "it is held whoever holds it");
    // What a crash has left is given back; what runs is not.
    let resolved = ["billing", "resolve", "--all", "--release", "--reason", "nothing was billed"];
    let said = scene.gateway.cli(&resolved).await;
    assert!(!said.ok().contains("released"), "{said:?}");
    assert_eq!(scene.settled().await.held, held);
    let listed = scene.gateway.cli(&["billing", "resolve", "--json"]).await.json();
    assert_eq!(listed["data"][0]["batch"], json!(running), "{listed}");
    assert_eq!(scene.admin().metric("openclawmu_batches_running", &[]).await, 1);
    scene.upstream.finish_batch(&running, BatchEnd::Completed);
    // Nobody asks: the gateway looks by itself.
    let bill = provider_bill(&scene.upstream.batch_bills());
    wait::until("the bill", || async { (scene.budget().await.posted == bill).then_some(()) }).await;
    scene.gateway.kill_9();
    scene.restarted().await;
    ended(&scene.client, &running).await;
    let budget = scene.balanced().await;
    assert_eq!((budget.posted, budget.held), (bill, 0));
    assert_eq!(scene.rows().iter().filter(|row| row.cost > 0).count(), 1);
}

/// the process dies when the provider may have the batch and nobody has said so
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_making_was_not_answered_is_found_and_billed() {
    let mut scene = scene().await;
    let file = uploaded(&scene.client, "batch", lines(2).as_bytes()).await;
    let gate = Gate::new();
    scene.upstream.when("input_file_id", Behaviour::gated(0, 0, &gate));
    let asked = tokio::spawn({
        let (client, file) = (scene.client.clone(), file.clone());
        async move {
            client
                .try_post(
                    "/v1/batches",
                    &json!({ "input_file_id": file, "endpoint": ENDPOINT, "completion_window": "24h" }),
                )
                .await
                .is_ok()
        }
    });
    wait::until_true("the provider to have it", || scene.upstream.batches().len() == 1).await;
    scene.gateway.kill_9();
    assert!(!asked.await.expect("a task"));
    scene.restarted().await;
    let [running] = <[String; 1]>::try_from(scene.upstream.batches()).expect("one batch");
    scene.upstream.finish_batch(&running, BatchEnd::Completed);
    wait::until("it to be found", || async {
        (scene.client.get(&format!("/v1/batches/{running}")).await.status == 200).then_some(())
    })
    .await;
    ended(&scene.client, &running).await;
    // The same without a death: the answer breaks off.
    scene.upstream.when("input_file_id", Behaviour::fault(Fault::HangUpAtByte(3)));
    let second = id(&batch(&scene.client, &file, ENDPOINT).await.ok());
    assert_eq!(scene.upstream.batches(), [running, second.clone()], "it is found at once, so that nobody asks again");
    scene.upstream.finish_batch(&second, BatchEnd::Completed);
    ended(&scene.client, &second).await;
    let budget = scene.balanced().await;
    let each = provider_bill(&scene.upstream.batch_bills()[..2]);
    assert_eq!((budget.posted, budget.held), (2 * each, 0));
}

/// what the provider refuses gives everything back
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_provider_refuses_holds_nothing() {
    let scene = scene().await;
    let file = uploaded(&scene.client, "batch", lines(2).as_bytes()).await;
    scene.upstream.when("input_file_id", Behaviour::status(400));
    let refused = batch(&scene.client, &file, ENDPOINT).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    let budget = scene.balanced().await;
    assert_eq!((budget.posted, budget.held), (0, 0));
    assert_eq!(scene.upstream.files(), [file.as_str()], "the file that was sent is removed");
}

/// a day later, in another month
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_over_the_months_end_is_billed_to_the_month_that_admitted_it() {
    let (scene, clock, _dir) = clocked(LAST_OF_NOVEMBER).await;
    let running = id(&made(&scene.client, &lines(3)).await.ok());
    let held = scene.settled().await.held;
    assert!(held > 0);
    set(&clock, LAST_OF_NOVEMBER + 3_600);
    let budget = scene.budget().await;
    assert_eq!((budget.posted, budget.held), (0, 0), "the new day's budget is its own");
    scene.upstream.finish_batch(&running, BatchEnd::Completed);
    ended(&scene.client, &running).await;
    let bill = provider_bill(&scene.upstream.batch_bills());
    for (period, cost) in [("2026-11", bill), ("2026-12", 0)] {
        let path = format!("/v1/reports/usage?period={period}&format=json&tenant=acme");
        let report = scene.admin().get(&path).await;
        let total = report["total"]["cost_usd"].as_str().map_or_else(|| panic!("a total in {report}"), money::nanos);
        assert_eq!(total, cost, "{period}");
    }
    let month = scene.admin().budget("acme", "usd_per_month").await;
    assert_eq!((month.posted, month.held), (0, 0));
    assert_eq!(openclawmu_tests::ledger::integrity(&scene.gateway.data()), "ok");
}

/// what the provider never made is looked for, held meanwhile, and given back
#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_never_made_is_given_back_after_half_an_hour() {
    let (scene, clock, _dir) = clocked(LAST_OF_NOVEMBER - 12 * 3_600).await;
    let file = uploaded(&scene.client, "batch", lines(3).as_bytes()).await;
    scene.upstream.when("input_file_id", Behaviour::status(500));
    batch(&scene.client, &file, ENDPOINT).await.refused(502, "upstream_error", "upstream_error");
    let looked = || scene.upstream.exchanges().iter().filter(|one| one.path.starts_with("/v1/batches?")).count();
    let before = looked();
    wait::until_true("it to be looked for", || looked() > before).await;
    assert!(scene.settled().await.held > 0, "the answer may have been wrong");
    set(&clock, LAST_OF_NOVEMBER - 11 * 3_600);
    wait::until("it to be given back", || async { (scene.budget().await.held == 0).then_some(()) }).await;
    assert_eq!(scene.balanced().await.posted, 0);
    wait::until_true("the file that was sent is removed", || scene.upstream.files() == [file.as_str()]).await;
}

/// M-02: what ends early is billed what it ran; lines that failed cost nothing
#[tokio::test(flavor = "multi_thread")]
async fn cancelled_expired_failed_and_half_failed_batches_bill_what_they_ran() {
    let scene = scene().await;
    let failing = lines(2) + &chat_line("bad", &ask("please-fail"));
    let cases = [
        (lines(5), BatchEnd::Cancelled(2), "cancelled", 2),
        (lines(5), BatchEnd::Expired(3), "expired", 3),
        (lines(5), BatchEnd::Failed, "failed", 0),
        (failing, BatchEnd::Completed, "completed", 2),
    ];
    let mut posted = 0;
    let mut seen = 0;
    for (input, end, name, ran) in cases {
        let running = id(&made(&scene.client, &input).await.ok());
        if matches!(end, BatchEnd::Cancelled(_)) {
            let cancelled = scene.client.post(&format!("/v1/batches/{running}/cancel"), &Value::Null).await.ok();
            assert_eq!(cancelled["status"], "cancelling");
        }
        scene.upstream.finish_batch(&running, end);
        let done = ended(&scene.client, &running).await;
        assert_eq!(done["status"], name);
        let bills = scene.upstream.batch_bills();
        assert_eq!(bills.len() - seen, ran, "{name}");
        posted += provider_bill(&bills[seen..]);
        seen = bills.len();
        let budget = scene.balanced().await;
        assert_eq!((budget.posted, budget.held), (posted, 0), "{name}");
        if let Some(errors) = done["error_file_id"].as_str() {
            let errors = scene.client.get(&format!("/v1/files/{errors}/content")).await;
            assert!(errors.text().contains("\"bad\""), "{}", errors.text());
        }
    }
}

/// M-01: what no batch price is listed for costs its full price, whatever the batch asks for
#[tokio::test(flavor = "multi_thread")]
async fn other_endpoints_are_billed_at_full_price_where_no_batch_price_is_listed() {
    let scene = scene().await;
    let mut posted = 0;
    for (endpoint, body) in [
        ("/v1/embeddings", json!({ "model": "embed", "input": ["two words", "three more words"] })),
        ("/v1/completions", json!({ "model": "instruct", "prompt": "hello there" })),
    ] {
        let line = json!({ "custom_id": "a", "method": "POST", "url": endpoint, "body": body }).to_string();
        let file = uploaded(&scene.client, "batch", line.as_bytes()).await;
        let running = id(&batch(&scene.client, &file, endpoint).await.ok());
        let held = scene.settled().await.held;
        scene.upstream.finish_batch(&running, BatchEnd::Completed);
        ended(&scene.client, &running).await;
        let cost = money::cost(scene.upstream.batch_bills().last().expect("a bill"));
        assert!(cost > 0 && cost <= held, "{endpoint}: {cost} of {held}");
        posted += cost;
        let budget = scene.balanced().await;
        assert_eq!((budget.posted, budget.held), (posted, 0), "{endpoint}");
    }
}

/// M-06: what can't be counted is neither free nor guessed: it stays held for the operator
#[tokio::test(flavor = "multi_thread")]
async fn lines_without_usage_stay_held_until_the_operator_decides() {
    let scene = scene().await;
    scene.upstream.answer_lines(Behaviour::fault(Fault::NoUsage));
    let running = id(&made(&scene.client, &lines(2)).await.ok());
    let held = scene.settled().await.held;
    scene.upstream.finish_batch(&running, BatchEnd::Completed);
    ended(&scene.client, &running).await;
    let budget = scene.balanced().await;
    assert_eq!((budget.posted, budget.held), (0, held));
    assert!(scene.rows().iter().any(|row| row.estimated && row.held == held));
}

/// Every line is bounded, priced, allowed and served there, or its number is told
#[tokio::test(flavor = "multi_thread")]
async fn a_line_at_fault_is_named_and_nothing_is_made() {
    let scene = scene().await;
    let (_, narrow) = scene.admin().mint("acme", &json!({ "models": ["alpha"] })).await;
    let good = chat_line("good", &ask("hello"));
    let with = |body: Value| good.clone() + &chat_line("second", &body);
    let mut streaming = ask("x");
    streaming["stream"] = json!(true);
    for (input, status, words) in [
        (good.clone() + "nothing\n", 400, "Line 2 "),
        (good.clone() + "\n\n" + &good, 400, "Line 4 "),
        (good.clone() + &good.replace("good", "other").replace("POST", "GET"), 400, "`method`"),
        (good.clone() + &good.replace("good", "other").replace("/v1/chat/completions", "/v1/embeddings"), 400, "`url`"),
        (with(streaming), 400, "Line 2 "),
        (with(chat("beta", "x", 5)), 403, "Line 2 "),
        (with(chat("nobody", "x", 5)), 404, "Line 2 "),
        (with(chat("echo", "x", 5)), 403, "Line 2 "),
        (with(json!({ "model": "alpha", "messages": [], "max_tokens": -1 })), 400, "`max_tokens`"),
        (with(json!({ "model": "alpha", "messages": [], "service_tier": "priority" })), 400, "Line 2 "),
        (String::new(), 400, "no line"),
    ] {
        let reply = made(&scene.client.with_token(&narrow), &input).await;
        assert_eq!(reply.status, status, "{input}: {}", reply.text());
        assert!(reply.json()["error"]["message"].as_str().unwrap_or_default().contains(words), "{}", reply.text());
    }
    for (input, words) in [(with(chat("beta", "x", 5)), "one model"), (with(chat("echo", "x", 5)), "served")] {
        let reply = made(&scene.client, &input).await;
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert!(reply.text().contains(words) && reply.text().contains("Line 2"), "{}", reply.text());
    }
    let file = uploaded(&scene.client, "user_data", good.as_bytes()).await;
    batch(&scene.client, &file, ENDPOINT).await.refused(400, "invalid_request_error", "invalid_value");
    let file = uploaded(&scene.client, "batch", good.as_bytes()).await;
    batch(&scene.client, &file, "/v1/responses").await.refused(400, "invalid_request_error", "invalid_value");
    assert_eq!(scene.upstream.batches(), [""; 0]);
    let budget = scene.settled().await;
    assert_eq!((budget.posted, budget.held), (0, 0));
}

/// S-03: what was made with a tenant's own key is looked after with that key, whoever looks
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_in_a_tenants_own_account_is_made_watched_and_billed_there() {
    let scene = scene().await;
    let shared = uploaded(&scene.client, "batch", lines(1).as_bytes()).await;
    let path = "/v1/tenants/acme/provider_keys/scripted";
    let put = scene.admin().send_json(Method::PUT, path, &json!({ "api_key": "sk-own-canary-of-acme" })).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let calls = scene.upstream.calls();
    let running = id(&made(&scene.client, &lines(2)).await.ok());
    scene.upstream.finish_batch(&running, BatchEnd::Completed);
    wait::until("the bill", || async { (scene.budget().await.posted > 0).then_some(()) }).await;
    wait::until_true("the file that was sent is removed", || scene.upstream.last().method == "DELETE").await;
    for exchange in &scene.upstream.exchanges()[calls..] {
        assert_eq!(exchange.header("authorization"), Some("Bearer sk-own-canary-of-acme"), "{}", exchange.path);
    }
    // What is in the operator's account is still asked for with the operator's key.
    scene.client.get(&format!("/v1/files/{shared}")).await.ok();
    let key = format!("Bearer {}", openclawmu_tests::setup::PROVIDER_KEY);
    assert_eq!(scene.upstream.last().header("authorization"), Some(key.as_str()));
    scene.admin().send(Method::DELETE, path).await;
    let calls = scene.upstream.calls();
    let gone = scene.client.get(&format!("/v1/batches/{running}")).await;
    assert_eq!(gone.ok()["status"], "completed", "what has ended is the gateway's own to tell");
    let output = gone.json()["output_file_id"].as_str().expect("an id").to_owned();
    scene.client.get(&format!("/v1/files/{output}")).await.refused(404, "invalid_request_error", "file_not_found");
    assert_eq!(scene.upstream.calls(), calls, "no other key is tried");
}

/// I-06: what a deleted tenant had is removed, and what ran is on its bill
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenants_batches_are_cancelled_and_its_files_removed() {
    let scene = scene().await;
    let running = id(&made(&scene.client, &lines(3)).await.ok());
    let gone = scene.admin().send(Method::DELETE, "/v1/tenants/acme?confirm=acme").await;
    assert!(matches!(gone.status, 200 | 204), "{}", gone.text());
    let cancelled = || scene.upstream.exchanges().iter().any(|one| one.path.ends_with(&format!("{running}/cancel")));
    wait::until_true("the batch to be cancelled", cancelled).await;
    scene.upstream.finish_batch(&running, BatchEnd::Cancelled(1));
    wait::until_true("every file to be removed", || scene.upstream.files().is_empty()).await;
    let bill = provider_bill(&scene.upstream.batch_bills());
    wait::until_true("the bill", || scene.ledger_total() == bill).await;
    assert_eq!(openclawmu_tests::ledger::integrity(&scene.gateway.data()), "ok");
}

/// K1
#[tokio::test(flavor = "multi_thread")]
async fn the_official_python_client_makes_and_polls_batches() {
    let scene = scene().await;
    scene.upstream.run_batches_at_once();
    let other = scene.admin().tenant("rival", json!({})).await;
    let base = format!("http://{}/v1", scene.gateway.edge());
    let result = sdk::run_python("batches.py", &[&base, scene.client.token(), &other.token, "alpha"]).await;
    let answer = "word0 word1 word2 word3 word4 ";
    assert_eq!(
        result,
        json!({
            "file": ["batch", true, "input.jsonl"], "same_bytes": true, "listed": true, "made": [true, { "team": "blue" }, null],
            "stranger": "batch_not_found", "status": "completed", "counts": [3, 3],
            "answers": { "line-0": answer, "line-1": answer, "line-2": answer }, "batches": true,
            "stranger_content": "file_not_found", "deleted": true
        })
    );
    let budget = scene.balanced().await;
    assert_eq!((budget.posted, budget.held), (provider_bill(&scene.upstream.batch_bills()), 0));
}
