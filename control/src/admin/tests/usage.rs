//! Usage and reports: exact, and the same in every form.

use axum::body::Body;
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION};
use openclawmu_store::NanoUsd;
use serde_json::json;

use crate::admin::tests::scene::{Answer, KEY, Scene, request};

async fn accepting(scene: &Scene, path: &str, accept: &str) -> Answer {
    let request = request(Method::GET, path).header(AUTHORIZATION, format!("Bearer {KEY}")).header(ACCEPT, accept);
    scene.send(request.body(Body::empty()).unwrap()).await
}

const COLUMNS: &str = "period_start,period_end,tenant,tenant_name,model,upstream,token,requests,input_tokens,cache_read_tokens,cache_write_tokens,\
output_tokens,reasoning_tokens,tool_calls,sandbox_seconds,storage_byte_days,rate_card,estimated_rows,cost_usd";

/// Three calls of two models, and what they cost together.
async fn billed() -> (Scene, NanoUsd) {
    let scene = Scene::new().await;
    let mut sum = NanoUsd::ZERO;
    for (number, model) in (1..).zip(["m", "m", "@cf/meta/llama"]) {
        sum = sum.saturating_add(scene.bill(model, number).await);
    }
    assert_eq!(sum.to_string(), "0.012000000");
    (scene, sum)
}

#[tokio::test]
async fn usage_is_grouped_by_what_was_asked_for() {
    let (scene, _) = billed().await;
    let usage = scene.get("/v1/tenants/acme/usage?group_by=model").await.json();
    assert_eq!((&usage["total"]["cost_usd"], &usage["total"]["requests"]), (&json!("0.012000000"), &json!(3)));
    let models: Vec<&str> = usage["rows"].as_array().unwrap().iter().filter_map(|row| row["model"].as_str()).collect();
    assert_eq!(models, ["@cf/meta/llama", "m"]);
    let rows = scene.get("/v1/tenants/acme/usage").await.json()["rows"].clone();
    assert_eq!((&rows[0]["day"], &rows[0]["token"]), (&json!("2026-11-22"), &json!(scene.token_id())));
    let quota = scene.get("/v1/tenants/acme/quota").await.json();
    assert_eq!(quota["usd_per_day"]["posted"], "0.012000000");
}

#[tokio::test]
async fn csv_and_json_agree_to_the_nano() {
    let (scene, sum) = billed().await;
    let csv = scene.get("/v1/reports/usage?period=2026-11&format=csv").await;
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    let mut lines = csv.text.lines();
    assert_eq!(lines.next(), Some(COLUMNS));
    let costs: NanoUsd = lines.map(|line| line.rsplit(',').next().unwrap().parse::<NanoUsd>().unwrap()).sum();
    assert_eq!(costs, sum);
    assert!(csv.text.contains(",'@cf/meta/llama,"), "a spreadsheet must not run it: {}", csv.text);

    let report = scene.get("/v1/reports/usage?period=2026-11&tenant=acme").await.json();
    assert_eq!(
        (&report["total"]["cost_usd"], &report["total"]["requests"], &report["total"]["input_tokens"]),
        (&json!("0.012000000"), &json!(3), &json!(3_000))
    );
    assert_eq!(report["rows"][0]["model"], "@cf/meta/llama", "a program gets the name as it is");
}

#[tokio::test]
async fn a_name_that_looks_guarded_is_a_programs_name_as_it_is() {
    let scene = Scene::new().await;
    scene.bill("'=sum(a1)", 1).await;
    let report = scene.get("/v1/reports/usage?period=2026-11").await.json();
    assert_eq!(report["rows"][0]["model"], "'=sum(a1)");
}

#[tokio::test]
async fn usage_is_csv_where_the_caller_accepts_that_first() {
    let scene = Scene::new().await;
    let path = "/v1/tenants/acme/usage";
    for (accept, is_csv) in [
        ("text/csv", true),
        ("text/csv; q=0.9, application/json", true),
        ("application/json, text/csv", false),
        ("*/*", false),
        ("text/html", false),
    ] {
        let answer = accepting(&scene, path, accept).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text.starts_with(COLUMNS), is_csv, "{accept}: {}", answer.text);
    }
}

#[tokio::test]
async fn an_empty_report_has_its_zeros() {
    let scene = Scene::new().await;
    let report = scene.get("/v1/reports/usage?period=2026-10").await.json();
    assert_eq!(
        (&report["rows"], &report["total"]["cost_usd"], &report["total"]["output_tokens"]),
        (&json!([]), &json!("0.000000000"), &json!(0))
    );
    assert_eq!(
        (&report["from"], &report["to"]),
        (&json!("2026-10-01T00:00:00.000Z"), &json!("2026-11-01T00:00:00.000Z"))
    );
    assert_eq!(scene.get("/v1/reports/usage?period=2026-10&tenant=nobody").await.refused(404), "not_found");
    assert_eq!(scene.get("/v1/tenants/nobody/usage").await.refused(404), "not_found");
}

#[tokio::test]
async fn a_bound_by_date_is_the_tenants_midnight() {
    let scene = Scene::new().await;
    let zone = json!({"timezone": "Pacific/Auckland"});
    assert_eq!(scene.call(Method::PATCH, "/v1/tenants/acme", Some(&zone)).await.status, 200);
    scene.bill("m", 1).await;
    // 2026-11-22T12:00Z is 01:00 of the 23rd in Auckland.
    for (query, requests) in [
        ("from=2026-11-23&to=2026-11-24", 1),
        ("from=2026-11-22&to=2026-11-23", 0),
        ("from=2026-11-22T00:00:00Z&to=2026-11-23T00:00:00Z", 1),
    ] {
        let usage = scene.get(&format!("/v1/tenants/acme/usage?{query}")).await.json();
        assert_eq!(usage["total"]["requests"], requests, "{query}");
    }
}
