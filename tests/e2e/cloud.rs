//! Providers whose address, signature or frames are their own: Amazon's Bedrock, Azure, Google's Vertex.

use openclawmu_tests::amazon::{self, ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY};
use openclawmu_tests::canned::{Answer, Canned};
use openclawmu_tests::client::chat;
use openclawmu_tests::money::{self, cost};
use openclawmu_tests::setup::{PROVIDER_KEY, PROVIDER_KEY_ENV};
use openclawmu_tests::{Bill, Gateway, Setup, Tenant, Upstream};
use serde_json::{Value, json};

use crate::dialect::{assert_good, clients};

/// A name with what must be escaped in a path.
const BEDROCK_MODEL: &str = "eu.anthropic.claude-x-v1:0";

/// A gateway with one upstream, at whose models `alpha` points.
async fn gateway(upstream: &str, model: &str, env: Vec<(String, String)>) -> (Gateway, Tenant) {
    let alias =
        format!("[[model]]\nname = \"alpha\"\ntargets = [{{ upstream = \"cloud\", model = {model:?}, weight = 1 }}]\n");
    let mut setup = Setup::bare().line(upstream).line(&alias).env(env);
    let mut card = money::card();
    card["models"][model] = card["models"]["alpha"].clone();
    setup.rates = Some(card);
    let gateway = Gateway::start(setup).await;
    let tenant = gateway.admin().tenant("acme", json!({ "usd_per_day": "1000" })).await;
    (gateway, tenant)
}

async fn bedrock() -> (Canned, Gateway, Tenant) {
    let amazon = amazon::start().await;
    let upstream = format!(
        "[[upstream]]\nname = \"cloud\"\nkind = \"bedrock\"\nbase_url = \"http://{}\"\nregion = \"{REGION}\"\naccess_key_id = \"env:TEST_KEY_ID\"\nsecret_access_key = \"env:TEST_SECRET\"\n",
        amazon.address()
    );
    let env = [("TEST_KEY_ID", ACCESS_KEY_ID), ("TEST_SECRET", SECRET_ACCESS_KEY)];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let (gateway, tenant) = gateway(&upstream, BEDROCK_MODEL, env).await;
    (amazon, gateway, tenant)
}

/// K1, K2: each official client toward Bedrock, whose requests are signed and whose streams are frames
#[tokio::test(flavor = "multi_thread")]
async fn the_official_clients_reach_bedrock_by_signed_requests() {
    let (amazon, gateway, tenant) = bedrock().await;
    assert_good(&clients(&gateway, &tenant.token).await, ["stop", "end_turn", "STOP"]);
    let asked = amazon.asked();
    let targets: Vec<&str> = asked.iter().map(openclawmu_tests::raw::Message::target).collect();
    let path = "/model/eu.anthropic.claude-x-v1%3A0";
    for call in ["converse", "converse-stream"] {
        assert_eq!(targets.iter().filter(|target| **target == format!("{path}/{call}")).count(), 3, "{targets:?}");
    }
    assert!(asked.iter().all(|message| !message.text().contains(SECRET_ACCESS_KEY)));
    let bill = Bill { model: "alpha".to_owned(), prompt: 3, completion: 5, ..Bill::default() };
    assert_eq!(gateway.admin().settled("acme").await.posted, 6 * cost(&bill), "six answers");
}

/// Tools over Bedrock, whole and streamed
#[tokio::test(flavor = "multi_thread")]
async fn a_tool_call_of_bedrock_reaches_the_client_whole_and_streamed() {
    let (_amazon, gateway, tenant) = bedrock().await;
    let client = gateway.client(&tenant.token);
    let mut body = chat("alpha", "the weather?", 50);
    body["tools"] =
        json!([{ "type": "function", "function": { "name": "weather", "parameters": { "type": "object" } } }]);
    let reply = client.chat(&body).await.ok();
    let call = &reply["choices"][0]["message"]["tool_calls"][0];
    assert_eq!((&call["id"], &call["function"]["name"]), (&json!("tooluse_1"), &json!("weather")), "{reply}");
    let arguments = |text: &Value| serde_json::from_str::<Value>(text.as_str().expect("text")).expect("JSON");
    assert_eq!(arguments(&call["function"]["arguments"]), json!({ "city": "Paris" }));
    assert_eq!(reply["choices"][0]["finish_reason"], "tool_calls");
    body["stream"] = json!(true);
    let events = client.stream(&body).await.rest().await;
    let streamed: String = events
        .iter()
        .filter(|event| !event.done())
        .filter_map(|event| {
            let delta = event.json()["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].clone();
            delta.as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(arguments(&json!(streamed)), json!({ "city": "Paris" }));
}

/// S8-06: what Bedrock breaks off or takes back never looks whole; its throttling is the client's 429
#[tokio::test(flavor = "multi_thread")]
async fn what_bedrock_breaks_off_never_looks_whole() {
    let (_amazon, gateway, tenant) = bedrock().await;
    let client = gateway.client(&tenant.token);
    for prompt in ["please-cut", "please-except"] {
        let mut body = chat("alpha", prompt, 50);
        body["stream"] = json!(true);
        let events = client.stream(&body).await.rest().await;
        assert!(events.iter().all(|event| !event.done()), "{prompt}: {events:#?}");
        assert!(events.last().is_some_and(|event| event.json()["error"].is_object()), "{prompt}: {events:#?}");
    }
    let reply = client.chat(&chat("alpha", "please-throttle", 50)).await;
    assert_eq!(reply.status, 429, "{}", reply.text());
    let budget = gateway.admin().settled("acme").await;
    assert!(budget.posted > 0 && budget.pending == 0, "{budget:?}");
}

/// A wrong secret is the operator's fault, and is not told to a client
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_is_refused_is_a_bad_gateway() {
    let amazon = amazon::start().await;
    let upstream = format!(
        "[[upstream]]\nname = \"cloud\"\nkind = \"bedrock\"\nbase_url = \"http://{}\"\nregion = \"{REGION}\"\naccess_key_id = \"env:TEST_KEY_ID\"\nsecret_access_key = \"env:TEST_SECRET\"\n",
        amazon.address()
    );
    let env = [("TEST_KEY_ID", ACCESS_KEY_ID), ("TEST_SECRET", "another")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let (gateway, tenant) = gateway(&upstream, BEDROCK_MODEL, env).await;
    let reply = gateway.client(&tenant.token).chat(&chat("alpha", "hello", 5)).await;
    assert_eq!((reply.status, reply.openai_error().1.as_str()), (502, "upstream_auth"), "{}", reply.text());
    assert_eq!(gateway.admin().settled("acme").await.posted, 0);
}

/// Azure: the deployment stands in the path, the version in the query, the key in a header of its own
#[tokio::test(flavor = "multi_thread")]
async fn the_official_clients_reach_azures_deployments() {
    let upstream = Upstream::start().await;
    let config = format!(
        "[[upstream]]\nname = \"cloud\"\nkind = \"azure\"\nbase_url = \"http://{}\"\napi_key = \"env:{PROVIDER_KEY_ENV}\"\n",
        upstream.address()
    );
    let (gateway, tenant) = gateway(&config, "my deployment", Vec::new()).await;
    assert_good(&clients(&gateway, &tenant.token).await, ["stop", "end_turn", "STOP"]);
    let embedding = json!({ "model": "cloud/my deployment", "input": "hello" });
    assert_eq!(gateway.client(&tenant.token).post("/v1/embeddings", &embedding).await.status, 200);
    let asked = upstream.exchanges();
    let path = |call: &str| format!("/openai/deployments/my%20deployment/{call}?api-version=2024-10-21");
    let (embeddings, chats): (Vec<_>, Vec<_>) = asked.iter().partition(|exchange| exchange.path == path("embeddings"));
    assert_eq!((embeddings.len(), chats.len()), (1, 6));
    assert!(chats.iter().all(|exchange| exchange.path == path("chat/completions")), "{chats:?}");
    for exchange in &asked {
        assert_eq!((exchange.header("api-key"), exchange.header("authorization")), (Some(PROVIDER_KEY), None));
    }
}

/// Vertex: Google's dialect under a base URL of its own, the key as a bearer
#[tokio::test(flavor = "multi_thread")]
async fn a_google_upstream_takes_its_key_as_a_bearer_where_it_is_told_so() {
    let answer = json!({
        "candidates": [{ "index": 0, "finishReason": "STOP", "content": { "role": "model", "parts": [{ "text": "hello" }] } }],
        "usageMetadata": { "promptTokenCount": 3, "candidatesTokenCount": 5, "totalTokenCount": 8 }, "modelVersion": "m"
    });
    let vertex = Canned::start(move |_| {
        Answer::whole(200, &[("content-type", "application/json")], answer.to_string().as_bytes())
    })
    .await;
    let base = "v1/projects/p/locations/eu/publishers/google";
    let config = format!(
        "[[upstream]]\nname = \"cloud\"\nkind = \"gemini\"\nauth = \"bearer\"\nbase_url = \"http://{}/{base}\"\napi_key = \"env:{PROVIDER_KEY_ENV}\"\n",
        vertex.address()
    );
    let (gateway, tenant) = gateway(&config, "gemini-x", Vec::new()).await;
    let client = gateway.client(&tenant.token);
    let reply = client.chat(&chat("alpha", "hello", 5)).await.ok();
    assert_eq!(reply["choices"][0]["message"]["content"], "hello");
    let google = json!({ "contents": [{ "role": "user", "parts": [{ "text": "hello" }] }], "generationConfig": { "maxOutputTokens": 5 } });
    assert_eq!(client.post("/v1beta/models/alpha:generateContent", &google).await.status, 200);
    let asked = vertex.asked();
    assert_eq!(asked.len(), 2);
    for message in asked {
        assert_eq!(message.target(), format!("/{base}/models/gemini-x:generateContent"));
        let bearer = format!("Bearer {PROVIDER_KEY}");
        assert_eq!((message.header("authorization"), message.header("x-goog-api-key")), (Some(bearer.as_str()), None));
    }
    let bill = Bill { model: "alpha".to_owned(), prompt: 3, completion: 5, ..Bill::default() };
    assert_eq!(gateway.admin().settled("acme").await.posted, 2 * cost(&bill));
}
