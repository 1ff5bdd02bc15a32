//! `billing requests`: the request log.

use std::io::Write;

use clap::Args;
use openclawmu_store::TenantId;
use serde_json::Value;

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::table::Table;

/// Which rows of the log.
#[derive(Debug, Args)]
pub struct RequestFlags {
    /// The tenant
    pub tenant: TenantId,
    /// From this instant or date on
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Before this instant or date
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Of this model
    #[arg(long)]
    pub model: Option<String>,
    /// At this upstream
    #[arg(long)]
    pub upstream: Option<String>,
    /// By this token's id
    #[arg(long)]
    pub token: Option<String>,
    /// For this end user
    #[arg(long)]
    pub user: Option<String>,
    /// With this tag
    #[arg(long)]
    pub tag: Option<String>,
    /// Answered with this status
    #[arg(long)]
    pub status: Option<u16>,
    /// That ended so: complete, partial, void, recovered, abandoned, credit, resolved
    #[arg(long)]
    pub outcome: Option<String>,
    /// Of this x-request-id
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// At most so many rows; with --csv all, when absent
    #[arg(long)]
    pub limit: Option<u32>,
    /// Go on after this page's `next`
    #[arg(long)]
    pub after: Option<String>,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

impl RequestFlags {
    fn query(&self, format: &str) -> Vec<(&'static str, String)> {
        let given = [
            ("from", self.from.clone()),
            ("to", self.to.clone()),
            ("model", self.model.clone()),
            ("upstream", self.upstream.clone()),
            ("token", self.token.clone()),
            ("user", self.user.clone()),
            ("tag", self.tag.clone()),
            ("status", self.status.map(|status| status.to_string())),
            ("outcome", self.outcome.clone()),
            ("request_id", self.request_id.clone()),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("after", self.after.clone()),
            ("format", Some(format.to_owned())),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

pub(crate) async fn copy(flags: &RequestFlags, client: &Client, to: &mut dyn Write) -> Option<anyhow::Result<()>> {
    if !flags.csv {
        return None;
    }
    let query = flags.query("csv");
    let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Some(client.copy(Call::get(&["tenants", flags.tenant.as_str(), "requests"], &query), to).await)
}

pub(crate) async fn list(flags: &RequestFlags, client: &Client, json: bool) -> anyhow::Result<String> {
    let query = flags.query("json");
    let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = client.text(Call::get(&["tenants", flags.tenant.as_str(), "requests"], &query)).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let page: Value = serde_json::from_str(&answer)?;
    let headings = ["AT", "REQUEST", "MODEL", "UPSTREAM", "OUTCOME", ">STATUS", ">INPUT", ">OUTPUT", ">MS", ">USD"];
    let columns = [
        "at",
        "request_id",
        "model",
        "upstream",
        "outcome",
        "http_status",
        "input_tokens",
        "output_tokens",
        "duration_ms",
        "cost_usd",
    ];
    let mut table = Table::new(&headings);
    for row in field(&page, "data").as_array().into_iter().flatten() {
        table.row(columns.map(|name| shown(field(row, name))));
    }
    let more = match field(&page, "next").as_str() {
        Some(next) => format!("more with --after {next}\n"),
        None => String::new(),
    };
    Ok(format!("{}{more}", table.render("no requests")))
}
