//! `billing resolve`: what is held after a crash, and how it ends.

use anyhow::bail;
use clap::Args;
use http::Method;
use openclawmu_store::{ReservationId, TenantId};
use serde_json::{Value, json};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::table::Table;

/// Which holds, and how they end. Without a decision they are listed.
#[derive(Debug, Args)]
pub struct ResolveFlags {
    /// The events to resolve, as the list names them
    #[arg(value_name = "EVENT", conflicts_with = "all")]
    pub events: Vec<ReservationId>,
    /// One tenant's; all when absent
    #[arg(long)]
    pub tenant: Option<TenantId>,
    /// Only list what is held
    #[arg(long, conflicts_with_all = ["release", "post"])]
    pub list: bool,
    /// Everything that is held but for batches that run: those end by themselves, unless they are named
    #[arg(long)]
    pub all: bool,
    /// The provider did not bill it: give it back
    #[arg(long, conflicts_with = "post", requires = "reason")]
    pub release: bool,
    /// The provider billed it: bill it, today
    #[arg(long, requires = "reason")]
    pub post: bool,
    /// Why
    #[arg(long)]
    pub reason: Option<String>,
}

pub(crate) async fn resolve(flags: &ResolveFlags, client: &Client, json: bool) -> anyhow::Result<String> {
    let holds = match &flags.tenant {
        Some(tenant) => client.list(&["tenants", tenant.as_str(), "held"]).await?,
        None => client.list(&["held"]).await?,
    };
    let decided = match (flags.release, flags.post) {
        (true, _) => Some("release"),
        (_, true) => Some("post"),
        (false, false) => None,
    };
    let Some(action) = decided.filter(|_| !flags.list) else {
        return if json { Ok(format!("{}\n", json!({"data": holds}))) } else { Ok(listed(&holds)) };
    };
    let chosen = choose(&holds, flags)?;
    let mut done = Vec::new();
    for hold in chosen {
        let (tenant, event) = (shown(field(hold, "tenant")), shown(field(hold, "id")));
        let path = ["tenants", &tenant, "held", &event, "resolve"];
        let answer =
            client.json(Call::send(Method::POST, &path, json!({"action": action, "reason": flags.reason}))).await?;
        done.push(field(&answer, "resolution").clone());
    }
    if json {
        return Ok(format!("{}\n", json!({"data": done})));
    }
    let lines = done.iter().map(|resolution| {
        let cell = |name: &str| shown(field(resolution, name));
        format!("{}: {} USD released, {} USD posted\n", cell("resolves"), cell("released_usd"), cell("posted_usd"))
    });
    Ok(lines.collect())
}

fn choose<'a>(holds: &'a [Value], flags: &ResolveFlags) -> anyhow::Result<Vec<&'a Value>> {
    if flags.all {
        return Ok(holds.iter().filter(|hold| field(hold, "batch").is_null()).collect());
    }
    if flags.events.is_empty() {
        bail!(
            "name the events to resolve, or give --all\nhint: `openclawmu billing resolve --list` shows what is held"
        );
    }
    let find = |event: &ReservationId| {
        let name = event.to_string();
        let found = holds.iter().find(|hold| field(hold, "id") == name.as_str());
        found.ok_or_else(|| anyhow::anyhow!("nothing is held for {name}, or it has been resolved"))
    };
    flags.events.iter().map(find).collect()
}

fn listed(holds: &[Value]) -> String {
    let mut table =
        Table::new(&["EVENT", "TENANT", "AT", "MODEL", "UPSTREAM", ">HELD USD", ">HELD TOKENS", "REQUEST", "BATCH"]);
    for hold in holds {
        let cell = |name: &str| shown(field(hold, name));
        table.row(
            ["id", "tenant", "at", "model", "upstream", "held_usd", "held_tokens", "request_id", "batch"].map(cell),
        );
    }
    table.render("nothing is held")
}
