//! The gateway's own keys are rotated while it serves, and after a crash at any step everything still opens.

use std::path::Path;

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::{Gateway, Scene};
use serde_json::{Value, json};

const OWN_KEY: &str = "sk-own-canary-rotated-1f0e";

fn sent_key(scene: &Scene) -> String {
    scene.upstream.last().header("authorization").unwrap_or_default().to_owned()
}

async fn set_own_key(scene: &Scene) {
    let path = "/v1/tenants/acme/provider_keys/scripted";
    scene.admin().send_json(Method::PUT, path, &json!({ "api_key": OWN_KEY })).await.ok();
}

/// A request with the tenant's own key.
async fn uses_its_own_key(scene: &Scene, when: &str) {
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    assert_eq!(sent_key(scene), format!("Bearer {OWN_KEY}"), "{when}");
}

fn master_keys(data: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(data.join("master.key")).expect("master.key");
    text.lines().map(str::to_owned).collect()
}

/// Every sealed text in the database that the key of this id sealed.
fn sealed_with(data: &Path, kid: &str) -> usize {
    let bytes: Vec<u8> =
        (0..kid.len()).step_by(2).map(|at| u8::from_str_radix(&kid[at..at + 2], 16).unwrap()).collect();
    let mark = [b"ocm1".as_slice(), &bytes].concat();
    let connection = rusqlite::Connection::open(data.join("openclawmu.db")).expect("the database");
    let mut tables = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut found = 0;
    for table in tables {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                let value = row.get_ref(column).unwrap();
                let sealed = value.as_bytes().is_ok_and(|bytes| bytes.starts_with(&mark));
                found += usize::from(sealed);
            }
        }
    }
    found
}

async fn keyed_tenant(gateway: &Gateway) -> Value {
    let request = gateway.admin().build(Method::POST, "/v1/tenants").header("idempotency-key", "kept-over-a-rotation");
    let reply =
        openclawmu_tests::Reply::of(request.json(&json!({ "id": "once" })).send().await.expect("an answer")).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_is_rotated_while_requests_run_and_nothing_that_was_sealed_is_lost() {
    let mut scene = Scene::new().await;
    set_own_key(&scene).await;
    let first = keyed_tenant(&scene.gateway).await;
    let before = scene.gateway.cli(&["keys", "list", "--json"]).await.json();
    let old = before["master"][0].as_str().expect("an id").to_owned();
    assert_eq!(sealed_with(&scene.gateway.data(), &old), 2, "a provider key and an answer");
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let client = scene.client.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    client.chat(&chat("alpha", "hello", 5)).await.ok();
                }
            })
        })
        .collect();
    let rotated = scene.gateway.cli(&["keys", "rotate", "--json"]).await.json();
    for task in busy {
        task.await.expect("no request failed");
    }
    assert_eq!(
        (&rotated["resealed"], &rotated["unreadable"], &rotated["resumed"]),
        (&json!(2), &json!(0), &json!(false))
    );
    assert_eq!(rotated["retired"], json!([old]));
    let data = scene.gateway.data();
    assert_eq!(master_keys(&data).len(), 1, "the old key is gone");
    assert_eq!(sealed_with(&data, &old), 0, "nothing needs it");
    assert_eq!(sealed_with(&data, rotated["kid"].as_str().expect("an id")), 2);
    uses_its_own_key(&scene, "after the rotation").await;
    assert_eq!(keyed_tenant(&scene.gateway).await, first, "a kept answer still opens");
    scene.gateway.terminate().await;
    scene.restarted().await;
    uses_its_own_key(&scene, "after a restart").await;
    assert_eq!(keyed_tenant(&scene.gateway).await, first);
    assert!(!scene.gateway.stderr().contains(OWN_KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_cut_opens_everything_and_is_ended_by_the_next() {
    let mut scene = Scene::new().await;
    set_own_key(&scene).await;
    scene.gateway.kill_9();
    // What a crash leaves after the first step: a new key before the old one, and nothing sealed with it yet.
    let data = scene.gateway.data();
    let old = master_keys(&data).remove(0);
    let new = "5a".repeat(32);
    std::fs::write(data.join("master.key"), format!("{new}\n{old}\n")).expect("two keys");
    scene.restarted().await;
    uses_its_own_key(&scene, "with two keys").await;
    let listed = scene.admin().get("/v1/keys").await;
    assert_eq!(listed["master"].as_array().map(Vec::len), Some(2), "{listed}");
    let ended = scene.gateway.cli(&["keys", "rotate", "--json"]).await.json();
    assert_eq!((&ended["resumed"], &ended["resealed"], &ended["kid"]), (&json!(true), &json!(1), &listed["master"][0]));
    assert_eq!(master_keys(&data), [new]);
    scene.gateway.kill_9();
    scene.restarted().await;
    uses_its_own_key(&scene, "after the end").await;
    assert!(scene.gateway.cli(&["keys", "rotate"]).await.ok().contains("1 values were sealed anew"));
    uses_its_own_key(&scene, "after one more").await;
}

/// a pepper that is rotated locks nobody out
#[tokio::test(flavor = "multi_thread")]
async fn the_pepper_is_rotated_for_new_tokens_and_old_ones_go_on() {
    let mut scene = Scene::new().await;
    let (_, old) = scene.admin().mint("acme", &json!({ "name": "old" })).await;
    let before = scene.admin().get("/v1/keys").await["pepper"].clone();
    let rotated = scene.gateway.cli(&["keys", "rotate", "pepper", "--json"]).await.json();
    let (_, new) = scene.admin().mint("acme", &json!({ "name": "new" })).await;
    let after = scene.admin().get("/v1/keys").await["pepper"].clone();
    assert_eq!((&after[0], &after[1]), (&rotated["kid"], &before[0]));
    for token in [&old, &new, &scene.tenant.token] {
        scene.client.with_token(token).get("/v1/quota").await.ok();
    }
    scene.gateway.terminate().await;
    scene.restarted().await;
    for token in [&old, &new] {
        scene.client.with_token(token).get("/v1/quota").await.ok();
    }
    assert!(scene.gateway.cli(&["keys", "rotate", "pepper"]).await.status.success());
    scene.client.with_token(&old).get("/v1/quota").await.ok();
    // With no live token that the oldest key hashed, the next rotation removes it.
    for token in scene.admin().get("/v1/tenants/acme/tokens").await["data"].as_array().expect("tokens") {
        if token["name"] != "new" {
            scene.admin().revoke("acme", token["id"].as_str().expect("an id")).await;
        }
    }
    let last = scene.gateway.cli(&["keys", "rotate", "pepper", "--json"]).await.json();
    assert_eq!(last["retired"], json!([before[0]]));
    scene.client.with_token(&new).get("/v1/quota").await.ok();
    scene.client.with_token(&old).get("/v1/quota").await.refused(401, "invalid_request_error", "invalid_api_key");
}
