//! Clients that hold what they were given: thousands of slow heads and bodies, readers that take nothing, handshakes that never
//! end. Each is cut at its deadline, and meanwhile whoever asks properly is served.

use std::sync::Arc;

use openclawmu_tests::client::chat;
use openclawmu_tests::raw::{self, Connection};
use openclawmu_tests::tls::TlsEdge;
use openclawmu_tests::wait::{until, until_true};
use openclawmu_tests::{Behaviour, Fault, Gateway, Scene, Setup, Upstream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

/// Connections of slow clients, as the check counts them.
const SLOW: usize = 2_000;
/// Of these, readers of a stream that they don't read.
const READERS: usize = 3;

/// This process holds as many connections as the gateway does.
fn room_for_connections() {
    let files = getrlimit(Resource::Nofile);
    let wanted = 2 * u64::try_from(SLOW).expect("small") + 500;
    let most = files.maximum.unwrap_or(u64::MAX);
    assert!(most >= wanted, "this test needs {wanted} open files, and `ulimit -Hn` is {most}");
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: files.maximum }).expect("a limit within bounds");
}

/// E-07: 2,000 at once
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_slow_clients_are_cut_and_the_others_are_served_meanwhile() {
    room_for_connections();
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream)
        .edge_key("header_timeout_seconds = 10")
        .edge_key("body_timeout_seconds = 10")
        .edge_key("write_timeout_seconds = 10");
    let scene = Arc::new(Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await);
    scene.upstream.when("endless", Behaviour::fault(Fault::Endless));
    scene.client.chat(&chat("alpha", "warm up", 5)).await.ok();
    let before = scene.gateway.resident_kib();
    let bearer = format!("Bearer {}", scene.tenant.token);
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: {bearer}\r\n");
    let mut stream = chat("alpha", "endless", 1_000);
    stream["stream"] = json!(true);
    let stream = stream.to_string();
    let endless = format!("{head}content-length: {}\r\n\r\n{stream}", stream.len());
    let mut opening = JoinSet::new();
    for at in READERS..SLOW {
        let unfinished = format!("{head}content-length: 100000\r\n\r\n{{");
        let said = if at % 2 == 0 { head.clone() } else { unfinished };
        let edge = scene.gateway.edge();
        opening.spawn(async move {
            let mut connection = Connection::open(edge).await;
            assert!(connection.send(said.as_bytes()).await);
            connection
        });
    }
    let mut slow = opening.join_all().await;
    let open = || async { scene.admin().metric("openclawmu_edge_connections", &[]).await };
    until("all of them to be there", || async { (open().await >= 1_997).then_some(()) }).await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut connection = Connection::open(scene.gateway.edge()).await;
        assert!(connection.send(endless.as_bytes()).await);
        readers.push(connection);
    }
    let mut good = JoinSet::new();
    for client in 0..4 {
        let scene = Arc::clone(&scene);
        good.spawn(async move {
            let client = if client % 2 == 0 { scene.client.clone() } else { scene.client.over_h2c() };
            for _ in 0..25 {
                client.chat(&chat("alpha", "a good request", 5)).await.ok();
            }
        });
    }
    while let Some(served) = good.join_next().await {
        served.expect("every good client is served");
    }
    let grown = scene.gateway.resident_kib().saturating_sub(before);
    let each = grown / u64::try_from(SLOW).expect("small");
    assert!(each < 192, "each slow client grew the gateway by {each} KiB");
    for connection in &mut slow {
        // A body that does not come may be told so first.
        let said = String::from_utf8_lossy(&connection.rest().await).into_owned();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    }
    let streams = || scene.upstream.exchanges().into_iter().filter(|exchange| exchange.json()["stream"] == true);
    until_true("the readers' streams to be cut", || {
        streams().count() == READERS && streams().all(|exchange| exchange.closed_at().is_some())
    })
    .await;
    assert_eq!(scene.settled().await.pending, 0);
}

/// pingora.md: all connections are capped together
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_holds_only_so_many_connections() {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).edge_key("max_connections = 6");
    let scene = Scene::of(upstream, setup, json!({})).await;
    let ping = raw::request("GET", "/healthz", &[], b"");
    let ask = || async {
        let mut connection = Connection::open(scene.gateway.edge()).await;
        connection.send(&ping).await;
        connection.answer().await.map(|answer| (answer.status(), connection))
    };
    // The harness' own probes may still be closing.
    let held = until("six places", || async {
        let mut held = Vec::new();
        while held.len() < 6 {
            held.push(ask().await?);
        }
        Some(held)
    })
    .await;
    assert!(held.iter().all(|(status, _)| *status == 200));
    for _ in 0..6 {
        assert!(ask().await.is_none(), "a seventh is closed without a word");
    }
    drop(held);
    until("room again", ask).await;
}

/// E-07 over TLS: a handshake that never ends has a place and a deadline like any other connection, and so has a connection
/// that agrees on HTTP/2 and then says nothing
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_never_ends_is_counted_and_cut() {
    let edge = TlsEdge::new();
    let setup = Setup::bare().edge_key("header_timeout_seconds = 2").edge_key("max_connections = 4");
    let gateway = Gateway::start(setup.edge_tls(&edge.cert(), &edge.key())).await;
    let health = || async { edge.get(gateway.edge(), "/healthz").await };
    until("room for the first", || async { health().await.ok() }).await;
    let open = || async { gateway.admin().metric("openclawmu_edge_connections", &[]).await };
    until("nobody there", || async { (open().await == 0).then_some(()) }).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(Connection::open(gateway.edge()).await);
    }
    let mut mute = edge.connect(gateway.edge(), "h2").await;
    until("four places taken", || async { (open().await == 4).then_some(()) }).await;
    assert!(health().await.is_err(), "a fifth is closed before anything is agreed on");
    for mut connection in silent {
        assert!(connection.closes().await);
    }
    // Pings and settings of the server's own may come first.
    let mut said = Vec::new();
    drop(tokio::time::timeout(raw::PATIENCE, mute.read_to_end(&mut said)).await.expect("the end, in time"));
    until("room again", || async { health().await.ok() }).await;
    assert_eq!(edge.versions(), [http::Version::HTTP_2], "good clients spoke HTTP/2 over TLS");
}
