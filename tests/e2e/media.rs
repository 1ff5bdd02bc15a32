//! Images, audio and moderations: passed through byte for byte, reserved before and billed after like every other request.
//!
//! - `bad`: what is refused before anything is reserved
//! - `ending`: answers that break off, and requests that go elsewhere
//! - `stream`: events and sound, as they come

mod bad;
mod ending;
mod stream;

use openclawmu_tests::money::{cost, nanos, usd};
use openclawmu_tests::upstream::media;
use openclawmu_tests::{Behaviour, Client, Fault, Form, Reply, Scene, sdk, upload};
use serde_json::{Value, json};

/// A request to one of these routes.
pub(crate) enum Ask {
    Json(&'static str, Value),
    Form(&'static str, Form),
}

impl Ask {
    pub(crate) fn path(&self) -> &'static str {
        match self {
            Self::Json(path, _) | Self::Form(path, _) => path,
        }
    }

    pub(crate) async fn send(&self, client: &Client) -> Reply {
        match self {
            Self::Json(path, body) => client.post(path, body).await,
            Self::Form(path, form) => client.post_form(path, form).await,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Json(_, body) => body.to_string().into_bytes(),
            Self::Form(_, form) => form.body(),
        }
    }
}

/// A recording of so many milliseconds.
pub(crate) fn recording(ms: u32) -> Vec<u8> {
    let bytes = ms * 32;
    [media::wav_head(16_000, bytes), vec![1; usize::try_from(bytes).expect("small")]].concat()
}

pub(crate) fn heard(model: &str) -> Form {
    Form::new().text("model", model).file("file", "talk.wav", &recording(2_500)).text("prompt", "two words")
}

fn drawn(model: &str) -> Form {
    Form::new()
        .text("model", model)
        .text("prompt", "a red fox")
        .file("image[]", "a.png", b"\x89PNG\r\n--x")
        .file("image[]", "b.png", b"b")
}

/// Requests whose bill the provider states, or counts as the gateway does.
fn stated() -> Vec<Ask> {
    let image = |body| Ask::Json("/v1/images/generations", body);
    let edited =
        drawn("painter").file("mask", "m.png", b"m").text("quality", "high").text("size", "1024x1536").text("n", "2");
    vec![
        image(
            json!({ "model": "painter", "prompt": "a red fox in snow", "n": 3, "size": "1536x1024", "quality": "low" }),
        ),
        image(json!({ "model": "painter", "prompt": "a fox" })),
        image(json!({ "model": "poster", "prompt": "a fox", "size": "1024x1792", "quality": "hd", "n": 2 })),
        image(json!({ "model": "poster", "prompt": "a fox", "size": "1024x1024" })),
        Ask::Form("/v1/images/edits", edited),
        Ask::Json(
            "/v1/images/edits",
            json!({ "model": "painter", "prompt": "bluer", "images": [{ "image_url": "data:image/png;base64,eA==" }], "quality": "low" }),
        ),
        Ask::Form(
            "/v1/images/variations",
            Form::new().text("model", "painter").file("image", "a.png", b"x").text("size", "1024x1024"),
        ),
        Ask::Json("/v1/audio/speech", json!({ "model": "voice", "input": "Grüße, 世界!", "voice": "alloy" })),
        Ask::Form("/v1/audio/transcriptions", heard("ear")),
        Ask::Form("/v1/audio/transcriptions", heard("ear").text("response_format", "verbose_json")),
        Ask::Form("/v1/audio/transcriptions", heard("scribe").text("language", "en")),
        Ask::Form("/v1/audio/translations", heard("ear").text("response_format", "json")),
    ]
}

/// Requests whose bill is counted here, and flagged so.
fn counted() -> Vec<Ask> {
    let speech = |format: &str| {
        Ask::Json(
            "/v1/audio/speech",
            json!({ "model": "speaker", "input": "hello there", "voice": "alloy", "response_format": format }),
        )
    };
    let text = |format| Ask::Form("/v1/audio/transcriptions", heard("ear").text("response_format", format));
    let guard = |input: Value| Ask::Json("/v1/moderations", json!({ "model": "guard", "input": input }));
    vec![
        speech("mp3"),
        speech("wav"),
        speech("pcm"),
        speech("flac"),
        text("text"),
        text("srt"),
        text("vtt"),
        guard(json!("a text")),
        guard(json!(["one", "two"])),
        guard(
            json!([{ "type": "text", "text": "x" }, { "type": "image_url", "image_url": { "url": "https://x.example/a.png" } }]),
        ),
    ]
}

/// M-01 for these routes: each answer costs what the provider bills, to the nano, and its bytes are the provider's
#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_states_is_billed_to_the_nano_and_every_byte_passes() {
    let scene = Scene::new().await;
    for (at, ask) in stated().into_iter().enumerate() {
        let path = ask.path();
        let reply = ask.send(&scene.client).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        let exchange = scene.upstream.last();
        assert_eq!(exchange.path, path);
        assert_eq!(exchange.body, ask.bytes(), "{path}: the body goes on as it came");
        let row = scene.rows_once(at + 1).await.pop().expect("a row");
        assert_eq!(row.cost, cost(&exchange.bill()), "{path} {at}: {row:?}");
        assert!(row.cost > 0 && !row.estimated && row.cost <= row.reserved, "{path} {at}: {row:?}");
        assert_eq!(reply.header("x-request-id"), Some(row.request_id.as_str()));
        assert!(
            reply.header("x-openclawmu-model").is_some() && reply.header("x-openclawmu-budget-remaining-usd").is_some()
        );
        if path != "/v1/audio/speech" {
            assert_eq!(reply.header("x-openclawmu-cost-usd").map(nanos), Some(row.cost), "{path}");
        }
    }
    let total = scene.ledger_total();
    assert_eq!(scene.settled().await.posted, total);
    let usage = scene.client.get("/v1/usage").await.ok();
    assert_eq!(usage["total"]["cost_usd"].as_str().map(nanos), Some(total), "{}", usage["total"]);
}

/// M-06: what the provider does not state is counted, by the length of what was heard and said, and flagged
#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_does_not_state_is_counted_and_flagged() {
    let scene = Scene::new().await;
    for (at, ask) in counted().into_iter().enumerate() {
        let reply = ask.send(&scene.client).await;
        assert_eq!(reply.status, 200, "{}: {}", ask.path(), reply.text());
        let row = scene.rows_once(at + 1).await.pop().expect("a row");
        assert!(row.cost > 0 && row.estimated && row.cost <= row.reserved, "{} {at}: {row:?}", ask.path());
        let bill = scene.upstream.last().bill();
        if bill.pieces.spoken_tokens > 0 && at < 3 {
            assert_eq!(row.output_audio, bill.pieces.spoken_tokens, "{at}: the sound is as long as it is");
        }
        if bill.pieces.heard_ms > 0 {
            assert!((2_500..=2_502).contains(&row.input_ms), "{at}: {row:?}");
        }
        if at == 3 {
            assert!(row.output_audio > 100, "what can't be measured is billed as the most that it can be: {row:?}");
        }
    }
}

/// M-06: images without a usage count by their tariff
#[tokio::test(flavor = "multi_thread")]
async fn images_without_a_usage_count_by_their_tariff() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::fault(Fault::NoUsage));
    let body = json!({ "model": "painter", "prompt": "a red fox", "n": 2, "size": "1024x1024", "quality": "low" });
    scene.client.post("/v1/images/generations", &body).await.ok();
    let row = scene.rows_once(1).await.pop().expect("a row");
    // 3 tokens of text at 5, 544 of images at 40 USD a million
    assert_eq!((row.cost, row.estimated), (3 * 5_000 + 544 * 40_000, true), "{row:?}");
    scene
        .client
        .post("/v1/images/generations", &json!({ "model": "poster", "prompt": "a fox", "quality": "hd" }))
        .await
        .ok();
    let row = scene.rows_once(2).await.pop().expect("a row");
    assert_eq!((row.cost, row.estimated), (80_000_000, false), "by the piece nothing is guessed: {row:?}");
}

/// A zero price is a price: a moderation is free, admitted, and has its row; without a model it is the API's default
#[tokio::test(flavor = "multi_thread")]
async fn a_free_moderation_is_admitted_and_has_its_row() {
    let scene = Scene::with_quota(json!({ "usd_per_day": "0" })).await;
    let reply = scene.client.post("/v1/moderations", &json!({ "input": ["one", "two"] })).await.ok();
    assert_eq!(reply["results"].as_array().map(Vec::len), Some(2), "{reply}");
    assert_eq!(scene.upstream.last().json(), json!({ "model": "omni-moderation-latest", "input": ["one", "two"] }));
    scene.client.post("/moderations", &json!({ "model": "omni-moderation-latest", "input": "x" })).await.ok();
    assert_eq!(scene.rows_once(2).await.iter().map(|row| row.cost).sum::<i128>(), 0);
    let priced = scene.client.post("/v1/moderations", &json!({ "model": "guard", "input": "x" })).await;
    priced.refused(429, "insufficient_quota", "insufficient_quota");
    scene.admin().patch("acme", &json!({ "quota": { "requests_per_minute": 1 } })).await;
    scene.client.post("/v1/moderations", &json!({ "input": "x" })).await;
    let limited = scene.client.post("/v1/moderations", &json!({ "input": "x" })).await;
    limited.refused(429, "requests", "rate_limit_exceeded");
}

/// a nano less than the bound is refused before the upstream is called, and the bound is enough
#[tokio::test(flavor = "multi_thread")]
async fn over_budget_is_429_before_the_upstream_is_called() {
    let scene = Scene::new().await;
    for (at, ask) in stated().into_iter().chain(counted()).enumerate() {
        ask.send(&scene.client).await;
        let reserved = scene.rows_once(at + 1).await.pop().expect("a row").reserved;
        assert!(reserved > 0, "{}", ask.path());
        let calls = scene.upstream.calls();
        let poor = scene.admin().tenant(&format!("poor-{at}"), json!({ "usd_per_day": usd(reserved - 1) })).await;
        ask.send(&scene.client.with_token(&poor.token)).await.refused(429, "insufficient_quota", "insufficient_quota");
        assert_eq!(scene.upstream.calls(), calls, "{}", ask.path());
        let able = scene.admin().tenant(&format!("able-{at}"), json!({ "usd_per_day": usd(reserved) })).await;
        let reply = ask.send(&scene.client.with_token(&able.token)).await;
        assert_eq!(reply.status, 200, "{}: {}", ask.path(), reply.text());
        assert!(scene.admin().settled(&able.id).await.posted <= reserved);
    }
}

/// A model that another thing prices is not free here, nor is one without a price
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_priced_for_a_route_is_refused() {
    let scene = Scene::new().await;
    let chat = openclawmu_tests::client::chat("ear", "hi", 5);
    scene.client.chat(&chat).await.refused(403, "permission_error", "model_not_priced");
    let unpriced = json!({ "model": "scripted/nobody", "prompt": "x" });
    let reply = scene.client.post("/v1/images/generations", &unpriced).await;
    reply.refused(403, "permission_error", "model_not_priced");
    for ask in [
        Ask::Json("/v1/images/generations", json!({ "model": "ear", "prompt": "x" })),
        Ask::Json("/v1/images/generations", json!({ "model": "embed", "prompt": "x" })),
        Ask::Json("/v1/audio/speech", json!({ "model": "ear", "input": "x", "voice": "alloy" })),
        Ask::Json("/v1/audio/speech", json!({ "model": "alpha", "input": "x", "voice": "alloy" })),
        Ask::Form("/v1/audio/transcriptions", heard("poster")),
    ] {
        let reply = ask.send(&scene.client).await;
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("model")), "{}", reply.text());
    }
    let (_, narrow) = scene.admin().mint("acme", &json!({ "models": ["voice"] })).await;
    let narrow = scene.client.with_token(&narrow);
    narrow.post_form("/v1/audio/transcriptions", &heard("ear")).await.refused(
        403,
        "permission_error",
        "model_not_allowed",
    );
    narrow.post("/v1/audio/speech", &json!({ "model": "voice", "input": "x", "voice": "alloy" })).await;
    assert_eq!((scene.upstream.calls(), scene.rows_once(1).await.len()), (1, 1), "what is allowed is served");
}

/// I-01: an image at the provider is its tenant's alone
#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_file_can_t_be_painted_over() {
    let scene = Scene::new().await;
    let other = scene.admin().tenant("rival", json!({ "usd_per_day": "7" })).await;
    let rival = scene.client.with_token(&other.token);
    let file = upload::uploaded(&scene.client, "user_data", b"PNG").await;
    let calls = scene.upstream.calls();
    let plain = json!({ "image_url": "https://x.example/a.png" });
    for body in [
        json!({ "model": "painter", "prompt": "x", "images": [{ "file_id": file }] }),
        json!({ "model": "painter", "prompt": "x", "images": [plain], "mask": { "file_id": file } }),
    ] {
        assert_eq!(rival.post("/v1/images/edits", &body).await.status, 404);
        assert_eq!(scene.upstream.calls(), calls, "nobody was asked");
    }
    let own = json!({ "model": "painter", "prompt": "x", "images": [{ "file_id": file }] });
    scene.client.post("/v1/images/edits", &own).await.ok();
    assert_eq!(scene.admin().settled("rival").await.posted, 0);
}

/// K1: the official Python client, unmodified
#[tokio::test(flavor = "multi_thread")]
async fn the_official_python_client_makes_images_speech_and_transcripts() {
    let scene = Scene::new().await;
    let base = format!("http://{}/v1", scene.gateway.edge());
    let file = scene.gateway.dir().join("talk.wav");
    std::fs::write(&file, recording(2_500)).expect("a writable temp dir");
    let path = file.to_str().expect("a path");
    let result = sdk::run_python("media.py", &[&base, &scene.tenant.token, path]).await;
    let expected = json!({
        "image": { "images": 2, "output_tokens": 544, "bytes": true },
        "image_stream": ["image_generation.partial_image", "image_generation.partial_image", "image_generation.completed"],
        "edit": { "images": 1, "image_tokens": 388 },
        "speech": media::spoken("pcm", 5).len(),
        "speech_stream": ["speech.audio.delta", "speech.audio.done"],
        "transcript": { "text": "word0 word1 word2 word3 word4 ", "seconds": 2.5 },
        "transcript_text": "WEBVTT",
        "transcript_stream": "word0 word1 word2 word3 word4 ",
        "translation": "word0 word1 word2 word3 word4 ",
        "moderation": { "flagged": false, "results": 1 },
        "bad": { "class": "BadRequestError", "param": "n" }
    });
    assert_eq!(result, expected);
    let rows = scene.rows_once(scene.upstream.calls()).await;
    assert!(rows.iter().all(|row| row.outcome == "complete" && row.cost <= row.reserved), "{rows:#?}");
}
