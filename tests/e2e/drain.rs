//! Orderly ends: SIGTERM drains, SIGQUIT hands the sockets to a new binary, SIGHUP reads the config again. No stream is broken by any of them.

use std::process::Stdio;

use openclawmu_tests::client::chat;
use openclawmu_tests::sse::Event;
use openclawmu_tests::wait::{until, until_true};
use openclawmu_tests::{Behaviour, Gate, Scene};
use rustix::process::Signal;
use serde_json::json;

/// S8-07, SIGTERM; `LiteLLM` 38157, 34805: spend is lost at shutdown
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_open_streams_finish_and_settles_them() {
    let mut scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(6, 2, &gate));
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = scene.client.stream(&chat("alpha", "hello", 20)).await;
        stream.texts(2).await;
        streams.push(stream);
    }
    scene.gateway.signal(Signal::TERM);
    // Not before: a drain that cut at once would find them over.
    until_true("the drain", || {
        [scene.gateway.stdout(), scene.gateway.stderr()].iter().any(|said| said.contains("draining"))
    })
    .await;
    gate.open();
    for mut stream in streams {
        assert!(stream.rest().await.last().is_some_and(Event::done), "a stream was broken by the drain");
    }
    assert!(scene.gateway.ended().await.success(), "a drained gateway exits with 0");
    let rows = scene.rows();
    assert_eq!(rows.len(), 20);
    assert!(rows.iter().all(|row| !row.estimated && row.held == 0 && row.cost > 0), "{rows:#?}");
    scene.restarted().await;
    assert_eq!(scene.budget().await.posted, rows.iter().map(|row| row.cost).sum::<i128>());
}

/// S8-07, what is left at the limit of the drain
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_settles_what_is_still_open_at_the_limit() {
    let upstream = openclawmu_tests::Upstream::start().await;
    let setup = openclawmu_tests::Setup::with(&upstream).edge_key("drain_seconds = 1");
    let mut scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(6, 2, &gate));
    let mut stream = scene.client.stream(&chat("alpha", "hello", 20)).await;
    stream.texts(2).await;
    assert!(scene.gateway.terminate().await.success());
    assert!(!stream.rest().await.iter().any(Event::done));
    scene.restarted().await;
    let row = scene.rows_once(1).await.pop().expect("a row");
    assert!(row.cost > 0 && row.estimated, "{row:?}");
    let budget = scene.settled().await;
    assert_eq!((budget.posted, budget.held), (row.cost, row.held));
}

/// S8-07, the hand-over: 200 streams
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_to_a_new_binary_breaks_no_stream() {
    let mut scene = Scene::new().await;
    let count = 200;
    let gate = Gate::new();
    scene.upstream.when("slowly", Behaviour::gated(6, 2, &gate));
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = scene.client.stream(&chat("alpha", "slowly", 20)).await;
        stream.texts(2).await;
        streams.push(stream);
    }
    let log = |name: &str| {
        std::fs::File::options().create(true).append(true).open(scene.gateway.dir().join(name)).expect("a log")
    };
    let mut command = scene.gateway.command();
    let new = command
        .arg("--upgrade")
        .stdin(Stdio::null())
        .stdout(log("stdout.log"))
        .stderr(log("stderr.log"))
        .spawn()
        .expect("the new binary");
    scene.gateway.signal(Signal::QUIT);
    until("the new process answers", || async {
        let reply = scene.client.try_post("/v1/chat/completions", &chat("alpha", "quickly", 5)).await;
        reply.ok().filter(|reply| reply.status == 200)
    })
    .await;
    gate.open();
    let mut broken = 0;
    for mut stream in streams {
        broken += usize::from(!stream.rest().await.last().is_some_and(Event::done));
    }
    assert_eq!(broken, 0, "of {count} streams");
    assert!(scene.gateway.ended().await.success(), "the old process goes");
    scene.gateway.adopt(new);
    let client = scene.gateway.client(&scene.tenant.token);
    until("a new connection is served", || async {
        client
            .try_post("/v1/chat/completions", &chat("alpha", "quickly", 5))
            .await
            .ok()
            .filter(|reply| reply.status == 200)
    })
    .await;
    until_true("every stream has its row", || {
        scene.rows().iter().filter(|row| !row.estimated && row.cost > 0).count() > count
    })
    .await;
    scene.balanced().await;
}

/// contract.md: SIGHUP reloads the config
#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_config_again_and_a_bad_one_changes_nothing() {
    let scene = Scene::new().await;
    scene.client.chat(&chat("swift", "hi", 5)).await.refused(404, "invalid_request_error", "model_not_found");
    let path = scene.gateway.config().to_owned();
    let good = std::fs::read_to_string(&path).expect("the config");
    std::fs::write(&path, format!("{good}\n[[model]]\nname = \"swift\"\ntargets = [{{ upstream = \"scripted\", model = \"alpha\", weight = 1 }}]\n")).expect("a new config");
    scene.gateway.signal(Signal::HUP);
    until("the alias is served", || async {
        (scene.client.chat(&chat("swift", "hi", 5)).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(scene.upstream.last().json()["model"], "alpha");
    std::fs::write(&path, "this is [not TOML").expect("a bad config");
    let said = scene.gateway.stderr().len() + scene.gateway.stdout().len();
    scene.gateway.signal(Signal::HUP);
    until_true("the mistake is logged", || scene.gateway.stderr().len() + scene.gateway.stdout().len() > said).await;
    scene.client.chat(&chat("swift", "hi", 5)).await.ok();
    std::fs::write(&path, good).expect("the config");
}
