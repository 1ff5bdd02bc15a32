//! Uploading files and making batches, as a client of the contract does it.

use http::Method;
use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::form::Form;

/// The content type of [`form`].
#[must_use]
pub fn content_type() -> String {
    Form::content_type()
}

/// A form with a purpose and a file.
#[must_use]
pub fn form(purpose: &str, name: &str, content: &[u8]) -> Vec<u8> {
    Form::new().text("purpose", purpose).file("file", name, content).body()
}

/// Uploads a file.
pub async fn upload(client: &Client, purpose: &str, content: &[u8]) -> Reply {
    let request = client.build(Method::POST, "/v1/files").header("content-type", content_type());
    Reply::of(request.body(form(purpose, "data.jsonl", content)).send().await.expect("an answer")).await
}

/// Uploads a file that must be taken; its id.
pub async fn uploaded(client: &Client, purpose: &str, content: &[u8]) -> String {
    upload(client, purpose, content).await.ok()["id"].as_str().expect("an id").to_owned()
}

/// Asks for a batch over an uploaded file.
pub async fn batch(client: &Client, input: &str, endpoint: &str) -> Reply {
    let body = json!({ "input_file_id": input, "endpoint": endpoint, "completion_window": "24h" });
    client.post("/v1/batches", &body).await
}

/// A line of a batch that asks a chat model.
#[must_use]
pub fn chat_line(id: &str, body: &Value) -> String {
    json!({ "custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body }).to_string() + "\n"
}
