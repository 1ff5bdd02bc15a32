//! The operator runs something in a tenant's sandbox: on the same way as a tenant, on a row that names no token.

use std::sync::{Arc, Weak};
use std::time::Duration;

use openclawmu_control::run::{OperatorRun, RunAnswer, RunRefused, Runner};
use openclawmu_sandbox::Chunk;
use openclawmu_store::{AuditNote, AuditOutcome, Label, StoreError, TenantPolicy, TokenKey};
use serde_json::json;
use tokio::sync::mpsc;

use super::answer;
use super::ask::Ask;
use super::order::{Order, Owner};
use super::run::is_cut;
use crate::context::Shared;
use crate::refusal::Refusal;

/// Between two notes of what a run has used.
const NOTE: Duration = Duration::from_secs(1);
/// Pieces of output that wait for a reader.
const PIECES: usize = 16;

/// What the admin API calls.
pub(crate) fn runner(shared: &Arc<Shared>) -> Runner {
    let shared = Arc::downgrade(shared);
    Runner::new(move |asked| run(Weak::clone(&shared), asked))
}

async fn run(shared: Weak<Shared>, asked: OperatorRun) -> Result<RunAnswer, RunRefused> {
    let Some(shared) = shared.upgrade() else { return Err(told(&ends())) };
    let policy = shared.store.tenant_policy(&asked.tenant).map_err(|err| {
        if matches!(err, StoreError::NotFound(_)) {
            return told(&Refusal::NotFound { code: "not_found", message: "no such tenant".to_owned() });
        }
        tracing::error!(%err, "a tenant can't be read");
        told(&Refusal::Store)
    })?;
    Box::pin(run_for(&shared, policy, asked)).await.map_err(|refusal| told(&refusal))
}

async fn run_for(shared: &Arc<Shared>, policy: TenantPolicy, asked: OperatorRun) -> Result<RunAnswer, Refusal> {
    let OperatorRun { tenant, actor, request, events } = asked;
    let TenantPolicy { key, quota, zone, markup } = policy;
    let ask = Ask::of(request, &shared.rooms.config, &tenant)?;
    let request_id = shared.next_id();
    let owner = Owner { tenant, key, token: TokenKey::NONE, quota, zone, markup, cap: None, actor };
    let order = Order { owner: owner.clone(), request_id, streams: events.is_some(), label: Label::default(), ask };
    let (open, ready) = order.begin(shared).await?;
    let note = AuditNote {
        action: "sandbox.exec",
        tenant: Some(owner.tenant),
        target: Some(ready.id.clone()),
        outcome: AuditOutcome::Ok,
        detail: json!({}),
    };
    if let Err(err) = shared.store.audit(&owner.actor, note).await {
        tracing::error!(%err, "the operator's run can't be put on record");
        let message = "the audit log can't be written now; nothing was run".to_owned();
        let refusal = Refusal::Sandbox { code: "audit_unavailable", message };
        open.refused(&refusal);
        return Err(refusal);
    }
    let id = ready.id.clone();
    let (pieces, written) = mpsc::channel(PIECES);
    let pieces = events.is_some().then_some(pieces);
    let mut telling = Box::pin(tell(events, id.clone(), written));
    let mut run = Box::pin(ready.run(pieces));
    let mut cut = shared.cut.subscribe();
    let mut noted = tokio::time::interval(NOTE);
    let mut told = false;
    let done = loop {
        tokio::select! {
            done = &mut run => break done,
            // Beside the run: its time goes on while a reader takes none.
            () = &mut telling, if !told => told = true,
            () = is_cut(&mut cut) => break Err(ends()),
            _ = noted.tick() => open.note(),
        }
    };
    drop(run);
    match done {
        Ok(done) => {
            open.done(&done.ran);
            if !told {
                telling.await;
            }
            Ok(answer::outcome(id, &done.ran, done.artifacts))
        }
        Err(refusal) => {
            open.refused(&refusal);
            Err(refusal)
        }
    }
}

/// Tells who reads along that the run begins, and all that it writes. A reader who has gone drops the run itself.
async fn tell(reader: Option<mpsc::Sender<Vec<u8>>>, id: String, mut written: mpsc::Receiver<Chunk>) {
    let Some(reader) = reader else { return };
    let _gone = reader.send(answer::event("run", &json!({"id": id}))).await;
    while let Some(piece) = written.recv().await {
        let _gone = reader.send(answer::chunk(&piece)).await;
    }
}

/// What is said of a run that ends because the gateway does.
pub(crate) fn ends() -> Refusal {
    Refusal::Sandbox { code: "shutting_down", message: "The gateway is shutting down. Please try again.".to_owned() }
}

pub(crate) fn told(refusal: &Refusal) -> RunRefused {
    let told = refusal.told();
    RunRefused {
        status: told.status,
        code: told.code.unwrap_or(told.kind),
        message: told.message,
        field: told.param.map(std::borrow::Cow::into_owned),
        retry_after_seconds: told.retry_after_ms.and_then(|ms| i64::try_from(ms.div_ceil(1000)).ok()),
    }
}
