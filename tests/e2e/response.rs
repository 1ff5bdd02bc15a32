//! `/v1/responses`: what is kept, for whom and how long, and what a conversation costs that the gateway continues.

use openclawmu_tests::clock::FakeClock;
use openclawmu_tests::money::cost;
use openclawmu_tests::setup::PROVIDER_KEY_ENV;
use openclawmu_tests::sse::Event;
use openclawmu_tests::{Behaviour, Client, Fault, Gateway, Reply, Scene, Setup, Upstream, sdk};
use serde_json::{Value, json};
use tempfile::TempDir;

fn ask(input: impl Into<Value>) -> Value {
    json!({ "model": "alpha", "input": input.into(), "max_output_tokens": 10 })
}

fn going_on(previous: &Value, input: &str) -> Value {
    let mut body = ask(input);
    body["previous_response_id"] = previous["id"].clone();
    body
}

async fn create(client: &Client, body: &Value) -> Value {
    client.post("/v1/responses", body).await.ok()
}

async fn delete(client: &Client, path: &str) -> Reply {
    Reply::of(client.build(http::Method::DELETE, path).send().await.expect("an answer")).await
}

fn text(response: &Value) -> &str {
    response["output"][0]["content"][0]["text"].as_str().unwrap_or_default()
}

/// The events of a streamed response, without the `[DONE]` that ends every proper stream.
async fn stream(client: &Client, body: &Value) -> Vec<Event> {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let reply = client.post("/v1/responses", &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let mut events = openclawmu_tests::sse::all(&reply.body);
    if events.last().is_some_and(Event::done) {
        events.pop();
    }
    events
}

fn last(events: &[Event]) -> Value {
    events.last().expect("an event").json()
}

/// A gateway in front whose upstream of this kind is the scene's.
async fn front_of(scene: &Scene, kind: &str, path: &str, key: &str) -> (Gateway, String) {
    let upstream = format!(
        "[[upstream]]\nname = \"behind\"\nkind = \"{kind}\"\nbase_url = \"http://{}{path}\"\napi_key = \"env:{PROVIDER_KEY_ENV}\"\nmodels = [\"alpha\"]\n{key}\n",
        scene.gateway.edge()
    );
    let mut setup = Setup::bare().line(&upstream);
    setup.env = vec![(PROVIDER_KEY_ENV.to_owned(), scene.tenant.token.clone())];
    let front = Gateway::start(setup).await;
    let tenant = front.admin().tenant("acme", json!({ "usd_per_day": "1000" })).await;
    (front, tenant.token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_has_every_field_is_kept_and_is_billed_as_the_provider_bills() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(5));
    let reply = scene.client.post("/v1/responses", &ask("hello")).await;
    let response = reply.ok();
    for field in
        ["completed_at", "error", "incomplete_details", "instructions", "metadata", "reasoning", "tools", "usage"]
    {
        assert!(response.get(field).is_some(), "{field}: {response}");
    }
    assert_eq!(
        (&response["object"], &response["status"], &response["store"]),
        (&json!("response"), &json!("completed"), &json!(true))
    );
    assert_eq!(text(&response), "word0 word1 word2 word3 word4 ");
    let id = response["id"].as_str().expect("an id");
    assert!(id.starts_with("resp_") && reply.header("x-openclawmu-cost-usd").is_some());
    assert_eq!(scene.client.get(&format!("/v1/responses/{id}")).await.ok(), response);
    assert_eq!(scene.client.get(&format!("/responses/{id}")).await.ok(), response, "also without the prefix");
    let billed: i128 = scene.upstream.bills().iter().map(cost).sum();
    assert_eq!(scene.balanced().await.posted, billed);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_of_a_stream_is_numbered_and_the_last_one_holds_what_is_kept() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(5));
    let events = stream(&scene.client, &ask("hello")).await;
    for (number, event) in events.iter().enumerate() {
        let data = event.json();
        assert_eq!(data["sequence_number"], json!(number), "{data}");
        assert_eq!(Some(data["type"].as_str().expect("a type")), event.name.as_deref());
    }
    let end = last(&events);
    assert_eq!(end["type"], "response.completed");
    assert_eq!(text(&end["response"]), "word0 word1 word2 word3 word4 ");
    let id = end["response"]["id"].as_str().expect("an id");
    assert_eq!(scene.client.get(&format!("/v1/responses/{id}")).await.ok(), end["response"]);
}

/// What is continued goes upstream in full, by every upstream's own dialect, and is paid for
#[tokio::test(flavor = "multi_thread")]
async fn a_continuation_sends_the_whole_conversation_also_after_a_restart() {
    let mut scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(2));
    let first = create(&scene.client, &ask("my name is Ann")).await;
    let second = create(&scene.client, &going_on(&first, "who am I?")).await;
    assert_eq!(second["previous_response_id"], first["id"]);
    scene.gateway.terminate().await;
    scene.restarted().await;
    create(&scene.client, &going_on(&second, "again?")).await;
    let sent = scene.upstream.last().json();
    let said: Vec<&str> = sent["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|message| message["content"].as_str().or(message["content"][0]["text"].as_str()).expect("text"))
        .collect();
    assert_eq!(said, ["my name is Ann", "word0 word1 ", "who am I?", "word0 word1 ", "again?"], "{sent}");
    assert!(sent.get("previous_response_id").is_none());
    let items =
        scene.client.get(&format!("/v1/responses/{}/input_items", second["id"].as_str().expect("an id"))).await.ok();
    assert_eq!(items["data"][0]["content"][0]["text"], "who am I?", "{items}");
    let billed: i128 = scene.upstream.bills().iter().map(cost).sum();
    assert_eq!(scene.balanced().await.posted, billed);
}

/// An upstream that speaks the dialect itself is asked to keep nothing and is told everything
#[tokio::test(flavor = "multi_thread")]
async fn a_native_upstream_keeps_nothing() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(2));
    let (front, token) = front_of(&scene, "openai", "/v1", "responses = true").await;
    let client = front.client(&token);
    let first = create(&client, &ask("my name is Ann")).await;
    let second = create(&client, &going_on(&first, "who am I?")).await;
    assert_eq!((text(&second), &second["store"]), ("word0 word1 ", &json!(true)));
    let sent = scene.upstream.last().json();
    assert_eq!(sent["messages"].as_array().map(Vec::len), Some(3), "{sent}");
    let kept = scene.gateway.data().join("tenants/acme/responses");
    assert!(!kept.exists(), "the upstream was asked to store nothing");
    let events = stream(&client, &going_on(&second, "more?")).await;
    assert_eq!(text(&last(&events)["response"]), "word0 word1 ");
    let (front, back) = (front.admin().settled("acme").await.posted, scene.settled().await.posted);
    assert!(front > 0 && front == back, "both bill the same: {front}, {back}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_translated_to_an_anthropic_upstream() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(2));
    let (front, token) = front_of(&scene, "anthropic", "/v1", "").await;
    let client = front.client(&token);
    let first = create(&client, &ask("hello")).await;
    let events = stream(&client, &going_on(&first, "and?")).await;
    assert_eq!(text(&last(&events)["response"]), "word0 word1 ");
    assert_eq!(scene.upstream.last().json()["messages"].as_array().map(Vec::len), Some(3));
}

/// I-01
#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_response_is_not_there() {
    let scene = Scene::new().await;
    let response = create(&scene.client, &ask("secret canary 71c2")).await;
    let id = response["id"].as_str().expect("an id");
    let other = scene.admin().tenant("other", json!({ "usd_per_day": "1" })).await;
    let other = scene.gateway.client(&other.token);
    let calls = scene.upstream.calls();
    let unknown = format!("resp_{}", "0".repeat(32));
    for route in ["", "/input_items"] {
        let (theirs, nobodys) = (
            other.get(&format!("/v1/responses/{id}{route}")).await,
            other.get(&format!("/v1/responses/{unknown}{route}")).await,
        );
        assert_eq!((theirs.status, nobodys.status), (404, 404));
        assert_eq!(theirs.text().replace(id, &unknown), nobodys.text());
    }
    assert_eq!(delete(&other, &format!("/v1/responses/{id}")).await.status, 404);
    assert_eq!(other.post(&format!("/v1/responses/{id}/cancel"), &json!({})).await.status, 404);
    let reply = other.post("/v1/responses", &going_on(&response, "tell me")).await;
    reply.refused(400, "invalid_request_error", "previous_response_not_found");
    let item = response["output"][0]["id"].clone();
    let reply = other.post("/v1/responses", &ask(json!([{ "type": "item_reference", "id": item }]))).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert!(!reply.text().contains("canary"));
    assert_eq!(scene.upstream.calls(), calls);
    assert_eq!(scene.client.get(&format!("/v1/responses/{id}")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_expired_or_never_kept_can_not_be_continued() {
    let dir = TempDir::new().expect("a temp dir");
    let clock = FakeClock::new(dir.path());
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).clock(&clock);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    let mut body = ask("hello");
    body["store"] = json!(false);
    let unkept = create(&scene.client, &body).await;
    assert_eq!(unkept["store"], false);
    let deleted = create(&scene.client, &ask("hello")).await;
    let id = deleted["id"].as_str().expect("an id");
    let path = format!("/v1/responses/{id}");
    assert_eq!(delete(&scene.client, &path).await.ok(), json!({ "id": id, "object": "response", "deleted": true }));
    assert_eq!(delete(&scene.client, &path).await.status, 404);
    let expired = create(&scene.client, &ask("hello")).await;
    clock.shift(30 * 86_400 + 1);
    let calls = scene.upstream.calls();
    for gone in [&unkept, &deleted, &expired] {
        let reply = scene.client.get(&format!("/v1/responses/{}", gone["id"].as_str().expect("an id"))).await;
        reply.refused(404, "invalid_request_error", "response_not_found");
        let reply = scene.client.post("/v1/responses", &going_on(gone, "and?")).await;
        reply.refused(400, "invalid_request_error", "previous_response_not_found");
        assert_eq!(reply.json()["error"]["param"], "previous_response_id");
    }
    assert_eq!(scene.upstream.calls(), calls, "nobody was asked");
    let kept = create(&scene.client, &ask("hello")).await;
    let cancel = format!("/v1/responses/{}/cancel", kept["id"].as_str().expect("an id"));
    assert_eq!(
        scene.client.post(&cancel, &json!({})).await.status,
        400,
        "only what runs in the background can be cancelled"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_metered_or_is_not_the_tenants_is_refused_by_name() {
    let scene = Scene::new().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let message = |content: Value| json!([{ "role": "user", "content": [content] }]);
    for (field, value, param) in [
        ("tools", json!([{ "type": "web_search" }]), "tools[0].type"),
        ("tools", json!([{ "type": "code_interpreter", "container": { "type": "auto" } }]), "tools[0].type"),
        ("tools", json!([{ "type": "mcp", "server_label": "x", "server_url": "https://x" }]), "tools[0].type"),
        ("conversation", json!("conv_1"), "conversation"),
        ("prompt", json!({ "id": "pmpt_1" }), "prompt"),
        ("input", message(json!({ "type": "input_file", "file_id": "file-1" })), "input"),
        ("input", json!([]), "input"),
        ("input", json!(7), "input"),
        ("max_output_tokens", json!(-1), "max_output_tokens"),
        ("surprise", json!(1), "surprise"),
        ("temperature", json!("hot"), "temperature"),
        ("previous_response_id", json!("../../other"), "previous_response_id"),
    ] {
        let mut body = ask("hello");
        body[field] = value;
        let reply = scene.client.post("/v1/responses", &body).await;
        assert_eq!(reply.status, 400, "{field}: {}", reply.text());
        assert_eq!(reply.json()["error"]["param"], param, "{}", reply.text());
    }
    for body in [
        format!("{{\"model\":\"alpha\",\"input\":{deep}}}"),
        "{\"model\":\"alpha\",\"model\":\"beta\",\"input\":\"x\"}".to_owned(),
        "{\"model\":\"alpha\",\"input\":\"x\",\"max_output_tokens\":1,\"max_output_tokens\":2}".to_owned(),
        "{\"model\":\"alpha\",\"input\":\"x\"".to_owned(),
        "[]".to_owned(),
        String::new(),
    ] {
        let reply = scene.client.post_bytes("/v1/responses", body.into_bytes()).await;
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert_eq!(reply.openai_error().0, "invalid_request_error");
    }
    assert_eq!(scene.client.post_bytes("/v1/responses", b"{\"model\":\"\xff\"}".to_vec()).await.status, 400);
    assert_eq!((scene.upstream.calls(), scene.budget().await.posted), (0, 0));
}

/// the cap holds although the gateway adds to each input what came before
#[tokio::test(flavor = "multi_thread")]
async fn a_long_conversation_ends_at_the_budget_and_never_past_it() {
    let scene = Scene::with_quota(json!({ "usd_per_day": "0.02" })).await;
    scene.upstream.always(Behaviour::words(5));
    let mut previous = create(&scene.client, &ask("x".repeat(200))).await;
    let mut turns = 1;
    let refused = loop {
        let reply = scene.client.post("/v1/responses", &going_on(&previous, &"x".repeat(200))).await;
        if reply.status != 200 {
            break reply;
        }
        previous = reply.json();
        turns += 1;
        assert!(turns < 2_000, "a budget ends");
    };
    refused.refused(429, "insufficient_quota", "insufficient_quota");
    assert_eq!(scene.upstream.calls(), turns);
    let budget = scene.settled().await;
    assert!(budget.posted <= budget.cap.expect("a cap"), "{budget:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_for_the_model_loses_its_beginning_where_the_client_says_so() {
    let scene = Scene::new().await;
    let card = json!({ "models": { "flat": { "input": "1", "output": "1", "context_tokens": 400, "max_output_tokens": 50 } } });
    assert_eq!(scene.admin().send_json(http::Method::PUT, "/v1/rates", &card).await.status, 200);
    let said = |role: &str, text: &str| json!({ "role": role, "content": text.repeat(400) });
    let input = json!([said("user", "a "), said("assistant", "b "), said("user", "c ")]);
    let mut body = json!({ "model": "flat", "input": input, "max_output_tokens": 10 });
    let sent = || scene.upstream.last().json()["messages"].as_array().map(Vec::len);
    create(&scene.client, &body).await;
    assert_eq!(sent(), Some(3), "nothing is left out unasked");
    body["truncation"] = json!("auto");
    let response = create(&scene.client, &body).await;
    assert_eq!((sent(), &response["truncation"]), (Some(1), &json!("auto")), "{response}");
    body["input"] = json!("short");
    create(&scene.client, &body).await;
    assert_eq!(sent(), Some(1));
}

/// S8-06
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_never_looks_whole_and_is_not_kept() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::fault(Fault::CutAfter(2)));
    let events = stream(&scene.client, &ask("hello")).await;
    let end = last(&events);
    assert_eq!(end["type"], "error", "{end}");
    assert_eq!(end["sequence_number"], json!(events.len() - 1));
    assert!(events.iter().all(|event| event.name.as_deref() != Some("response.completed")));
    let created = events[0].json();
    let id = created["response"]["id"].as_str().expect("an id");
    assert_eq!(scene.client.get(&format!("/v1/responses/{id}")).await.status, 404);
    assert!(scene.settled().await.posted > 0, "what was delivered is billed");
}

/// K1
#[tokio::test(flavor = "multi_thread")]
async fn the_official_client_creates_continues_streams_and_removes_responses() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(5));
    let url = format!("http://{}/v1", scene.gateway.edge());
    let result = sdk::run_python("responses.py", &[&url, &scene.tenant.token, "alpha"]).await;
    let answer = "word0 word1 word2 word3 word4 ";
    assert_eq!(result["text"], answer, "{result}");
    assert_eq!(result["continued"], answer);
    assert_eq!(result["streamed"], answer);
    assert_eq!(result["final"], answer);
    assert_eq!(result["retrieved"], true);
    assert_eq!(result["items"], 1);
    assert_eq!(result["gone"], "NotFoundError");
    assert_eq!(result["unknown"], json!(["BadRequestError", "previous_response_not_found"]));
}
