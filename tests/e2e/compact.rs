//! `/v1/responses/compact`: a conversation made short, sealed for its tenant, and gone on from.

use openclawmu_tests::money::cost;
use openclawmu_tests::{Behaviour, Scene, sdk};
use serde_json::{Value, json};

fn conversation() -> Value {
    json!([
        { "role": "developer", "content": "Be brief." },
        { "role": "user", "content": "What is the weather in Rome?" },
        { "type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{\"city\":\"Rome\"}" },
        { "type": "function_call_output", "call_id": "c1", "output": "canary rain" },
        { "role": "assistant", "content": "It rains." },
    ])
}

async fn compacted(scene: &Scene) -> Value {
    scene.upstream.always(Behaviour::words(3));
    let body = json!({ "model": "alpha", "input": conversation(), "instructions": "Speak of weather alone." });
    scene.client.post("/v1/responses/compact", &body).await.ok()
}

/// What everybody said goes to the model as one text, and what the user said comes back as it was
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_becomes_what_the_user_said_and_one_sealed_item() {
    let scene = Scene::new().await;
    let compaction = compacted(&scene).await;
    assert_eq!(compaction["object"], "response.compaction", "{compaction}");
    assert!(compaction["id"].as_str().is_some_and(|id| id.starts_with("resp_")) && compaction["created_at"].is_i64());
    assert!(compaction["usage"]["total_tokens"].as_u64().is_some_and(|total| total > 3));
    let output = compaction["output"].as_array().expect("items");
    let roles: Vec<&Value> = output.iter().map(|item| &item["role"]).collect();
    assert_eq!(roles, [&json!("developer"), &json!("user"), &Value::Null]);
    assert_eq!(output[1]["content"], json!([{ "type": "input_text", "text": "What is the weather in Rome?" }]));
    assert_eq!(output[2]["type"], "compaction");
    let sealed = output[2]["encrypted_content"].as_str().expect("a text");
    assert!(!sealed.contains("word0") && !compaction.to_string().contains("canary"));
    let sent = scene.upstream.last().json();
    let said = sent["messages"].to_string();
    for part in ["Speak of weather alone.", "weather in Rome?", "canary rain", "It rains."] {
        assert!(said.contains(part), "{part}: {sent}");
    }
    assert!(sent.get("tools").is_none() && sent["messages"].as_array().map(Vec::len) == Some(2), "{sent}");
    let billed: i128 = scene.upstream.bills().iter().map(cost).sum();
    assert_eq!(scene.balanced().await.posted, billed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_from_its_compaction_also_when_it_is_continued_or_compacted_again() {
    let scene = Scene::new().await;
    let compaction = compacted(&scene).await;
    let mut input = compaction["output"].as_array().expect("items").clone();
    input.push(json!({ "role": "user", "content": "And tomorrow?" }));
    let body = json!({ "model": "alpha", "input": input, "max_output_tokens": 10 });
    let response = scene.client.post("/v1/responses", &body).await.ok();
    let said = || scene.upstream.last().json()["messages"].to_string();
    assert!(said().contains("word0 word1 word2") && said().contains("And tomorrow?"), "{}", said());
    assert!(!said().contains("encrypted_content"));
    let again = json!({
        "model": "alpha", "input": "Thanks.", "previous_response_id": response["id"], "max_output_tokens": 10
    });
    scene.client.post("/v1/responses", &again).await.ok();
    assert!(said().contains("word0 word1 word2") && said().contains("Thanks."), "{}", said());
    let twice = scene.client.post("/v1/responses/compact", &again).await.ok();
    assert!(said().contains("Summary of the conversation so far"), "{}", said());
    let kinds: Vec<&Value> = twice["output"].as_array().expect("items").iter().map(|item| &item["type"]).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "compaction").count(), 1, "{twice}");
    let billed: i128 = scene.upstream.bills().iter().map(cost).sum();
    assert_eq!(scene.balanced().await.posted, billed);
}

/// I-01, I-02: what was sealed for one tenant is nothing to another
#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_compaction_does_not_open() {
    let scene = Scene::new().await;
    let compaction = compacted(&scene).await;
    let other = scene.admin().tenant("other", json!({ "usd_per_day": "1" })).await;
    let other = scene.gateway.client(&other.token);
    let calls = scene.upstream.calls();
    let mut altered = compaction["output"].clone();
    altered[2]["encrypted_content"] = json!(format!("{}A", altered[2]["encrypted_content"].as_str().expect("a text")));
    for (client, input) in [(&other, &compaction["output"]), (&scene.client, &altered)] {
        for path in ["/v1/responses", "/v1/responses/compact"] {
            let reply = client.post(path, &json!({ "model": "alpha", "input": input })).await;
            assert_eq!(reply.status, 400, "{}", reply.text());
            assert_eq!(reply.json()["error"]["param"], "input[2].encrypted_content", "{}", reply.text());
        }
    }
    assert_eq!(scene.upstream.calls(), calls);
    let body = json!({ "model": "alpha", "input": compaction["output"], "max_output_tokens": 10 });
    scene.client.post("/v1/responses", &body).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_compacted_is_refused_by_name() {
    let scene = Scene::new().await;
    for (body, param) in [
        (json!({ "input": "x" }), "model"),
        (json!({ "model": "alpha" }), "input"),
        (json!({ "model": "alpha", "input": "x", "stream": true }), "stream"),
        (json!({ "model": "alpha", "input": "x", "surprise": 1 }), "surprise"),
        (json!({ "model": "alpha", "input": "x", "previous_response_id": "resp_none" }), "previous_response_id"),
    ] {
        let reply = scene.client.post("/v1/responses/compact", &body).await;
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(param)), "{}", reply.text());
    }
    assert_eq!((scene.upstream.calls(), scene.budget().await.posted), (0, 0));
}

/// K1
#[tokio::test(flavor = "multi_thread")]
async fn the_official_client_compacts_and_goes_on() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(3));
    let url = format!("http://{}/v1", scene.gateway.edge());
    let result = sdk::run_python("compact.py", &[&url, &scene.tenant.token, "alpha"]).await;
    assert_eq!(result, json!({ "kinds": ["message", "compaction"], "text": "word0 word1 word2 " }));
}
