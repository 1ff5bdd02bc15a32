//! The admin API's document: served, dumped, and true.

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::{Scene, sdk};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served_with_and_without_the_key_and_dumped_by_the_command_line() {
    let scene = Scene::new().await;
    let served = scene.admin().get("/openapi.json").await;
    assert!(served["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", served["openapi"]);
    assert!(served["paths"]["/v1/tenants"]["post"].is_object());
    let open = scene.admin().with_key("").send(Method::GET, "/openapi.json").await;
    assert_eq!(open.ok(), served);
    assert_eq!(scene.gateway.cli(&["openapi"]).await.json(), served);
    let page = scene.admin().with_key("").send(Method::GET, "/docs/index.html").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("swagger-ui-bundle.js"), "{}", page.text());
    let bundle = scene.admin().with_key("").send(Method::GET, "/docs/swagger-ui-bundle.js").await;
    assert!(bundle.status == 200 && bundle.text().len() > 100_000, "it comes from the program itself");
}

/// What the document allows is never answered with an error of the server's, and each answer is as the document says.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_the_document_says() {
    let scene = Scene::new().await;
    let admin = scene.admin();
    for id in ["one", "two"] {
        let tenant = admin.tenant(id, json!({ "usd_per_day": "5", "requests_per_minute": 60 })).await;
        scene.gateway.client(&tenant.token).chat(&chat("alpha", "hello", 5)).await.ok();
    }
    admin.mint("one", &json!({ "name": "second", "scopes": ["usage"], "allowed_ips": ["10.0.0.0/8"] })).await;
    let credit = admin.post("/v1/tenants/one/credits", &json!({ "amount_usd": "0.001", "reason": "sorry" })).await;
    assert_eq!(credit.status, 201, "{}", credit.text());
    let key = json!({ "api_key": "sk-own" });
    admin.send_json(Method::PUT, "/v1/tenants/two/provider_keys/scripted", &key).await.ok();

    let url = format!("http://{}", scene.gateway.admin_address());
    let run = sdk::run_schemathesis("openapi.py", &[&url, scene.gateway.key()]).await;
    assert_eq!(run["exit"], 0, "{}", run["output"].as_str().unwrap_or_default());
    let after = admin.tenant("after", json!({ "usd_per_day": "5" })).await;
    scene.gateway.client(&after.token).chat(&chat("alpha", "still there", 5)).await.ok();
}
