//! HTTP/2 as an attacker speaks it: what floods, bombs or dribbles ends its own connection, memory stays bounded, and whoever
//! asks properly is served.

use std::collections::BTreeSet;

use openclawmu_tests::client::chat;
use openclawmu_tests::h2::{self, Connection, frame};
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Behaviour, Fault, Scene, Setup, Upstream, raw};
use serde_json::json;

/// The most that the process may grow under any of these, in KiB.
const GROWTH_KIB: u64 = 48 << 10;

async fn scene(edge_keys: &[&str]) -> Scene {
    let upstream = Upstream::start().await;
    let setup = edge_keys.iter().fold(Setup::with(&upstream), |setup, key| setup.edge_key(key));
    Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await
}

fn bearer(scene: &Scene) -> String {
    format!("Bearer {}", scene.tenant.token)
}

/// Whoever asks properly is served, over either version.
async fn assert_serves(scene: &Scene, what: &str) {
    for client in [scene.client.clone(), scene.client.over_h2c()] {
        let reply = client.chat(&chat("alpha", "a good request", 5)).await;
        assert_eq!(reply.status, 200, "{what}: {}", reply.text());
    }
}

/// E-08: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, empty and padded DATA, unknown frames
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_frames_without_content_ends_its_connection_and_no_other() {
    let scene = scene(&[]).await;
    assert_serves(&scene, "before").await;
    let before = scene.gateway.resident_kib();
    let block = h2::request("POST", "/v1/chat/completions", &bearer(&scene));
    let open = frame(h2::HEADERS, h2::END_HEADERS, 1, &block);
    let padding = [&[250_u8][..], &[0; 250]].concat();
    for (what, opened, bytes) in [
        ("PING", false, frame(h2::PING, 0, 0, &[7; 8])),
        ("SETTINGS", false, frame(h2::SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("PRIORITY", false, frame(h2::PRIORITY, 0, 3, &[0, 0, 0, 1, 9])),
        ("WINDOW_UPDATE of the connection", false, frame(h2::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("WINDOW_UPDATE of a stream", true, frame(h2::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        ("WINDOW_UPDATE by zero", true, frame(h2::WINDOW_UPDATE, 0, 1, &[0; 4])),
        ("empty DATA", true, frame(h2::DATA, 0, 1, &[])),
        ("padding alone", true, frame(h2::DATA, h2::PADDED, 1, &padding)),
        ("unknown", false, frame(0xbe, 0, 0, &[0; 16])),
    ] {
        let mut connection = Connection::open(scene.gateway.edge(), &[]).await;
        if opened {
            assert!(connection.send(&open).await, "{what}");
        }
        let (flood, served) = tokio::join!(connection.flood(&bytes, 100_000), assert_serves(&scene, what));
        let () = served;
        assert!(flood.is_some(), "{what}: a hundred thousand, and the connection lives");
    }
    let grown = scene.gateway.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "the floods grew the gateway by {grown} KiB");
}

/// E-08, the positive twin: a client that pings now and then, and pads what it sends, is served on the same connection
#[tokio::test(flavor = "multi_thread")]
async fn pings_padding_and_window_updates_of_an_honest_client_are_served() {
    let scene = scene(&[]).await;
    let mut connection = Connection::open(scene.gateway.edge(), &[]).await;
    let body = chat("alpha", "padded", 5).to_string();
    for stream in (1..80).step_by(2) {
        let block = h2::request("POST", "/v1/chat/completions", &bearer(&scene));
        let (first, second) = body.as_bytes().split_at(20);
        let padded = [&[9_u8][..], first, &[0; 9]].concat();
        let bytes = [
            frame(h2::PING, 0, 0, &[1; 8]),
            frame(h2::HEADERS, 0, stream, &block[..30]),
            frame(h2::CONTINUATION, h2::END_HEADERS, stream, &block[30..]),
            frame(h2::DATA, h2::PADDED, stream, &padded),
            frame(h2::WINDOW_UPDATE, 0, 0, &[0, 0, 64, 0]),
            frame(h2::DATA, 0, stream, &[]),
            frame(h2::DATA, h2::END_STREAM, stream, second),
        ];
        assert!(connection.send(&bytes.concat()).await);
    }
    let mut ended = BTreeSet::new();
    while ended.len() < 40 {
        let frame = connection.frame().await.expect("the connection lives");
        assert!(!matches!(frame.kind, h2::RST_STREAM | h2::GOAWAY), "{frame:?}");
        if matches!(frame.kind, h2::DATA | h2::HEADERS) && frame.flags & h2::END_STREAM != 0 {
            ended.insert(frame.stream);
        }
    }
    assert_eq!(scene.upstream.calls(), 40);
    assert!(scene.upstream.exchanges().iter().all(|exchange| exchange.json()["messages"][0]["content"] == "padded"));
}

/// E-08: a head whose few bytes unfold to megabytes, and one that never ends
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_unfolds_without_end_is_refused_in_bounded_memory() {
    let scene = scene(&["header_timeout_seconds = 1"]).await;
    assert_serves(&scene, "before").await;
    let before = scene.gateway.resident_kib();
    for at in 0..8 {
        let mut connection = Connection::open(scene.gateway.edge(), &[]).await;
        let mut block = h2::request("GET", "/v1/models", &bearer(&scene));
        block.extend(h2::indexed_literal(&format!("x-bomb-{at}"), &"b".repeat(3_900)));
        // Each byte stands for the whole field: 16 thousand of them are 60 MB.
        block.resize(16_000, 0x80 | 62);
        assert!(connection.send(&frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &block)).await);
        let frames = until_answer(&mut connection).await;
        let status = frames.iter().find(|frame| frame.kind == h2::HEADERS).map(|frame| frame.payload.clone());
        assert!(status.is_none_or(|block| block[0] != 0x88), "a bomb is no 200");
    }
    let grown = scene.gateway.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "header bombs grew the gateway by {grown} KiB");
    let block = h2::request("GET", "/v1/models", &bearer(&scene));
    let more = h2::literal("x-more", &"m".repeat(1_000));
    for piece in [&more[..], &[]] {
        let mut connection = Connection::open(scene.gateway.edge(), &[]).await;
        assert!(connection.send(&frame(h2::HEADERS, 0, 1, &block)).await);
        let flood = connection.flood(&frame(h2::CONTINUATION, 0, 1, piece), 100_000).await;
        assert!(flood.is_some(), "a head of a hundred thousand pieces is still read");
    }
    let mut dribbling = Connection::open(scene.gateway.edge(), &[]).await;
    assert!(dribbling.send(&frame(h2::HEADERS, 0, 1, &block)).await);
    dribbling.rest().await;
    let mut silent = raw::Connection::open(scene.gateway.edge()).await;
    silent.send(h2::PREFACE).await;
    silent.rest().await;
    let grown = scene.gateway.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "endless heads grew the gateway by {grown} KiB");
    assert_serves(&scene, "after").await;
}

/// The frames up to the answer of the first stream, or the end.
async fn until_answer(connection: &mut Connection) -> Vec<h2::Frame> {
    let mut frames = Vec::new();
    while let Some(frame) = connection.frame().await {
        let last = frame.stream == 1 && matches!(frame.kind, h2::HEADERS | h2::RST_STREAM) || frame.kind == h2::GOAWAY;
        frames.push(frame);
        if last {
            break;
        }
    }
    frames
}

/// E-08: requests that are taken back at once (CVE-2023-44487)
#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_their_connection_and_everything_is_settled() {
    let scene = scene(&[]).await;
    scene.upstream.always(Behaviour::words(3));
    assert_serves(&scene, "before").await;
    let (before, calls) = (scene.gateway.resident_kib(), scene.upstream.calls());
    let (block, body) = (h2::request("POST", "/v1/chat/completions", &bearer(&scene)), chat("alpha", "reset", 5));
    let mut connection = Connection::open(scene.gateway.edge(), &[]).await;
    let mut pairs = Vec::new();
    for stream in (1..20_000).step_by(2) {
        pairs.extend(frame(h2::HEADERS, h2::END_HEADERS, stream, &block));
        pairs.extend(frame(h2::DATA, h2::END_STREAM, stream, body.to_string().as_bytes()));
        pairs.extend(frame(h2::RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    let (flood, ()) = tokio::join!(connection.flood(&pairs, 1), assert_serves(&scene, "meanwhile"));
    assert!(flood.is_some(), "ten thousand resets, and the connection lives");
    let reached = scene.upstream.calls() - calls;
    assert!(reached < 1_000, "{reached} of ten thousand reached the upstream");
    let grown = scene.gateway.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "resets grew the gateway by {grown} KiB");
    assert_eq!(scene.settled().await.pending, 0);
}

/// E-08 and pingora.md's requests of a connection: ten thousand streams on one, as fast as they can be written
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_carries_no_more_than_its_requests_and_says_so() {
    let scene = scene(&["keepalive_requests = 200"]).await;
    assert_serves(&scene, "before").await;
    let before = scene.gateway.resident_kib();
    let block = h2::request("GET", "/v1/models", &bearer(&scene));
    let mut connection = Connection::open(scene.gateway.edge(), &[]).await;
    let all: Vec<u8> = (1..20_000)
        .step_by(2)
        .flat_map(|stream| frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, stream, &block))
        .collect();
    let (flood, ()) = tokio::join!(connection.flood(&all, 1), assert_serves(&scene, "meanwhile"));
    assert!(flood.is_some(), "ten thousand requests, and the connection lives");
    let grown = scene.gateway.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "streams grew the gateway by {grown} KiB");

    let block = h2::request("GET", "/healthz", "");
    let mut orderly = Connection::open(scene.gateway.edge(), &[]).await;
    let (mut answered, mut told) = (0, false);
    for stream in (1..).step_by(2).take(300) {
        if !orderly.send(&frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, stream, &block)).await {
            break;
        }
        let ended = loop {
            let Some(frame) = orderly.frame().await else { break None };
            told |= frame.kind == h2::GOAWAY;
            if frame.kind == h2::PING && frame.flags == 0 {
                orderly.send(&h2::frame(h2::PING, h2::ACK, 0, &frame.payload)).await;
            }
            if frame.stream == stream && frame.flags & h2::END_STREAM != 0 && frame.kind == h2::DATA {
                break Some(());
            }
        };
        let Some(()) = ended else { break };
        answered += 1;
    }
    assert!(told && (200..=202).contains(&answered), "told: {told}, {answered} answered");

    let client = scene.client.over_h2c();
    for at in 0..450 {
        assert_eq!(client.get("/v1/models").await.status, 200, "a client that heeds it loses nothing: {at}");
    }
}

/// E-07 over HTTP/2, where the session behind has no timeout of its own: a body that never comes, an answer that nobody takes
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_waits_for_its_client_is_ended() {
    let scene = scene(&["body_timeout_seconds = 1", "write_timeout_seconds = 1"]).await;
    let block = h2::request("POST", "/v1/chat/completions", &bearer(&scene));
    let mut connection = Connection::open(scene.gateway.edge(), &[]).await;
    let bytes = [frame(h2::HEADERS, h2::END_HEADERS, 1, &block), frame(h2::DATA, 0, 1, b"{")].concat();
    assert!(connection.send(&bytes).await);
    let frames = until_answer(&mut connection).await;
    assert!(frames.iter().any(|frame| frame.stream == 1), "{frames:?}");
    assert_eq!(scene.upstream.calls(), 0);

    scene.upstream.always(Behaviour::fault(Fault::Endless));
    // SETTINGS_INITIAL_WINDOW_SIZE of zero: nothing of an answer's body may be sent.
    let mut connection = Connection::open(scene.gateway.edge(), &[0, 4, 0, 0, 0, 0]).await;
    let mut body = chat("alpha", "endless", 2_000);
    body["stream"] = json!(true);
    let bytes = [
        frame(h2::HEADERS, h2::END_HEADERS, 1, &block),
        frame(h2::DATA, h2::END_STREAM, 1, body.to_string().as_bytes()),
    ];
    assert!(connection.send(&bytes.concat()).await);
    until_true("the upstream is cut under a client that takes nothing", || {
        scene.upstream.calls() == 1 && scene.upstream.last().closed_at().is_some()
    })
    .await;
    assert_eq!(scene.settled().await.pending, 0);
    scene.upstream.always(Behaviour::words(3));
    assert_serves(&scene, "after").await;
}
