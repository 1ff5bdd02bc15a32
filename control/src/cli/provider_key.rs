//! `tenants provider-key list|set|remove`. A key is read from the environment, a file or standard input, never from an
//! argument, which other users of the machine could see.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use clap::{ArgGroup, Subcommand};
use http::Method;
use openclawmu_store::TenantId;
use serde_json::{Value, json};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::table::Table;

/// What the operator can do with a tenant's own keys at providers.
#[derive(Debug, Subcommand)]
pub enum ProviderKeyCommand {
    /// List the upstreams where a tenant has a key of its own
    List {
        /// The tenant
        tenant: TenantId,
    },
    /// Set a tenant's key at an upstream; its requests there carry it from now on
    #[command(group(ArgGroup::new("source").required(true).args(["env", "file", "stdin"])))]
    Set {
        /// The tenant
        tenant: TenantId,
        /// The upstream
        upstream: String,
        /// Read the key from this environment variable
        #[arg(long, value_name = "NAME")]
        env: Option<String>,
        /// Read the key from this file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Read the key from standard input
        #[arg(long)]
        stdin: bool,
    },
    /// Take it away; the tenant's requests carry the operator's key from now on
    Remove {
        /// The tenant
        tenant: TenantId,
        /// The upstream
        upstream: String,
    },
}

pub(crate) async fn execute(command: &ProviderKeyCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        ProviderKeyCommand::List { tenant } => {
            let answer = client.text(Call::get(&["tenants", tenant.as_str(), "provider_keys"], &[])).await?;
            if json { Ok(format!("{answer}\n")) } else { Ok(list(&serde_json::from_str(&answer)?)) }
        }
        ProviderKeyCommand::Set { tenant, upstream, env, file, stdin: _ } => {
            let key = read(env.as_deref(), file.as_ref())?;
            let path = ["tenants", tenant.as_str(), "provider_keys", upstream];
            let answer = client.text(Call::send(Method::PUT, &path, json!({"api_key": key.trim()}))).await?;
            let said = format!("{tenant} has a key of its own at {upstream}: its next request carries it\n");
            if json { Ok(format!("{answer}\n")) } else { Ok(said) }
        }
        ProviderKeyCommand::Remove { tenant, upstream } => {
            let path = ["tenants", tenant.as_str(), "provider_keys", upstream];
            let answer = client.text(Call { method: Method::DELETE, path: &path, query: &[], body: None }).await?;
            let said = format!("{tenant} has no key of its own at {upstream} any more: the operator's is used\n");
            if json { Ok(format!("{answer}\n")) } else { Ok(said) }
        }
    }
}

fn read(env: Option<&str>, file: Option<&PathBuf>) -> anyhow::Result<String> {
    if let Some(name) = env {
        return std::env::var(name).with_context(|| format!("the environment variable {name} holds no key"));
    }
    if let Some(file) = file {
        return std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()));
    }
    let mut key = String::new();
    std::io::stdin().read_to_string(&mut key).context("can't read the key from standard input")?;
    Ok(key)
}

fn list(answer: &Value) -> String {
    let mut table = Table::new(&["UPSTREAM", "KEY", "SET"]);
    for key in field(answer, "data").as_array().into_iter().flatten() {
        let cell = |name: &str| shown(field(key, name));
        table.row([cell("upstream"), cell("id"), cell("created_at")]);
    }
    table.render("no keys of its own: the operator's are used")
}
