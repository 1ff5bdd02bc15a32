//! Events and sound, as they come.

use openclawmu_tests::money::cost;
use openclawmu_tests::sse::{self, Stream};
use openclawmu_tests::upstream::media;
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Behaviour, Fault, Form, Gate, Pace, Scene};
use serde_json::{Value, json};

use super::{Ask, heard};

/// Streams, each with the types of its events.
fn streams() -> Vec<(Ask, Vec<&'static str>)> {
    let image = json!({ "model": "painter", "prompt": "a red fox", "stream": true, "partial_images": 2, "size": "1024x1024", "quality": "low" });
    let edit = Form::new()
        .text("model", "painter")
        .text("prompt", "a fox")
        .file("image", "a.png", b"x")
        .text("stream", "true");
    let speech = json!({ "model": "speaker", "input": "hello there", "voice": "alloy", "stream_format": "sse" });
    let mut delta = vec!["transcript.text.delta"; 5];
    delta.push("transcript.text.done");
    let partial = "image_generation.partial_image";
    let mut spoken = vec!["speech.audio.delta"; 5];
    spoken.push("speech.audio.done");
    vec![
        (Ask::Json("/v1/images/generations", image), vec![partial, partial, "image_generation.completed"]),
        (Ask::Form("/v1/images/edits", edit), vec!["image_edit.completed"]),
        (Ask::Json("/v1/audio/speech", speech), spoken),
        (Ask::Form("/v1/audio/transcriptions", heard("scribe").text("stream", "true")), delta),
    ]
}

fn kinds(body: &[u8]) -> Vec<String> {
    let kind = |event: &sse::Event| event.json()["type"].as_str().expect("a type").to_owned();
    sse::all(body).iter().map(kind).collect()
}

/// S8-01, M-01: every event passes unchanged, and the usage in the last one is the bill
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_passes_event_by_event_and_its_usage_is_the_bill() {
    let scene = Scene::new().await;
    let mut rows = 0;
    for client in [scene.client.clone(), scene.client.over_h2c()] {
        for pace in [Pace::Whole, Pace::SplitAt(150), Pace::EachByte] {
            scene.upstream.always(Behaviour { pace, ..Behaviour::default() });
            for (ask, expected) in streams() {
                let reply = ask.send(&client).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                assert!(reply.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")));
                assert_eq!(kinds(&reply.body), expected, "{}", reply.text());
                assert!(!reply.text().contains("[DONE]"), "nothing is added that the provider did not say");
                rows += 1;
                let row = scene.rows_once(rows).await.pop().expect("a row");
                let bill = scene.upstream.last().bill();
                assert_eq!((row.cost, row.estimated), (cost(&bill), false), "{}: {row:?}", ask.path());
                assert!(row.cost > 0 && row.cost <= row.reserved, "{row:?}");
            }
        }
    }
}

/// M-06 in streams
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_usage_is_counted_and_flagged() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::fault(Fault::NoUsage));
    for (at, (ask, expected)) in streams().into_iter().enumerate() {
        let reply = ask.send(&scene.client).await;
        assert_eq!(kinds(&reply.body), expected, "{}", reply.text());
        let row = scene.rows_once(at + 1).await.pop().expect("a row");
        assert!(row.estimated && row.cost > 0 && row.cost <= row.reserved && row.outcome == "complete", "{row:?}");
        if ask.path() == "/v1/audio/speech" {
            assert_eq!(row.output_audio, scene.upstream.last().bill().pieces.spoken_tokens, "{row:?}");
        }
    }
}

/// S8-06, M-03, M-04 for these streams
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_ends_in_an_error_and_is_billed_as_far_as_it_came() {
    let scene = Scene::with_keys(&["first_byte_timeout_ms = 10000", "idle_timeout_ms = 300"]).await;
    let mut rows = 0;
    for fault in [Fault::CutAfter(1), Fault::StallAfter(1), Fault::ErrorEventAfter(1)] {
        scene.upstream.always(Behaviour::fault(fault.clone()));
        for (ask, expected) in streams().into_iter().filter(|(_, expected)| expected.len() > 1) {
            let reply = ask.send(&scene.client).await;
            let events = sse::all(&reply.body);
            assert_eq!(events.len(), 2, "{fault:?}: {}", reply.text());
            assert_eq!(events[0].json()["type"], expected[0]);
            assert!(events[1].json()["error"]["message"].is_string(), "{fault:?}: {}", reply.text());
            rows += 1;
            let row = scene.rows_once(rows).await.pop().expect("a row");
            assert!(row.estimated && row.outcome == "partial", "{fault:?} {}: {row:?}", ask.path());
            assert!(row.cost > 0 && row.cost <= row.reserved, "{fault:?} {}: {row:?}", ask.path());
        }
    }
    scene.balanced().await;
}

/// An image of which a draft was seen is an image, whoever still waits for it
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_after_a_draft_pays_for_the_image() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::gated(5, 1, &Gate::new()));
    let body = json!({ "model": "painter", "prompt": "a red fox", "stream": true, "partial_images": 1, "size": "1024x1024", "quality": "low" });
    let request = scene.client.build(http::Method::POST, "/v1/images/generations").json(&body);
    let mut stream = Stream::of(request.send().await.expect("an answer")).await;
    stream.next().await.expect("a draft");
    drop(stream);
    let row = scene.rows_once(1).await.pop().expect("a row");
    assert!(row.cost >= 272 * 40_000 && row.cost <= row.reserved && row.estimated, "{row:?}");
    let exchange = scene.upstream.last();
    until_true("the upstream is cut", || exchange.closed_at().is_some()).await;
}

fn spoken(format: &str) -> Value {
    json!({ "model": "voice", "input": "hello", "voice": "alloy", "response_format": format })
}

/// Sound is the provider's to the byte, whatever its pieces, over both versions of HTTP
#[tokio::test(flavor = "multi_thread")]
async fn sound_passes_byte_for_byte() {
    let scene = Scene::new().await;
    for client in [scene.client.clone(), scene.client.over_h2c()] {
        for (format, kind) in
            [("mp3", "audio/mpeg"), ("wav", "audio/wav"), ("pcm", "audio/pcm"), ("flac", "audio/flac")]
        {
            for words in [1, 40] {
                scene.upstream.always(Behaviour::words(words));
                let reply = client.post("/v1/audio/speech", &spoken(format)).await;
                assert_eq!((reply.status, reply.header("content-type")), (200, Some(kind)));
                assert!(reply.body == media::spoken(format, words), "{format} {words}: {} bytes", reply.body.len());
            }
        }
    }
    scene.upstream.always(Behaviour { pace: Pace::EachByte, ..Behaviour::words(1) });
    let reply = scene.client.post("/v1/audio/speech", &spoken("pcm")).await;
    assert!(reply.body == media::spoken("pcm", 1));
    scene.upstream.always(Behaviour::words(0));
    let nothing = scene.client.post("/v1/audio/speech", &spoken("pcm")).await;
    assert_eq!((nothing.status, nothing.body.len()), (200, 0));
    scene.balanced().await;
}

/// S8-02 for sound: it goes on before the provider has finished
#[tokio::test(flavor = "multi_thread")]
async fn sound_is_heard_before_its_end_is_known() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(10, 5, &gate));
    let request = scene.client.build(http::Method::POST, "/v1/audio/speech").json(&spoken("pcm"));
    let mut response = request.send().await.expect("an answer");
    let mut heard = Vec::new();
    while heard.len() < 4 * 5_760 {
        heard.extend_from_slice(&response.chunk().await.expect("more").expect("not the end"));
    }
    assert!(scene.rows().is_empty(), "it is not over");
    gate.open();
    while let Some(piece) = response.chunk().await.expect("a whole answer") {
        heard.extend_from_slice(&piece);
    }
    assert!(heard == media::spoken("pcm", 10));
    assert_eq!(scene.rows_once(1).await[0].outcome, "complete");
}
