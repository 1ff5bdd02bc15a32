//! Whom and what a request was for stands on its row, whatever becomes of the process.

use openclawmu_tests::client::chat;
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Behaviour, Gate, Scene, ledger};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn user_metadata_and_tags_are_on_the_row_and_the_header_goes_no_further() {
    let scene = Scene::new().await;
    let mut body = chat("flat", "hello", 10);
    body["user"] = json!("ann");
    body["metadata"] = json!({ "team": "blue", "tags": ["night"] });
    let reply = scene
        .client
        .build(http::Method::POST, "/v1/chat/completions")
        .header("x-openclawmu-tags", "batch, =cmd()")
        .json(&body)
        .send()
        .await
        .expect("an answer");
    assert_eq!(reply.status(), 200);
    assert_eq!(scene.client.chat(&chat("flat", "hello", 10)).await.status, 200);
    let sent = scene.upstream.exchanges();
    assert_eq!(sent[0].header("x-openclawmu-tags"), None);
    assert_eq!((&sent[0].json()["user"], &sent[0].json()["metadata"]), (&body["user"], &body["metadata"]));
    scene.rows_once(2).await;
    let labels = ledger::labels(&scene.gateway.data(), "acme");
    assert_eq!(labels, [("ann".to_owned(), "=cmd()|batch|night|team=blue".to_owned()), (String::new(), String::new())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_process_was_killed_keeps_its_label() {
    let mut scene = Scene::new().await;
    scene.gateway.leave_unsettled();
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(5, 2, &gate));
    let mut body = chat("flat", "hello", 10);
    body["user"] = json!("ann");
    body["stream"] = json!(true);
    let mut stream = scene.client.stream(&body).await;
    assert!(stream.next().await.is_some(), "it has begun");
    // The label is committed within moments of the admission; the row is not there until the end.
    until_true("the label is stored", || ledger::count(&scene.gateway.data(), "labels") == 1).await;
    scene.gateway.kill_9();
    gate.open();
    scene.gateway.restart().await;
    let rows = scene.rows_once(1).await;
    assert_eq!(rows[0].outcome, "recovered");
    assert_eq!(ledger::labels(&scene.gateway.data(), "acme"), [("ann".to_owned(), String::new())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_users_at_once_are_each_on_their_own_row() {
    let scene = Scene::new().await;
    let calls = (0..200).map(|n| {
        let client = scene.client.clone();
        tokio::spawn(async move {
            let mut body = chat("flat", "hello", 10);
            body["user"] = json!(format!("user-{}", n % 50));
            client.chat(&body).await.status
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.expect("a call"), 200);
    }
    scene.rows_once(200).await;
    let mut users: Vec<String> =
        ledger::labels(&scene.gateway.data(), "acme").into_iter().map(|(user, _)| user).collect();
    users.sort();
    let mut expected: Vec<String> = (0..200).map(|n| format!("user-{}", n % 50)).collect();
    expected.sort();
    assert_eq!(users, expected);
}
