//! What Prometheus reads: every part is counted, agrees with the ledger, and has few series unless the operator wants more.

use std::collections::BTreeSet;

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::gateway::free_address;
use openclawmu_tests::wait::until;
use openclawmu_tests::{Behaviour, Scene, Setup, Upstream};
use serde_json::json;

async fn text(scene: &Scene) -> String {
    let reply = scene.admin().send(Method::GET, "/metrics").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text()
}

/// The value of one series, by its exact name and labels.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_is_counted_and_money_and_tokens_are_the_ledgers() {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).upstream("gone", free_address(), &[], &["connect_timeout_ms = 500"]);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000", "concurrent_requests": 5 })).await;
    scene.upstream.always(Behaviour::words(7));
    for model in ["alpha", "odd", "odd"] {
        scene.client.chat(&chat(model, "hello", 20)).await.ok();
    }
    for _ in 0..3 {
        scene.client.chat(&chat("gone/alpha", "hello", 20)).await.refused(
            502,
            "upstream_error",
            "upstream_unreachable",
        );
    }
    scene.admin().patch("acme", &json!({ "quota": { "usd_per_day": "0.000001" } })).await;
    scene.client.chat(&chat("alpha", "hello", 20)).await.refused(429, "insufficient_quota", "insufficient_quota");
    let rows = scene.rows_once(6).await;
    let text = until("the last request is counted", || async {
        let text = text(&scene).await;
        let counted = value(&text, "openclawmu_requests_total{route=\"/v1/chat/completions\",status=\"429\"}");
        counted.map(|_| text)
    })
    .await;
    let at = |series: &str| value(&text, series).unwrap_or_else(|| panic!("{series} in {text}"));
    assert_eq!(at("openclawmu_requests_total{route=\"/v1/chat/completions\",status=\"200\"}"), 3.0);
    assert_eq!(at("openclawmu_request_duration_seconds_count{route=\"/v1/chat/completions\"}"), 7.0);
    assert_eq!(at("openclawmu_upstream_requests_total{upstream=\"scripted\",outcome=\"Complete\"}"), 3.0);
    assert_eq!(at("openclawmu_upstream_requests_total{upstream=\"gone\",outcome=\"Failed\"}"), 3.0);
    assert_eq!(at("openclawmu_upstream_first_byte_seconds_count{upstream=\"scripted\"}"), 3.0);
    assert_eq!(at("openclawmu_upstream_resting_models{upstream=\"scripted\"}"), 0.0);
    assert_eq!(at("openclawmu_upstream_in_flight{upstream=\"scripted\"}"), 0.0);
    assert_eq!(at("openclawmu_quota_refusals_total{reason=\"usd_per_day\"}"), 1.0);
    let odd = "{upstream=\"scripted\",model=\"odd\"";
    let cost: i128 = rows.iter().map(|row| row.cost).sum();
    let told = ["alpha", "odd"]
        .map(|model| at(&format!("openclawmu_model_cost_nano_usd_total{{upstream=\"scripted\",model=\"{model}\"}}")));
    assert_eq!(told.iter().sum::<f64>(), cost as f64);
    assert_eq!(at(&format!("openclawmu_model_requests_total{odd}}}")), 2.0);
    let output: u64 = rows.iter().map(|row| row.output).sum();
    let told = ["alpha", "odd"].map(|model| {
        at(&format!("openclawmu_model_tokens_total{{upstream=\"scripted\",model=\"{model}\",kind=\"output\"}}"))
    });
    assert_eq!(told.iter().sum::<f64>(), output as f64);
    for (series, least) in [
        ("openclawmu_ready", 1.0),
        ("openclawmu_store_healthy", 1.0),
        ("openclawmu_store_writer_queue", 0.0),
        ("openclawmu_store_commit_seconds_count", 1.0),
        ("openclawmu_store_commit_failures_total", 0.0),
        ("openclawmu_store_log_bytes", 0.0),
        ("openclawmu_requests_in_flight", 0.0),
        ("openclawmu_in_flight", 0.0),
        ("openclawmu_edge_connections", 1.0),
        ("process_cpu_seconds_total", 0.001),
        ("process_resident_memory_bytes", 1e6),
        ("process_open_fds", 10.0),
        ("process_max_fds", 100.0),
        ("process_start_time_seconds", 1.7e9),
    ] {
        assert!(at(series) >= least, "{series}: {}", at(series));
    }
    assert!(text.contains("openclawmu_build_info{version=\""), "{text}");
    assert!(text.ends_with("# EOF\n"), "the text has an end, by OpenMetrics");
    assert!(!text.contains("acme"), "no series names a tenant: {text}");
}

/// A tenant can't make series by inventing names: unknown models and routes have none of their own
#[tokio::test(flavor = "multi_thread")]
async fn names_that_clients_invent_make_no_series() {
    let scene = Scene::new().await;
    let series = |text: &str| text.lines().map(|line| line.split(' ').next().unwrap_or("").to_owned()).collect();
    let ask = async |number: usize| {
        scene.client.chat(&chat(&format!("made-up-{number}"), "hello", 5)).await;
        scene.client.get(&format!("/v1/made-up-{number}")).await;
        scene.client.get(&format!("/v1/models/made-up-{number}")).await;
    };
    ask(0).await;
    let counted = |count: u64| {
        let scene = &scene;
        async move {
            until("all are counted", || async {
                let seen = scene.admin().metric("openclawmu_requests_total", &["route=\"/v1/models/*\""]).await;
                (seen == count).then_some(())
            })
            .await;
        }
    };
    counted(1).await;
    let before: BTreeSet<String> = series(&text(&scene).await);
    for number in 1..20 {
        ask(number).await;
    }
    counted(20).await;
    let after: BTreeSet<String> = series(&text(&scene).await);
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_have_series_only_where_the_operator_wants_that_and_as_many() {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).line("[metrics]\ntenants = 1");
    let scene = Scene::of(upstream, setup, json!({})).await;
    scene.upstream.always(Behaviour::words(3));
    let second = scene.admin().tenant("umbrella", json!({})).await;
    scene.client.chat(&chat("flat", "hello", 5)).await.ok();
    for _ in 0..2 {
        scene.client.with_token(&second.token).chat(&chat("flat", "hello", 5)).await.ok();
    }
    let text = text(&scene).await;
    let cost = |tenant: &str| value(&text, &format!("openclawmu_tenant_cost_nano_usd_total{{tenant=\"{tenant}\"}}"));
    assert_eq!((cost("acme"), cost("other")), (Some(30_000.0), Some(60_000.0)), "{text}");
    assert_eq!(value(&text, "openclawmu_tenant_tokens_total{tenant=\"other\",kind=\"output\"}"), Some(6.0));
    assert!(!text.contains("umbrella"), "{text}");
}
