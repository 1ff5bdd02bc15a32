//! Answers that break off, and requests that go elsewhere: to another name, another upstream, or nowhere.

use openclawmu_tests::money::{cost, usd};
use openclawmu_tests::upstream::media;
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Behaviour, Fault, Form, Gate, Scene, Setup, Upstream};
use serde_json::json;

use super::{Ask, heard};

const ALIASES: &str = "
[[model]]
name = \"draw\"
targets = [{ upstream = \"scripted\", model = \"painter\", weight = 1 }]
[[model]]
name = \"a-much-longer-name-for-listening\"
targets = [{ upstream = \"scripted\", model = \"ear\", weight = 1 }]
[[model]]
name = \"say\"
targets = [{ upstream = \"scripted\", model = \"voice\", weight = 1 }]
fallbacks = [{ upstream = \"spare\", model = \"voice\" }]
[[model]]
name = \"moderate\"
targets = [{ upstream = \"scripted\", model = \"guard\", weight = 1 }]
";

async fn aliased() -> (Scene, Upstream) {
    let (upstream, spare) = (Upstream::start().await, Upstream::start().await);
    let setup = Setup::with(&upstream).upstream("spare", spare.address(), &[], &[]).line(ALIASES);
    (Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await, spare)
}

/// An alias is rewritten where it stands, and nothing else is
#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_rewritten_in_its_part_alone() {
    let (scene, _spare) = aliased().await;
    let file = [0, 13, 10, 45, 45, 255, 0x6d, 0x6f, 0x64, 0x65, 0x6c];
    let edit = |model: &str| {
        Form::new()
            .file("image", "draw.png", &file)
            .text("prompt", "draw a fox")
            .part("content-disposition:form-data; name=\"model\"\r\nX-More: draw", model.as_bytes())
            .text("user", "ann")
    };
    scene.client.post_form("/v1/images/edits", &edit("draw")).await.ok();
    assert_eq!(scene.upstream.last().body, edit("painter").body());
    let name = "a-much-longer-name-for-listening";
    let reply = scene.client.post_form("/v1/audio/transcriptions", &heard(name)).await;
    assert_eq!((reply.status, reply.header("x-openclawmu-model")), (200, Some("ear")), "{}", reply.text());
    let sent = scene.upstream.last();
    assert_eq!(sent.body, heard("ear").body());
    assert_eq!(sent.header("content-type"), Some(Form::content_type().as_str()));
    let body = r#"{ "input" : "moderate this", "model":"moderate" , "x":[1, 2] }"#;
    scene.client.post_bytes("/v1/moderations", body.as_bytes().to_vec()).await.ok();
    assert_eq!(scene.upstream.last().body, body.replace("\"moderate\"", "\"guard\"").as_bytes());
    scene.rows_once(3).await;
    let labels = openclawmu_tests::ledger::labels(&scene.gateway.data(), "acme");
    assert_eq!(labels[0].0, "ann", "a form says for whom it is");
}

/// M-09: what fails before the first byte is tried elsewhere, and each attempt has its row
#[tokio::test(flavor = "multi_thread")]
async fn sound_that_can_t_begin_is_asked_for_elsewhere() {
    let (scene, spare) = aliased().await;
    scene.upstream.always(Behaviour::status(503));
    let reply =
        scene.client.post("/v1/audio/speech", &json!({ "model": "say", "input": "hello", "voice": "alloy" })).await;
    assert_eq!((reply.status, spare.calls()), (200, 1), "{}", reply.text());
    assert!(reply.body == media::spoken("mp3", 5));
    let rows = scene.rows_once(2).await;
    assert_eq!((rows[0].outcome.as_str(), rows[0].cost, rows[1].cost), ("void", 0, cost(&spare.last().bill())));
    let refused = scene.client.post_form("/v1/audio/translations", &heard("ear")).await;
    assert_eq!(refused.status, 502, "without a fallback: {}", refused.text());
    scene.upstream.always(Behaviour::status(400));
    let passed = scene.client.post("/v1/images/generations", &json!({ "model": "painter", "prompt": "x" })).await;
    passed.refused(400, "invalid_request_error", "invalid_value");
    assert!(passed.text().contains("scripted"), "the provider's own words: {}", passed.text());
    let rows = scene.rows_once(4).await;
    assert!(rows[2..].iter().all(|row| row.outcome == "void" && row.cost == 0), "{rows:?}");
    assert_eq!(scene.settled().await.pending, 0);
}

fn speech(model: &str) -> serde_json::Value {
    json!({ "model": model, "input": "hello there", "voice": "alloy", "response_format": "pcm" })
}

/// M-02, S8-05 for sound: what was heard is paid for, and the provider stops
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_pays_for_what_it_heard_and_the_upstream_is_cut() {
    let scene = Scene::new().await;
    for (at, model) in ["speaker", "voice"].into_iter().enumerate() {
        scene.upstream.always(Behaviour::gated(400, 5, &Gate::new()));
        let request = scene.client.build(http::Method::POST, "/v1/audio/speech").json(&speech(model));
        let mut response = request.send().await.expect("an answer");
        response.chunk().await.expect("sound");
        drop(response);
        let row = scene.rows_once(at + 1).await.pop().expect("a row");
        assert!(row.cost > 0 && row.cost <= row.reserved && row.outcome == "partial", "{model}: {row:?}");
        if model == "speaker" {
            assert!((1..=12).contains(&row.output_audio) && row.estimated, "{row:?}");
        }
        let exchange = scene.upstream.last();
        until_true("the upstream is cut", || exchange.closed_at().is_some()).await;
    }
    assert_eq!(scene.settled().await.pending, 0);
}

/// M-03, S8-06 for sound: what breaks off is not taken for whole
#[tokio::test(flavor = "multi_thread")]
async fn sound_that_breaks_off_never_looks_whole() {
    let scene = Scene::with_keys(&["first_byte_timeout_ms = 10000", "idle_timeout_ms = 300"]).await;
    let mut rows = 0;
    for client in [scene.client.clone(), scene.client.over_h2c()] {
        for fault in [Fault::CutAfter(3), Fault::StallAfter(3)] {
            scene.upstream.always(Behaviour::fault(fault.clone()));
            let request = client.build(http::Method::POST, "/v1/audio/speech").json(&speech("speaker"));
            let mut response = request.send().await.expect("a head");
            assert_eq!(response.status(), 200);
            let broken = loop {
                match response.chunk().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            assert!(broken, "{fault:?}: the client can tell");
            rows += 1;
            let row = scene.rows_once(rows).await.pop().expect("a row");
            assert_eq!(
                (row.outcome.as_str(), row.estimated, row.output_audio),
                ("partial", true, 8),
                "{fault:?}: {row:?}"
            );
            assert!(row.cost > 0 && row.cost <= row.reserved, "{row:?}");
        }
        // Cut before anything came: the client is told, and pays nothing.
        scene.upstream.always(Behaviour::fault(Fault::CutAfter(0)));
        let reply = client.post("/v1/audio/speech", &speech("speaker")).await;
        reply.refused(502, "upstream_error", "upstream_broken");
        rows += 1;
        assert_eq!(scene.rows_once(rows).await.pop().map(|row| row.cost), Some(0));
    }
    scene.upstream.always(Behaviour::fault(Fault::InvalidJson));
    let reply = scene.client.post("/v1/images/generations", &json!({ "model": "painter", "prompt": "x" })).await;
    reply.refused(502, "upstream_error", "upstream_broken");
    scene.balanced().await;
}

/// No end of a request leaves a reservation behind
#[tokio::test(flavor = "multi_thread")]
async fn every_fault_gives_its_reservation_back() {
    let upstream = Upstream::start().await;
    let setup = Setup::with_keys(&upstream, &["first_byte_timeout_ms = 300", "idle_timeout_ms = 300"]);
    // What `hear` reserves, once.
    let bound = i128::from(2_502) * 100;
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": usd(bound) })).await;
    for fault in [Fault::Silent, Fault::InvalidJson, Fault::HangUpAtByte(0), Fault::HangUpAtByte(40)] {
        scene.upstream.always(Behaviour::fault(fault.clone()));
        let reply = scene.client.post_form("/v1/audio/transcriptions", &heard("ear")).await;
        assert!(matches!(reply.status, 502 | 504), "{fault:?}: {} {}", reply.status, reply.text());
        let budget = scene.settled().await;
        assert_eq!((budget.posted, budget.pending, budget.held), (0, 0, 0), "{fault:?}");
    }
    scene.upstream.always(Behaviour::default());
    scene.client.post_form("/v1/audio/transcriptions", &heard("ear")).await.ok();
}

/// Upstreams that have no such API are not asked: 400 names the model; Azure is asked at its own paths
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_the_api_is_not_asked_and_azure_has_its_own_paths() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let kind = |name: &str, kind: &str, more: &str| {
        format!(
            "[[upstream]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"http://{}\"\napi_key = \"env:OPENCLAWMU_TEST_PROVIDER_KEY\"\n{more}\n",
            other.address()
        )
    };
    let setup = Setup::with(&upstream)
        .line(&kind("claude", "anthropic", ""))
        .line(&kind("google", "gemini", ""))
        .line(&kind("cloud", "azure", ""));
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    let mut refused = Vec::new();
    for name in ["claude", "google", "echo"] {
        let model = |model: &str| format!("{name}/{model}");
        refused.extend([
            Ask::Json("/v1/moderations", json!({ "model": model("guard"), "input": "x" })),
            Ask::Json("/v1/images/generations", json!({ "model": model("painter"), "prompt": "x" })),
            Ask::Json("/v1/audio/speech", json!({ "model": model("voice"), "input": "x", "voice": "alloy" })),
            Ask::Form("/v1/audio/transcriptions", heard(&model("ear"))),
        ]);
    }
    refused.push(Ask::Json("/v1/moderations", json!({ "model": "cloud/guard", "input": "x" })));
    refused
        .push(Ask::Form("/v1/images/variations", Form::new().text("model", "cloud/painter").file("image", "a", b"x")));
    for ask in refused {
        let reply = ask.send(&scene.client).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &json!("model")),
            "{}: {}",
            ask.path(),
            reply.text()
        );
    }
    assert!(scene.rows().is_empty() && other.calls() == 0, "nothing was reserved");
    scene.client.post("/v1/images/generations", &json!({ "model": "cloud/painter", "prompt": "x" })).await.ok();
    scene.client.post_form("/v1/audio/transcriptions", &heard("cloud/ear")).await.ok();
    let paths: Vec<String> = other.exchanges().iter().map(|exchange| exchange.path.clone()).collect();
    let version = "?api-version=2024-10-21";
    assert_eq!(
        paths,
        [
            format!("/openai/deployments/painter/images/generations{version}"),
            format!("/openai/deployments/ear/audio/transcriptions{version}")
        ]
    );
    assert_eq!(other.last().body, heard("ear").body());
    assert!(scene.rows_once(2).await.iter().all(|row| row.cost > 0 && !row.estimated));
}
