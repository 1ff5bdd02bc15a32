//! What a line of the audit log says, in the order in which it says it, and the log as the store sees it.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::clock::{UnixMs, rfc3339};

/// What a line tells. Every field is always there; what is not known is null.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct AuditEvent {
    /// When it happened, by the clock of this machine, which may be set back: the order is that of [`AuditLine::seq`].
    #[serde(serialize_with = "rfc3339::serialize")]
    pub at: UnixMs,
    /// Who did it.
    pub actor: AuditActor,
    /// From where, if over the network.
    pub ip: Option<String>,
    /// In which request.
    pub request_id: Option<String>,
    /// `noun.verb`.
    pub action: String,
    /// The tenant that it is about.
    pub tenant: Option<String>,
    /// The id of the thing, where that is not the tenant.
    pub target: Option<String>,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// What else is to be known.
    pub detail: Value,
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AuditActor {
    /// In which role: the name of an [`crate::ActorKind`].
    pub kind: String,
    /// Which one.
    pub id: String,
}

/// How what a line tells of ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditOutcome {
    /// It was done.
    Ok,
    /// It was refused.
    Denied,
    /// It could not be done.
    Failed,
}

impl AuditOutcome {
    /// The name in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Ok, Self::Denied, Self::Failed].into_iter().find(|outcome| outcome.name() == name)
    }
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct AuditLine {
    /// Its number: 1, 2, 3 and so on, whatever the clock does.
    pub seq: u64,
    /// What it tells.
    #[serde(flatten)]
    pub event: AuditEvent,
    /// The `mac` of the line before.
    pub prev: String,
    /// Of this line and, through `prev`, of all before it.
    pub mac: String,
}

/// The newest line of a chain: who knows it can tell whether lines are missing at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditHead {
    /// Its number.
    pub seq: u64,
    /// Its `mac`.
    pub mac: String,
}

/// Where lines are written. It is called on the writer's thread, inside the transaction that the lines belong to.
pub trait AuditLog: Send + fmt::Debug {
    /// Appends a line for each event, all or none, and returns when they are on the disk. `committed` is the newest line that
    /// the database knows of: what stands behind it in the log belongs to transactions that were not committed. Lines of the
    /// log's own may come before those of the events; with no event there may be only those.
    ///
    /// # Errors
    /// Why nothing can be relied on to be there, in words for the operator; the transaction must not be committed.
    fn append(&mut self, committed: Option<&AuditHead>, events: Vec<AuditEvent>) -> Result<Vec<AuditLine>, String>;
}
