//! A tenant's end: its files, keys and tokens are gone, what it used is not, and its id is nobody's.

use std::fs;

use http::Method;
use openclawmu_tests::Scene;
use openclawmu_tests::client::chat;
use serde_json::json;

/// I-06: with the answer to its deletion a tenant's files, provider keys and tokens are gone; ledger and audit rows stay; the
/// id is never given again; a neighbour notices nothing.
#[tokio::test(flavor = "multi_thread")]
async fn i_06_a_deleted_tenants_files_and_keys_are_gone_and_its_ledger_and_id_stay() {
    let scene = Scene::new().await;
    let neighbour = scene.admin().tenant("acme-2", json!({})).await;
    let put = scene
        .admin()
        .send_json(Method::PUT, "/v1/tenants/acme/provider_keys/scripted", &json!({"api_key": "sk-own"}))
        .await;
    assert_eq!(put.status, 200, "{}", put.text());
    scene.client.chat(&chat("odd", "hello", 10)).await.ok();
    scene.rows_once(1).await;
    let tenants = scene.gateway.data().join("tenants");
    for id in ["acme", "acme-2"] {
        fs::create_dir_all(tenants.join(id).join("workspace/a/b")).expect("a directory");
        fs::write(tenants.join(id).join("workspace/a/b/file"), "canary").expect("a file");
        std::os::unix::fs::symlink("/etc", tenants.join(id).join("workspace/link")).expect("a link");
    }
    let unconfirmed = scene.admin().send(Method::DELETE, "/v1/tenants/acme").await;
    assert_eq!(unconfirmed.status, 400);
    assert!(tenants.join("acme").exists());
    let gone = scene.admin().send(Method::DELETE, "/v1/tenants/acme?confirm=acme").await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert!(!tenants.join("acme").exists());
    assert!(tenants.join("acme-2/workspace/a/b/file").exists() && std::path::Path::new("/etc/passwd").exists());
    assert_eq!(scene.client.get("/v1/usage").await.status, 401);
    assert_eq!(scene.gateway.client(&neighbour.token).chat(&chat("odd", "hello", 10)).await.status, 200);
    assert_eq!(scene.rows().len(), 1, "what it used stays");
    let keys = openclawmu_tests::ledger::count(&scene.gateway.data(), "provider_keys");
    assert_eq!(keys, 0);
    let again = scene.admin().post("/v1/tenants", &json!({"id": "acme"})).await;
    assert_eq!(again.status, 409, "{}", again.text());
}
