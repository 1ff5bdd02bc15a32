//! The scripted upstream itself, called without a gateway between: what the other tests take for granted of it.

use openclawmu_tests::client::chat;
use openclawmu_tests::raw::{self, Connection};
use openclawmu_tests::sse::Event;
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Behaviour, Client, Fault, Gate, Pace, Upstream};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_and_keeps_its_bill() {
    let upstream = Upstream::start().await;
    let client = Client::new(upstream.address(), "any");
    let answer = client.chat(&chat("alpha", "one two three", 3)).await.ok();
    assert_eq!(answer["choices"][0]["message"]["content"], "word0 word1 word2 ");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["total_tokens"], 6);
    // It knows a moment after its client that all of it was taken.
    until_true("the whole answer's bill", || upstream.last().bill().complete).await;
    let bill = upstream.last().bill();
    assert_eq!((bill.prompt, bill.completion, bill.billed), (3, 3, true));
    upstream.next(Behaviour::status(429));
    assert_eq!(client.chat(&chat("alpha", "again", 3)).await.status, 429);
    assert!(!upstream.last().bill().billed);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_connections_also_after_a_refusal() {
    let upstream = Upstream::start().await;
    let body = serde_json::to_vec(&chat("alpha", "one two three", 3)).expect("a request");
    let request = raw::request("POST", "/v1/chat/completions", &[("content-type", "application/json")], &body);
    upstream.next(Behaviour::status(429));
    // A connection of our own: a client's pool may open another one before it has its last one back.
    let mut connection = Connection::open(upstream.address()).await;
    for status in [429, 200, 200] {
        assert!(connection.send(&request).await);
        assert_eq!(connection.answer().await.expect("an answer").status(), status);
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_streams_at_any_pace_with_usage_on_request() {
    let upstream = Upstream::start().await;
    let client = Client::new(upstream.address(), "any");
    for pace in [Pace::Whole, Pace::EachByte, Pace::SplitAt(333)] {
        upstream.always(Behaviour { pace, reasoning_tokens: 2, ..Behaviour::default() });
        let mut body = chat("beta", "hello", 20);
        let plain = client.stream(&body).await.rest().await;
        assert_eq!(plain.len(), 8, "role, five words, finish, DONE");
        assert!(plain[0].json().get("usage").is_none());
        body["stream_options"] = json!({ "include_usage": true });
        let counted = client.stream(&body).await.rest().await;
        assert!(counted[0].json()["usage"].is_null() && counted[0].json().get("usage").is_some());
        assert_eq!(counted[7].json()["usage"]["completion_tokens"], 7);
        assert_eq!(counted[7].json()["choices"], json!([]));
        assert!(counted.last().is_some_and(Event::done));
        assert_eq!(upstream.last().bill().completion, 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_breaks_where_it_is_told_to_and_sees_who_leaves() {
    let upstream = Upstream::start().await;
    let client = Client::new(upstream.address(), "any");
    upstream.next(Behaviour::fault(Fault::CutAfter(2)));
    let mut stream = client.stream(&chat("alpha", "hello", 20)).await;
    assert_eq!(stream.rest().await.len(), 3);
    assert!(stream.broken, "a cut is no proper end");
    upstream.next(Behaviour::fault(Fault::HangUpAtByte(40)));
    assert!(client.try_post("/v1/chat/completions", &chat("alpha", "hello", 20)).await.is_err());
    assert_eq!(upstream.last().bytes_sent(), 40);
    upstream.next(Behaviour::fault(Fault::InvalidJson));
    let reply = client.chat(&chat("alpha", "hello", 20)).await;
    assert!(serde_json::from_slice::<serde_json::Value>(&reply.body).is_err());
    let gate = Gate::new();
    upstream.next(Behaviour::gated(5, 1, &gate));
    let mut stream = client.stream(&chat("alpha", "hello", 20)).await;
    stream.texts(1).await;
    let exchange = upstream.last();
    until_true("the chunk is on record", || exchange.content_chunks() == 1).await;
    assert_eq!(exchange.closed_at(), None);
    drop(stream);
    until_true("the leaving is seen", || exchange.closed_at().is_some()).await;
    assert_eq!(exchange.bill().completion, 1, "what was generated is on the bill");
}
