//! What is refused before anything is reserved: 400 in OpenAI's dialect, naming the field.

use openclawmu_tests::form::BOUNDARY;
use openclawmu_tests::{Form, Reply, Scene};
use serde_json::{Value, json};

use super::{Ask, heard, recording};

fn assert_named(reply: &Reply, name: &str, what: &str) {
    assert_eq!(reply.status, 400, "{what}: {}", reply.text());
    let error = &reply.json()["error"];
    assert_eq!((&error["type"], &error["param"]), (&json!("invalid_request_error"), &json!(name)), "{what}: {error}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains(name)), "{what}: {error}");
}

async fn assert_nothing_happened(scene: &Scene) {
    let budget = scene.budget().await;
    assert_eq!((scene.upstream.calls(), budget.posted, budget.pending), (0, 0, 0));
    assert!(scene.rows().is_empty());
}

fn image(more: Value) -> Ask {
    let mut body = json!({ "model": "painter", "prompt": "a fox" });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    Ask::Json("/v1/images/generations", body)
}

fn speech(more: Value) -> Ask {
    let mut body = json!({ "model": "voice", "input": "hello", "voice": "alloy" });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    Ask::Json("/v1/audio/speech", body)
}

fn edit(form: Form) -> Ask {
    Ask::Form("/v1/images/edits", form)
}

fn transcript(form: Form) -> Ask {
    Ask::Form("/v1/audio/transcriptions", form)
}

fn painted() -> Form {
    Form::new().text("model", "painter").text("prompt", "a fox").file("image", "a.png", b"x")
}

/// Each with the field that it must name.
fn wrong() -> Vec<(Ask, &'static str)> {
    let mut wrong = Vec::new();
    for n in [json!(0), json!(11), json!(-1), json!("2"), json!(1.5), json!([1])] {
        wrong.push((image(json!({ "n": n })), "n"));
    }
    wrong.extend([
        (image(json!({ "model": null })), "model"),
        (image(json!({ "model": 5 })), "model"),
        (image(json!({ "prompt": "" })), "prompt"),
        (image(json!({ "prompt": ["a"] })), "prompt"),
        (image(json!({ "size": "9x9" })), "size"),
        (image(json!({ "size": 1024 })), "size"),
        (image(json!({ "quality": "divine" })), "quality"),
        (image(json!({ "stream": "yes" })), "stream"),
        (image(json!({ "stream": true, "n": 2 })), "n"),
        (image(json!({ "partial_images": 4 })), "partial_images"),
        (Ask::Json("/v1/images/edits", json!({ "model": "painter", "prompt": "x" })), "images"),
        (Ask::Json("/v1/images/edits", json!({ "model": "painter", "prompt": "x", "images": ["a.png"] })), "images"),
        (Ask::Json("/v1/images/edits", json!({ "model": "painter", "prompt": "x", "images": [] })), "images"),
        (
            Ask::Json(
                "/v1/images/edits",
                json!({ "model": "painter", "prompt": "x", "images": [{ "image_url": "u" }], "mask": "m" }),
            ),
            "mask",
        ),
        (edit(Form::new().text("model", "painter").text("prompt", "a fox")), "image"),
        (edit(painted().text("n", "two")), "n"),
        (edit(painted().text("n", " 2")), "n"),
        (edit(painted().text("n", "2").text("n", "9")), "n"),
        (edit(painted().text("N", "9")), "n"),
        (edit(painted().text("n[]", "9")), "n"),
        (edit(painted().file("n", "n", b"9")), "n"),
        (edit(painted().text("stream", "True")), "stream"),
        (edit(painted().text("model", "poster")), "model"),
        (edit(painted().text("image", "not a file")), "image"),
        (
            Ask::Form(
                "/v1/images/variations",
                Form::new().text("model", "painter").file("image", "a", b"1").file("image", "b", b"2"),
            ),
            "image",
        ),
        (speech(json!({ "input": "" })), "input"),
        (speech(json!({ "input": ["a"] })), "input"),
        (speech(json!({ "model": null })), "model"),
        (speech(json!({ "speed": "fast" })), "speed"),
        (speech(json!({ "speed": 0.01 })), "speed"),
        (speech(json!({ "stream_format": "carrier pigeon" })), "stream_format"),
        (transcript(Form::new().file("file", "a.wav", &recording(10))), "model"),
        (transcript(Form::new().text("model", "ear")), "file"),
        (transcript(Form::new().text("model", "ear").file("file", "a.wav", b"")), "file"),
        (transcript(Form::new().text("model", "ear").text("file", "RIFF")), "file"),
        (transcript(heard("ear").file("file", "b.wav", b"x")), "file"),
        (transcript(heard("ear").text("model", "scribe")), "model"),
        (transcript(heard("ear").text("Model", "scribe")), "model"),
        (transcript(heard("ear").text("stream", "1")), "stream"),
        (Ask::Json("/v1/moderations", json!({ "model": "guard" })), "input"),
        (Ask::Json("/v1/moderations", json!({ "model": "guard", "input": 5 })), "input"),
        (Ask::Json("/v1/moderations", json!({ "model": "guard", "input": [5] })), "input"),
    ]);
    wrong
}

/// The issue's list, for these routes
#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_wrong_is_400_and_named_and_nothing_is_reserved() {
    let scene = Scene::new().await;
    for (at, (ask, name)) in wrong().into_iter().enumerate() {
        assert_named(&ask.send(&scene.client).await, name, &format!("{} {at}", ask.path()));
    }
    for (path, body, name) in [
        ("/v1/images/generations", r#"{"model":"painter","prompt":"x","n":1,"n":9}"#, "n"),
        ("/v1/images/generations", r#"{"model":"painter","prompt":"x","N":9}"#, "n"),
        ("/v1/audio/speech", r#"{"model":"voice","model":"speaker","input":"x"}"#, "model"),
        ("/v1/moderations", r#"{"model":"guard","input":"x","input":"y"}"#, "input"),
    ] {
        assert_named(&scene.client.post_bytes(path, body.as_bytes().to_vec()).await, name, body);
    }
    assert_nothing_happened(&scene).await;
    image(json!({ "n": 2, "size": "1024x1024", "quality": "low" })).send(&scene.client).await.ok();
    edit(painted().text("n", "2")).send(&scene.client).await.ok();
}

/// E-11 for forms: whatever a body is, it is a 400 or it is read as everybody reads it
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_form_is_400_and_reaches_nobody() {
    let scene = Scene::new().await;
    let good = heard("ear");
    let text = String::from_utf8_lossy(&good.body()).into_owned();
    let disposition = "Content-Disposition: form-data; name=\"model\"";
    let broken = [
        ("nothing", Vec::new()),
        ("no form", b"hello".to_vec()),
        ("JSON", br#"{"model":"ear"}"#.to_vec()),
        ("no end", good.body()[..good.body().len() - BOUNDARY.len() - 6].to_vec()),
        ("an epilogue", [good.body(), b"more".to_vec()].concat()),
        ("a preamble", [b"before\r\n".to_vec(), good.body()].concat()),
        ("bare line feeds", text.replace("\r\n", "\n").into_bytes()),
        ("no name", text.replace("; name=\"model\"", "").into_bytes()),
        ("two names", text.replace("name=\"model\"", "name=\"x\"; name=\"model\"").into_bytes()),
        ("an encoded name", text.replace("name=\"model\"", "name*=UTF-8''model").into_bytes()),
        (
            "an encoded part",
            text.replace(disposition, &format!("{disposition}\r\nContent-Transfer-Encoding: base64")).into_bytes(),
        ),
        ("a folded head", text.replace(disposition, "Content-Disposition: form-data;\r\n name=\"model\"").into_bytes()),
        ("a thousand parts", (0..1_000).fold(Form::new(), |form, at| form.text(&format!("x{at}"), "")).body()),
    ];
    for (what, body) in broken {
        let reply = scene.client.post_typed("/v1/audio/transcriptions", &Form::content_type(), body).await;
        reply.refused(400, "invalid_request_error", "invalid_multipart");
        assert!(reply.text().contains("multipart"), "{what}: {}", reply.text());
    }
    for kind in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=a; boundary=b"]
    {
        let reply = scene.client.post_typed("/v1/audio/transcriptions", kind, good.body()).await;
        reply.refused(400, "invalid_request_error", "invalid_multipart");
    }
    for (path, kind) in [
        ("/v1/audio/transcriptions", "application/json"),
        ("/v1/audio/transcriptions", "application/x-www-form-urlencoded"),
        ("/v1/images/variations", "text/plain"),
        ("/v1/audio/speech", &Form::content_type()),
        ("/v1/images/generations", &Form::content_type()),
    ] {
        assert_named(&scene.client.post_typed(path, kind, good.body()).await, "content-type", path);
    }
    for path in ["/v1/images/generations", "/v1/images/edits", "/v1/audio/speech", "/v1/moderations"] {
        for body in ["", "[]", "{", "hello", "\u{0}", &"[".repeat(100_000)] {
            let reply = scene.client.post_bytes(path, body.as_bytes().to_vec()).await;
            assert_eq!(
                (reply.status, &reply.json()["error"]["type"]),
                (400, &json!("invalid_request_error")),
                "{path} {body:.9}"
            );
        }
    }
    assert_nothing_happened(&scene).await;
    scene.client.post_form("/v1/audio/transcriptions", &good).await.ok();
}

/// The edge's limit counts for files, too
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_too_large_is_413() {
    let upstream = openclawmu_tests::Upstream::start().await;
    let setup = openclawmu_tests::Setup::with(&upstream).edge_key("max_body_bytes = 100000");
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    let large = Form::new().text("model", "ear").file("file", "a.wav", &recording(4_000));
    scene.client.post_form("/v1/audio/transcriptions", &large).await.refused(
        413,
        "invalid_request_error",
        "request_too_large",
    );
    assert_nothing_happened(&scene).await;
    let small = Form::new().text("model", "ear").file("file", "a.wav", &recording(2_000));
    scene.client.post_form("/v1/audio/transcriptions", &small).await.ok();
}
