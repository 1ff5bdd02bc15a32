//! A process that may open nothing more: it says so, refuses what it cannot do, and heals by itself.

use openclawmu_tests::client::chat;
use openclawmu_tests::raw::{self, Connection, Message};
use openclawmu_tests::wait::until;
use openclawmu_tests::{Scene, Setup, Upstream};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

/// An answer on a connection that is open already.
async fn ask(connection: &mut Connection, method: &str, path: &str, token: &str, body: &Value) -> Message {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    assert!(connection.send(&raw::request(method, path, &headers, &body)).await, "an open connection");
    connection.answer().await.expect("an answer")
}

/// D-09
#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_descriptor_left_requests_are_503_and_it_heals_by_itself() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let setup = Setup::with(&upstream).upstream("other", other.address(), &[], &[]);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    let (token, none) = (scene.tenant.token.clone(), Value::Null);
    let mut edge = Connection::open(scene.gateway.edge()).await;
    let mut admin = Connection::open(scene.gateway.admin_address()).await;
    let (known, unknown) = (chat("alpha", "hello", 5), chat("other/alpha", "hello", 5));
    assert_eq!(ask(&mut edge, "POST", "/v1/chat/completions", &token, &known).await.status(), 200);
    assert_eq!(ask(&mut edge, "GET", "/v1/quota", &token, &none).await.status(), 200);
    assert_eq!(ask(&mut admin, "GET", "/readyz", "", &none).await.status(), 200);

    let pid = i32::try_from(scene.gateway.pid()).ok().and_then(Pid::from_raw);
    let usual = getrlimit(Resource::Nofile);
    let limit = |current| {
        prlimit(pid, Resource::Nofile, Rlimit { current, maximum: usual.maximum }).expect("a limit");
    };
    limit(Some(3));
    let refused = ask(&mut edge, "POST", "/v1/chat/completions", &token, &unknown).await;
    assert_eq!((refused.status(), &refused.json()["error"]["code"]), (503, &json!("overloaded")), "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    for (listener, what) in [(&mut edge, "the edge"), (&mut admin, "the admin listener")] {
        assert_eq!(ask(listener, "GET", "/readyz", "", &none).await.status(), 503, "{what} says that it is not ready");
        assert_eq!(ask(listener, "GET", "/healthz", "", &none).await.status(), 200, "{what} says that it lives");
    }
    assert_eq!(ask(&mut edge, "GET", "/v1/quota", &token, &none).await.status(), 200, "what needs nothing is served");
    assert_eq!(other.calls(), 0);

    limit(usual.current);
    for listener in [&mut edge, &mut admin] {
        assert_eq!(ask(listener, "GET", "/readyz", "", &none).await.status(), 200);
    }
    let good = ask(&mut edge, "POST", "/v1/chat/completions", &token, &unknown).await;
    assert_eq!(good.status(), 200, "the upstream is not blamed: {}", good.text());
    // Who could not be let in waits, and is let in.
    until("a new connection is served", || async {
        let reply = scene.client.try_post("/v1/chat/completions", &known).await;
        reply.ok().filter(|reply| reply.status == 200)
    })
    .await;
    let rows = scene.rows_once(4).await;
    assert_eq!(rows.iter().filter(|row| row.outcome == "void" && row.cost == 0).count(), 1, "{rows:#?}");
    scene.balanced().await;
}
