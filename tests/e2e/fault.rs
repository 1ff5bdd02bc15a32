//! Whatever the upstream does, a reservation resolves: pending returns to zero and the rows say what happened.

use std::sync::Arc;
use std::time::Duration;

use openclawmu_tests::client::chat;
use openclawmu_tests::dice::Dice;
use openclawmu_tests::gateway::free_address;
use openclawmu_tests::{Behaviour, Fault, Pace, Scene, Setup, Upstream, times};
use serde_json::json;

const SHORT: [&str; 3] = ["connect_timeout_ms = 500", "first_byte_timeout_ms = 400", "idle_timeout_ms = 400"];

fn streamed(message: &str) -> serde_json::Value {
    let mut body = chat("alpha", message, 20);
    body["stream"] = json!(true);
    body
}

/// Q-06, M-05
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_error_is_passed_on_or_named_and_costs_nothing() {
    let scene = Scene::with_keys(&SHORT).await;
    let cases =
        [(400, 400), (401, 502), (403, 502), (404, 404), (422, 422), (429, 429), (500, 502), (502, 502), (503, 502)];
    for (count, (upstream, expected)) in cases.into_iter().enumerate() {
        for body in [chat("alpha", "hello", 20), streamed("hello")] {
            scene.upstream.always(Behaviour::status(upstream));
            let reply = scene.client.chat(&body).await;
            let passed_on = [expected, upstream];
            assert!(passed_on.contains(&reply.status), "upstream's {upstream}: {} {}", reply.status, reply.text());
            assert!(!reply.openai_error().0.is_empty(), "{}", reply.text());
            let leaked = upstream == 401 && reply.status == 401;
            assert!(
                !leaked,
                "the upstream's refusal of the gateway's own key is not the tenant's 401: {}",
                reply.text()
            );
        }
        let budget = scene.settled().await;
        assert_eq!((budget.posted, budget.held), (0, 0), "after {upstream} ({count})");
    }
    // Each attempt is a row, which comes to the disk a moment after it counts.
    let rows = scene.rows_once(cases.len() * 2).await;
    assert!(rows.iter().all(|row| row.cost == 0 && row.input == 0 && row.output == 0), "{rows:#?}");
}

/// M-05, refused connection
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_refuses_connections_is_502_with_a_row_of_zero() {
    let upstream = Upstream::start().await;
    let setup = Setup::bare().upstream("gone", free_address(), &["alpha"], &SHORT);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "5" })).await;
    let reply = scene.client.chat(&chat("alpha", "hello", 20)).await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert_eq!(reply.openai_error().0, "upstream_error");
    let budget = scene.settled().await;
    assert_eq!((budget.posted, budget.held), (0, 0));
    assert_eq!(scene.rows_once(1).await[0].cost, 0);
}

/// Q-06, time-outs
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_upstream_is_504_and_nothing_stays_pending() {
    let scene = Scene::with_keys(&SHORT).await;
    scene.upstream.always(Behaviour::fault(Fault::Silent));
    for body in [chat("alpha", "hello", 20), streamed("hello")] {
        let reply = scene.client.chat(&body).await;
        assert_eq!(reply.status, 504, "{}", reply.text());
        assert_eq!(reply.openai_error().0, "upstream_error");
    }
    let budget = scene.settled().await;
    assert_eq!(budget.pending, 0);
    let exchange = scene.upstream.last();
    openclawmu_tests::wait::until_true("the upstream's connection is closed", || exchange.closed_at().is_some()).await;
}

/// Q-06, a 200 that is none
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_json_is_502() {
    let scene = Scene::with_keys(&SHORT).await;
    scene.upstream.always(Behaviour::fault(Fault::InvalidJson));
    let reply = scene.client.chat(&chat("alpha", "hello", 20)).await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert_eq!(reply.openai_error().0, "upstream_error");
    assert_eq!(scene.settled().await.pending, 0);
}

/// Bytes of chunked framing behind the last event: once that is out, what a client sees is whole.
const FRAMING: usize = "\r\n0\r\n\r\n".len();

/// Q-06, a hang-up at each byte of the answer, stream and not
#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_at_any_byte_leaves_nothing_pending_and_never_looks_whole() {
    let scene = Scene::with_keys(&SHORT).await;
    scene.upstream.always(Behaviour::words(2));
    for stream in [false, true] {
        let body = if stream { streamed("hello") } else { chat("alpha", "hello", 20) };
        scene.upstream.always(Behaviour::words(2));
        scene.client.chat(&body).await;
        let whole = usize::try_from(scene.upstream.last().bytes_sent()).expect("small");
        let step = times(7, 1);
        for at in (0..whole).step_by(step) {
            scene.upstream.always(Behaviour { words: 2, ..Behaviour::fault(Fault::HangUpAtByte(at)) });
            let Ok(reply) = scene.client.try_post("/v1/chat/completions", &body).await else {
                continue;
            };
            let text = reply.text();
            if stream && reply.status == 200 {
                let ends_well = text.contains("[DONE]");
                assert!(!ends_well || at + FRAMING >= whole, "cut at {at} of {whole} looked whole: {text}");
            } else {
                assert!(matches!(reply.status, 502 | 504), "cut at {at} of {whole}: {} {text}", reply.status);
            }
        }
    }
    scene.balanced().await;
}

/// 1,000 faults in a soak run, else 300
#[tokio::test(flavor = "multi_thread")]
async fn after_random_faults_and_silence_nothing_is_pending_and_posted_is_the_sum_of_rows() {
    let scene = Scene::with_keys(&SHORT).await;
    let faults = Arc::new(vec![
        Fault::None,
        Fault::Status { code: 401, retry_after: None },
        Fault::Status { code: 429, retry_after: Some(1) },
        Fault::Status { code: 500, retry_after: None },
        Fault::Status { code: 503, retry_after: Some(1) },
        Fault::InvalidJson,
        Fault::NoUsage,
        Fault::ErrorEventAfter(2),
        Fault::StallAfter(1),
        Fault::CutAfter(3),
        Fault::HangUpAtByte(300),
        Fault::Silent,
    ]);
    for (number, fault) in faults.iter().enumerate() {
        scene.upstream.when(&format!("fault-{number:02}"), Behaviour::fault(fault.clone()));
    }
    scene.upstream.when("bytewise", Behaviour { pace: Pace::EachByte, ..Behaviour::default() });
    let seed = 7;
    let each = times(300, 1_000) / 10;
    let workers: Vec<_> = (0..10_u64)
        .map(|worker| {
            let (client, faults) = (scene.client.clone(), Arc::clone(&faults));
            tokio::spawn(async move {
                let mut dice = Dice::new(seed + worker);
                for _ in 0..each {
                    let message = format!("please fault-{:02}", dice.below(faults.len()));
                    let body = if dice.below(2) == 0 { streamed(&message) } else { chat("alpha", &message, 20) };
                    let impatient = dice.below(5) == 0;
                    let call = client.try_post("/v1/chat/completions", &body);
                    if impatient {
                        let patience = Duration::from_millis(u64::try_from(dice.below(60)).expect("small"));
                        drop(tokio::time::timeout(patience, call).await);
                    } else if let Ok(reply) = call.await {
                        assert_ne!(reply.status, 500, "never the gateway's own fault: {}", reply.text());
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker");
    }
    let budget = scene.balanced().await;
    assert_eq!((budget.pending, budget.held), (0, 0), "seed {seed}");
    assert_eq!(scene.client.chat(&chat("alpha", "and now a good one", 20)).await.status, 200);
}
