//! Tools, parallel calls, schemas and images by the official clients, each toward upstreams of three dialects.

use openclawmu_tests::money::cost;
use openclawmu_tests::{Behaviour, Gateway, Scene, sdk};
use serde_json::{Value, json};

use crate::dialect::Chain;

const TOLD: &str = "I was told sun for Paris and rain for Rome.";
/// What clients send that run the functions themselves.
const TOLD_AS_JSON: &str = r#"I was told {"result":"sun"} for Paris and {"result":"rain"} for Rome."#;
const TOLD_TO_GOOGLE: &str =
    r#"I was told {"name":"weather","content":"sun"} for Paris and {"name":"weather","content":"rain"} for Rome."#;
const SEEN: &str = "I see image/png of 70 bytes.";
const ECHO: &str = "You said: What is the weather in Paris and in Rome?";

fn report() -> Value {
    json!({ "city": "Paris", "degrees": 21 })
}

fn expected() -> Value {
    json!({
        "chat": { "finish": "tool_calls", "whole": TOLD, "stream": TOLD, "none": ECHO, "schema": report(), "image": SEEN },
        "responses": {
            "finish": ["function_call", "function_call"], "whole": TOLD, "stream": TOLD, "schema": report(), "image": SEEN
        },
        "messages": {
            "finish": "tool_use", "whole": TOLD, "stream": TOLD, "none": ECHO, "schema": report(), "image": SEEN
        },
        "google": {
            "finish": "STOP", "whole": TOLD, "stream": TOLD, "automatic": TOLD_AS_JSON, "schema": report(), "image": SEEN
        },
        "langchain": {
            "finish": "tool_calls", "whole": TOLD, "stream": TOLD, "schema": report(), "image": SEEN, "usage": true
        },
    })
}

fn expected_of_node() -> Value {
    let agent = json!({ "whole": TOLD, "stream": TOLD, "schema": report(), "image": SEEN });
    json!({
        "openai": { "finish": "tool_calls", "whole": TOLD, "stream": TOLD, "schema": report(), "image": SEEN },
        "anthropic": { "finish": "tool_use", "whole": TOLD, "stream": TOLD, "schema": report(), "image": SEEN },
        "vercel_chat": agent, "vercel_responses": agent, "vercel_anthropic": agent,
        "vercel_google": { "whole": TOLD_TO_GOOGLE, "stream": TOLD_TO_GOOGLE, "schema": report(), "image": SEEN },
        "errors": {
            "openai": ["NotFoundError", 404], "anthropic": ["AuthenticationError", 401], "vercel": ["AI_APICallError", 401]
        },
    })
}

fn expected_of_litellm() -> Value {
    let agent = json!({ "finish": "tool_calls", "whole": TOLD, "stream": TOLD, "schema": report(), "image": SEEN });
    json!({
        "openai": agent, "anthropic": agent,
        "errors": [["NotFoundError", 404], ["AuthenticationError", 401], ["BadRequestError", 400]],
        "embedding": [4, 2],
    })
}

/// Only the `OpenAI` upstream embeds.
fn without_embedding(mut expected: Value) -> Value {
    expected.as_object_mut().expect("clients").remove("embedding");
    expected
}

async fn node(gateway: &Gateway, token: &str) -> Value {
    let url = format!("http://{}", gateway.edge());
    sdk::run_node("agents.mjs", &[&url, token, "sight"]).await
}

async fn litellm(gateway: &Gateway, token: &str) -> Value {
    let url = format!("http://{}", gateway.edge());
    sdk::run_litellm("agents.py", &[&url, token, "sight", "embed"]).await
}

async fn python(gateway: &Gateway, (token, embedder): (&str, &str)) -> Value {
    let url = format!("http://{}", gateway.edge());
    sdk::run_python("agents.py", &[&url, token, "sight", embedder]).await
}

/// What differs, one client after the other, so that a failure is readable.
fn assert_said(result: &Value, expected: &Value) {
    for (client, said) in expected.as_object().expect("clients") {
        assert_eq!(&result[client], said, "{client}");
    }
}

/// K1, K2: toward an `OpenAI` upstream, each answer billed as the provider bills
#[tokio::test(flavor = "multi_thread")]
async fn the_clients_call_tools_of_an_openai_upstream() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::agent());
    let (gateway, token) = (&scene.gateway, &scene.tenant.token);
    let mut expected = expected();
    expected["chat"]["embedding"] = json!([[0.125, 0.125], 3]);
    expected["langchain"]["embedding"] = json!([4, 4]);
    assert_said(&python(gateway, (token, "embed")).await, &expected);
    assert_said(&node(gateway, token).await, &expected_of_node());
    assert_said(&litellm(gateway, token).await, &expected_of_litellm());
    let billed: i128 = scene.upstream.bills().iter().map(cost).sum();
    assert_eq!(scene.balanced().await.posted, billed);
}

/// K1, K2: toward an upstream that speaks Anthropic's dialect
#[tokio::test(flavor = "multi_thread")]
async fn the_clients_call_tools_of_an_anthropic_upstream() {
    let chain = Chain::of("anthropic", "/v1").await;
    chain.back.upstream.always(Behaviour::agent());
    let token = &chain.tenant.token;
    assert_said(&python(&chain.front, (token, "")).await, &expected());
    assert_said(&node(&chain.front, token).await, &expected_of_node());
    assert_said(&litellm(&chain.front, token).await, &without_embedding(expected_of_litellm()));
}

/// K1, K2: toward an upstream that speaks Google's dialect
#[tokio::test(flavor = "multi_thread")]
async fn the_clients_call_tools_of_a_google_upstream() {
    let chain = Chain::of("gemini", "/v1beta").await;
    chain.back.upstream.always(Behaviour::agent());
    let token = &chain.tenant.token;
    assert_said(&python(&chain.front, (token, "")).await, &self::expected());
    let mut expected = expected_of_node();
    // With a model that it does not know this client asks for a call of one function instead, and for no second one, which can't
    // be asked of Google's models.
    expected["vercel_anthropic"]["schema"] = json!(400);
    assert_said(&node(&chain.front, token).await, &expected);
    assert_said(&litellm(&chain.front, token).await, &without_embedding(expected_of_litellm()));
}
