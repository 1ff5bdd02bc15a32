//! `channels pair|list|remove|senders|approve|block`: messengers, by which people reach a tenant's agents.

use clap::{Subcommand, ValueEnum};
use http::Method;
use openclawmu_store::TenantId;
use serde_json::{Map, Value, json};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::table::Table;

/// What the operator can do with channels.
#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// Make a link by which a channel is paired; it works once, for ten minutes
    Pair {
        /// The kind: slack, whatsapp, telegram or webhook
        channel: String,
        /// Whose agent answers
        #[arg(long, value_name = "ID")]
        tenant: TenantId,
        /// Which agent [default: default]
        #[arg(long, value_name = "NAME")]
        agent: Option<String>,
        /// Who may speak [default: pairing]
        #[arg(long, value_enum)]
        policy: Option<PolicyFlag>,
    },
    /// List a tenant's channels, oldest first
    List {
        /// The tenant
        #[arg(long, value_name = "ID")]
        tenant: TenantId,
    },
    /// Remove a channel with its secrets and whatever waits there
    Remove {
        /// The channel's id
        channel: String,
        /// The tenant
        #[arg(long, value_name = "ID")]
        tenant: TenantId,
    },
    /// List who may speak on a channel, and who asks to
    Senders {
        /// The channel's id
        channel: String,
        /// The tenant
        #[arg(long, value_name = "ID")]
        tenant: TenantId,
    },
    /// Let somebody speak, by the code that they were told
    Approve {
        /// The channel's id
        channel: String,
        /// The code
        code: String,
        /// The tenant
        #[arg(long, value_name = "ID")]
        tenant: TenantId,
    },
    /// Let somebody speak no more
    Block {
        /// The channel's id
        channel: String,
        /// Whom, as `senders` lists them
        sender: String,
        /// The tenant
        #[arg(long, value_name = "ID")]
        tenant: TenantId,
    },
}

/// Who may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyFlag {
    /// Whoever was approved
    Pairing,
    /// Everybody who can reach it
    Open,
}

pub(crate) async fn execute(command: &ChannelCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    let said = match command {
        ChannelCommand::Pair { channel, tenant, agent, policy } => {
            let path = ["tenants", tenant.as_str(), "pairings"];
            let answer = client.text(Call::send(Method::POST, &path, pairing(channel, agent, *policy).into())).await?;
            (pair as fn(&Value) -> String, answer)
        }
        ChannelCommand::List { tenant } => {
            (list as _, client.text(Call::get(&["tenants", tenant.as_str(), "channels"], &[])).await?)
        }
        ChannelCommand::Remove { channel, tenant } => {
            let path = ["tenants", tenant.as_str(), "channels", channel];
            let call = Call { method: Method::DELETE, path: &path, query: &[], body: None };
            (removed as _, client.text(call).await?)
        }
        ChannelCommand::Senders { channel, tenant } => {
            let path = ["tenants", tenant.as_str(), "channels", channel, "senders"];
            (senders as _, client.text(Call::get(&path, &[])).await?)
        }
        ChannelCommand::Approve { channel, code, tenant } => {
            let path = ["tenants", tenant.as_str(), "channels", channel, "senders"];
            (approved as _, client.text(Call::send(Method::POST, &path, json!({"code": code}))).await?)
        }
        ChannelCommand::Block { channel, sender, tenant } => {
            let path = ["tenants", tenant.as_str(), "channels", channel, "senders", sender];
            let call = Call { method: Method::DELETE, path: &path, query: &[], body: None };
            (blocked as _, client.text(call).await?)
        }
    };
    let (render, answer) = said;
    if json { Ok(format!("{answer}\n")) } else { Ok(render(&serde_json::from_str(&answer)?)) }
}

fn pairing(channel: &str, agent: &Option<String>, policy: Option<PolicyFlag>) -> Map<String, Value> {
    let policy = policy.map(|policy| match policy {
        PolicyFlag::Pairing => "pairing",
        PolicyFlag::Open => "open",
    });
    let given = [
        ("channel", Some(Value::from(channel))),
        ("agent", agent.clone().map(Value::from)),
        ("policy", policy.map(Value::from)),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn pair(answer: &Value) -> String {
    let cell = |name: &str| shown(field(answer, name));
    format!(
        "{}\nOpen it in a browser before {}: its page explains each step. It works once.\n",
        cell("url"),
        cell("expires_at")
    )
}

fn list(answer: &Value) -> String {
    let mut table = Table::new(&[
        "CHANNEL",
        "KIND",
        "ACCOUNT",
        "AGENT",
        "POLICY",
        "STATE",
        ">WAITING",
        ">UNDELIVERED",
        ">GIVEN UP",
        "LAST ERROR",
    ]);
    for channel in field(answer, "data").as_array().into_iter().flatten() {
        let cell = |name: &str| shown(field(channel, name));
        let state = if field(channel, "disabled").is_null() { "works".to_owned() } else { "disabled".to_owned() };
        let error = if field(channel, "disabled").is_null() { cell("last_error") } else { cell("disabled") };
        table.row([
            cell("id"),
            cell("channel"),
            cell("label"),
            cell("agent"),
            cell("policy"),
            state,
            cell("waiting"),
            cell("undelivered"),
            cell("given_up"),
            error,
        ]);
    }
    table.render("no channels: openclawmu channels pair KIND --tenant ID makes one")
}

fn removed(answer: &Value) -> String {
    format!("{} is removed: nothing is taken or sent there any more\n", shown(field(answer, "id")))
}

fn senders(answer: &Value) -> String {
    let mut table = Table::new(&["SENDER", "NAME", "STATE", "SINCE OR UNTIL", "CODE"]);
    for (list, state, at) in [("approved", "may speak", "approved_at"), ("pending", "asks to", "expires_at")] {
        for sender in field(answer, list).as_array().into_iter().flatten() {
            let cell = |name: &str| shown(field(sender, name));
            table.row([cell("sender"), cell("label"), state.to_owned(), cell(at), cell("code")]);
        }
    }
    table.render("nobody has written yet")
}

fn approved(answer: &Value) -> String {
    format!("{} may speak from now on\n", shown(field(answer, "sender")))
}

fn blocked(answer: &Value) -> String {
    format!("{} may not speak any more\n", shown(field(answer, "sender")))
}
