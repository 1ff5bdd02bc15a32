//! Every route of the edge, as the program lists them: who may ask, and that whatever reaches an upstream is admitted and settled.
//!
//! A route without an example here fails the walk.

use openclawmu_tests::client::{Client, chat};
use openclawmu_tests::upstream::media;
use openclawmu_tests::{Form, Reply, Scene, upload};
use reqwest::Method;
use serde_json::{Value, json};

/// How a route is asked.
enum Example {
    /// With this path and body: it reaches the upstream.
    Call(&'static str, Value),
    /// With this path: it reaches the upstream, which bills nothing for it, so that it is served over budget.
    Free(String),
    /// By uploading a file, which is free, too.
    Upload,
    /// By making a batch of this file: fetching it and sending it again are rows of their own.
    Batch(String),
    /// With this path and body: the gateway answers it itself, with this status.
    Own(&'static str, Value, u16),
    /// With this path and form: it reaches the upstream.
    Form(&'static str, Form),
    /// By a WebSocket; a plain request is told so. What goes over it is walked by the tests of that WebSocket.
    Socket(&'static str),
}

/// What the tenant has at its provider before the walk.
struct Has {
    file: String,
    input: String,
    batch: String,
}

fn example(method: &str, path: &str, has: &Has) -> Option<Example> {
    let messages = json!([{ "role": "user", "content": "hello" }]);
    let google = json!({ "contents": [{ "role": "user", "parts": [{ "text": "hello" }] }], "generationConfig": { "maxOutputTokens": 5 } });
    Some(match (method, path) {
        ("POST", "/v1/chat/completions") => Example::Call("/v1/chat/completions", chat("alpha", "hello", 5)),
        ("POST", "/v1/completions") => {
            Example::Call("/v1/completions", json!({ "model": "instruct", "prompt": "hello", "max_tokens": 5 }))
        }
        ("POST", "/v1/embeddings") => Example::Call("/v1/embeddings", json!({ "model": "embed", "input": "hello" })),
        ("POST", "/v1/messages") => {
            Example::Call("/v1/messages", json!({ "model": "alpha", "max_tokens": 5, "messages": messages }))
        }
        ("POST", "/v1/messages/count_tokens") => {
            Example::Own("/v1/messages/count_tokens", json!({ "model": "alpha", "messages": messages }), 200)
        }
        ("POST", "/v1/responses") => {
            Example::Call("/v1/responses", json!({ "model": "alpha", "input": "hello", "max_output_tokens": 5 }))
        }
        ("POST", "/v1/responses/compact") => {
            Example::Call("/v1/responses/compact", json!({ "model": "alpha", "input": "hello" }))
        }
        ("POST", "/v1/moderations") => Example::Call("/v1/moderations", json!({ "model": "guard", "input": "hello" })),
        ("POST", "/v1/images/generations") => Example::Call(
            "/v1/images/generations",
            json!({ "model": "poster", "prompt": "hello", "size": "1024x1024" }),
        ),
        ("POST", "/v1/images/edits") => Example::Form(
            "/v1/images/edits",
            Form::new().text("model", "painter").text("prompt", "hello").file("image", "a.png", b"PNG"),
        ),
        ("POST", "/v1/images/variations") => {
            Example::Form("/v1/images/variations", Form::new().text("model", "painter").file("image", "a.png", b"PNG"))
        }
        ("POST", "/v1/audio/speech") => {
            Example::Call("/v1/audio/speech", json!({ "model": "voice", "input": "hello", "voice": "alloy" }))
        }
        ("POST", "/v1/audio/transcriptions") => Example::Form("/v1/audio/transcriptions", recorded()),
        ("POST", "/v1/audio/translations") => Example::Form("/v1/audio/translations", recorded()),
        ("POST", "/v1/models/*") => Example::Call("/v1/models/alpha:generateContent", google),
        ("POST", "/v1beta/models/*") => Example::Call("/v1beta/models/alpha:generateContent", google),
        ("GET", "/v1/responses") => Example::Socket("/v1/responses"),
        ("GET", "/v1/realtime") => Example::Socket("/v1/realtime?model=alpha"),
        ("GET" | "DELETE", "/v1/responses/*") => Example::Own("/v1/responses/resp_none", Value::Null, 404),
        ("POST", "/v1/responses/*") => Example::Own("/v1/responses/resp_none/cancel", Value::Null, 404),
        ("POST", "/v1/files") => Example::Upload,
        ("GET", "/v1/files") => Example::Own("/v1/files", Value::Null, 200),
        ("GET" | "DELETE", "/v1/files/*") => Example::Free(format!("/v1/files/{}", has.file)),
        ("POST", "/v1/batches") => Example::Batch(has.input.clone()),
        ("GET", "/v1/batches") => Example::Own("/v1/batches", Value::Null, 200),
        ("GET", "/v1/batches/*") => Example::Free(format!("/v1/batches/{}", has.batch)),
        ("POST", "/v1/batches/*") => Example::Free(format!("/v1/batches/{}/cancel", has.batch)),
        ("GET", "/v1/models") => Example::Own("/v1/models", Value::Null, 200),
        ("GET", "/v1/models/*") => Example::Own("/v1/models/alpha", Value::Null, 200),
        ("GET", "/v1/usage") => Example::Own("/v1/usage", Value::Null, 200),
        ("GET", "/v1/quota") => Example::Own("/v1/quota", Value::Null, 200),
        ("POST", "/v1/client_secrets") => Example::Own("/v1/client_secrets", json!({ "ttl_seconds": 60 }), 201),
        ("POST", "/v1/sandbox/exec") => Example::Own("/v1/sandbox/exec", json!({ "command": ["true"] }), 200),
        ("GET", "/v1/workspace/files") => Example::Own("/v1/workspace/files", Value::Null, 200),
        ("GET" | "DELETE", "/v1/workspace/files/*") => Example::Own("/v1/workspace/files/none", Value::Null, 404),
        ("POST", "/v1/workspace/files/*") => {
            Example::Own("/v1/workspace/files/none", json!({ "move_to": "other" }), 404)
        }
        ("PUT", "/v1/workspace/files/*") => Example::Own("/v1/workspace/files/some", json!("content"), 201),
        ("POST", "/v1/terminal/tickets") => Example::Own("/v1/terminal/tickets", json!({ "cols": 80 }), 201),
        ("GET", "/v1/terminal") => Example::Socket("/v1/terminal"),
        ("GET", "/v1/terminal/ui") => Example::Own("/v1/terminal/ui", Value::Null, 200),
        ("GET", "/v1/terminal/ui/*") => Example::Own("/v1/terminal/ui/xterm.mjs", Value::Null, 200),
        ("GET", "/v1/agents") => Example::Own("/v1/agents", Value::Null, 200),
        ("POST", "/v1/agents") => Example::Own("/v1/agents", json!({ "name": "walker" }), 201),
        ("GET", "/v1/agents/*") => Example::Own("/v1/agents/default", Value::Null, 200),
        ("PATCH", "/v1/agents/*") => Example::Own("/v1/agents/walker", json!({ "max_steps": 3 }), 200),
        ("DELETE", "/v1/agents/*") => Example::Own("/v1/agents/walker", Value::Null, 200),
        ("GET", "/v1/sessions") => Example::Own("/v1/sessions", Value::Null, 200),
        ("GET" | "DELETE", "/v1/sessions/*") => Example::Own("/v1/sessions/none", Value::Null, 404),
        ("GET", "/v1/memory") => Example::Own("/v1/memory", Value::Null, 200),
        ("GET", "/v1/memory/*") => Example::Own("/v1/memory/MEMORY.md", Value::Null, 404),
        ("PUT", "/v1/memory/*") => Example::Own("/v1/memory/MEMORY.md", json!("content"), 201),
        ("DELETE", "/v1/memory/*") => Example::Own("/v1/memory/MEMORY.md", Value::Null, 204),
        ("GET" | "POST", "/channels/*") => Example::Own("/channels/slack/none", Value::Null, 404),
        ("GET" | "POST", "/pair/*") => Example::Own("/pair/none", Value::Null, 404),
        ("GET", "/healthz") => Example::Own("/healthz", Value::Null, 200),
        ("GET", "/readyz") => Example::Own("/readyz", Value::Null, 200),
        _ => return None,
    })
}

/// A second of silence.
fn recorded() -> Form {
    let file = [media::wav_head(16_000, 32_000), vec![0; 32_000]].concat();
    Form::new().text("model", "ear").file("file", "a.wav", &file)
}

async fn ask(client: &Client, method: &str, example: &Example) -> Reply {
    let method: Method = method.parse().expect("a method");
    let request = match example {
        Example::Call(path, body) | Example::Own(path, body, _) if !body.is_null() => {
            client.build(method, path).json(body)
        }
        Example::Call(path, _) | Example::Own(path, ..) | Example::Socket(path) => client.build(method, path),
        Example::Form(path, form) => {
            client.build(method, path).header("content-type", Form::content_type()).body(form.body())
        }
        Example::Free(path) => client.build(method, path),
        Example::Batch(input) => return upload::batch(client, input, "/v1/chat/completions").await,
        Example::Upload => return upload::upload(client, "user_data", b"hello").await,
    };
    Reply::of(request.send().await.expect("an answer")).await
}

/// An error body in the words of the dialect that the list names.
fn assert_told(reply: &Reply, dialect: &str) {
    let body = reply.json();
    let message = match dialect {
        "anthropic" => {
            assert_eq!(body["type"], "error", "{}", reply.text());
            &body["error"]["message"]
        }
        "gemini" => {
            assert_eq!(body["error"]["code"], json!(reply.status), "{}", reply.text());
            &body["error"]["message"]
        }
        "openai" | "responses" => {
            assert!(body["error"]["type"].is_string(), "{}", reply.text());
            &body["error"]["message"]
        }
        other => panic!("no such dialect: {other}"),
    };
    assert!(message.as_str().is_some_and(|text| !text.is_empty()), "{}", reply.text());
}

/// M-01 over the whole list: 401 without a token; one settled row for each request that an upstream got; 429, and
/// nothing sent, when the budget is spent. bifrost 2873, `LiteLLM` 10750, 36646, 38176: pass-through routes skip budget and bill
#[tokio::test(flavor = "multi_thread")]
async fn every_route_needs_its_token_and_whatever_reaches_an_upstream_is_admitted_and_settled() {
    let scene = Scene::new().await;
    let spent = scene.admin().tenant("spent", json!({ "usd_per_day": "0.000000001" })).await;
    let (stranger, spent) = (scene.client.with_token("tk_nobody_x"), scene.client.with_token(&spent.token));
    let line = upload::chat_line("line", &chat("alpha", "hello", 5));
    let input = upload::uploaded(&scene.client, "batch", line.as_bytes()).await;
    let made = upload::batch(&scene.client, &input, "/v1/chat/completions").await.ok();
    let batch = made["id"].as_str().expect("an id").to_owned();
    let has = Has { file: upload::uploaded(&scene.client, "user_data", b"hello").await, input, batch };
    scene.rows_once(scene.upstream.calls()).await;
    let routes = scene.gateway.cli(&["routes", "--json"]).await.json();
    let routes = routes.as_array().expect("a list");
    assert!(routes.len() > 15, "{routes:#?}");
    for route in routes {
        let text = |key: &str| route[key].as_str().unwrap_or_else(|| panic!("{key} of {route}"));
        let (method, path, dialect) = (text("method"), text("path"), text("dialect"));
        let asked =
            example(method, path, &has).unwrap_or_else(|| panic!("{method} {path} is new: give it an example here"));
        let own = match asked {
            Example::Call(..) | Example::Form(..) | Example::Free(_) | Example::Upload | Example::Batch(_) => None,
            Example::Own(_, _, status) => Some(status),
            Example::Socket(_) => Some(426),
        };
        if text("access") == "open" {
            assert_eq!(ask(&stranger, method, &asked).await.status, own.expect("the gateway's own"), "{method} {path}");
            continue;
        }
        let refused = ask(&stranger, method, &asked).await;
        assert_eq!(refused.status, 401, "{method} {path}: {}", refused.text());
        assert_told(&refused, dialect);
        let (calls, rows) = (scene.upstream.calls(), scene.rows().len());
        let reply = ask(&scene.client, method, &asked).await;
        assert_eq!(reply.status, own.unwrap_or(200), "{method} {path}: {}", reply.text());
        let sent = scene.upstream.calls() - calls;
        let expected = if matches!(asked, Example::Batch(_)) { 3 } else { usize::from(own.is_none()) };
        assert_eq!(sent, expected, "{method} {path}: requests upstream");
        assert!(sent == 0 || route["upstream"] == true, "{method} {path} reaches an upstream unlisted");
        // A run is a row, too, and no upstream's.
        let settled = sent + usize::from(text("path") == "/v1/sandbox/exec");
        scene.rows_once(rows + settled).await;
        if matches!(asked, Example::Call(..) | Example::Form(..)) {
            let refused = ask(&spent, method, &asked).await;
            assert_eq!(refused.status, 429, "{method} {path}: {}", refused.text());
            assert_told(&refused, dialect);
        }
        assert_eq!(scene.upstream.calls() - calls, sent, "{method} {path}: nothing more was sent");
    }
    let balanced = scene.balanced().await;
    assert!(balanced.posted > 0 && balanced.pending == 0);
}
