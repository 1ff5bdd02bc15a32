//! Streams: events arrive whole, at once, in order, and an end that isn't one never looks like one.

use std::time::Duration;

use openclawmu_tests::canned::{Answer, Canned};
use openclawmu_tests::client::chat;
use openclawmu_tests::money::cost;
use openclawmu_tests::raw::{self, Connection};
use openclawmu_tests::setup::PROVIDER_KEY_ENV;
use openclawmu_tests::sse::{self, Event};
use openclawmu_tests::wait::{until_true, until_within};
use openclawmu_tests::{Behaviour, Bill, Fault, Gate, Gateway, Pace, Scene, Setup, Upstream, times};
use serde_json::{Value, json};

const SHORT_IDLE: [&str; 2] = ["first_byte_timeout_ms = 10000", "idle_timeout_ms = 500"];

fn spoken() -> Behaviour {
    let texts = ["Grüße, ", "世界 ", "👩‍👩‍👧 ", "\n\ndata: [DONE]\n\n", "end"];
    Behaviour { texts: Some(texts.iter().map(|text| (*text).to_owned()).collect()), ..Behaviour::default() }
}

/// A connection on which a chat has been asked for, and nothing read.
async fn ask(gateway: &Gateway, token: &str, body: &Value) -> Connection {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let mut connection = Connection::open(gateway.edge()).await;
    connection.send(&raw::request("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes())).await;
    connection
}

/// Events with what differs between two requests by nature taken out.
fn comparable(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| {
            if event.done() {
                return event.data.clone();
            }
            let mut chunk = event.json();
            chunk["id"] = Value::Null;
            chunk.to_string()
        })
        .collect()
}

/// S8-01: every third offset, all of them in a soak run
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_split_at_any_offset_gives_identical_events() {
    let scene = Scene::new().await;
    scene.upstream.always(spoken());
    let body = chat("alpha", "hello", 20);
    let whole = scene.client.stream(&body).await.rest().await;
    assert_eq!(whole.iter().map(Event::text).collect::<String>(), spoken().texts.expect("texts").concat());
    assert!(whole.last().is_some_and(Event::done));
    let expected = comparable(&whole);
    let length = usize::try_from(scene.upstream.last().bytes_sent()).expect("small");
    for at in (1..length).step_by(times(3, 1)) {
        scene.upstream.always(Behaviour { pace: Pace::SplitAt(at), ..spoken() });
        let events = scene.client.stream(&body).await.rest().await;
        assert_eq!(comparable(&events), expected, "split at {at}");
    }
    scene.upstream.always(Behaviour { pace: Pace::EachByte, ..spoken() });
    assert_eq!(comparable(&scene.client.stream(&body).await.rest().await), expected, "each byte by itself");
}

/// dialects.md: some clients lose events that are split over packets
#[tokio::test(flavor = "multi_thread")]
async fn each_write_to_the_client_is_one_whole_event() {
    let scene = Scene::new().await;
    for pace in [Pace::Whole, Pace::EachByte, Pace::SplitAt(100)] {
        scene.upstream.always(Behaviour { pace, ..spoken() });
        let mut body = chat("alpha", "hello", 20);
        body["stream"] = json!(true);
        let mut connection = ask(&scene.gateway, &scene.tenant.token, &body).await;
        let answer = connection.answer().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        for chunk in &answer.chunks {
            let text = String::from_utf8(chunk.clone()).expect("whole UTF-8");
            assert!(text.ends_with("\n\n") && text.matches("\n\n").count() == 1, "{pace:?}: {text:?}");
        }
        assert_eq!(answer.chunks.len(), sse::all(&answer.body).len(), "{pace:?}");
        connection.send(&raw::request("GET", "/healthz", &[], b"")).await;
        let next = connection.answer().await.expect("the connection lives on after a stream");
        assert_eq!(next.status(), 200);
    }
}

/// An event that is known by the bytes around it must not overtake the beginning of what stands before it
#[tokio::test(flavor = "multi_thread")]
async fn a_known_event_stays_behind_what_is_still_held_of_another() {
    let chunk = |choice: Value| {
        let chunk = json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "alpha", "choices": [choice] });
        format!("data: {chunk}\n\n")
    };
    let text = |text: &str| chunk(json!({ "index": 0, "delta": { "content": text }, "finish_reason": null }));
    let stop = chunk(json!({ "index": 0, "delta": {}, "finish_reason": "stop" }));
    // The comment ends where the third event's line does: to a client that event is a part of it.
    let pieces = [text("a"), text("b"), ": a comment, cut ".to_owned(), text("c"), text("d"), stop];
    let usage = json!({ "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 });
    let usage = json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "alpha", "choices": [], "usage": usage });
    let tail = [format!("data: {usage}\n\n"), "data: [DONE]\n\n".to_owned()];
    let sent: Vec<Vec<u8>> = pieces.iter().chain(&tail).map(|piece| piece.clone().into_bytes()).collect();
    let upstream = Canned::start(move |_| Answer::chunked(&[("content-type", "text/event-stream")], &sent)).await;
    let config = format!(
        "[[upstream]]\nname = \"canned\"\nkind = \"openai\"\nbase_url = \"http://{}/v1\"\napi_key = \"env:{PROVIDER_KEY_ENV}\"\nmodels = [\"alpha\"]\n",
        upstream.address()
    );
    let gateway = Gateway::start(Setup::bare().line(&config)).await;
    let tenant = gateway.admin().tenant("acme", json!({})).await;
    let mut body = chat("alpha", "hello", 20);
    body["stream"] = json!(true);
    let answer = ask(&gateway, &tenant.token, &body).await.answer().await.expect("an answer");
    let got = String::from_utf8(answer.body).expect("UTF-8");
    assert_eq!(got, format!("{}data: [DONE]\n\n", pieces.concat()), "in the order in which it was sent");
    let bill = Bill { model: "alpha".to_owned(), prompt: 3, completion: 4, ..Bill::default() };
    assert_eq!(gateway.admin().settled("acme").await.posted, cost(&bill));
}

/// S8-02, as cause and effect instead of a time: the first event is there before the upstream sends the second
#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_the_client_before_the_next_one_is_sent() {
    let scene = Scene::new().await;
    for client in [scene.client.clone(), scene.client.over_h2c()] {
        let gate = Gate::new();
        scene.upstream.always(Behaviour::gated(3, 1, &gate));
        let mut stream = client.stream(&chat("alpha", "hello", 20)).await;
        assert_eq!(stream.texts(1).await, ["word0 "]);
        assert_eq!(scene.upstream.last().content_chunks(), 1);
        gate.open();
        assert!(stream.rest().await.last().is_some_and(Event::done));
    }
}

/// S8-03
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_reading_costs_bounded_memory_and_disturbs_nobody() {
    let scene = Scene::with_quota(json!({})).await;
    scene.upstream.when("for ever", Behaviour::fault(Fault::Endless));
    scene.client.chat(&chat("alpha", "warm up", 5)).await.ok();
    let before = scene.gateway.resident_kib();
    let mut body = chat("alpha", "for ever", 4_000);
    body["stream"] = json!(true);
    let mut stuck = Vec::new();
    for _ in 0..16 {
        stuck.push(ask(&scene.gateway, &scene.tenant.token, &body).await);
    }
    until_true("sixteen streams upstream", || scene.upstream.calls() == 17).await;
    let total = || scene.upstream.exchanges().iter().map(|exchange| exchange.bytes_sent()).sum::<u64>();
    let mut last = 0;
    until_within("the upstream is held back", Duration::from_secs(60), || {
        let now = total();
        let still = now == last && now > 0;
        last = now;
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            still.then_some(())
        }
    })
    .await;
    let grown = scene.gateway.resident_kib().saturating_sub(before);
    assert!(grown < 16 * 256 + 16 * 1024, "16 stuck readers grew the gateway by {grown} KiB");
    scene.client.chat(&chat("alpha", "and the others?", 5)).await.ok();
    drop(stuck);
    until_true("the upstreams are cut", || scene.upstream.exchanges().iter().all(|exchange| exchange.ended())).await;
}

/// S8-03, E-07: whoever stops reading keeps neither its budget nor its place for long
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_reading_is_cut_and_settled() {
    let upstream = Upstream::start().await;
    upstream.when("for ever", Behaviour::fault(Fault::Endless));
    let gateway = Gateway::start(Setup::with(&upstream).edge_key("write_timeout_seconds = 1")).await;
    let quota = json!({"usd_per_day": "5", "concurrent_requests": 1});
    let tenant = gateway.admin().tenant("acme", quota).await;
    let mut body = chat("alpha", "for ever", 4_000);
    body["stream"] = json!(true);
    let stuck = ask(&gateway, &tenant.token, &body).await;
    until_true("the stream runs", || upstream.calls() == 1).await;
    until_within("the upstream is cut", Duration::from_secs(60), || {
        let ended = upstream.exchanges().iter().all(|exchange| exchange.ended());
        async move { ended.then_some(()) }
    })
    .await;
    let client = gateway.client(&tenant.token);
    until_within("its place is free again", Duration::from_secs(10), || async {
        (client.chat(&chat("alpha", "next", 5)).await.status == 200).then_some(())
    })
    .await;
    drop(stuck);
}

/// S8-04
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_stalls_ends_in_an_error_event_and_settles() {
    let scene = Scene::with_keys(&SHORT_IDLE).await;
    scene.upstream.always(Behaviour::fault(Fault::StallAfter(2)));
    let mut stream = scene.client.stream(&chat("alpha", "hello", 20)).await;
    let events = stream.rest().await;
    let last = events.last().expect("an event").json();
    assert_eq!(last["error"]["type"], "upstream_error", "{last}");
    assert!(last["error"]["message"].is_string() && last["error"].get("code").is_some(), "{last}");
    assert!(!events.iter().any(Event::done));
    let row = scene.rows_once(1).await.pop().expect("a row");
    assert!(row.cost > 0 && row.estimated, "{row:?}");
    assert_eq!(scene.settled().await.pending, 0);
    let exchange = scene.upstream.last();
    until_true("the upstream's connection is closed", || exchange.closed_at().is_some()).await;
}

/// S8-05; `LiteLLM` 13774, 37140: the upstream goes on generating after the client left. The bound of the check is one second
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cuts_the_upstream() {
    let scene = Scene::new().await;
    for client in [scene.client.clone(), scene.client.over_h2c()] {
        let gate = Gate::new();
        scene.upstream.always(Behaviour::gated(10, 2, &gate));
        let mut stream = client.stream(&chat("alpha", "hello", 20)).await;
        stream.texts(2).await;
        let exchange = scene.upstream.last();
        drop((stream, client));
        until_within("the upstream is cut", Duration::from_secs(1), || async { exchange.closed_at() }).await;
    }
    scene.upstream.always(Behaviour::fault(Fault::Silent));
    let calls = scene.upstream.calls();
    let client = scene.client.clone();
    let waiting = tokio::spawn(async move { client.chat(&chat("alpha", "hello", 20)).await });
    until_true("the call upstream", || scene.upstream.calls() > calls).await;
    let exchange = scene.upstream.last();
    waiting.abort();
    until_within("a waiting call is cut too", Duration::from_secs(1), || async { exchange.closed_at() }).await;
    assert_eq!(scene.settled().await.pending, 0);
}

/// S8-06
#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_stream_never_yields_done_but_an_error_event() {
    let scene = Scene::new().await;
    for client in [scene.client.clone(), scene.client.over_h2c()] {
        for chunks in [1, 3, 5] {
            scene.upstream.always(Behaviour::fault(Fault::CutAfter(chunks)));
            let events = client.stream(&chat("alpha", "hello", 20)).await.rest().await;
            assert!(!events.iter().any(Event::done), "{events:?}");
            let last = events.last().expect("an event").json();
            assert_eq!(last["error"]["type"], "upstream_error", "{last}");
        }
    }
}

/// S8-08
#[tokio::test(flavor = "multi_thread")]
async fn an_endless_event_ends_in_an_error_within_bounded_memory() {
    let scene = Scene::new().await;
    scene.client.chat(&chat("alpha", "warm up", 5)).await.ok();
    let before = scene.gateway.resident_kib();
    scene.upstream.always(Behaviour::fault(Fault::HugeEvent(12 * 1024 * 1024)));
    let events = scene.client.stream(&chat("alpha", "hello", 20)).await.rest().await;
    let last = events.last().expect("an event").json();
    assert_eq!(last["error"]["type"], "upstream_error", "{last}");
    assert!(!events.iter().any(Event::done));
    let grown = scene.gateway.resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "an event that is cut at 10 MiB grew the gateway by {grown} KiB");
    scene.upstream.always(Behaviour { padding_bytes: 9 * 1024 * 1024, ..Behaviour::default() });
    let reply = scene.client.chat(&chat("alpha", "a large good answer", 20)).await;
    assert_eq!(reply.status, 200, "{}", reply.text().len());
    assert!(reply.body.len() > 9 * 1024 * 1024);
}

/// dialects.md: the same dialect on both sides passes byte for byte
#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_pass_both_ways_and_the_key_is_the_upstreams_own() {
    let scene = Scene::new().await;
    let mut body = chat("alpha", "hello", 20);
    body["metadata"] = json!({ "a": "b" });
    body["some_new_field"] = json!([1, { "deep": null }]);
    body["temperature"] = json!(0.30000000000000004);
    let reply = scene.client.chat(&body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let exchange = scene.upstream.last();
    let sent = exchange.json();
    for (key, value) in body.as_object().expect("an object") {
        assert_eq!(&sent[key], value, "{key}");
    }
    assert_eq!(exchange.path, "/v1/chat/completions");
    assert_eq!(reply.ok()["system_fingerprint"], "fp_scripted");
    for name in ["accept-encoding", "x-api-key", "cookie", "x-forwarded-for"] {
        assert_eq!(exchange.header(name), None, "{name} stays here");
    }
    assert!(
        !exchange.headers.iter().any(|(_, value)| value.contains(&scene.tenant.token)),
        "the tenant's token never leaves"
    );
}

/// pingora.md: large bodies both ways, over kept connections
#[tokio::test(flavor = "multi_thread")]
async fn two_megabyte_bodies_pass_and_connections_are_reused() {
    let scene = Scene::with_quota(json!({})).await;
    for _ in 0..4 {
        scene.upstream.always(Behaviour { padding_bytes: 2 * 1024 * 1024, ..Behaviour::default() });
        let reply = scene.client.chat(&chat("alpha", &"long prompt ".repeat(170_000), 20)).await;
        assert_eq!(reply.status, 200, "{}", reply.text().get(..300).unwrap_or_default());
        assert!(reply.body.len() > 2 * 1024 * 1024);
        assert_eq!(scene.upstream.last().json()["messages"][0]["content"].as_str().map(str::len), Some(170_000 * 12));
    }
    assert!(scene.upstream.connections() < 4, "{} connections for four requests", scene.upstream.connections());
}
