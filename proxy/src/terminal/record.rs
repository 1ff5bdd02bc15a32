//! A terminal's lines of the audit log. That it opens, and that somebody attaches, is on record before it happens, and does not
//! happen where that fails. What follows is written in its order as soon as it can be.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use openclawmu_store::{Actor, ActorKind, AuditNote, AuditOutcome, StoreError, UnixMs};
use openclawmu_terminal::{Event, Viewer, What};
use serde_json::{Map, Value, json};

use super::grant::Grant;
use crate::context::Shared;
use crate::refusal::Refusal;

/// Pause before a line that could not be written is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Puts on record what is about to happen.
///
/// # Errors
/// 503 where it can't be: then it must not happen.
pub(super) async fn before(
    shared: &Shared,
    grant: &Grant,
    (action, peer): (&'static str, IpAddr),
    detail: Value,
) -> Result<(), Refusal> {
    let mut detail = detail;
    if let Some(fields) = detail.as_object_mut() {
        fields.insert("role".to_owned(), grant.role.name().into());
        if let Some(reason) = grant.reason() {
            fields.insert("reason".to_owned(), reason.into());
        }
    }
    let actor = Actor { ip: Some(peer), ..grant.owner.actor.clone() };
    let written = shared.store.audit(&actor, note(grant, action, AuditOutcome::Ok, detail)).await;
    written.map_err(|err| unwritten(&err))
}

/// Why nothing happens that can't be put on record.
pub(super) fn unwritten(err: &StoreError) -> Refusal {
    tracing::error!(%err, "a terminal can't be put on record");
    let message = "What happens in a terminal can't be put on record at the moment. Please try again.".to_owned();
    Refusal::Sandbox { code: "audit_unavailable", message }
}

/// What was on record as about to happen did not.
pub(super) async fn failed(shared: &Shared, grant: &Grant, action: &'static str, refusal: &Refusal) {
    let detail = json!({ "reason": refusal.told().code });
    if let Err(err) = shared.store.audit(&grant.owner.actor, note(grant, action, AuditOutcome::Failed, detail)).await {
        tracing::error!(%err, session = %grant.session, "that a terminal did not open can't be put on record");
    }
}

fn note(grant: &Grant, action: &'static str, outcome: AuditOutcome, detail: Value) -> AuditNote {
    AuditNote { action, tenant: Some(grant.owner.tenant.clone()), target: Some(grant.session.clone()), outcome, detail }
}

/// How a viewer is named where the terminal itself speaks of them.
pub(super) fn name(actor: &Actor) -> String {
    format!("{}:{}", actor.kind.name(), actor.id)
}

/// Writes what is told of terminals, as long as the process lives.
pub(crate) fn keep_record(shared: &Arc<Shared>) {
    let Some((mut events, runtime)) = shared.terminals.events().zip(shared.terminals.runtime()) else { return };
    let of = Arc::downgrade(shared);
    runtime.spawn(async move {
        while let Some(event) = events.recv().await {
            let Some(shared) = of.upgrade() else { return };
            write(&shared, event).await;
        }
    });
}

async fn write(shared: &Shared, event: Event) {
    let is_end = matches!(event.what, What::Closed(_));
    if let Some(line) = line(shared, &event) {
        while let Err(err) = shared.store.audit_all(vec![line.clone()]).await {
            tracing::debug!(%err, "the audit log is tried again");
            tokio::time::sleep(AGAIN).await;
        }
    }
    if is_end {
        shared.terminals.leave(&event.session);
    }
}

/// A line, where one follows: what was put on record before it happened has its own.
fn line(shared: &Shared, event: &Event) -> Option<(UnixMs, Actor, AuditNote)> {
    let (tenant, target) = (event.tenant.parse().ok(), Some(event.session.clone()));
    let note = |action, outcome, detail| AuditNote { action, tenant, target, outcome, detail };
    let (actor, note) = match &event.what {
        What::Opened { .. } | What::Attached(_) => return None,
        What::Detached { viewer, violations } => {
            let detail = with_reason(viewer, json!({"role": viewer.role, "violations": violations}));
            (actor(viewer), note("terminal.detach", AuditOutcome::Ok, detail))
        }
        What::RoleViolation { viewer, tried } => {
            let detail = with_reason(viewer, json!({"role": viewer.role, "tried": tried.as_str()}));
            (actor(viewer), note("terminal.role_violation", AuditOutcome::Denied, detail))
        }
        What::Closed(closed) => {
            let detail = json!({
                "reason": closed.reason.as_str(),
                "exit": closed.exit,
                "recording": closed.recording,
                "sha256": closed.sha256,
                "recording_bytes": closed.recording_bytes,
            });
            let opener = shared.terminals.of(&event.session).map(|known| known.grant.owner.actor.clone());
            (opener.unwrap_or_else(Actor::system), note("terminal.close", AuditOutcome::Ok, detail))
        }
    };
    Some((shared.store.clock().now(), actor, note))
}

fn with_reason(viewer: &Viewer, mut detail: Value) -> Value {
    if let Some(fields) = detail.as_object_mut() {
        let reason = viewer.reason.as_ref().map(|reason| ("reason".to_owned(), Value::from(reason.as_str())));
        fields.extend(reason.into_iter().collect::<Map<_, _>>());
    }
    detail
}

/// Who a viewer is, in the log's words.
fn actor(viewer: &Viewer) -> Actor {
    let (kind, id) = viewer.who.split_once(':').unwrap_or(("", &viewer.who));
    let kinds = [ActorKind::Operator, ActorKind::Local, ActorKind::System, ActorKind::Tenant];
    let kind = kinds.into_iter().find(|known| known.name() == kind).unwrap_or(ActorKind::Unknown);
    Actor { kind, id: id.to_owned(), ip: viewer.ip, request_id: None }
}
