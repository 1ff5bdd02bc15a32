//! `archives list|create`.

use clap::Subcommand;
use http::Method;
use openclawmu_store::Month;
use serde_json::{Value, json};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::table::{Table, grouped};

/// What the operator can do with old request detail.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// List the months whose request detail was moved to files
    List,
    /// Move a month's request detail to a compressed file now; reports stay as they are
    Create {
        /// The month, such as 2025-10
        month: Month,
    },
}

pub(crate) async fn execute(command: &ArchiveCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    let call = match command {
        ArchiveCommand::List => Call::get(&["archives"], &[]),
        ArchiveCommand::Create { month } => {
            Call::send(Method::POST, &["archives"], json!({"month": month.to_string()}))
        }
    };
    let answer = client.text(call).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let answer: Value = serde_json::from_str(&answer)?;
    Ok(match (command, field(&answer, "archive")) {
        (ArchiveCommand::List, _) => list(&answer),
        (ArchiveCommand::Create { month }, Value::Null) => {
            format!("{month}: there is no request detail left to move\n")
        }
        (ArchiveCommand::Create { month }, made) => {
            let rows = field(made, "rows").as_u64().unwrap_or_default();
            format!("{month}: {} rows moved to {}\n", grouped(rows), shown(field(made, "file")))
        }
    })
}

fn list(answer: &Value) -> String {
    let mut table = Table::new(&["MONTH", ">ROWS", ">USD", "FILE", "SHA-256"]);
    for archive in field(answer, "data").as_array().into_iter().flatten() {
        let cell = |name: &str| shown(field(archive, name));
        let rows = field(archive, "rows").as_u64().unwrap_or_default();
        table.row([cell("month"), grouped(rows), cell("cost_usd"), cell("file"), cell("sha256")]);
    }
    table.render("no request detail has been moved yet")
}
