//! The configuration: shown, and read again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::Method;
use serde_json::json;

use crate::admin::router;
use crate::admin::tests::scene::Scene;
use crate::reload::Prepared;

/// N-02
#[tokio::test]
async fn the_configuration_is_read_and_never_written() {
    let scene = Scene::new().await;
    assert_eq!(scene.get("/v1/config").await.json()["edge"]["listen"], "127.0.0.1:8080");
    for method in [Method::PUT, Method::POST, Method::PATCH, Method::DELETE] {
        assert_eq!(scene.call(method, "/v1/config", Some(&json!({}))).await.refused(405), "method_not_allowed");
    }
}

#[tokio::test]
async fn a_configuration_is_in_force_once_it_is_on_record_and_a_refused_one_never() {
    let mut scene = Scene::new().await;
    let applied = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&applied);
    scene.state.hooks.reread = Arc::new(move || {
        let count = Arc::clone(&count);
        let apply = Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        Ok(Prepared { changed: vec!["upstream.x".to_owned()], needs_restart: Vec::new(), apply })
    });
    scene.app = router(scene.state.clone());
    let done = scene.post("/v1/config/reload", &json!({})).await;
    assert_eq!((done.status.as_u16(), done.json()), (201, json!({"changed": ["upstream.x"], "needs_restart": []})));
    assert_eq!(applied.load(Ordering::SeqCst), 1);
    assert_eq!(scene.post("/v1/config/reload", &json!({"file": "/etc/passwd"})).await.status, 400);
    scene.store.close();
    assert_eq!(scene.post("/v1/config/reload", &json!({})).await.refused(503), "store_unavailable");
    assert_eq!(applied.load(Ordering::SeqCst), 1, "what can't be put on record is not done");
}

#[tokio::test]
async fn the_reason_of_a_refusal_is_told() {
    let mut scene = Scene::new().await;
    scene.state.hooks.reread = Arc::new(|| Err("upstream.x: no such kind".to_owned()));
    scene.app = router(scene.state.clone());
    let refused = scene.post("/v1/config/reload", &json!({})).await;
    assert_eq!(refused.refused(400), "invalid_config");
    assert!(refused.text.contains("no such kind") && refused.text.contains("nothing was changed"), "{}", refused.text);
}
