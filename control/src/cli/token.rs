//! `tenants token list|create|rotate|revoke`. A secret is printed once, by the call that made it.

use anyhow::bail;
use clap::{Args, Subcommand};
use http::Method;
use openclawmu_store::{Clock, SystemClock, TenantId, TokenId, UnixMs};
use serde_json::{Map, Value, json};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::duration;
use crate::cli::table::{Table, fields};

use crate::cli::value::{self, Models};

/// What the operator can do with a tenant's tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// List a tenant's tokens
    List {
        /// The tenant
        tenant: TenantId,
    },
    /// Create a token, which is shown once
    Create {
        /// The tenant
        tenant: TenantId,
        /// What it may do
        #[command(flatten)]
        flags: TokenFlags,
    },
    /// Replace a token by a new one that may do the same, which is shown once
    Rotate {
        /// The tenant
        tenant: TenantId,
        /// The token's id; may be left out when the tenant has one live token
        token: Option<TokenId>,
        /// How long the old one goes on working, such as 24h; revoked at once when absent
        #[arg(long, value_parser = duration::parse_seconds, value_name = "TIME")]
        grace: Option<u32>,
    },
    /// Revoke a token: the next request that presents it fails
    Revoke {
        /// The tenant
        tenant: TenantId,
        /// The token's id
        token: TokenId,
    },
}

/// A token's policy as flags.
#[derive(Debug, Default, Args)]
pub struct TokenFlags {
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// What it is for: inference, usage, sandbox, workspace, terminal, agents, channels, client_secrets; all when absent
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    scopes: Vec<String>,
    /// Models that it may call, of those that its tenant may
    #[arg(long, value_parser = value::models, value_name = "A,B")]
    models: Option<Models>,
    /// From when on it is refused, such as 2027-01-01 or 2027-01-01T12:00:00Z
    #[arg(long, value_parser = value::instant, value_name = "TIME", conflicts_with = "expires_in")]
    expires_at: Option<UnixMs>,
    /// After how long it is refused, such as 90d
    #[arg(long, value_parser = duration::parse_seconds, value_name = "TIME")]
    expires_in: Option<u32>,
    /// Addresses and networks from which it may be used, such as 192.0.2.7,10.0.0.0/8
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    allowed_ips: Vec<String>,
}

impl TokenFlags {
    /// The body of the API's POST.
    pub(crate) fn to_body(&self, now: UnixMs) -> Map<String, Value> {
        let mut body = Map::new();
        let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
        if let Some(name) = &self.name {
            set("name", name.as_str().into());
        }
        if !self.scopes.is_empty() {
            set("scopes", self.scopes.clone().into());
        }
        if let Some(Models(models @ Value::Array(_))) = &self.models {
            set("models", models.clone());
        }
        let lifetime = self.expires_in.map(|seconds| now.plus_ms(i64::from(seconds) * 1000));
        if let Some(at) = self.expires_at.or(lifetime) {
            set("expires_at", at.rfc3339().into());
        }
        if !self.allowed_ips.is_empty() {
            set("allowed_ips", self.allowed_ips.clone().into());
        }
        body
    }
}

pub(crate) async fn execute(command: &TokenCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        TokenCommand::List { tenant } => list(client, tenant, json).await,
        TokenCommand::Create { tenant, flags } => {
            let body = flags.to_body(SystemClock.now()).into();
            new_token(client, Call::send(Method::POST, &["tenants", tenant.as_str(), "tokens"], body), json).await
        }
        TokenCommand::Rotate { tenant, token, grace } => {
            let token = match token {
                Some(token) => token.as_str().to_owned(),
                None => only_live_token(client, tenant, SystemClock.now()).await?,
            };
            let body = grace.map_or_else(|| json!({}), |seconds| json!({"grace_seconds": seconds}));
            new_token(
                client,
                Call::send(Method::POST, &["tenants", tenant.as_str(), "tokens", &token, "rotate"], body),
                json,
            )
            .await
        }
        TokenCommand::Revoke { tenant, token } => revoke(client, tenant, token, json).await,
    }
}

async fn list(client: &Client, tenant: &TenantId, json: bool) -> anyhow::Result<String> {
    let rows = client.list(&["tenants", tenant.as_str(), "tokens"]).await?;
    if json {
        return Ok(format!("{}\n", json!({"data": rows, "has_more": false, "next": null})));
    }
    let now = SystemClock.now();
    let mut table = Table::new(&["TOKEN", "NAME", "STATE", "SCOPES", "MODELS", "CREATED", "EXPIRES"]);
    for row in &rows {
        let cell = |name: &str| row.get(name).map(shown).unwrap_or_default();
        let models = row.get("models").filter(|models| !models.is_null()).map_or_else(|| "all".to_owned(), shown);
        table.row([
            cell("id"),
            cell("name"),
            state(row, now).to_owned(),
            cell("scopes"),
            models,
            cell("created_at"),
            cell("expires_at"),
        ]);
    }
    Ok(table.render("no tokens"))
}

async fn new_token(client: &Client, call: Call<'_>, json: bool) -> anyhow::Result<String> {
    let answer = client.text(call).await?;
    if json { Ok(format!("{answer}\n")) } else { Ok(describe_new(&serde_json::from_str(&answer)?)) }
}

async fn revoke(client: &Client, tenant: &TenantId, token: &TokenId, json: bool) -> anyhow::Result<String> {
    let call = Call {
        method: Method::DELETE,
        path: &["tenants", tenant.as_str(), "tokens", token.as_str()],
        query: &[],
        body: None,
    };
    let answer = client.text(call).await?;
    if json {
        Ok(format!("{answer}\n"))
    } else {
        Ok(format!("{token} is revoked: the next request that presents it fails\n"))
    }
}

/// The id of the one token that works; else an error that lists them.
async fn only_live_token(client: &Client, tenant: &TenantId, now: UnixMs) -> anyhow::Result<String> {
    let rows = client.list(&["tenants", tenant.as_str(), "tokens"]).await?;
    let live: Vec<String> = rows
        .iter()
        .filter(|row| state(row, now) == "active")
        .filter_map(|row| field(row, "id").as_str())
        .map(str::to_owned)
        .collect();
    match live.as_slice() {
        [only] => Ok(only.clone()),
        [] => bail!("{tenant} has no live token\nhint: make one with `openclawmu tenants token create {tenant}`"),
        several => bail!(
            "{tenant} has {} live tokens: {}\nhint: say which: `openclawmu tenants token rotate {tenant} TOKEN`",
            several.len(),
            several.join(", ")
        ),
    }
}

/// Whether a token works, as far as its row tells.
fn state(row: &Value, now: UnixMs) -> &'static str {
    let passed = |name: &str| {
        field(row, name).as_str().and_then(|at| UnixMs::parse_rfc3339(at).ok()).is_some_and(|at| at <= now)
    };
    if !field(row, "revoked_at").is_null() {
        "revoked"
    } else if passed("expires_at") {
        "expired"
    } else {
        "active"
    }
}

/// A new token with its secret.
pub(crate) fn describe_new(token: &Value) -> String {
    let text = |name: &str| token.get(name).filter(|value| !value.is_null()).map(shown);
    let listed = fields(&[
        ("token", text("value")),
        ("id", text("id")),
        ("name", text("name").filter(|name| !name.is_empty())),
        ("scopes", text("scopes")),
        ("models", text("models")),
        ("allowed_ips", text("allowed_ips")),
        ("expires", text("expires_at")),
    ]);
    format!("{listed}\nKeep the token now: it is shown this once and can't be read again.\n")
}
