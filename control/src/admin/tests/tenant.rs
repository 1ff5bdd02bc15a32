//! Tenants, tokens and rates: what a change changes, and what is answered.

use http::Method;
use serde_json::{Value, json};

use crate::admin::tests::scene::{HERE, Scene};

async fn patch(scene: &Scene, body: Value) -> Value {
    let answer = scene.call(Method::PATCH, "/v1/tenants/acme", Some(&body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let tenant = answer.json();
    assert_eq!(scene.get("/v1/tenants/acme").await.json(), tenant, "the answer is what is in effect");
    tenant
}

#[tokio::test]
async fn a_new_tenant_is_answered_with_its_policy_and_its_token() {
    let scene = Scene::new().await;
    let quota = json!({"usd_per_day": "50", "tokens_per_day": 5_000_000, "on_tight_budget": "reject"});
    let answer = scene.post("/v1/tenants", &json!({"id": "shop", "quota": quota, "models": ["gpt-*"], "metadata": {"tier": "gold"}, "timezone": "Europe/Berlin"})).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let made = answer.json();
    assert_eq!(made["tenant"]["quota"], quota);
    assert_eq!((&made["tenant"]["name"], &made["tenant"]["status"]), (&json!("shop"), &json!("active")));
    let value = made["token"]["value"].as_str().unwrap();
    assert!(value.starts_with("tk_shop_") && value.contains(made["token"]["id"].as_str().unwrap()), "{value}");
    assert!(scene.store.authenticate(value, HERE).is_ok());
    for path in ["/v1/tenants/shop", "/v1/tenants", "/v1/tenants/shop/tokens"] {
        assert!(!scene.get(path).await.text.contains(value), "a secret is shown once: {path}");
    }
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_null_takes_away() {
    let scene = Scene::new().await;
    patch(
        &scene,
        json!({"quota": {"usd_per_day": "50", "tokens_per_day": 7}, "models": ["a"], "metadata": {"x": 1, "y": 2}}),
    )
    .await;
    let tenant = patch(&scene, json!({"quota": {"usd_per_day": "80"}, "metadata": {"x": null}})).await;
    assert_eq!(tenant["quota"], json!({"usd_per_day": "80", "tokens_per_day": 7, "on_tight_budget": "reject"}));
    assert_eq!(
        (&tenant["models"], &tenant["metadata"], &tenant["name"]),
        (&json!(["a"]), &json!({"y": 2}), &json!("Acme"))
    );
    let tenant = patch(&scene, json!({"quota": {"usd_per_day": null}, "models": null})).await;
    assert_eq!(tenant["quota"], json!({"tokens_per_day": 7, "on_tight_budget": "reject"}));
    assert_eq!(tenant["models"], Value::Null);
    assert_eq!(patch(&scene, json!({"status": "suspended"})).await["status"], "suspended");
    assert_eq!(patch(&scene, json!({})).await["status"], "suspended", "an empty patch changes nothing");
}

#[tokio::test]
async fn a_deletion_needs_the_id_twice_and_is_final() {
    let scene = Scene::new().await;
    for path in [
        "/v1/tenants/acme",
        "/v1/tenants/acme?confirm=",
        "/v1/tenants/acme?confirm=true",
        "/v1/tenants/acme?confirm=other",
    ] {
        assert_eq!(scene.call(Method::DELETE, path, None).await.refused(400), "confirmation_needed", "{path}");
    }
    assert!(scene.store.authenticate(&scene.token, HERE).is_ok());
    assert_eq!(
        scene.call(Method::DELETE, "/v1/tenants/acme?confirm=acme", None).await.json(),
        json!({"id": "acme", "deleted": true})
    );
    assert!(scene.store.authenticate(&scene.token, HERE).is_err());
    assert_eq!(scene.get("/v1/tenants/acme").await.status, 404);
    assert_eq!(scene.post("/v1/tenants", &json!({"id": "acme"})).await.refused(409), "conflict");
    assert_eq!(scene.get("/v1/tenants/acme/usage").await.status, 200, "its ledger is kept");
}

/// P-01, P-07
#[tokio::test]
async fn an_id_that_cant_exist_does_not_exist() {
    let scene = Scene::new().await;
    for id in ["..", "%2e%2e", "%252e", "a%00b", "a%2fb", "%ff%fe", "ACME", "acm%D0%B5", "a'--", &"x".repeat(300)] {
        for path in [
            format!("/v1/tenants/{id}"),
            format!("/v1/tenants/{id}/quota"),
            format!("/v1/tenants/{id}/tokens"),
            format!("/v1/tenants/{id}/usage"),
        ] {
            assert_eq!(scene.get(&path).await.refused(404), "not_found", "{path}");
        }
        assert_eq!(
            scene.call(Method::DELETE, &format!("/v1/tenants/acme/tokens/{id}"), None).await.status,
            404,
            "{id}"
        );
    }
    assert_eq!(scene.post("/v1/tenants", &json!({"id": "rival"})).await.status, 201);
    let foreign = format!("/v1/tenants/rival/tokens/{}", scene.token_id());
    assert_eq!(scene.call(Method::DELETE, &foreign, None).await.refused(404), "not_found", "another tenant's token");
    assert!(scene.store.authenticate(&scene.token, HERE).is_ok());
}

#[tokio::test]
async fn a_rotated_token_goes_on_for_its_grace_and_a_revoked_one_not_at_all() {
    let scene = Scene::new().await;
    let rotated = scene
        .post(&format!("/v1/tenants/acme/tokens/{}/rotate", scene.token_id()), &json!({"grace_seconds": 60}))
        .await;
    assert_eq!(rotated.status, 201, "{}", rotated.text);
    let next = rotated.json();
    assert_eq!(next["rotated_from"], scene.token_id());
    let value = next["value"].as_str().unwrap();
    assert!(scene.store.authenticate(&scene.token, HERE).is_ok() && scene.store.authenticate(value, HERE).is_ok());
    let revoked =
        scene.call(Method::DELETE, &format!("/v1/tenants/acme/tokens/{}", next["id"].as_str().unwrap()), None).await;
    assert!(revoked.json()["revoked_at"].is_string(), "{}", revoked.text);
    assert!(scene.store.authenticate(value, HERE).is_err());
}

#[tokio::test]
async fn rates_are_versions_and_a_model_has_the_price_of_its_instant() {
    let scene = Scene::new().await;
    let put = async |body: Value| scene.call(Method::PUT, "/v1/rates", Some(&body)).await;
    let first = put(json!({"effective_from": "2026-01-01T00:00:00Z", "models": {"m": {"input": "1", "output": "2"}, "old-*": {"input": "9"}}})).await;
    assert_eq!((first.status.as_u16(), &first.json()["version"]), (200, &json!(1)), "{}", first.text);
    assert_eq!(first.json()["effective_from"], "2026-11-22T12:00:00.000Z", "the past takes effect now");
    assert_eq!(
        put(json!({"effective_from": "2026-12-01T00:00:00Z", "models": {"m": {"input": "3"}, "old-*": null}}))
            .await
            .status,
        200
    );
    let listed = scene.get("/v1/rates").await.json();
    assert_eq!(
        listed["models"]["m"],
        json!({"input": "1.000000000", "output": "2.000000000", "rate_card": 1, "source": "operator"})
    );
    assert_eq!(scene.get("/v1/rates?model=m").await.json()["price"]["input"], "1.000000000");
    let december = scene.get("/v1/rates?model=m&at=2026-12-01T00:00:00Z").await.json();
    assert_eq!((&december["price"]["input"], &december["rate_card"]), (&json!("3.000000000"), &json!(2)));
    assert_eq!(scene.get("/v1/rates?model=old-one").await.status, 200);
    assert_eq!(scene.get("/v1/rates?model=old-one&at=2026-12-01T00:00:00Z").await.refused(404), "not_found");
    assert_eq!(scene.get("/v1/rates?model=nobody").await.refused(404), "not_found");
}
