//! The audit outbox: who changed what, written in the transaction that makes the change.
//!
//! A detail holds ids, names and limits, never a secret.

use std::net::IpAddr;

use rusqlite::{Transaction, params};
use serde_json::Value;

use crate::clock::UnixMs;
use crate::error::Result;
use crate::id::TenantId;

/// Who makes a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// In which role.
    pub kind: ActorKind,
    /// Which one: the name of an admin key, a user of this machine, a token's id. Never a secret.
    pub id: String,
    /// From where, if over the network.
    pub ip: Option<IpAddr>,
    /// In which request.
    pub request_id: Option<String>,
}

impl Actor {
    /// The gateway itself.
    #[must_use]
    pub fn system() -> Self {
        Self { kind: ActorKind::System, id: "openclawmu".to_owned(), ip: None, request_id: None }
    }
}

/// In which role somebody makes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    /// A holder of an admin key.
    Operator,
    /// A user of this machine, through the admin socket.
    Local,
    /// The gateway itself.
    System,
    /// A holder of a tenant's token.
    Tenant,
}

impl ActorKind {
    /// The name in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Local => "local",
            Self::System => "system",
            Self::Tenant => "tenant",
        }
    }
}

/// What was changed.
pub(crate) struct Entry<'a> {
    /// `noun.verb`.
    pub(crate) action: &'static str,
    pub(crate) tenant: Option<&'a TenantId>,
    /// The id of the thing, where that is not the tenant.
    pub(crate) target: Option<&'a str>,
    pub(crate) detail: Value,
}

/// Puts a change on record, in its own transaction.
pub(crate) fn record(tx: &Transaction<'_>, at: UnixMs, actor: &Actor, entry: &Entry<'_>) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO audit_outbox (at_ms, actor_kind, actor_id, ip, request_id, action, tenant, target, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        at.0,
        actor.kind.name(),
        actor.id,
        actor.ip.map(|ip| ip.to_string()),
        actor.request_id,
        entry.action,
        entry.tenant.map(TenantId::as_str),
        entry.target,
        entry.detail.to_string(),
    ])?;
    Ok(())
}
