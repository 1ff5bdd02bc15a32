//! `/v1/responses` over a WebSocket: the same requests as over HTTP, one after the other, each with its own ticket and row.

use openclawmu_tests::money::{cost, usd};
use openclawmu_tests::socket::{Ended, Socket};
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Behaviour, Fault, Gate, Scene, Setup, Upstream, sdk};
use serde_json::{Value, json};

const PATH: &str = "/v1/responses";

fn create(input: &str) -> Value {
    json!({ "type": "response.create", "model": "alpha", "input": input, "max_output_tokens": 10, "store": false })
}

fn going_on(previous: &Value, input: &str) -> Value {
    let mut event = create(input);
    event["previous_response_id"] = previous["id"].clone();
    event
}

async fn open(scene: &Scene) -> Socket {
    Socket::open(scene.gateway.edge(), PATH, &scene.tenant.token).await
}

/// The response of a request; its events are numbered as in a stream.
async fn response(socket: &mut Socket, event: &Value) -> Value {
    socket.send(event).await;
    let events = socket.until("response.completed").await;
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], json!(number), "{event}");
    }
    events.last().expect("the end")["response"].clone()
}

fn text(response: &Value) -> &str {
    response["output"][0]["content"][0]["text"].as_str().unwrap_or_default()
}

async fn error(socket: &mut Socket, event: &Value) -> Value {
    socket.send(event).await;
    let error = socket.next().await.expect("an event");
    assert_eq!(error["type"], "error", "{error}");
    error
}

fn said(scene: &Scene) -> Vec<String> {
    let sent = scene.upstream.last().json();
    let text =
        |message: &Value| message["content"].as_str().or(message["content"][0]["text"].as_str()).map(str::to_owned);
    sent["messages"].as_array().expect("messages").iter().map(|message| text(message).expect("text")).collect()
}

/// A-01: nothing is switched before the caller is known
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_needed_before_a_connection_is_switched() {
    let scene = Scene::new().await;
    let (_, reports) = scene.admin().mint("acme", &json!({ "scopes": ["usage"] })).await;
    for (token, status) in [("nobody", 401), (reports.as_str(), 403)] {
        let bearer = format!("Bearer {token}");
        let refused = Socket::try_open(scene.gateway.edge(), PATH, &[("authorization", &bearer)]).await.err();
        assert_eq!(refused.expect("refused").status, status);
    }
    assert_eq!(scene.client.get(PATH).await.status, 426, "a plain GET is no WebSocket");
}

/// M-01: each response is a row at the provider's count, as over HTTP
#[tokio::test(flavor = "multi_thread")]
async fn requests_over_one_connection_are_billed_one_by_one() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(5));
    let mut socket = open(&scene).await;
    let first = response(&mut socket, &create("hello")).await;
    assert_eq!((text(&first), &first["store"]), ("word0 word1 word2 word3 word4 ", &json!(false)));
    // The second and the third wait for each other.
    socket.send(&create("two")).await;
    socket.send(&create("three")).await;
    socket.event("response.completed").await;
    socket.event("response.completed").await;
    let rows = scene.rows_once(3).await;
    let bills: Vec<i128> = scene.upstream.bills().iter().map(cost).collect();
    assert_eq!(rows.iter().map(|row| row.cost).collect::<Vec<_>>(), bills);
    assert!(rows.iter().all(|row| !row.estimated));
    socket.close().await;
    assert_eq!(scene.balanced().await.posted, bills.iter().sum::<i128>());
}

/// `store: false`: what is not stored can be continued on its own connection and nowhere else
#[tokio::test(flavor = "multi_thread")]
async fn an_unstored_response_is_continued_on_its_connection_alone() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(2));
    let (mut socket, mut other) = (open(&scene).await, open(&scene).await);
    let first = response(&mut socket, &create("my name is Ann")).await;
    let second = response(&mut socket, &going_on(&first, "who am I?")).await;
    assert_eq!(second["previous_response_id"], first["id"]);
    let third = response(&mut socket, &going_on(&second, "again?")).await;
    let whole = ["my name is Ann", "word0 word1 ", "who am I?", "word0 word1 ", "again?"];
    assert_eq!(said(&scene), whole);
    let id = third["id"].as_str().expect("an id");
    assert_eq!(scene.client.get(&format!("/v1/responses/{id}")).await.status, 404, "it is not stored");
    let calls = scene.upstream.calls();
    let refused = error(&mut other, &going_on(&third, "and here?")).await;
    assert_eq!((&refused["status"], &refused["error"]["code"]), (&json!(400), &json!("previous_response_not_found")));
    assert_eq!(refused["error"]["param"], "previous_response_id");
    // A stored one is there for every connection, and over HTTP.
    let mut stored = create("keep this");
    stored["store"] = json!(true);
    let stored = response(&mut socket, &stored).await;
    response(&mut other, &going_on(&stored, "what?")).await;
    assert_eq!(said(&scene), ["keep this", "word0 word1 ", "what?"]);
    let id = stored["id"].as_str().expect("an id");
    assert_eq!(scene.client.get(&format!("/v1/responses/{id}")).await.ok()["id"], stored["id"]);
    assert_eq!(scene.upstream.calls(), calls + 2);
    socket.close().await;
    other.close().await;
}

/// I-01: another tenant's response is not there
#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_response_cannot_be_continued() {
    let scene = Scene::new().await;
    let neighbour = scene.admin().tenant("neighbour", json!({})).await;
    let mut socket = open(&scene).await;
    let mut stored = create("a secret");
    stored["store"] = json!(true);
    let stored = response(&mut socket, &stored).await;
    let mut foreign = Socket::open(scene.gateway.edge(), PATH, &neighbour.token).await;
    let refused = error(&mut foreign, &going_on(&stored, "tell me")).await;
    assert_eq!(refused["error"]["code"], "previous_response_not_found");
    assert_eq!(scene.upstream.calls(), 1);
    socket.close().await;
    foreign.close().await;
}

/// A continuation that fails evicts what it continued
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_continuation_evicts_its_response() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(2));
    scene.upstream.when("please-fail", Behaviour::status(500));
    let mut socket = open(&scene).await;
    let first = response(&mut socket, &create("hello")).await;
    let refused = error(&mut socket, &going_on(&first, "please-fail")).await;
    assert_eq!((&refused["status"], &refused["error"]["type"]), (&json!(502), &json!("upstream_error")));
    let gone = error(&mut socket, &going_on(&first, "again")).await;
    assert_eq!(gone["error"]["code"], "previous_response_not_found");
    // Of another stream's response only a fork has failed.
    let mut named = create("hello");
    named["stream_id"] = json!("one");
    socket.send(&named).await;
    let events = socket.until("response.completed").await;
    assert!(events.iter().all(|event| event["stream_id"] == "one"), "{events:#?}");
    let parent = events.last().expect("the end")["response"].clone();
    error(&mut socket, &going_on(&parent, "please-fail")).await;
    response(&mut socket, &going_on(&parent, "and on")).await;
    socket.close().await;
}

/// A request that only prepares the next one asks no model and costs nothing
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_generates_nothing_is_free_and_can_be_continued() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(2));
    let mut socket = open(&scene).await;
    let mut warm = create("my name is Ann");
    warm["generate"] = json!(false);
    let warm = response(&mut socket, &warm).await;
    assert_eq!((&warm["status"], &warm["output"]), (&json!("completed"), &json!([])));
    assert_eq!((scene.upstream.calls(), scene.budget().await.pending), (0, 0));
    response(&mut socket, &going_on(&warm, "who am I?")).await;
    assert_eq!(said(&scene), ["my name is Ann", "who am I?"]);
    let mut unknown = create("hello");
    (unknown["generate"], unknown["model"]) = (json!(false), json!("nobody"));
    assert_eq!(error(&mut socket, &unknown).await["error"]["code"], "model_not_found");
    socket.close().await;
}

/// Bad input: named, nothing reserved, nothing billed; the connection goes on
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_by_name() {
    let scene = Scene::new().await;
    let mut socket = open(&scene).await;
    let with = |key: &str, value: Value| {
        let mut event = create("hello");
        event[key] = value;
        event
    };
    for (event, param) in [
        (with("type", json!("response.steer")), "type"),
        (with("background", json!(true)), "background"),
        (with("generate", json!("no")), "generate"),
        (with("stream_id", json!("a b")), "stream_id"),
        (with("max_output_tokens", json!(-1)), "max_output_tokens"),
        (with("input", json!([{ "type": "message", "role": "nobody", "content": "x" }])), "input[0].role"),
        (with("tools", json!([{ "type": "mcp" }])), "tools[0].type"),
    ] {
        let refused = error(&mut socket, &event).await;
        assert_eq!(
            (&refused["status"], &refused["error"]["param"]),
            (&json!(400), &json!(param)),
            "{event}: {refused}"
        );
    }
    socket.send_text(r#"{"type":"response.create","model":"alpha","model":"beta","input":"x"}"#).await;
    assert_eq!(socket.next().await.expect("an event")["error"]["param"], "model");
    let budget = scene.budget().await;
    assert_eq!((scene.upstream.calls(), budget.posted, budget.pending), (0, 0, 0));
    response(&mut socket, &create("hello")).await;
    socket.close().await;
}

/// Q-01: a budget refuses a request, not the connection
#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_budget_is_refused_before_the_upstream_is_called() {
    let scene = Scene::with_quota(json!({ "usd_per_day": usd(1_000) })).await;
    let mut socket = open(&scene).await;
    for _ in 0..2 {
        let refused = error(&mut socket, &create("hello")).await;
        assert_eq!((&refused["status"], &refused["error"]["code"]), (&json!(429), &json!("insufficient_quota")));
    }
    assert_eq!(scene.upstream.calls(), 0);
    socket.close().await;
}

/// S8-05, M-02: a client that leaves cuts the upstream and is billed for what it heard
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_billed_for_what_it_heard() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::gated(6, 2, &Gate::new()));
    let mut socket = open(&scene).await;
    socket.send(&create("hello")).await;
    socket.event("response.output_text.delta").await;
    drop(socket);
    until_true("the upstream's connection to be cut", || scene.upstream.last().closed_at().is_some()).await;
    let row = scene.rows_once(1).await.remove(0);
    assert!(row.estimated && row.outcome == "partial" && row.cost > 0, "{row:?}");
}

/// S8-06: a broken upstream never looks whole
#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_breaks_off_ends_in_an_error_and_the_connection_goes_on() {
    let scene = Scene::new().await;
    scene.upstream.next(Behaviour::fault(Fault::CutAfter(2)));
    let mut socket = open(&scene).await;
    socket.send(&create("hello")).await;
    let events = socket.until("response.failed").await;
    assert!(events.iter().all(|event| event["type"] != "response.completed"), "{events:#?}");
    let failed = &events.last().expect("the end")["response"];
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("server_error")));
    response(&mut socket, &create("again")).await;
    socket.close().await;
}

/// A-07: a revoked token ends the connection, whatever is under way
#[tokio::test(flavor = "multi_thread")]
async fn revoking_the_token_closes_the_connection() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::gated(6, 2, &Gate::new()));
    let (id, token) = scene.admin().mint("acme", &json!({})).await;
    let mut socket = Socket::open(scene.gateway.edge(), PATH, &token).await;
    socket.send(&create("hello")).await;
    socket.event("response.output_text.delta").await;
    scene.admin().revoke("acme", &id).await;
    let (events, ended) = socket.rest().await;
    let error = events.last().expect("an error");
    assert_eq!((&error["status"], &error["error"]["code"]), (&json!(401), &json!("invalid_api_key")));
    assert_eq!(ended, Ended::Closed(1008));
    until_true("the upstream's connection to be cut", || scene.upstream.last().closed_at().is_some()).await;
    assert!(scene.settled().await.posted > 0);
}

/// What waits on a connection is bounded
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_are_bounded() {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).edge_key("max_body_bytes = 65536");
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(2, 1, &gate));
    let mut socket = open(&scene).await;
    socket.send(&create("hello")).await;
    socket.event("response.output_text.delta").await;
    for _ in 0..3 {
        socket.send(&create(&"x".repeat(30_000))).await;
    }
    let full = socket.event("error").await;
    assert_eq!((&full["status"], &full["error"]["code"]), (&json!(429), &json!("websocket_queue_full")));
    gate.open();
    for _ in 0..3 {
        socket.event("response.completed").await;
    }
    assert_eq!(scene.upstream.calls(), 3);
    socket.close().await;
}

/// K1: the official client, with nothing but the base URL and the key changed
#[tokio::test(flavor = "multi_thread")]
async fn the_official_python_client_continues_over_a_websocket() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(2));
    let url = format!("http://{}/v1", scene.gateway.edge());
    let result = sdk::run_python("lane.py", &[&url, &scene.tenant.token, "alpha"]).await;
    assert_eq!(
        result,
        json!({
            "texts": ["word0 word1 ", "word0 word1 "], "continued": true, "final": "word0 word1 ",
            "error": [400, "previous_response_not_found"]
        })
    );
    assert_eq!(scene.rows_once(3).await.len(), 3);
}

/// E-11: a request that is nested too deeply is refused, and the connection goes on
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_nested_too_deeply_is_refused() {
    let scene = Scene::new().await;
    let mut socket = open(&scene).await;
    for (opened, closed) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", opened.repeat(100_000), closed.repeat(100_000));
        for text in [
            format!(r#"{{"type":"response.create","model":"alpha","input":{deep}}}"#),
            format!(r#"{{"type":"response.create","model":"alpha","input":"x","later":{deep}}}"#),
            deep.clone(),
        ] {
            socket.send_text(&text).await;
            let refused = socket.next().await.expect("an event");
            assert_eq!((&refused["type"], &refused["status"]), (&json!("error"), &json!(400)), "{refused}");
        }
    }
    assert_eq!((scene.upstream.calls(), scene.budget().await.pending), (0, 0));
    response(&mut socket, &create("hello")).await;
    socket.close().await;
}
