//! `tenants config show|set|clear`: what a tenant prefers, merged under what only the operator may set.

use clap::{Args, Subcommand};
use http::Method;
use openclawmu_store::TenantId;
use serde_json::{Map, Value};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::table::fields;
use crate::cli::tenant::TightBudget;
use crate::cli::value::{self, Limit, Note};

/// What the operator can do with a tenant's overlay.
#[derive(Debug, Subcommand)]
pub enum OverlayCommand {
    /// Show what a tenant prefers, and what is in effect with it
    Show {
        /// The tenant
        tenant: TenantId,
    },
    /// Change what is named; `none` takes it away
    Set {
        /// The tenant
        tenant: TenantId,
        /// What to change
        #[command(flatten)]
        flags: OverlayFlags,
    },
    /// Take all of it away
    Clear {
        /// The tenant
        tenant: TenantId,
    },
}

/// A tenant's preferences as flags.
#[derive(Debug, Default, Args)]
pub struct OverlayFlags {
    /// The model of a request that names none; `none` for no such model
    #[arg(long, value_name = "MODEL")]
    default_model: Option<String>,
    /// A name of its own for a model that it may call, NAME=MODEL; may be repeated. NAME alone takes it away
    #[arg(long = "alias", value_parser = value::note, value_name = "NAME=MODEL")]
    aliases: Vec<Note>,
    /// Days that its responses are kept, where that is shorter than the gateway's; `none` for the gateway's
    #[arg(long, value_parser = value::count, value_name = "DAYS")]
    response_ttl_days: Option<Limit>,
    /// What to do with a request that does not fit the rest of the budget
    #[arg(long)]
    on_tight_budget: Option<TightBudget>,
}

impl OverlayFlags {
    /// `overlay` with what the flags say.
    fn applied(&self, mut overlay: Map<String, Value>) -> Map<String, Value> {
        if let Some(model) = &self.default_model {
            let model = if model == "none" { Value::Null } else { model.as_str().into() };
            overlay.insert("default_model".to_owned(), model);
        }
        if let Some(days) = &self.response_ttl_days {
            overlay.insert("response_ttl_days".to_owned(), days.0.clone());
        }
        if let Some(rule) = self.on_tight_budget {
            overlay.insert("on_tight_budget".to_owned(), rule.name().into());
        }
        let mut aliases = overlay.get("aliases").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Value::Object(changed) = value::notes(&self.aliases) {
            aliases.extend(changed);
        }
        value::without_nulls(&mut aliases);
        overlay.insert("aliases".to_owned(), aliases.into());
        value::without_nulls(&mut overlay);
        overlay
    }
}

pub(crate) async fn execute(command: &OverlayCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    let (tenant, body) = match command {
        OverlayCommand::Show { tenant } => (tenant, None),
        OverlayCommand::Set { tenant, flags } => {
            let now = client.json(Call::get(&["tenants", tenant.as_str(), "config"], &[])).await?;
            let overlay = field(&now, "overlay").as_object().cloned().unwrap_or_default();
            (tenant, Some(flags.applied(overlay)))
        }
        OverlayCommand::Clear { tenant } => (tenant, Some(Map::new())),
    };
    let path = ["tenants", tenant.as_str(), "config"];
    let call = match body {
        Some(body) => Call::send(Method::PUT, &path, body.into()),
        None => Call::get(&path, &[]),
    };
    let answer = client.text(call).await?;
    if json { Ok(format!("{answer}\n")) } else { Ok(describe(&serde_json::from_str(&answer)?)) }
}

/// What is in effect, and which of it the tenant's overlay says.
fn describe(config: &Value) -> String {
    let (overlay, effective) = (field(config, "overlay"), field(config, "effective"));
    let line = |name: &'static str| {
        let value = effective.get(name).filter(|value| !value.is_null()).map(shown)?;
        let whose = if overlay.get(name).is_some() { "  (its own)" } else { "" };
        Some(format!("{value}{whose}"))
    };
    let names = ["default_model", "aliases", "response_ttl_days", "on_tight_budget", "models", "quota"];
    fields(&names.map(|name| (name, line(name))))
}
