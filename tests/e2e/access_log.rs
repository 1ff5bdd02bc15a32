//! The access log: one JSON line a request that agrees with the ledger, holds no content, and is never lost to a rotation or a shutdown.

use std::path::{Path, PathBuf};

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::gateway::free_address;
use openclawmu_tests::money::nanos;
use openclawmu_tests::setup::PROVIDER_KEY;
use openclawmu_tests::socket::Socket;
use openclawmu_tests::wait::{until, until_true};
use openclawmu_tests::{Behaviour, Gate, Scene, Setup, Upstream};
use rustix::process::Signal;
use serde_json::{Value, json};

const PROMPT: &str = "prompt-canary-7f3a";

fn file(scene: &Scene) -> PathBuf {
    scene.gateway.dir().join("access.jsonl")
}

fn lines_of(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be on its way.
    let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|err| panic!("{err}: {line}"))).collect()
}

/// The line of a request once it is there.
async fn line(scene: &Scene, request_id: &str) -> Value {
    until(&format!("the line of {request_id}"), || async {
        lines_of(&file(scene)).into_iter().find(|line| line["request_id"] == request_id)
    })
    .await
}

async fn start() -> Scene {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream)
        .upstream("gone", free_address(), &[], &["connect_timeout_ms = 500"])
        .line("[log]\naccess = \"access.jsonl\"");
    Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await
}

/// Asserts that the last request's line has these members.
async fn told(scene: &Scene, reply: &openclawmu_tests::Reply, expected: Value) -> Value {
    let line = line(scene, reply.header("x-request-id").expect("an id")).await;
    for (name, value) in expected.as_object().expect("members") {
        assert_eq!(&line[name], value, "{name} in {line}");
    }
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_one_line_that_agrees_with_the_ledger_and_holds_no_content() {
    let scene = start().await;
    scene.upstream.always(Behaviour::words(7));
    let whole = scene.client.chat(&chat("alpha", PROMPT, 20)).await;
    let expected = json!({
        "tenant": "acme", "token": scene.tenant.token_id, "ip": "127.0.0.1", "method": "POST",
        "route": "/v1/chat/completions", "status": 200, "outcome": "complete", "error": null, "dialect": "openai",
        "model": "alpha", "upstream": "scripted", "upstream_model": "alpha", "attempts": 1, "stream": false,
        "bytes_out": whole.body.len(), "estimated": false
    });
    told(&scene, &whole, expected).await;
    let unknown = scene.client.chat(&chat("nothing", PROMPT, 20)).await;
    let refused =
        json!({ "status": 404, "outcome": "refused", "error": "model_not_found", "model": "nothing", "attempts": 0 });
    told(&scene, &unknown, refused).await;
    let stranger = scene.client.with_token("nobody").get("/v1/quota").await;
    let refused =
        json!({ "status": 401, "outcome": "refused", "error": "invalid_api_key", "tenant": null, "token": null });
    told(&scene, &stranger, refused).await;
    let gone = scene.client.chat(&chat("gone/alpha", PROMPT, 20)).await;
    let failed =
        json!({ "status": 502, "outcome": "upstream_failed", "error": "upstream_unreachable", "upstream": "gone" });
    told(&scene, &gone, failed).await;
    scene.upstream.next(Behaviour::status(422));
    let passed = scene.client.chat(&chat("alpha", PROMPT, 20)).await;
    told(&scene, &passed, json!({ "status": 422, "outcome": "upstream_refused", "attempts": 1 })).await;
    let models = scene.client.over_h2c().get("/v1/models").await;
    let free =
        json!({ "method": "GET", "route": "/v1/models", "outcome": "complete", "bytes_in": 0, "upstream": null });
    assert!(told(&scene, &models, free).await.get("cost_usd").is_none(), "nothing was billed");
    let health = scene.client.get("/healthz").await;
    told(&scene, &health, json!({ "route": "/healthz", "tenant": null })).await;
    let mut socket = Socket::open(scene.gateway.edge(), "/v1/responses", &scene.tenant.token).await;
    socket.send(&json!({ "type": "response.create", "model": "alpha", "input": PROMPT, "max_output_tokens": 9 })).await;
    socket.until("response.completed").await;

    let gate = Gate::new();
    scene.upstream.next(Behaviour::gated(6, 2, &gate));
    let mut stream = scene.client.stream(&chat("alpha", PROMPT, 20)).await;
    stream.texts(2).await;
    let id = stream.header("x-request-id").expect("an id").to_owned();
    drop(stream);
    let left = line(&scene, &id).await;
    assert_eq!((&left["outcome"], &left["stream"]), (&json!("client_gone"), &json!(true)), "{left}");

    for row in scene.rows_once(5).await {
        let line = line(&scene, &row.request_id).await;
        let Some(cost) = line["cost_usd"].as_str() else {
            assert_eq!(row.cost, 0, "{line}");
            continue;
        };
        assert_eq!(nanos(cost), row.cost, "{line}");
        let counts = [row.input, row.cache_read, row.output, row.reasoning];
        let told = ["input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens"];
        assert_eq!(told.map(|name| line[name].as_u64().expect("a count")), counts, "{line}");
    }
    let text = std::fs::read_to_string(file(&scene)).expect("the log");
    for secret in [PROMPT, "word0", PROVIDER_KEY, scene.tenant.token.as_str()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(file(&scene)).expect("the log"));
    assert_eq!(mode & 0o077, 0, "nobody else reads it");
}

/// U-07's twin for this log: logrotate moves the file and sends SIGHUP
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_under_load_loses_no_line_and_a_shutdown_neither() {
    let mut scene = start().await;
    let rotated = scene.gateway.dir().join("access.jsonl.1");
    let mut sent = 0;
    for round in 0..40 {
        let reply = scene.client.chat(&chat("alpha", "hello", 5)).await;
        sent += 1;
        if round == 20 {
            line(&scene, reply.header("x-request-id").expect("an id")).await;
            std::fs::rename(file(&scene), &rotated).expect("moved");
            scene.gateway.signal(Signal::HUP);
            until_true("the file is made anew", || file(&scene).exists()).await;
        }
    }
    assert!(scene.gateway.terminate().await.success());
    let chats = |path: &Path| lines_of(path).iter().filter(|line| line["route"] == "/v1/chat/completions").count();
    assert_eq!(chats(&rotated) + chats(&file(&scene)), sent);
    assert!(chats(&rotated) > 0 && chats(&file(&scene)) > 0);
    scene.restarted().await;
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    until_true("a restart appends", || chats(&file(&scene)) + chats(&rotated) == sent + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_lines_and_no_request() {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).line("[log]\naccess = \"/dev/full\"");
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    for _ in 0..3 {
        scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    }
    until("the lost lines are counted", || async {
        (scene.admin().metric("openclawmu_access_log_lost_total", &[]).await >= 3).then_some(())
    })
    .await;
    assert_eq!(scene.admin().send(Method::GET, "/readyz").await.status, 200);
}
