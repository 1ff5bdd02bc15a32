//! Any client to any upstream: the official clients of three dialects, each toward upstreams of three.
//!
//! An upstream that speaks Anthropic's or Google's dialect is another gateway, whose own upstream is the scripted one: what
//! goes over the wire between the two is what those providers' clients send and read.

use openclawmu_tests::client::chat;
use openclawmu_tests::money::{cost, nanos};
use openclawmu_tests::setup::PROVIDER_KEY_ENV;
use openclawmu_tests::{Behaviour, Fault, Gateway, Scene, Setup, Tenant, sdk};
use serde_json::{Value, json};

const ANSWER: &str = "word0 word1 word2 word3 word4 ";

/// A gateway whose upstream of `kind` is another gateway, whose upstream is scripted.
pub(crate) struct Chain {
    pub(crate) front: Gateway,
    pub(crate) tenant: Tenant,
    pub(crate) back: Scene,
}

impl Chain {
    pub(crate) async fn of(kind: &str, path: &str) -> Self {
        let back = Scene::new().await;
        let upstream = format!(
            "[[upstream]]\nname = \"behind\"\nkind = \"{kind}\"\nbase_url = \"http://{}{path}\"\napi_key = \"env:{PROVIDER_KEY_ENV}\"\nmodels = [\"alpha\", \"sight\"]\n",
            back.gateway.edge()
        );
        let mut setup = Setup::bare().line(&upstream);
        setup.env = vec![(PROVIDER_KEY_ENV.to_owned(), back.tenant.token.clone())];
        let front = Gateway::start(setup).await;
        let tenant = front.admin().tenant("acme", json!({ "usd_per_day": "1000" })).await;
        Self { front, tenant, back }
    }
}

pub(crate) async fn clients(gateway: &Gateway, token: &str) -> Value {
    let url = format!("http://{}", gateway.edge());
    sdk::run_python("dialects.py", &[&url, token, "alpha"]).await
}

pub(crate) fn assert_good(result: &Value, finish: [&str; 3]) {
    for (name, finish) in ["openai", "anthropic", "google"].into_iter().zip(finish) {
        let said = &result[name];
        assert_eq!(said["text"], ANSWER, "{name}: {said}");
        assert_eq!(said["stream"], ANSWER, "{name}: {said}");
        assert_eq!((&said["finish"], &said["stream_finish"]), (&json!(finish), &json!([finish])), "{name}: {said}");
        assert_eq!((&said["usage"], &said["stream_usage"]), (&json!([3, 5]), &json!([[3, 5]])), "{name}: {said}");
    }
    assert_eq!(result["openai"]["unknown"], json!(["NotFoundError", 404, true]));
    assert_eq!(result["openai"]["bad"], json!(["BadRequestError", 400, true]));
    assert_eq!(result["anthropic"]["unknown"], json!(["NotFoundError", 404, true]));
    assert_eq!(result["anthropic"]["bad"], json!(["BadRequestError", 400, true]));
    assert_eq!(result["anthropic"]["stranger"], json!(["AuthenticationError", 401, true]));
    assert_eq!(result["anthropic"]["counted"], true);
    assert_eq!(result["google"]["unknown"], json!(["ClientError", 404, true]));
}

/// K1, K2: each official client toward an `OpenAI` upstream
#[tokio::test(flavor = "multi_thread")]
async fn the_official_clients_reach_an_openai_upstream_and_each_answer_is_billed_as_the_provider_bills() {
    let scene = Scene::new().await;
    let result = clients(&scene.gateway, &scene.tenant.token).await;
    assert_good(&result, ["stop", "end_turn", "STOP"]);
    let billed: i128 = scene.upstream.bills().iter().map(cost).sum();
    assert_eq!(scene.balanced().await.posted, billed);
    assert_eq!(scene.upstream.calls(), 6, "what was refused went nowhere");
}

/// K1, K2: each official client toward an upstream that speaks Anthropic's dialect
#[tokio::test(flavor = "multi_thread")]
async fn the_official_clients_reach_an_anthropic_upstream() {
    let chain = Chain::of("anthropic", "/v1").await;
    assert_good(&clients(&chain.front, &chain.tenant.token).await, ["stop", "end_turn", "STOP"]);
    let (front, back) = (chain.front.admin().settled("acme").await.posted, chain.back.settled().await.posted);
    assert!(front > 0 && front == back, "both bill the same: {front}, {back}");
}

/// K1, K2: each official client toward an upstream that speaks Google's dialect
#[tokio::test(flavor = "multi_thread")]
async fn the_official_clients_reach_a_google_upstream() {
    let chain = Chain::of("gemini", "/v1beta").await;
    assert_good(&clients(&chain.front, &chain.tenant.token).await, ["stop", "end_turn", "STOP"]);
    let (front, back) = (chain.front.admin().settled("acme").await.posted, chain.back.settled().await.posted);
    assert!(front > 0 && front == back, "both bill the same: {front}, {back}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_the_target_can_not_be_asked_for_is_400_and_nothing_is_reserved() {
    let chain = Chain::of("anthropic", "/v1").await;
    let client = chain.front.client(&chain.tenant.token);
    let mut body = chat("alpha", "hello", 10);
    body["n"] = json!(2);
    let reply = client.chat(&body).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(reply.json()["error"]["param"], "n", "{}", reply.text());
    assert_eq!(chain.back.upstream.calls(), 0);
    let budget = chain.front.admin().budget("acme", "usd_per_day").await;
    assert_eq!((budget.posted, budget.pending), (0, 0));
}

/// S8-06 over a translation: what broke off never looks whole
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_ends_with_an_error_in_the_callers_dialect() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::fault(Fault::CutAfter(2)));
    let body = json!({ "model": "alpha", "max_tokens": 10, "stream": true, "messages": [{ "role": "user", "content": "hello" }] });
    let reply = scene.client.post("/v1/messages", &body).await;
    let text = reply.text();
    assert_eq!(reply.status, 200);
    assert!(text.contains("event: error") && !text.contains("message_stop"), "{text}");
    assert!(reply.header("request-id").is_some());
    let google = json!({ "contents": [{ "role": "user", "parts": [{ "text": "hello" }] }], "generationConfig": { "maxOutputTokens": 10 } });
    let reply = scene.client.post("/v1beta/models/alpha:streamGenerateContent?alt=sse", &google).await;
    let text = reply.text();
    assert!(text.contains("\"error\"") && !text.contains("finishReason\":\"STOP"), "{text}");
    let budget = scene.settled().await;
    assert!(budget.posted > 0 && budget.held == 0, "what was delivered is billed");
}

/// An upstream's refusal is told in the caller's dialect
#[tokio::test(flavor = "multi_thread")]
async fn an_upstreams_refusal_reaches_the_caller_in_its_own_dialect() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::fault(Fault::Status { code: 429, retry_after: Some(7) }));
    let body = json!({ "model": "alpha", "max_tokens": 10, "messages": [{ "role": "user", "content": "hello" }] });
    let reply = scene.client.post("/v1/messages", &body).await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("7")), "{}", reply.text());
    assert_eq!(reply.json()["error"]["type"], "rate_limit_error", "{}", reply.text());
    let spent = scene.admin().tenant("spent", json!({ "usd_per_day": "0.000001" })).await;
    let reply = scene.gateway.client(&spent.token).post("/v1/messages", &body).await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.json()["type"], "error", "{}", reply.text());
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    assert_eq!(scene.settled().await.posted, 0);
}

/// M-05, M-10: rows of every dialect are in the same reports
#[tokio::test(flavor = "multi_thread")]
async fn every_dialects_requests_are_in_the_report() {
    let scene = Scene::new().await;
    let messages = json!([{ "role": "user", "content": "hello" }]);
    let anthropic =
        json!({ "model": "alpha", "max_tokens": 10, "metadata": { "user_id": "ann" }, "messages": messages });
    assert_eq!(scene.client.post("/v1/messages", &anthropic).await.status, 200);
    assert_eq!(scene.client.chat(&chat("alpha", "hello", 10)).await.status, 200);
    scene.rows_once(2).await;
    let usage = scene.admin().get("/v1/tenants/acme/usage?group_by=user").await;
    let users: Vec<&str> =
        usage["rows"].as_array().expect("rows").iter().filter_map(|row| row["user"].as_str()).collect();
    assert_eq!(users, ["", "ann"], "{usage}");
    assert_eq!(usage["total"]["cost_usd"].as_str().map(nanos), Some(scene.ledger_total()));
}
