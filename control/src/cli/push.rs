//! `billing push stripe`: the push runs in the gateway; this waits for it and shows how far it is.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use openclawmu_store::TenantId;
use serde_json::{Map, Value};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};

/// Where usage can be pushed to.
#[derive(Debug, Subcommand)]
pub enum PushCommand {
    /// Send what tenants used to Stripe, as meter events
    Stripe(StripeFlags),
}

/// What to push to Stripe.
#[derive(Debug, Args)]
pub struct StripeFlags {
    /// Say what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// This tenant alone
    #[arg(long)]
    tenant: Option<TenantId>,
    /// The day that is not over yet as well
    #[arg(long)]
    include_today: bool,
    /// What became of events that Stripe may have and can't tell any more
    #[arg(long, value_enum, value_name = "sent|resend", conflicts_with = "dry_run")]
    uncertain: Option<Decision>,
}

/// The operator's word on uncertain events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Decision {
    /// Stripe has them
    Sent,
    /// Stripe does not have them: send them again
    Resend,
}

/// A push may take as long as the gateway lets it.
const PATIENCE: Duration = Duration::from_secs(3 * 60 * 60);
/// Pause between two looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(crate) async fn execute(command: &PushCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    let PushCommand::Stripe(flags) = command;
    let mut body = Map::new();
    if let Some(tenant) = &flags.tenant {
        body.insert("tenant".to_owned(), tenant.as_str().into());
    }
    for (name, given) in [("dry_run", flags.dry_run), ("include_today", flags.include_today)] {
        if given {
            body.insert(name.to_owned(), true.into());
        }
    }
    if let Some(decision) = flags.uncertain {
        let word = match decision {
            Decision::Sent => "sent",
            Decision::Resend => "resend",
        };
        body.insert("uncertain".to_owned(), word.into());
    }
    let call = Call::send(Method::POST, &["billing", "push", "stripe"], body.into());
    let answer = watched(client, client.text_within(PATIENCE, call)).await?;
    let report: Value = serde_json::from_str(&answer)?;
    let text = if json { format!("{answer}\n") } else { told(&report) };
    if field(&report, "complete").as_bool() == Some(true) || flags.dry_run {
        return Ok(text);
    }
    // What was done is said in any case; what is left is the error.
    std::io::stdout().lock().write_all(text.as_bytes())?;
    bail!("not all usage is at Stripe\nhint: run it again: nothing is sent twice")
}

/// Waits for the push, and shows a person how far it is.
async fn watched(client: &Client, push: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<String> {
    if !std::io::stderr().is_terminal() {
        return push.await;
    }
    let mut push = std::pin::pin!(push);
    loop {
        tokio::select! {
            answer = &mut push => {
                // Nobody is left to tell when this fails.
                let _ = write!(std::io::stderr(), "\r\x1b[K");
                return answer;
            }
            () = tokio::time::sleep(LOOK_EVERY) => {
                if let Ok(progress) = client.json(Call::get(&["billing", "push", "stripe"], &[])).await {
                    let sent = shown(field(&progress, "sent"));
                    let _ = write!(std::io::stderr(), "\r\x1b[K{sent} events sent");
                }
            }
        }
    }
}

/// The report for people: what was done, then what is left, each with what to do.
fn told(report: &Value) -> String {
    let count = |name: &str| shown(field(field(report, name), "count"));
    let mut text = if field(report, "dry_run").as_bool() == Some(true) {
        format!("{} events would be sent\n", count("planned"))
    } else {
        let (sent, known) = (shown(field(report, "sent")), shown(field(report, "known")));
        format!("{sent} events sent, {known} of them had arrived before; {} pending\n", shown(field(report, "pending")))
    };
    for (name, what) in [
        ("planned", "to be sent"),
        ("skipped", "tenants without metadata.stripe_customer_id, skipped"),
        ("failed", "events refused by Stripe"),
        ("uncertain", "events that Stripe may have: look there, then say --uncertain sent or --uncertain resend"),
        ("carried", "credits after they were sent, taken off what comes"),
        ("expired", "amounts older than Stripe takes (35 days): bill them by hand, then set stripe.since past them"),
        ("changed", "meters that counted something else before: give the new one another event_name"),
    ] {
        let listed = field(report, name);
        if field(listed, "count").as_u64().unwrap_or(0) == 0 {
            continue;
        }
        text.push_str(&format!("\n{} {what}:\n", count(name)));
        for item in field(listed, "items").as_array().into_iter().flatten() {
            text.push_str(&format!("  {}\n", line(item)));
        }
    }
    let stopped = shown(field(report, "stopped"));
    if !stopped.is_empty() {
        text.push_str(&format!("\nstopped: {stopped}\n"));
    }
    text
}

/// An item's fields in a row; control characters would move the cursor.
fn line(item: &Value) -> String {
    let text = match item {
        Value::Object(fields) => fields.values().map(shown).collect::<Vec<_>>().join("  "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => shown(item),
    };
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}
