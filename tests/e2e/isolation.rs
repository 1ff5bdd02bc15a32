//! One tenant's token opens nothing of another's, and learns nothing of it.

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::{Behaviour, Scene};
use serde_json::json;

/// I-01, for the routes that exist
#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_token_sees_and_spends_only_its_own() {
    let scene = Scene::new().await;
    let other = scene.admin().tenant("rival", json!({ "usd_per_day": "7" })).await;
    let rival = scene.client.with_token(&other.token);
    scene.upstream.always(Behaviour::words(10));
    scene.client.chat(&chat("flat", "canary-of-acme", 10)).await.ok();
    scene.rows_once(1).await;
    let quota = rival.get("/v1/quota").await.ok();
    let budget = openclawmu_tests::admin::budget_of(&quota, "usd_per_day");
    assert_eq!((budget.cap, budget.posted), (Some(7_000_000_000), 0), "{quota}");
    let usage = rival.get("/v1/usage").await.ok();
    assert_eq!(usage["rows"], json!([]), "{usage}");
    for query in ["tenant=acme", "tenant_id=acme", "token=*", "group_by=token", "group_by=model,token"] {
        let reply = rival.get(&format!("/v1/usage?{query}")).await;
        assert!(matches!(reply.status, 200 | 400), "{query}: {}", reply.text());
        assert!(
            !reply.text().contains("flat")
                && !reply.text().contains("acme")
                && !reply.text().contains(&scene.tenant.token_id),
            "{query}: {}",
            reply.text()
        );
    }
    for (name, value) in [
        ("x-openclawmu-tenant", "acme"),
        ("x-tenant-id", "acme"),
        ("openai-organization", "acme"),
        ("cookie", "tenant=acme"),
    ] {
        let reply = rival.build(Method::GET, "/v1/quota").header(name, value).send().await.expect("an answer");
        assert_eq!(
            openclawmu_tests::Reply::of(reply).await.ok()["usd_per_day"]["cap"],
            quota["usd_per_day"]["cap"],
            "{name}"
        );
    }
    for path in [
        "/v1/tenants/acme",
        "/v1/tenants/acme/quota",
        "/v1/tenants/rival",
        "/v1/tenants/acme/usage",
        "/v1/tenants/acme/tokens",
    ] {
        let reply = rival.get(path).await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
        assert!(!reply.text().contains("acme") || path.contains("acme"), "{path}");
    }
    rival.chat(&chat("flat", "hello", 10)).await.ok();
    assert_eq!(scene.settled().await.posted, 100_000, "a rival's request is not on acme's bill");
}

/// I-01 on the admin side: ids of one tenant under another's path
#[tokio::test(flavor = "multi_thread")]
async fn a_token_id_under_another_tenants_path_is_404_and_stays() {
    let scene = Scene::new().await;
    let other = scene.admin().tenant("rival", json!({})).await;
    let foreign = format!("/v1/tenants/acme/tokens/{}", other.token_id);
    assert_eq!(scene.admin().send(Method::DELETE, &foreign).await.status, 404);
    assert_eq!(scene.admin().post(&format!("{foreign}/rotate"), &json!({})).await.status, 404);
    scene.client.with_token(&other.token).get("/v1/quota").await.ok();
    let listed = scene.admin().get("/v1/tenants/acme/tokens").await.to_string();
    assert!(listed.contains(&scene.tenant.token_id) && !listed.contains(&other.token_id), "{listed}");
    for nobody in ["nobody", "ACME", "acme%20", "acme%2f..%2frival", "%61cme%00"] {
        let reply = scene.admin().send(Method::GET, &format!("/v1/tenants/{nobody}")).await;
        assert!(matches!(reply.status, 400 | 404), "{nobody}: {} {}", reply.status, reply.text());
    }
}

/// A tenant's model list, and a token's within it
#[tokio::test(flavor = "multi_thread")]
async fn allow_lists_bound_what_is_listed_and_what_is_called() {
    let scene = Scene::new().await;
    let tenant = scene.admin().tenant_of(json!({ "id": "narrow", "models": ["alpha", "b*"] })).await;
    let client = scene.client.with_token(&tenant.token);
    client.chat(&chat("alpha", "hello", 5)).await.ok();
    client.chat(&chat("beta", "hello", 5)).await.ok();
    client.chat(&chat("odd", "hello", 5)).await.refused(403, "permission_error", "model_not_allowed");
    let listed = client.get("/v1/models").await.ok();
    let mut ids: Vec<&str> =
        listed["data"].as_array().expect("data").iter().map(|model| model["id"].as_str().expect("an id")).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["alpha", "beta"], "{listed}");
    assert_eq!(client.get("/v1/models/odd").await.status, 404, "what may not be called isn't there");
    assert_eq!(client.get("/v1/models/alpha").await.ok()["id"], "alpha");
    let (_, narrower) = scene.admin().mint("narrow", &json!({ "models": ["beta", "odd"] })).await;
    let narrower = scene.client.with_token(&narrower);
    narrower.chat(&chat("beta", "hello", 5)).await.ok();
    narrower.chat(&chat("odd", "hello", 5)).await.refused(403, "permission_error", "model_not_allowed");
    narrower.chat(&chat("alpha", "hello", 5)).await.refused(403, "permission_error", "model_not_allowed");
}
