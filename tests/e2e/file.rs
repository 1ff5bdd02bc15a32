//! Files at a provider: each its tenant's alone, in an account that all tenants share.

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::upload::{self, upload, uploaded};
use openclawmu_tests::{BatchEnd, Behaviour, Client, Fault, Gate, Reply, Scene, Setup, Upstream, setup};
use serde_json::{Value, json};

async fn send(client: &Client, method: Method, path: &str) -> Reply {
    Reply::of(client.build(method, path).send().await.expect("an answer")).await
}

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().expect("data").iter().map(|file| file["id"].as_str().expect("an id")).collect()
}

/// Every byte as it came: those of the form upstream, those of the content down
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_kept_listed_read_and_removed_byte_for_byte() {
    let scene = Scene::new().await;
    let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let made = upload(&scene.client, "user_data", &content).await;
    let id = made.ok()["id"].as_str().expect("an id").to_owned();
    let sent = scene.upstream.last();
    assert_eq!(sent.body, upload::form("user_data", "data.jsonl", &content));
    assert_eq!(sent.header("content-type"), Some(upload::content_type().as_str()));
    assert_eq!(made.json()["bytes"], json!(content.len()));
    let second = uploaded(&scene.client, "batch", b"{}\n").await;
    let calls = scene.upstream.calls();
    let list = scene.client.get("/v1/files").await.ok();
    assert_eq!(ids(&list), [second.as_str(), &id]);
    assert_eq!(list["data"][1], made.json(), "what the provider said, from the store");
    assert_eq!(ids(&scene.client.get("/v1/files?order=asc&limit=1").await.ok()), [id.as_str()]);
    let page = scene.client.get(&format!("/files?limit=1&after={second}")).await.ok();
    assert_eq!((ids(&page), &page["has_more"]), (vec![id.as_str()], &json!(false)));
    assert_eq!(ids(&scene.client.get("/v1/files?purpose=batch").await.ok()), [second.as_str()]);
    assert_eq!(scene.upstream.calls(), calls, "a list is the gateway's own");
    assert_eq!(scene.client.get(&format!("/v1/files/{id}")).await.ok(), made.json());
    let read = scene.client.get(&format!("/v1/files/{id}/content")).await;
    assert_eq!((read.status, read.body == content), (200, true));
    assert_eq!(read.header("content-type"), Some("application/octet-stream"));
    let gone = send(&scene.client, Method::DELETE, &format!("/v1/files/{id}")).await.ok();
    assert_eq!(gone, json!({ "id": id, "object": "file", "deleted": true }));
    assert_eq!(scene.upstream.files(), [second.as_str()]);
    scene.client.get(&format!("/v1/files/{id}")).await.refused(404, "invalid_request_error", "file_not_found");
    let rows = scene.rows_once(scene.upstream.calls()).await;
    assert!(rows.iter().all(|row| row.cost == 0 && row.reserved == 0 && row.outcome == "complete"), "{rows:#?}");
}

/// I-01, I-04, I-06: 404 on every route, and the provider is not even asked
#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_file_is_404_on_every_route_and_no_upstream_is_asked() {
    let scene = Scene::new().await;
    let other = scene.admin().tenant("rival", json!({ "usd_per_day": "7" })).await;
    let rival = scene.client.with_token(&other.token);
    let file = uploaded(&scene.client, "user_data", b"canary-of-acme").await;
    let theirs = uploaded(&rival, "user_data", b"of-rival").await;
    let calls = scene.upstream.calls();
    for (method, path) in [
        (Method::GET, format!("/v1/files/{file}")),
        (Method::GET, format!("/v1/files/{file}/content")),
        (Method::HEAD, format!("/v1/files/{file}/content")),
        (Method::DELETE, format!("/v1/files/{file}")),
        (Method::GET, format!("/v1/files?after={file}")),
        (Method::GET, "/v1/files/file-unknown".to_owned()),
        (Method::GET, format!("/v1/files/..%2f{file}")),
        (Method::GET, format!("/v1/files/{theirs}%2f..%2f{file}/content")),
        (Method::GET, format!("/v1/files/{file}/content/more")),
        (Method::POST, format!("/v1/files/{file}/content")),
    ] {
        let reply = send(&rival, method.clone(), &path).await;
        let known = if method == Method::POST { 405 } else { 404 };
        assert_eq!(reply.status, known, "{method} {path}: {}", reply.text());
        assert!(!reply.text().contains("canary"), "{path}");
    }
    assert_eq!(ids(&rival.get("/v1/files").await.ok()), [theirs.as_str()]);
    assert_eq!(scene.upstream.calls(), calls);
    assert_eq!(scene.client.get(&format!("/v1/files/{file}/content")).await.text(), "canary-of-acme");
    let gone = scene.admin().send(Method::DELETE, "/v1/tenants/acme?confirm=acme").await;
    assert!(matches!(gone.status, 200 | 204), "{}", gone.text());
    let calls = scene.upstream.calls();
    assert_eq!(scene.client.get(&format!("/v1/files/{file}")).await.status, 401);
    assert_eq!(rival.get(&format!("/v1/files/{file}")).await.status, 404);
    assert_eq!(scene.upstream.calls(), calls);
}

/// I-01: a model would read it to whoever knows its id
#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_asked_about_ones_own_files_alone() {
    let scene = Scene::new().await;
    let other = scene.admin().tenant("rival", json!({ "usd_per_day": "1000" })).await;
    let rival = scene.client.with_token(&other.token);
    let file = uploaded(&scene.client, "user_data", b"canary").await;
    let ask = |key: &str| {
        let body = json!({ "model": "sight", "max_tokens": 5, "messages": [{ "role": "user", "content": [
            { "type": "text", "text": "what does it say?" }, { "type": "file", "file": { "ID": file } }] }] });
        body.to_string().replace("\"ID\"", key)
    };
    let post = |client: Client, body: String| async move {
        let request = client.build(Method::POST, "/v1/chat/completions").header("content-type", "application/json");
        Reply::of(request.body(body).send().await.expect("an answer")).await
    };
    post(scene.client.clone(), ask("\"file_id\"")).await.ok();
    let calls = scene.upstream.calls();
    for key in ["\"file_id\"", "\"fil\\u0065_id\"", "\"FILE_ID\""] {
        let reply = post(rival.clone(), ask(key)).await;
        reply.refused(404, "invalid_request_error", "file_not_found");
    }
    assert_eq!(scene.upstream.calls(), calls);
    // Nor is a file that of a page's user: what a tenant keeps is all its users' together.
    let secret = scene.admin().post("/v1/tenants/acme/client_secrets", &json!({})).await.json();
    let page = scene.client.with_token(secret["value"].as_str().expect("a secret"));
    post(page.clone(), ask("\"file_id\"")).await.refused(404, "invalid_request_error", "file_not_found");
    page.get("/v1/files").await.refused(403, "permission_error", "not_for_client_secrets");
    page.get("/v1/batches").await.refused(403, "permission_error", "not_for_client_secrets");
    rival.chat(&chat("sight", "a file_id is a word", 5)).await.ok();
}

/// the tenant's rates hold, a spent budget doesn't matter, and nothing is left pending
#[tokio::test(flavor = "multi_thread")]
async fn files_are_admitted_for_rates_alone_and_every_call_is_one_row() {
    let scene = Scene::new().await;
    let slow = scene.admin().tenant("slow", json!({ "requests_per_minute": 2, "usd_per_day": "0" })).await;
    let slow = scene.client.with_token(&slow.token);
    let file = uploaded(&slow, "user_data", b"x").await;
    slow.get(&format!("/v1/files/{file}")).await.ok();
    slow.get(&format!("/v1/files/{file}")).await.refused(429, "requests", "rate_limit_exceeded");
    slow.get("/v1/files").await.ok();

    let one = scene.admin().tenant("one", json!({ "concurrent_requests": 1 })).await;
    let one = scene.client.with_token(&one.token);
    let file = uploaded(&one, "user_data", b"x").await;
    let gate = Gate::new();
    scene.upstream.next(Behaviour::gated(0, 0, &gate));
    let calls = scene.upstream.calls();
    let first = tokio::spawn({
        let (one, path) = (one.clone(), format!("/v1/files/{file}"));
        async move { one.get(&path).await }
    });
    openclawmu_tests::wait::until_true("the first call", || scene.upstream.calls() > calls).await;
    one.get(&format!("/v1/files/{file}")).await.refused(429, "requests", "rate_limit_exceeded");
    gate.open();
    first.await.expect("a task").ok();

    scene.upstream.next(Behaviour::status(500));
    let failed = upload(&scene.client, "user_data", b"x").await;
    failed.refused(502, "upstream_error", "upstream_error");
    scene.upstream.next(Behaviour::fault(Fault::HangUpAtByte(5)));
    upload(&scene.client, "user_data", b"x").await.refused(502, "upstream_error", "upstream_broken");
    let no_form = scene.client.post("/v1/files", &json!({ "purpose": "batch" })).await;
    no_form.refused(400, "invalid_request_error", "invalid_value");
    assert_eq!(ids(&scene.client.get("/v1/files").await.ok()), [""; 0]);
    let rows = scene.rows_once(2).await;
    assert!(rows.iter().all(|row| row.outcome == "void" && row.cost == 0 && row.held == 0), "{rows:#?}");
}

/// The same at Azure, which has paths, a key header and statuses of its own
#[tokio::test(flavor = "multi_thread")]
async fn azure_keeps_files_and_batches_as_well() {
    let upstream = Upstream::start().await;
    let azure = format!(
        "[[upstream]]\nname = \"azure\"\nkind = \"azure\"\nbase_url = \"http://{}\"\napi_key = \"env:{}\"\nmodels = [\"alpha\"]\n",
        upstream.address(),
        setup::PROVIDER_KEY_ENV
    );
    // A server like OpenAI's comes first, and is no account at OpenAI.
    let other = Upstream::start().await;
    let setup = Setup::bare()
        .upstream("other", other.address(), &["beta"], &[])
        .line(&azure)
        .line("[batches]\npoll_seconds = 1\n");
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    let line = upload::chat_line("a", &chat("alpha", "hello", 5));
    let file = uploaded(&scene.client, "batch", line.as_bytes()).await;
    let sent = scene.upstream.last();
    assert_eq!(sent.path, "/openai/files?api-version=2024-10-21");
    assert_eq!(sent.header("api-key"), Some(setup::PROVIDER_KEY));
    let made = upload::batch(&scene.client, &file, "/v1/chat/completions").await.ok();
    let id = made["id"].as_str().expect("an id");
    scene.upstream.finish_batch(id, BatchEnd::Completed);
    openclawmu_tests::wait::until("the bill", || async { (scene.budget().await.posted > 0).then_some(()) }).await;
    let gone = send(&scene.client, Method::DELETE, &format!("/v1/files/{file}")).await.ok();
    assert_eq!(gone, json!({ "id": file, "object": "file", "deleted": true }));
    assert_eq!(other.calls(), 0);
}

/// S8-03: whatever its size, and whoever reads it
#[tokio::test(flavor = "multi_thread")]
async fn a_large_download_goes_through_in_pieces_and_a_cut_one_never_looks_whole() {
    const LARGE: usize = 96 << 20;
    let scene = Scene::new().await;
    let file = uploaded(&scene.client, "user_data", b"small").await;
    scene.upstream.replace_file(&file, vec![b'x'; LARGE]);
    let before = scene.gateway.resident_kib();
    let path = format!("/v1/files/{file}/content");
    let mut response = scene.client.build(Method::GET, &path).send().await.expect("an answer");
    let mut length = 0;
    let mut most = 0;
    while let Some(piece) = response.chunk().await.expect("the whole of it") {
        length += piece.len();
        most = most.max(scene.gateway.resident_kib());
    }
    assert_eq!(length, LARGE);
    assert!(most < before + (32 << 10), "{before} KiB before, {most} KiB meanwhile");
    scene.upstream.next(Behaviour::fault(Fault::HangUpAtByte(1 << 20)));
    let mut response = scene.client.build(Method::GET, &path).send().await.expect("an answer");
    let ended = loop {
        match response.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    assert!(!ended, "a broken answer must not end properly");
}
