//! N-08: a POST that is sent again.

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request};
use openclawmu_store::{Clock, TenantId};
use serde_json::{Value, json};

use crate::admin::tests::scene::{Answer, KEY, Scene, request, state_of};

fn keyed(path: &str, key: &str, body: &Value) -> Request<Body> {
    let request = request(Method::POST, path)
        .header(AUTHORIZATION, format!("Bearer {KEY}"))
        .header(CONTENT_TYPE, "application/json");
    request.header("idempotency-key", key).body(Body::from(body.to_string())).unwrap()
}

async fn post(scene: &Scene, path: &str, key: &str, body: &Value) -> Answer {
    scene.send(keyed(path, key, body)).await
}

fn live_tokens(scene: &Scene, tenant: &str) -> usize {
    let tenant: TenantId = tenant.parse().unwrap();
    scene.store.tokens(&tenant, None, 100).unwrap().iter().filter(|token| token.revoked_at.is_none()).count()
}

#[tokio::test]
async fn the_same_key_and_body_get_the_same_answer_secret_and_all() {
    let scene = Scene::new().await;
    let tokens = "/v1/tenants/acme/tokens".to_owned();
    let rotate = format!("/v1/tenants/acme/tokens/{}/rotate", scene.token_id());
    for (key, path, body) in [
        ("one", &"/v1/tenants".to_owned(), json!({"id": "once"})),
        ("two", &tokens, json!({"name": "n"})),
        ("three", &rotate, json!({})),
        ("four", &"/v1/rates/import".to_owned(), json!({"prices": {"models": {"m": {"input": "1"}}}})),
    ] {
        let first = post(&scene, path, key, &body).await;
        assert_eq!((first.status.as_u16(), first.header("idempotent-replayed")), (201, None), "{}", first.text);
        let again = post(&scene, path, key, &body).await;
        assert_eq!((again.status.as_u16(), &again.text), (201, &first.text));
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.header("content-type"), first.header("content-type"));
    }
    assert_eq!((live_tokens(&scene, "once"), live_tokens(&scene, "acme")), (1, 2), "each was done once");
}

#[tokio::test]
async fn another_body_or_path_under_the_same_key_is_422_and_not_done() {
    let scene = Scene::new().await;
    assert_eq!(post(&scene, "/v1/tenants", "k", &json!({"id": "once"})).await.status, 201);
    assert_eq!(post(&scene, "/v1/tenants", "k", &json!({"id": "twice"})).await.refused(422), "idempotency_key_reused");
    assert_eq!(
        post(&scene, "/v1/tenants/acme/tokens", "k", &json!({"id": "once"})).await.status,
        400,
        "what no body may hold is refused first"
    );
    assert_eq!(post(&scene, "/v1/tenants/acme/tokens", "k", &json!({})).await.refused(422), "idempotency_key_reused");
    assert_eq!(scene.get("/v1/tenants/twice").await.status, 404);
    assert_eq!(live_tokens(&scene, "acme"), 1);
}

#[tokio::test]
async fn of_many_at_once_one_is_done_and_all_hear_of_it() {
    let scene = Scene::new().await;
    let body = json!({"id": "raced"});
    let calls: Vec<_> = (0..16).map(|_| post(&scene, "/v1/tenants", "a-race", &body)).collect();
    let mut texts = std::collections::BTreeSet::new();
    for answer in join_all(calls).await {
        assert_eq!(answer.status, 201, "{}", answer.text);
        texts.insert(answer.text);
    }
    assert_eq!((texts.len(), live_tokens(&scene, "raced")), (1, 1));
}

/// Polls them all until all are done.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |context| {
        for (future, done) in waiting.iter_mut().filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(output) = future.as_mut().poll(context) {
                *done = Some(output);
            }
        }
        if waiting.iter().any(|(_, done)| done.is_none()) {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(waiting.iter_mut().filter_map(|(_, done)| done.take()).collect())
    })
    .await
}

#[tokio::test]
async fn a_failed_call_leaves_its_key_free() {
    let scene = Scene::new().await;
    assert_eq!(post(&scene, "/v1/tenants", "k", &json!({"id": "acme"})).await.refused(409), "conflict");
    assert_eq!(post(&scene, "/v1/tenants", "k", &json!({"id": "free"})).await.status, 201);
}

#[tokio::test]
async fn a_kept_answer_is_sealed_and_ends_after_a_day() {
    let scene = Scene::new().await;
    let first = post(&scene, "/v1/tenants", "k", &json!({"id": "sealed"})).await;
    let secret = first.json()["token"]["value"].as_str().unwrap().to_owned();
    scene.store.flush().await.unwrap();
    for entry in std::fs::read_dir(scene.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let tail = &secret.as_bytes()[secret.len() - 40..];
            assert!(!bytes.windows(tail.len()).any(|window| window == tail), "{}", path.display());
        }
    }
    scene.clock.set(scene.clock.now().plus_ms(24 * 60 * 60 * 1000));
    assert_eq!(post(&scene, "/v1/tenants", "k", &json!({"id": "sealed"})).await.refused(409), "conflict");
}

#[tokio::test]
async fn without_the_master_key_the_answer_is_lost_and_said_so() {
    let mut scene = Scene::new().await;
    assert_eq!(post(&scene, "/v1/tenants", "k", &json!({"id": "sealed"})).await.status, 201);
    std::fs::remove_file(scene.dir.path().join("master.key")).unwrap();
    scene.app = crate::admin::router(state_of(&scene.store));
    assert_eq!(post(&scene, "/v1/tenants", "k", &json!({"id": "sealed"})).await.refused(409), "answer_lost");
}

#[tokio::test]
async fn a_key_is_one_of_1_to_255_visible_characters() {
    let scene = Scene::new().await;
    for bad in ["", " ", "a b", "é", &"x".repeat(256)] {
        post(&scene, "/v1/tenants", bad, &json!({})).await.refused(400);
    }
    let mut two = keyed("/v1/tenants", "one", &json!({}));
    two.headers_mut().append("idempotency-key", "two".parse().unwrap());
    scene.send(two).await.refused(400);
    assert_eq!(post(&scene, "/v1/tenants", &"x".repeat(255), &json!({})).await.status, 201);
}
