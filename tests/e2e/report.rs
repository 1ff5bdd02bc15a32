//! What the operator reads: reports and metrics agree with the ledger.

use http::Method;
use openclawmu_tests::Scene;
use openclawmu_tests::client::chat;
use openclawmu_tests::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn reports_agree_with_each_other_to_the_nano() {
    let scene = Scene::new().await;
    for model in ["alpha", "odd", "odd"] {
        scene.client.chat(&chat(model, "hello there", 7)).await.ok();
    }
    scene.rows_once(3).await;
    let total = scene.ledger_total();
    let usage = scene.admin().get("/v1/tenants/acme/usage?group_by=model").await;
    assert_eq!(usage["total"]["cost_usd"].as_str().map(openclawmu_tests::money::nanos), Some(total), "{usage}");
    let day = scene.client.get("/v1/usage").await.ok()["rows"][0]["day"].as_str().expect("a day").to_owned();
    let csv = scene.admin().send(Method::GET, &format!("/v1/reports/usage?period={}&format=csv", &day[..7])).await;
    assert_eq!(csv.status, 200, "{}", csv.text());
    let text = csv.text();
    let summed: i128 =
        text.lines().skip(1).filter_map(|line| line.rsplit(',').next()).map(openclawmu_tests::money::nanos).sum();
    assert_eq!(summed, total, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_requests_and_upstream_calls() {
    let scene = Scene::new().await;
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    scene.client.with_token("nobody").get("/v1/quota").await.refused(401, "invalid_request_error", "invalid_api_key");
    until("the counters", || async {
        let admin = scene.admin();
        let good = admin.metric("openclawmu_requests_total", &["status=\"200\""]).await;
        let refused = admin.metric("openclawmu_requests_total", &["status=\"401\""]).await;
        let upstream = admin.metric("openclawmu_upstream_requests_total", &["upstream=\"scripted\""]).await;
        (good >= 1 && refused >= 1 && upstream == 1).then_some(())
    })
    .await;
}
