//! `tenants create|list|info|update|delete`, and the flags that set a tenant's policy.

use std::fmt::Write;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use openclawmu_store::{Markup, TenantId};
use serde_json::{Map, Value, json};

use crate::cli::answer::{field, shown};
use crate::cli::backup::{self, RestoreFlags};
use crate::cli::client::{Call, Client};
use crate::cli::client_secret::{self, ClientSecretFlags};
use crate::cli::overlay::{self, OverlayCommand};
use crate::cli::provider_key::{self, ProviderKeyCommand};
use crate::cli::table::{Table, fields};
use crate::cli::token::{self, TokenCommand};
use crate::cli::value::{self, Limit, Models, Note};

/// What the operator can do with tenants.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Create a tenant and its first token, which is shown once
    Create {
        /// The id: a-z, 0-9 and `-`, at most 32; made by the gateway when absent
        id: Option<TenantId>,
        /// What it may do
        #[command(flatten)]
        flags: Box<TenantFlags>,
    },
    /// List all tenants
    List,
    /// Show one tenant: its policy, and what it has used of its quota
    Info {
        /// The tenant
        id: TenantId,
    },
    /// Change what is named; `none` takes a limit or an allow-list away
    Update {
        /// The tenant
        id: TenantId,
        /// What to change
        #[command(flatten)]
        flags: Box<TenantFlags>,
        /// Suspend the tenant, or let it work again
        #[arg(long)]
        status: Option<Status>,
    },
    /// Remove a tenant: its tokens stop working, its ledger and audit rows are kept
    Delete {
        /// The tenant
        id: TenantId,
        /// Say that you mean it
        #[arg(long, required = true)]
        confirm: bool,
    },
    /// Create, rotate and revoke a tenant's tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make a short-lived secret for a page or an app in a user's hands, which is shown once
    ClientSecret {
        /// The tenant
        id: TenantId,
        /// What it is good for
        #[command(flatten)]
        flags: Box<ClientSecretFlags>,
    },
    /// What a tenant prefers: a default model, names of its own, and such
    #[command(subcommand)]
    Config(OverlayCommand),
    /// A tenant's own keys at providers
    #[command(subcommand)]
    ProviderKey(ProviderKeyCommand),
    /// Back one tenant up: its policy, usage and files, to be restored here or elsewhere, or to be handed over
    Backup {
        /// The tenant
        id: TenantId,
        /// Where to: s3://BUCKET/PREFIX or a directory [default: backup.to]
        #[arg(long, value_name = "PLACE")]
        to: Option<String>,
    },
    /// List a tenant's backups, newest first
    Backups {
        /// The tenant
        id: TenantId,
        /// Where they are [default: backup.to]
        #[arg(long, value_name = "PLACE")]
        from: Option<String>,
    },
    /// Put a tenant back from a backup, or make another one of it
    Restore(RestoreFlags),
}

/// Whether a tenant's tokens work.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Status {
    /// They do.
    Active,
    /// They don't, until it is active again.
    Suspended,
}

/// What to do with a request that does not fit the rest of the budget.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum TightBudget {
    /// Refuse it.
    Reject,
    /// Lower its output cap to what is affordable.
    Clamp,
}

impl TightBudget {
    /// The API's word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Clamp => "clamp",
        }
    }
}

/// A tenant's policy as flags.
#[derive(Debug, Default, Args)]
pub struct TenantFlags {
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// Models that it may call, such as gpt-4o,claude-*; `none` for no restriction
    #[arg(long, value_parser = value::models, value_name = "A,B")]
    models: Option<Models>,
    /// A note, KEY=VALUE; may be repeated. KEY alone takes it away
    #[arg(long, value_parser = value::note, value_name = "KEY=VALUE")]
    metadata: Vec<Note>,
    /// Where its days and months begin, such as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// A name of its own for a model, NAME=MODEL; may be repeated. NAME alone takes it away
    #[arg(long = "alias", value_parser = value::note, value_name = "NAME=MODEL")]
    aliases: Vec<Note>,
    /// What is added to its costs in reports, such as 17.5
    #[arg(long, value_name = "PERCENT")]
    markup_percent: Option<Markup>,
    /// Its limits
    #[command(flatten)]
    quota: QuotaFlags,
}

/// A tenant's limits as flags. Numbers may have underscores; `none` takes a limit away.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits (numbers may have underscores; `none` takes a limit away)")]
pub struct QuotaFlags {
    /// Dollars a calendar day
    #[arg(long = "quota.usd-per-day", value_parser = value::usd, value_name = "USD")]
    usd_per_day: Option<Limit>,
    /// Dollars a calendar month
    #[arg(long = "quota.usd-per-month", value_parser = value::usd, value_name = "USD")]
    usd_per_month: Option<Limit>,
    /// Tokens a calendar day
    #[arg(long = "quota.tokens-per-day", value_parser = value::count, value_name = "N")]
    tokens_per_day: Option<Limit>,
    /// Requests a minute
    #[arg(long = "quota.requests-per-minute", value_parser = value::count, value_name = "N")]
    requests_per_minute: Option<Limit>,
    /// Tokens a minute
    #[arg(long = "quota.tokens-per-minute", value_parser = value::count, value_name = "N")]
    tokens_per_minute: Option<Limit>,
    /// Requests in flight at once
    #[arg(long = "quota.concurrent-requests", value_parser = value::count, value_name = "N")]
    concurrent_requests: Option<Limit>,
    /// Seconds of sandbox run time a calendar day
    #[arg(long = "quota.sandbox-seconds-per-day", value_parser = value::count, value_name = "N")]
    sandbox_seconds_per_day: Option<Limit>,
    /// Bytes of the workspace
    #[arg(long = "quota.storage-bytes", value_parser = value::count, value_name = "N")]
    storage_bytes: Option<Limit>,
    /// What to do with a request that does not fit the rest of the budget
    #[arg(long = "quota.on-tight-budget")]
    on_tight_budget: Option<TightBudget>,
}

impl QuotaFlags {
    fn to_json(&self) -> Map<String, Value> {
        let limits = [
            ("usd_per_day", &self.usd_per_day),
            ("usd_per_month", &self.usd_per_month),
            ("tokens_per_day", &self.tokens_per_day),
            ("requests_per_minute", &self.requests_per_minute),
            ("tokens_per_minute", &self.tokens_per_minute),
            ("concurrent_requests", &self.concurrent_requests),
            ("sandbox_seconds_per_day", &self.sandbox_seconds_per_day),
            ("storage_bytes", &self.storage_bytes),
        ];
        let given = limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit.as_ref()?.0.clone())));
        let mut quota: Map<String, Value> = given.collect();
        if let Some(rule) = self.on_tight_budget {
            quota.insert("on_tight_budget".to_owned(), rule.name().into());
        }
        quota
    }
}

impl TenantFlags {
    /// What the flags say, as the API's PATCH takes it: `null` takes away.
    pub(crate) fn to_patch(&self) -> Map<String, Value> {
        let mut body = Map::new();
        let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
        if let Some(name) = &self.name {
            set("name", name.as_str().into());
        }
        if let Some(models) = &self.models {
            set("models", models.0.clone());
        }
        if let Some(zone) = &self.timezone {
            set("timezone", zone.as_str().into());
        }
        if !self.aliases.is_empty() {
            set("aliases", value::notes(&self.aliases));
        }
        if let Some(markup) = self.markup_percent {
            set("markup_percent", markup.to_string().into());
        }
        let quota = self.quota.to_json();
        if !quota.is_empty() {
            set("quota", quota.into());
        }
        if !self.metadata.is_empty() {
            set("metadata", value::notes(&self.metadata));
        }
        body
    }

    /// The same for a tenant that has nothing yet.
    pub(crate) fn to_new(&self) -> Map<String, Value> {
        let mut body = self.to_patch();
        value::without_nulls(&mut body);
        body.values_mut().filter_map(Value::as_object_mut).for_each(value::without_nulls);
        body
    }
}

pub(crate) async fn execute(command: &TenantCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        TenantCommand::Create { id, flags } => create(client, id.as_ref(), flags, json).await,
        TenantCommand::List => list(client, json).await,
        TenantCommand::Info { id } => info(client, id, json).await,
        TenantCommand::Update { id, flags, status } => update(client, id, (flags, *status), json).await,
        TenantCommand::Delete { id, confirm: _ } => delete(client, id, json).await,
        TenantCommand::Token(command) => token::execute(command, client, json).await,
        TenantCommand::ClientSecret { id, flags } => client_secret::create(client, id, flags, json).await,
        TenantCommand::Config(command) => overlay::execute(command, client, json).await,
        TenantCommand::ProviderKey(command) => provider_key::execute(command, client, json).await,
        TenantCommand::Backup { id, to } => {
            backup::create(&["tenants", id.as_str(), "backups"], to.as_deref(), client, json).await
        }
        TenantCommand::Backups { id, from } => {
            backup::list(&["tenants", id.as_str(), "backups"], from.as_deref(), client, json).await
        }
        TenantCommand::Restore(flags) => backup::restore(flags, client, json).await,
    }
}

async fn create(client: &Client, id: Option<&TenantId>, flags: &TenantFlags, json: bool) -> anyhow::Result<String> {
    let mut body = flags.to_new();
    if let Some(id) = id {
        body.insert("id".to_owned(), id.as_str().into());
    }
    let answer = client.text(Call::send(Method::POST, &["tenants"], body.into())).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let answer: Value = serde_json::from_str(&answer)?;
    Ok(format!("{}\n{}", describe(field(&answer, "tenant")), token::describe_new(field(&answer, "token"))))
}

async fn list(client: &Client, json: bool) -> anyhow::Result<String> {
    let rows = client.list(&["tenants"]).await?;
    if json {
        return Ok(format!("{}\n", json!({"data": rows, "has_more": false, "next": null})));
    }
    let mut table = Table::new(&["TENANT", "NAME", "STATUS", ">USD/DAY", ">USD/MONTH", ">TOKENS/DAY", "CREATED"]);
    for row in &rows {
        let limit = |name: &str| field(row, "quota").get(name).map_or_else(|| "-".to_owned(), shown);
        let cell = |name: &str| row.get(name).map(shown).unwrap_or_default();
        table.row([
            cell("id"),
            cell("name"),
            cell("status"),
            limit("usd_per_day"),
            limit("usd_per_month"),
            limit("tokens_per_day"),
            cell("created_at"),
        ]);
    }
    Ok(table.render("no tenants yet: make one with `openclawmu tenants create`"))
}

async fn info(client: &Client, id: &TenantId, json: bool) -> anyhow::Result<String> {
    let answer = client.text(Call::get(&["tenants", id.as_str()], &[])).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let quota = client.json(Call::get(&["tenants", id.as_str(), "quota"], &[])).await?;
    let mut text = describe(&serde_json::from_str(&answer)?);
    write!(text, "\n{}", describe_quota(&quota))?;
    Ok(text)
}

async fn update(
    client: &Client,
    id: &TenantId,
    (flags, status): (&TenantFlags, Option<Status>),
    json: bool,
) -> anyhow::Result<String> {
    let mut body = flags.to_patch();
    if let Some(status) = status {
        let name = match status {
            Status::Active => "active",
            Status::Suspended => "suspended",
        };
        body.insert("status".to_owned(), name.into());
    }
    anyhow::ensure!(!body.is_empty(), "nothing to change: name what to set, such as --quota.usd-per-day 80");
    let answer = client.text(Call::send(Method::PATCH, &["tenants", id.as_str()], body.into())).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    Ok(describe(&serde_json::from_str(&answer)?))
}

async fn delete(client: &Client, id: &TenantId, json: bool) -> anyhow::Result<String> {
    let call = Call {
        method: Method::DELETE,
        path: &["tenants", id.as_str()],
        query: &[("confirm", id.as_str())],
        body: None,
    };
    let answer = client.text(call).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    Ok(format!(
        "{id} is deleted: its tokens no longer work; its ledger and audit rows are kept, and its id is never used again\n"
    ))
}

/// A tenant for people.
fn describe(tenant: &Value) -> String {
    let text = |name: &str| tenant.get(name).filter(|value| !value.is_null()).map(shown);
    let listed = [
        ("tenant", text("id")),
        ("name", text("name")),
        ("status", text("status")),
        ("timezone", text("timezone")),
        ("markup", text("markup_percent")),
    ];
    let mut lines = listed.to_vec();
    lines.push(("models", Some(text("models").unwrap_or_else(|| "all".to_owned()))));
    let aliases = field(tenant, "aliases").as_object().filter(|aliases| !aliases.is_empty());
    lines.push(("aliases", aliases.map(|aliases| Value::Object(aliases.clone()).to_string())));
    let notes = field(tenant, "metadata").as_object().filter(|notes| !notes.is_empty());
    lines.push(("metadata", notes.map(|notes| Value::Object(notes.clone()).to_string())));
    lines.push(("created", text("created_at")));
    let limits = field(tenant, "quota").as_object().cloned().unwrap_or_default();
    lines.extend(limits.iter().map(|(name, value)| (name.as_str(), Some(shown(value)))));
    fields(&lines)
}

/// What a tenant has used and has left.
fn describe_quota(quota: &Value) -> String {
    let mut table = Table::new(&["LIMIT", ">CAP", ">USED", ">PENDING", ">HELD", ">REMAINING", "RESETS"]);
    for name in ["usd_per_day", "usd_per_month", "tokens_per_day", "sandbox_seconds_per_day"] {
        let cell = |part: &str| {
            field(quota, name).get(part).filter(|value| !value.is_null()).map_or_else(|| "-".to_owned(), shown)
        };
        table.row([
            name.to_owned(),
            cell("cap"),
            cell("posted"),
            cell("pending"),
            cell("held"),
            cell("remaining"),
            cell("resets_at"),
        ]);
    }
    table.render("")
}
