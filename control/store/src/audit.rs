//! The audit outbox: who changed what, written in the transaction that makes the change.
//!
//! A detail holds ids, names and limits, never a secret. A row becomes a line of the audit log before its transaction is
//! committed; this crate knows nothing of the log's files.
//!
//! - `line`: what a line says, and the log as the store sees it
//! - `desk`: from rows to lines, on the writer's thread
//! - `read`: the lines that were written

mod desk;
mod line;
mod read;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use rusqlite::{Transaction, params};
use serde_json::Value;

use crate::change::Change;
use crate::clock::UnixMs;
use crate::error::Result;
use crate::id::TenantId;
use crate::store::Store;

pub(crate) use desk::{Desk, Written};
pub use line::{AuditActor, AuditEvent, AuditHead, AuditLine, AuditLog, AuditOutcome};
pub use read::{AuditOrder, AuditQuery, AuditStatus, anchor};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActorKind {
    /// A holder of an admin key.
    Operator,
    /// A user of this machine, through the admin socket.
    Local,
    /// The gateway itself.
    System,
    /// A holder of a tenant's token.
    Tenant,
    /// Somebody who did not say who, or could not prove it.
    Unknown,
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
            Self::Unknown => "unknown",
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

/// Something to put on record that the store itself has no part in.
#[derive(Clone, Debug)]
pub struct AuditNote {
    /// `noun.verb`.
    pub action: &'static str,
    /// The tenant that it is about, if any.
    pub tenant: Option<TenantId>,
    /// The id of the thing, where that is not the tenant.
    pub target: Option<String>,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// What else is to be known; never a secret.
    pub detail: Value,
}

impl Store {
    /// Puts on record what is about to happen, or has happened, outside the store. Whoever does it must not go on where this
    /// fails.
    pub fn audit(&self, actor: &Actor, note: AuditNote) -> Change<()> {
        let actor = actor.clone();
        Change::new(self, move |tx, now| insert(tx, now, &actor, &note))
    }

    /// Puts all of these on record at once, each at its own time.
    pub fn audit_all(&self, notes: Vec<(UnixMs, Actor, AuditNote)>) -> Change<()> {
        Change::new(self, move |tx, _| notes.iter().try_for_each(|(at, actor, note)| insert(tx, *at, actor, note)))
    }
}

/// Puts a change on record, in its own transaction.
pub(crate) fn record(tx: &Transaction<'_>, at: UnixMs, actor: &Actor, entry: &Entry<'_>) -> Result<()> {
    let note = AuditNote {
        action: entry.action,
        tenant: entry.tenant.cloned(),
        target: entry.target.map(str::to_owned),
        outcome: AuditOutcome::Ok,
        detail: entry.detail.clone(),
    };
    insert(tx, at, actor, &note)
}

fn insert(tx: &Transaction<'_>, at: UnixMs, actor: &Actor, note: &AuditNote) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO audit_outbox (at_ms, actor_kind, actor_id, ip, request_id, action, tenant, target, outcome, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        at.0,
        actor.kind.name(),
        actor.id,
        actor.ip.map(|ip| ip.to_string()),
        actor.request_id,
        note.action,
        note.tenant.as_ref().map(TenantId::as_str),
        note.target,
        note.outcome.name(),
        note.detail.to_string(),
    ])?;
    Ok(())
}
