//! `config reload`: what SIGHUP does, with an answer.

use std::io::Write;

use http::Method;
use serde_json::{Value, json};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::command::Connection;

/// Has the running gateway read its configuration again, and prints what changed.
///
/// # Errors
/// What is wrong with the configuration, or why the API could not be reached.
pub async fn reload(connection: Connection) -> anyhow::Result<()> {
    let client = Client::new(&connection)?;
    let answer = client.text(Call::send(Method::POST, &["config", "reload"], json!({}))).await?;
    let text = if connection.json { format!("{answer}\n") } else { told(&serde_json::from_str(&answer)?) };
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

fn told(answer: &Value) -> String {
    let list = |name: &str| shown(field(answer, name));
    let changed = list("changed");
    let mut text = if changed.is_empty() { "nothing changed\n".to_owned() } else { format!("changed: {changed}\n") };
    let waits = list("needs_restart");
    if !waits.is_empty() {
        text.push_str(&format!("waits for the next start: {waits}\n"));
    }
    text
}
