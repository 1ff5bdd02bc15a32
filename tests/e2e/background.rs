//! `/v1/responses` with `background`: answered at once, worked on afterwards, followed, cancelled, and billed like any other.

use openclawmu_tests::money::{cost, usd};
use openclawmu_tests::sse::{Event, Stream};
use openclawmu_tests::wait::until;
use openclawmu_tests::{Behaviour, Client, Fault, Gate, Reply, Scene, sdk};
use serde_json::{Value, json};

fn ask(input: &str) -> Value {
    json!({ "model": "alpha", "input": input, "max_output_tokens": 10, "background": true })
}

async fn queued(client: &Client, body: &Value) -> (Value, String) {
    let response = client.post("/v1/responses", body).await.ok();
    let path = format!("/v1/responses/{}", response["id"].as_str().expect("an id"));
    (response, path)
}

/// The response once it is no longer being worked on.
async fn ended(client: &Client, path: &str) -> Value {
    until("the response has ended", || async {
        let response = client.get(path).await.ok();
        (response["status"] != "in_progress").then_some(response)
    })
    .await
}

fn text(response: &Value) -> &str {
    response["output"][0]["content"][0]["text"].as_str().unwrap_or_default()
}

fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().filter_map(|event| event.json()["sequence_number"].as_u64()).collect()
}

async fn followed(client: &Client, path: &str) -> Vec<Event> {
    let reply = client.get(path).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let mut events = openclawmu_tests::sse::all(&reply.body);
    assert!(events.pop().is_some_and(|event| event.done()));
    events
}

async fn delete(client: &Client, path: &str) -> Reply {
    Reply::of(client.build(http::Method::DELETE, path).send().await.expect("an answer")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_worked_on_after_its_request_and_billed_as_the_provider_bills() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(5, 2, &gate));
    let (response, path) = queued(&scene.client, &ask("hello")).await;
    assert_eq!((&response["status"], &response["background"]), (&json!("in_progress"), &json!(true)));
    assert_eq!(response["output"], json!([]));
    let during = scene.client.get(&path).await.ok();
    assert_eq!(during["status"], "in_progress");
    let going_on =
        json!({ "model": "alpha", "input": "and?", "previous_response_id": response["id"], "max_output_tokens": 5 });
    let reply = scene.client.post("/v1/responses", &going_on).await;
    assert_eq!(reply.status, 400, "it can't be continued before it has ended");
    gate.open();
    let response = ended(&scene.client, &path).await;
    assert_eq!((&response["status"], text(&response)), (&json!("completed"), "word0 word1 word2 word3 word4 "));
    let billed: i128 = scene.upstream.bills().iter().map(cost).sum();
    assert_eq!(scene.balanced().await.posted, billed);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_gets_every_event_once_from_where_they_left() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(5, 2, &gate));
    let (_, path) = queued(&scene.client, &ask("hello")).await;
    let follow = format!("{path}?stream=true");
    let early = tokio::spawn({
        let (client, follow) = (scene.client.clone(), follow.clone());
        async move { followed(&client, &follow).await }
    });
    until("two words have come", || async { (scene.budget().await.pending > 0).then_some(()) }).await;
    gate.open();
    let (early, late) = (early.await.expect("events"), followed(&scene.client, &follow).await);
    assert_eq!(early.last().expect("an event").json()["type"], "response.completed");
    assert_eq!(numbers(&early), (0..early.len() as u64).collect::<Vec<_>>());
    assert_eq!(numbers(&early), numbers(&late));
    let rest = followed(&scene.client, &format!("{follow}&starting_after=3")).await;
    assert_eq!(numbers(&rest), numbers(&early)[4..]);
    let kept = scene.client.get(&path).await.ok();
    assert_eq!(early.last().expect("an event").json()["response"], kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_its_stream_leaves_the_work_going_on() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(5, 2, &gate));
    let mut body = ask("hello");
    body["stream"] = json!(true);
    let response = scene.client.build(http::Method::POST, "/v1/responses").json(&body).send().await.expect("an answer");
    let mut stream = Stream::of(response).await;
    let created = stream.next().await.expect("an event").json();
    let path = format!("/v1/responses/{}", created["response"]["id"].as_str().expect("an id"));
    drop(stream);
    gate.open();
    assert_eq!(text(&ended(&scene.client, &path).await), "word0 word1 word2 word3 word4 ");
}

/// What was delivered is billed, and the provider is cut
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_response_stops_and_costs_what_came() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(10, 2, &gate));
    let (response, path) = queued(&scene.client, &ask("hello")).await;
    let (id, reserved) = (response["id"].clone(), scene.budget().await.pending);
    let other = scene.admin().tenant("other", json!({ "usd_per_day": "1" })).await;
    let other = scene.gateway.client(&other.token);
    for foreign in [
        other.post(&format!("{path}/cancel"), &json!({})).await,
        other.get(&format!("{path}?stream=true")).await,
        other.get(&path).await,
        delete(&other, &path).await,
    ] {
        assert_eq!(foreign.status, 404, "{}", foreign.text());
    }
    let cancelled = scene.client.post(&format!("{path}/cancel"), &json!({})).await.ok();
    assert_eq!((&cancelled["status"], &cancelled["id"]), (&json!("cancelled"), &id));
    assert_eq!(scene.client.post(&format!("{path}/cancel"), &json!({})).await.ok(), cancelled, "again is the same");
    assert_eq!(scene.client.get(&path).await.ok(), cancelled);
    let budget = scene.settled().await;
    assert!(budget.pending == 0 && budget.posted > 0 && budget.posted < reserved, "{budget:?} of {reserved}");
    gate.open();
    assert_eq!(delete(&scene.client, &path).await.status, 200);
    assert_eq!(scene.client.get(&path).await.status, 404);
}

/// the budget refuses at the request, not later
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_the_requests_answer() {
    let scene = Scene::with_quota(json!({ "usd_per_day": usd(1) })).await;
    let reply = scene.client.post("/v1/responses", &ask("hello")).await;
    reply.refused(429, "insufficient_quota", "insufficient_quota");
    assert!(reply.header("retry-after").is_some());
    let mut unknown = ask("hello");
    unknown["model"] = json!("nothing");
    scene.client.post("/v1/responses", &unknown).await.refused(404, "invalid_request_error", "model_not_found");
    let mut unstored = ask("hello");
    unstored["store"] = json!(false);
    assert_eq!(scene.client.post("/v1/responses", &unstored).await.status, 400);
    assert_eq!(scene.upstream.calls(), 0);
    let kept = scene.gateway.data().join("tenants/acme/responses");
    assert!(!kept.exists() || std::fs::read_dir(kept).expect("a folder").next().is_none(), "nothing is kept of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_has_failed_and_is_told_so() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::fault(Fault::CutAfter(2)));
    let (_, path) = queued(&scene.client, &ask("hello")).await;
    let response = ended(&scene.client, &path).await;
    assert_eq!(response["status"], "failed", "{response}");
    assert!(response["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{response}");
    scene.upstream.always(Behaviour::status(500));
    let (_, path) = queued(&scene.client, &ask("hello")).await;
    let response = ended(&scene.client, &path).await;
    assert_eq!(response["status"], "failed", "{response}");
    assert_eq!(scene.client.post(&format!("{path}/cancel"), &json!({})).await.ok(), response);
    assert_eq!(scene.settled().await.pending, 0);
}

///
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_its_work() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::gated(10, 2, &Gate::new()));
    let (_, path) = queued(&scene.client, &ask("hello")).await;
    let (_, second) = scene.admin().mint("acme", &json!({})).await;
    scene.admin().revoke("acme", &scene.tenant.token_id).await;
    let response = ended(&scene.gateway.client(&second), &path).await;
    assert_eq!(response["status"], "failed", "{response}");
    assert_eq!(scene.settled().await.pending, 0);
}

/// what was reserved is billed or held; the response has failed, not vanished
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_worked_on_has_failed() {
    let mut scene = Scene::new().await;
    scene.upstream.always(Behaviour::gated(10, 2, &Gate::new()));
    let (_, path) = queued(&scene.client, &ask("hello")).await;
    scene.gateway.kill_9();
    scene.restarted().await;
    let response = scene.client.get(&path).await.ok();
    assert_eq!(response["status"], "failed", "{response}");
    let reply = scene.client.get(&format!("{path}?stream=true")).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(scene.settled().await.pending, 0);
}

/// K1
#[tokio::test(flavor = "multi_thread")]
async fn the_official_client_polls_follows_and_cancels() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(5));
    scene.upstream.when("for ever", Behaviour::gated(10, 2, &Gate::new()));
    let url = format!("http://{}/v1", scene.gateway.edge());
    let result = sdk::run_python("background.py", &[&url, &scene.tenant.token, "alpha"]).await;
    let answer = "word0 word1 word2 word3 word4 ";
    assert_eq!(result, json!({ "polled": answer, "followed": answer, "cancelled": "cancelled" }));
}
