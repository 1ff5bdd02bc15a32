//! Every cent that the provider bills is on exactly one row, to the nano.

use openclawmu_tests::client::chat;
use openclawmu_tests::dice::Dice;
use openclawmu_tests::money::{cost, nanos};
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Behaviour, Client, Fault, Gate, Scene, times};
use serde_json::{Value, json};

/// A good request of one of seven shapes, drawn by the dice.
fn drawn(dice: &mut Dice) -> (&'static str, Value) {
    let words = "lorem ipsum ".repeat(1 + dice.below(30));
    let model = *dice.pick(&["alpha", "beta", "odd"]);
    let cap = u64::try_from(1 + dice.below(40)).expect("small");
    let marker = format!("{words} shape-{}", dice.below(4));
    match dice.below(7) {
        0 => ("/v1/embeddings", json!({ "model": "embed", "input": [marker, "and one more"] })),
        1 => ("/v1/completions", json!({ "model": "instruct", "prompt": marker, "max_tokens": cap })),
        2 => ("/v1/completions", json!({ "model": "instruct", "prompt": marker, "max_tokens": cap, "stream": true })),
        3 => ("/v1/chat/completions", chat(model, &marker, cap)),
        4 => {
            let mut body = chat(model, &marker, cap);
            body["stream"] = json!(true);
            body["stream_options"] = json!({ "include_usage": dice.below(2) == 0 });
            ("/v1/chat/completions", body)
        }
        5 => {
            let tool =
                json!({ "type": "function", "function": { "name": "look", "parameters": { "type": "object" } } });
            let mut body = chat(model, &format!("{words} call-it"), cap);
            body["tools"] = json!([tool]);
            body["stream"] = json!(dice.below(2) == 0);
            ("/v1/chat/completions", body)
        }
        _ => {
            let mut body = chat(model, &marker, cap);
            body["n"] = json!(1 + dice.below(4));
            body["stream"] = json!(dice.below(2) == 0);
            ("/v1/chat/completions", body)
        }
    }
}

/// One request: most are answered, some leave, some fail upstream. Tells whether a tool was called.
async fn one(client: &Client, dice: &mut Dice) -> u64 {
    match dice.below(25) {
        0 => {
            let mut stream = client.stream(&chat("alpha", "lorem ipsum leaving", 40)).await;
            stream.texts(1 + dice.below(2)).await;
            0
        }
        1 => {
            let reply = client.post("/v1/chat/completions", &chat("alpha", "lorem ipsum failing", 40)).await;
            assert!(matches!(reply.status, 500 | 502), "{}", reply.text());
            0
        }
        _ => {
            let (path, body) = drawn(dice);
            let reply = client.post(path, &body).await;
            assert_eq!(reply.status, 200, "{body}: {}", reply.text());
            u64::from(body["tools"].is_array())
        }
    }
}

/// M-01: 10,000 requests in a soak run, else 1,500: whole and streamed, chats, completions, embeddings, tools, several choices,
/// cached and reasoning tokens, clients that leave, an upstream that fails
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_the_providers_own_bill_to_the_nano() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(12));
    scene.upstream.when("shape-1", Behaviour { prompt_tokens: Some(57), cached_tokens: 31, ..Behaviour::words(7) });
    scene.upstream.when("shape-2", Behaviour { reasoning_tokens: 1, ..Behaviour::words(9) });
    scene.upstream.when("shape-3", Behaviour::words(1));
    scene.upstream.when("call-it", Behaviour { calls_tool: true, ..Behaviour::words(6) });
    // Never opened: these streams are all left by their clients.
    scene.upstream.when("leaving", Behaviour::gated(20, 3, &Gate::new()));
    scene.upstream.when("failing", Behaviour::status(500));
    let (workers, total) = (12, times(1_500, 10_000));
    let calls: Vec<_> = (0..workers)
        .map(|worker| {
            let client = scene.client.clone();
            tokio::spawn(async move {
                let mut dice = Dice::new(u64::try_from(worker).expect("small"));
                let mut tools = 0;
                for _ in 0..total / workers {
                    tools += one(&client, &mut dice).await;
                }
                tools
            })
        })
        .collect();
    let mut tools = 0;
    for call in calls {
        tools += call.await.expect("a worker");
    }
    let rows = scene.rows_once(scene.upstream.calls()).await;
    let (whole, left): (Vec<_>, Vec<_>) = scene.upstream.bills().into_iter().partition(|bill| bill.complete);
    let (estimated, exact): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.estimated);
    let billed: i128 = whole.iter().map(cost).sum();
    assert!(whole.len() > total * 8 / 10 && !left.is_empty() && tools > 0, "a mixed run");
    assert_eq!(exact.iter().map(|row| row.cost).sum::<i128>(), billed, "{} requests", whole.len());
    assert_eq!(estimated.len(), left.len(), "who left has a row that says so");
    assert!(
        estimated.iter().all(|row| row.cost > 0 && row.cost <= row.reserved && row.outcome == "partial"),
        "{estimated:#?}"
    );
    assert!(rows.iter().all(|row| row.held == 0));
    let total = scene.ledger_total();
    assert_eq!(scene.settled().await.posted, total);
    let usage = scene.client.get("/v1/usage").await.ok();
    assert_eq!(usage["total"]["cost_usd"].as_str().map(nanos), Some(total), "{}", usage["total"]);
    assert_eq!(usage["total"]["requests"], json!(rows.len()));
    assert_eq!(usage["total"]["tool_calls"], json!(tools), "{}", usage["total"]);
    let summed: i128 = usage["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| nanos(row["cost_usd"].as_str().expect("a decimal")))
        .sum();
    assert_eq!(summed, total, "the rows add up to the total");
}

/// The cost in the header is the row's cost.
#[tokio::test(flavor = "multi_thread")]
async fn the_cost_header_is_exact() {
    let scene = Scene::new().await;
    for (at, model) in ["alpha", "beta", "odd"].into_iter().enumerate() {
        let reply = scene.client.chat(&chat(model, "what does this cost", 9)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let expected = cost(&scene.upstream.last().bill());
        assert_eq!(reply.header("x-openclawmu-cost-usd").map(nanos), Some(expected), "{model}");
        assert_eq!(reply.header("x-openclawmu-model"), Some(model));
        let rows = scene.rows_once(at + 1).await;
        let row = rows
            .iter()
            .find(|row| reply.header("x-request-id") == Some(row.request_id.as_str()))
            .expect("the row of this request");
        assert_eq!(row.cost, expected);
    }
}

/// M-02; `LiteLLM` 30630, 35958: aborted streams are not billed
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_after_k_chunks_pays_for_input_and_what_was_delivered() {
    let scene = Scene::new().await;
    for chunks in 0..8_usize {
        let gate = Gate::new();
        let marker = format!("leaving-{chunks}");
        scene.upstream.when(&marker, Behaviour::gated(20, chunks, &gate));
        let before = scene.budget().await.posted;
        if chunks == 0 {
            let (client, body) = (scene.client.clone(), chat("alpha", &marker, 20));
            let calls = scene.upstream.calls();
            let call = tokio::spawn(async move { client.stream(&body).await.rest().await });
            until_true("the call upstream", || scene.upstream.calls() > calls).await;
            call.abort();
        } else {
            let mut stream = scene.client.stream(&chat("alpha", &marker, 20)).await;
            stream.texts(chunks).await;
            drop(stream);
        }
        let rows = scene.rows_once(chunks + 1).await;
        let row = rows.last().expect("a row");
        let posted = scene.settled().await.posted - before;
        assert_eq!(posted, row.cost, "k = {chunks}");
        assert!(row.cost + row.held <= row.reserved, "k = {chunks}: {row:?}");
        if chunks > 0 {
            assert!(row.cost > 0 && row.estimated && row.input > 0, "k = {chunks}: {row:?}");
            assert!(row.output >= 1 && row.output <= 20, "k = {chunks}: {row:?}");
        }
        let exchange = scene.upstream.last();
        until_true("the upstream is cut", || exchange.closed_at().is_some()).await;
    }
}

/// M-03
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_upstream_cuts_is_billed_as_delivered_and_flagged() {
    let scene = Scene::new().await;
    for chunks in 1..8_usize {
        let marker = format!("cut-{chunks}");
        scene.upstream.when(&marker, Behaviour { words: 20, ..Behaviour::fault(Fault::CutAfter(chunks)) });
        let mut stream = scene.client.stream(&chat("alpha", &marker, 20)).await;
        let events = stream.rest().await;
        assert!(!events.iter().any(openclawmu_tests::sse::Event::done), "S8-06: {events:?}");
        let row = scene.rows_once(chunks).await.pop().expect("a row");
        assert!(row.cost > 0 && row.estimated && row.cost <= row.reserved, "k = {chunks}: {row:?}");
        assert!(row.output >= 1 && row.output <= 20, "{row:?}");
    }
    scene.balanced().await;
}

/// M-03, cut before any text
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_before_any_text_is_not_billed_for_output() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::fault(Fault::CutAfter(0)));
    let mut body = chat("alpha", "hello", 20);
    body["stream"] = json!(true);
    let reply = scene.client.chat(&body).await;
    assert!(!reply.text().contains("[DONE]"));
    let row = scene.rows_once(1).await.pop().expect("a row");
    assert_eq!(row.output, 0, "{row:?}");
    assert_eq!(scene.settled().await.pending, 0);
}

/// M-04
#[tokio::test(flavor = "multi_thread")]
async fn the_text_of_an_error_event_is_not_billed() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::fault(Fault::ErrorEventAfter(2)));
    let mut stream = scene.client.stream(&chat("alpha", "hello", 60)).await;
    let events = stream.rest().await;
    assert!(!events.iter().any(openclawmu_tests::sse::Event::done), "{events:?}");
    let last = events.last().expect("an event").json();
    assert!(last["error"]["message"].is_string(), "the error reaches the client: {last}");
    let row = scene.rows_once(1).await.pop().expect("a row");
    // "word0 word1 " is at most six tokens in any byte-pair encoding; the error's sentence is more than fifteen.
    assert!(row.output >= 1 && row.output <= 8 && row.estimated, "{row:?}");
}

/// M-06
#[tokio::test(flavor = "multi_thread")]
async fn a_complete_answer_without_usage_is_counted_and_flagged() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour { words: 10, ..Behaviour::fault(Fault::NoUsage) });
    assert_eq!(scene.client.chat(&chat("alpha", "hello there my friend", 40)).await.status, 200);
    let mut stream = scene.client.stream(&chat("alpha", "hello there my friend", 40)).await;
    assert!(stream.rest().await.last().is_some_and(openclawmu_tests::sse::Event::done), "a whole stream ends whole");
    for row in scene.rows_once(2).await {
        assert!(row.estimated, "{row:?}");
        assert!(row.input >= 4 && row.output >= 10 && row.output <= 40, "{row:?}");
        assert!(row.cost > 0 && row.cost <= row.reserved, "{row:?}");
    }
}

/// M-11; `LiteLLM` 9812, 31714, 14849: cached tokens are billed twice
#[tokio::test(flavor = "multi_thread")]
async fn cached_and_reasoning_tokens_have_their_own_price() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour {
        prompt_tokens: Some(1_000),
        cached_tokens: 600,
        reasoning_tokens: 50,
        ..Behaviour::words(20)
    });
    let prompt = "word ".repeat(1_000);
    scene.client.chat(&chat("beta", &prompt, 100)).await.ok();
    scene.client.stream(&chat("beta", &prompt, 100)).await.rest().await;
    // 400 x 1.10 + 600 x 0.275 + 20 x 4.40 + 50 x 6.60, in micro-dollars
    let expected = (400 * 1_100) + (600 * 275) + (20 * 4_400) + (50 * 6_600);
    for row in scene.rows_once(2).await {
        assert_eq!((row.input, row.cache_read, row.output, row.reasoning), (400, 600, 20, 50));
        assert_eq!(row.cost, expected);
    }
    let usage = scene.client.get("/v1/usage").await.ok();
    let total = &usage["total"];
    assert_eq!(
        (total["cache_read_tokens"].as_u64(), total["reasoning_tokens"].as_u64()),
        (Some(1_200), Some(100)),
        "{total}"
    );
}

/// ledger.md: `include_usage` is forced upstream, and the extra chunk goes only to who asked for it; `LiteLLM` 8784: a client
/// that says `include_usage: false` switches metering off
#[tokio::test(flavor = "multi_thread")]
async fn usage_is_always_asked_for_and_shown_only_on_request() {
    let scene = Scene::new().await;
    for (options, shown) in
        [(Value::Null, false), (json!({ "include_usage": false }), false), (json!({ "include_usage": true }), true)]
    {
        let mut body = chat("alpha", "hello", 9);
        if !options.is_null() {
            body["stream_options"] = options;
        }
        let events = scene.client.stream(&body).await.rest().await;
        assert_eq!(scene.upstream.last().json()["stream_options"]["include_usage"], true);
        let chunks: Vec<Value> =
            events.iter().filter(|event| !event.done()).map(openclawmu_tests::sse::Event::json).collect();
        let with_usage = chunks.iter().filter(|chunk| chunk["usage"].is_object()).count();
        assert_eq!(with_usage, usize::from(shown), "{chunks:?}");
        if !shown {
            assert!(
                chunks.iter().all(|chunk| chunk["choices"].as_array().is_some_and(|choices| !choices.is_empty())),
                "{chunks:?}"
            );
        }
        assert!(events.last().is_some_and(openclawmu_tests::sse::Event::done));
    }
    let rows = scene.rows_once(3).await;
    assert!(rows.iter().all(|row| row.cost == rows[0].cost && !row.estimated), "{rows:?}");
}

/// M-07, M-08 as seen from outside: a new price is for new requests, old rows stand
#[tokio::test(flavor = "multi_thread")]
async fn a_price_changed_mid_stream_leaves_the_running_request_at_the_old_one() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.when("slowly", Behaviour::gated(10, 2, &gate));
    let mut stream = scene.client.stream(&chat("flat", "slowly", 10)).await;
    stream.texts(2).await;
    let card = json!({ "effective_from": "2026-01-01T00:00:00Z", "models": { "flat": { "input": "0", "output": "20", "max_output_tokens": 4096 } } });
    let put = scene.admin().send_json(http::Method::PUT, "/v1/rates", &card).await;
    assert!(matches!(put.status, 200 | 201), "{}", put.text());
    gate.open();
    stream.rest().await;
    assert_eq!(scene.rows_once(1).await[0].cost, 100_000, "the admission's price");
    scene.upstream.always(Behaviour::words(10));
    scene.client.chat(&chat("flat", "hi", 10)).await.ok();
    assert_eq!(scene.rows_once(2).await[1].cost, 200_000, "the new price");
}
