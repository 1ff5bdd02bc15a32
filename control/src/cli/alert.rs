//! `alerts list|test`: the webhooks that tell of budgets, and whether one arrives.

use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::table::Table;

/// How long a test may take to arrive: the receiver's time, and the outbox's pause.
const PATIENCE: Duration = Duration::from_secs(25);
/// Pause between two looks at how it goes.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What the operator can do about webhooks.
#[derive(Debug, Subcommand)]
pub enum AlertCommand {
    /// List webhooks and how their delivery goes, newest first
    List,
    /// Send a signed test to the webhook and say whether it was taken
    Test,
}

pub(crate) async fn execute(command: &AlertCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        AlertCommand::List => list(client, json).await,
        AlertCommand::Test => test(client, json).await,
    }
}

async fn list(client: &Client, json: bool) -> anyhow::Result<String> {
    let answer = client.text(Call::get(&["alerts"], &[])).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let answer: Value = serde_json::from_str(&answer)?;
    let mut table = Table::new(&["WEBHOOK", "EVENT", "TENANT", "STATE", ">ATTEMPTS", "CREATED", "LAST ERROR"]);
    for webhook in field(&answer, "data").as_array().into_iter().flatten() {
        let cell = |name: &str| shown(field(webhook, name));
        let names = ["id", "event", "tenant", "state", "attempts", "created_at", "last_error"];
        table.row(names.map(cell));
    }
    Ok(table.render("no webhooks yet"))
}

async fn test(client: &Client, json: bool) -> anyhow::Result<String> {
    let made = client.json(Call::send(Method::POST, &["alerts", "test"], json!({}))).await?;
    let id = shown(field(&made, "id"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let webhook = client.json(Call::get(&["alerts", &id], &[])).await?;
        let state = shown(field(&webhook, "state"));
        if state == "delivered" {
            return Ok(if json { format!("{webhook}\n") } else { format!("the webhook took {id}\n") });
        }
        let error = shown(field(&webhook, "last_error"));
        if !error.is_empty() {
            bail!(
                "{id} was not delivered: {error}\nhint: see alerts.webhook_url; a pending one is sent again by itself"
            );
        }
        if Instant::now() >= deadline {
            bail!("{id} was not delivered within {} s\nhint: see the gateway's log", PATIENCE.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
