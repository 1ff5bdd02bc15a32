//! A tenant's end: its files, keys and tokens are gone, what it used is not, and its id is nobody's.

use std::fs;

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::socket::{Ended, Socket};
use openclawmu_tests::sse::Event;
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Behaviour, Gate, Scene};
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

/// I-06: what is under way when its tenant is deleted ends, is cut off at the provider and is billed, however it came: a stream,
/// a WebSocket, an answer in the background. A neighbour's goes on to its end.
#[tokio::test(flavor = "multi_thread")]
async fn i_06_a_deleted_tenants_streams_sockets_and_background_work_end_and_are_billed() {
    let scene = Scene::new().await;
    let neighbour = scene.admin().tenant("acme-2", json!({})).await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(6, 3, &gate));
    let mut doomed = scene.client.stream(&chat("alpha", "hello", 9)).await;
    assert_eq!(doomed.texts(3).await.len(), 3);
    let create = json!({ "type": "response.create", "model": "alpha", "input": "hello", "max_output_tokens": 9 });
    let mut socket = Socket::open(scene.gateway.edge(), "/v1/responses", &scene.tenant.token).await;
    socket.send(&create).await;
    socket.event("response.output_text.delta").await;
    let mut idle = Socket::open(scene.gateway.edge(), "/v1/responses", &scene.tenant.token).await;
    let body = json!({ "model": "alpha", "input": "hello", "max_output_tokens": 9, "background": true });
    let kept = scene.client.post("/v1/responses", &body).await.ok();
    assert!(["queued", "in_progress"].contains(&kept["status"].as_str().expect("a status")), "{kept}");
    until_true("the provider works on all three", || scene.upstream.calls() == 3).await;
    let of_tenant = scene.upstream.calls();
    let mut other = scene.gateway.client(&neighbour.token).stream(&chat("alpha", "hello", 9)).await;
    assert_eq!(other.texts(3).await.len(), 3);

    let gone = scene.admin().send(Method::DELETE, "/v1/tenants/acme?confirm=acme").await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert!(!doomed.rest().await.iter().any(Event::done), "no proper end");
    let (events, ended) = socket.rest().await;
    assert!(events.iter().all(|event| event["type"] != "response.completed"), "{events:#?}");
    assert_eq!(ended, Ended::Closed(1008));
    assert_eq!(idle.rest().await.1, Ended::Closed(1008), "one on which nothing is under way, too");
    until_true("the provider's connections are cut", || {
        scene.upstream.exchanges().iter().take(of_tenant).all(|call| call.closed_at().is_some())
    })
    .await;
    let rows = scene.rows_once(3).await;
    assert!(rows.iter().all(|row| row.cost > 0 && row.estimated && row.outcome == "partial"), "{rows:#?}");
    assert!(!scene.gateway.data().join("tenants/acme").exists(), "nothing is written there again");

    gate.open();
    assert!(other.rest().await.last().is_some_and(Event::done), "the neighbour's stream goes on");
}
