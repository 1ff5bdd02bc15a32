//! K1: the official OpenAI clients for Python and Node, unmodified, with nothing but the base URL and the key changed.

use openclawmu_tests::{Behaviour, Fault, Scene, Tenant, Upstream, sdk};
use serde_json::{Value, json};

const ANSWER: &str = "word0 word1 word2 word3 word4 ";

struct Cast {
    scene: Scene,
    spent: Tenant,
    narrow: String,
    limited: Tenant,
}

async fn cast() -> Cast {
    let scene = Scene::new().await;
    let spent = scene.admin().tenant("spent", json!({ "usd_per_day": "0.000001" })).await;
    let limited = scene.admin().tenant("limited", json!({ "requests_per_minute": 30 })).await;
    let (_, narrow) = scene.admin().mint(&scene.tenant.id, &json!({ "models": ["alpha"] })).await;
    scene.upstream.when("please-fail-500", Behaviour::status(500));
    scene.upstream.when("please-break", Behaviour::fault(Fault::CutAfter(2)));
    Cast { scene, spent, narrow, limited }
}

impl Cast {
    fn arguments(&self, mode: &str) -> [String; 6] {
        let base = format!("http://{}/v1", self.scene.gateway.edge());
        [
            base,
            self.scene.tenant.token.clone(),
            self.spent.token.clone(),
            self.narrow.clone(),
            self.limited.token.clone(),
            mode.to_owned(),
        ]
    }
}

/// Answers the first request of this kind with a rate limit, later ones well.
fn limit_once(scene: &Scene) {
    scene.upstream.when_once("please-limit-once", Behaviour::fault(Fault::Status { code: 429, retry_after: Some(1) }));
}

fn assert_error(error: &Value, class: &str, status: u16, code: &str) {
    assert_eq!(
        (&error["class"], &error["status"], &error["code"]),
        (&json!(class), &json!(status), &json!(code)),
        "{error}"
    );
    assert_eq!((&error["has_message"], &error["request_id"]), (&json!(true), &json!(true)), "{error}");
}

fn assert_good_answers(result: &Value) {
    assert_eq!(
        result["chat"],
        json!({ "text": ANSWER, "finish": "stop", "prompt": 1, "completion": 5, "request_id": true })
    );
    assert_eq!(result["stream"], json!({ "text": ANSWER, "usage_chunks": 0, "finish": "stop" }));
    assert_eq!(result["stream_with_usage"], json!({ "usage_chunks": 1, "total": 6, "choices_of_last": 0 }));
    assert_eq!(
        result["embeddings"],
        json!({ "vectors": [[0.125, -0.5, 0.75, 0.25], [0.125, -0.5, 0.75, 1.25]], "prompt": 2 })
    );
    assert_eq!(result["completion"]["text"], ANSWER);
}

async fn assert_result(cast: &Cast, result: &Value) {
    assert_good_answers(result);
    assert_eq!(result["model"], "alpha");
    let models = result["models"].as_array().expect("a list");
    for model in ["alpha", "beta", "embed", "instruct"] {
        assert!(models.contains(&json!(model)), "{model} in {models:?}");
    }
    let errors = &result["errors"];
    assert_error(&errors["no_token"], "AuthenticationError", 401, "invalid_api_key");
    assert_error(&errors["forbidden_model"], "PermissionDeniedError", 403, "model_not_allowed");
    assert_error(&errors["unknown_model"], "NotFoundError", 404, "model_not_found");
    assert_eq!(errors["bad_request"]["class"], "BadRequestError", "{errors}");
    assert_eq!(errors["upstream_down"]["class"], "InternalServerError", "{errors}");
    assert_eq!(errors["broken_stream"]["class"], "APIError", "a broken stream raises: {errors}");
    assert_eq!(result["retried"], ANSWER, "an upstream's rate limit is retried");
    let calls = cast
        .scene
        .upstream
        .exchanges()
        .iter()
        .filter(|exchange| String::from_utf8_lossy(&exchange.body).contains("please-limit-once"))
        .count();
    assert_eq!(calls, 2, "once refused, once served");
    assert_eq!(
        result["limited"].as_array().map(Vec::len),
        Some(32),
        "more than the rate allows at once, all answered in the end"
    );
    let refused = cast.scene.admin().metric("openclawmu_requests_total", &["status=\"429\""]).await;
    assert!(refused >= 1, "the rate limit was met, and retried");
}

/// The two calls on a spent budget reach the gateway once each: the client is told not to retry.
async fn assert_asked_once(cast: &Cast, result: &Value) {
    for call in ["whole", "stream"] {
        assert_error(&result[call], "RateLimitError", 429, "insufficient_quota");
        assert_eq!(result[call]["type"], "insufficient_quota");
    }
    assert_eq!(
        cast.scene.admin().metric("openclawmu_requests_total", &["status=\"429\""]).await,
        2,
        "one answer for each call"
    );
    assert_eq!(cast.scene.upstream.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_python_client_works_unmodified() {
    let cast = cast().await;
    limit_once(&cast.scene);
    let arguments = cast.arguments("all");
    let result = sdk::run_python("openai_client.py", &arguments.each_ref().map(String::as_str)).await;
    assert_result(&cast, &result).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_node_client_works_unmodified() {
    let cast = cast().await;
    limit_once(&cast.scene);
    let arguments = cast.arguments("all");
    let result = sdk::run_node("openai_client.mjs", &arguments.each_ref().map(String::as_str)).await;
    assert_result(&cast, &result).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_budget_is_answered_once_and_not_retried_by_either_client() {
    for node in [false, true] {
        let cast = cast().await;
        let arguments = cast.arguments("spent");
        let arguments = arguments.each_ref().map(String::as_str);
        let result = if node {
            sdk::run_node("openai_client.mjs", &arguments).await
        } else {
            sdk::run_python("openai_client.py", &arguments).await
        };
        assert_asked_once(&cast, &result).await;
    }
}

/// Without a gateway between: what the clients make of the scripted upstream is what they make of the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn both_clients_understand_the_scripted_upstream_itself() {
    let upstream = Upstream::start().await;
    let arguments = [upstream.base_url().as_str(), "any", "any", "any", "any", "wire"].map(str::to_owned);
    let arguments = arguments.each_ref().map(String::as_str);
    assert_good_answers(&sdk::run_python("openai_client.py", &arguments).await);
    assert_good_answers(&sdk::run_node("openai_client.mjs", &arguments).await);
}
