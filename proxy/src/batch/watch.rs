//! Looks after batches that run, so that their bills depend on nobody's asking: each is polled, and billed when it has ended.
//! These are the gateway's own calls, which no provider bills: they need no ticket, and no tenant's rates hold them up.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Method;
use openclawmu_store::{Batch, BatchEnd, ModelPrice, NewObject, ObjectKind, OrphanedObject, StoreError};
use serde_json::Value;

use super::output::{self, Counted};
use super::show::is_over;
use crate::catalog::Target;
use crate::context::Shared;
use crate::file::call::{self, Call};
use crate::file::desk::{self, Told};
use crate::forward::Failure;
use crate::metrics::Keys;
use crate::own_key::KeyHeaders;
use crate::upstream::Answer;
use crate::upstream::Upstream;
use crate::upstream::http::Fault;

/// Batches that are looked at together.
const AT_ONCE: usize = 8;
/// The most that is read of what a provider says.
const TOLD_BYTES: usize = 16 << 20;
/// Batches of one page of a provider's list, and pages that are read of it.
const PAGE: usize = 100;
const PAGES: usize = 100;
/// How long a batch is looked for that the provider may have.
const LOOKED_FOR_MS: i64 = 30 * 60 * 1_000;
/// How far a provider's clock may be off.
const SLACK_MS: i64 = 60 * 60 * 1_000;
/// Things of deleted tenants that are removed in one look.
const ORPHANS: u32 = 100;

/// Why a batch could not be looked after now.
#[derive(Debug, thiserror::Error)]
enum Unsettled {
    #[error("its upstream, or its tenant's key there, is not configured any more")]
    NoAccount,
    #[error("the upstream failed: {0:?}")]
    Failed(Failure),
    #[error("the upstream answered something that cannot be read")]
    Unreadable,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Fault> for Unsettled {
    fn from(fault: Fault) -> Self {
        Self::Failed(Failure::Fault(fault))
    }
}

/// What came of looking for a batch.
enum Found {
    /// The provider has it.
    It(Told),
    /// The provider does not list it.
    Nothing,
    /// The list was too long to be read to its end.
    NotYet,
}

/// Looks once for a batch whose making was not answered; it is its tenant's from then on.
pub(super) async fn find(shared: &Shared, batch: &Batch) -> Option<Told> {
    let looked = match Account::of(shared, batch) {
        Ok(account) => account.look_for(shared, batch).await,
        Err(err) => Err(err),
    };
    match looked {
        Ok(Found::It(told)) => Some(told),
        Ok(Found::Nothing | Found::NotYet) => None,
        Err(err) => {
            tracing::warn!(%err, sent_file = batch.sent_file, "a batch can't be looked for now");
            None
        }
    }
}

/// Watches until `stop` resolves; in the process that owns the ledger alone.
pub(crate) async fn run(shared: Arc<Shared>, every: Duration, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    loop {
        let all = tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(every) => true,
            // A client has seen one end.
            () = shared.batches.notified() => false,
        };
        if !shared.store.owns_ledger() {
            continue;
        }
        tokio::select! {
            () = &mut stop => return,
            () = look(&shared, all) => {}
        }
    }
}

/// Looks at every batch that runs, or at those alone that are known to have ended.
async fn look(shared: &Shared, all: bool) {
    let running = match shared.store.running_batches() {
        Ok(running) => running,
        Err(err) => return tracing::error!(%err, "batches that run can't be read"),
    };
    let looks = running.iter().map(|batch| async move {
        if !all && !known_to_be_over(shared, batch) {
            return;
        }
        if let Err(err) = one(shared, batch).await {
            let id = batch.id.as_deref().unwrap_or("?");
            tracing::warn!(%err, batch = id, tenant = %batch.tenant, "a batch can't be looked after now; what it can cost stays held");
        }
    });
    stream::iter(looks).for_each_concurrent(AT_ONCE, |look| look).await;
    if all {
        sweep(shared).await;
    }
}

fn known_to_be_over(shared: &Shared, batch: &Batch) -> bool {
    let Some(id) = &batch.id else { return false };
    let object = shared.store.object(batch.reservation.tenant, ObjectKind::Batch, id).ok().flatten();
    object.and_then(|object| Told::read(object.body.as_bytes())).is_some_and(|told| is_over(told.text("status")))
}

async fn one(shared: &Shared, batch: &Batch) -> Result<(), Unsettled> {
    let looked = Account::of(shared, batch);
    let looked = match looked {
        Ok(account) => account.look_after(shared, batch).await,
        Err(err) => Err(err),
    };
    match looked {
        // The operator has decided over its bill; then it ends, whatever the provider says of it.
        Err(_) if batch.resolved => {
            shared.store.end_batch(batch, BatchEnd::default()).await?;
            Ok(())
        }
        looked => looked,
    }
}

/// An account at an upstream.
struct Account {
    upstream: Arc<Upstream>,
    own_key: Option<KeyHeaders>,
}

impl Account {
    fn of(shared: &Shared, batch: &Batch) -> Result<Self, Unsettled> {
        let upstream = shared.catalog.load().upstream(&batch.upstream).cloned().ok_or(Unsettled::NoAccount)?;
        if !batch.own_key {
            return Ok(Self { upstream, own_key: None });
        }
        let sealed = shared.store.sealed_key(batch.reservation.tenant, &batch.upstream)?;
        let sealed = sealed.ok_or(Unsettled::NoAccount)?;
        let own_key = shared.own_keys.opened(&batch.tenant, &upstream, &sealed).map_err(|_| Unsettled::NoAccount)?;
        Ok(Self { upstream, own_key: Some(own_key) })
    }

    async fn begin(&self, method: Method, path: String) -> Result<Answer, Unsettled> {
        let account = (&*self.upstream, self.own_key.as_ref());
        call::send(account, &Call::bare(method, path), &[]).await.map_err(Unsettled::Failed)
    }

    async fn ask(&self, method: Method, path: String) -> Result<Bytes, Unsettled> {
        let mut answer = self.begin(method, path).await?;
        let body = call::whole(&mut answer, TOLD_BYTES).await?;
        answer.release().await;
        Ok(body)
    }

    /// Finds out how far a batch is; bills it when it has ended.
    async fn look_after(&self, shared: &Shared, batch: &Batch) -> Result<(), Unsettled> {
        let Some(id) = &batch.id else {
            return match self.look_for(shared, batch).await? {
                Found::It(_) | Found::NotYet => Ok(()),
                Found::Nothing => self.give_up(shared, batch).await,
            };
        };
        let body = self.ask(Method::GET, format!("/batches/{id}")).await?;
        let told = Told::read(&body).filter(|told| told.id == *id).ok_or(Unsettled::Unreadable)?;
        let known = String::from_utf8_lossy(&body).into_owned();
        if !is_over(told.text("status")) {
            return Ok(shared.store.note_object(batch.reservation.tenant, id, known).await?);
        }
        let (model, price) = shared.store.batch_price(batch)?;
        let end = self.count(batch, &price, (&told, known)).await?;
        let usage = end.tally.usage();
        let (cost, uncertain) = (end.tally.cost(), end.uncertain);
        if !shared.store.end_batch(batch, end).await? {
            return Ok(());
        }
        let target = Target { upstream: Arc::clone(&self.upstream), model };
        shared.metrics.bill(&target, (&batch.tenant, Keys::of_reservation(&batch.reservation)), (&usage, cost));
        if uncertain {
            tracing::error!(batch = id, tenant = %batch.tenant, "not all of a batch could be counted: the rest of what it could cost stays held; see `openclawmu billing resolve`");
        }
        if cost > batch.reservation.reserved {
            shared.metrics.over_reserved.inc();
            tracing::error!(batch = id, %cost, "a batch cost more than was reserved; check this model's limits in the rate card");
        }
        tracing::info!(batch = id, tenant = %batch.tenant, %cost, status = told.text("status"), "a batch has ended and is billed");
        self.remove_sent(batch).await;
        Ok(())
    }

    /// Counts what a batch has put out.
    async fn count(
        &self,
        batch: &Batch,
        price: &ModelPrice,
        (told, body): (&Told, String),
    ) -> Result<BatchEnd, Unsettled> {
        let counted = match told.text("output_file_id") {
            "" => Counted::default(),
            id if desk::is_id(id) => {
                let mut answer = self.begin(Method::GET, format!("/files/{id}/content")).await?;
                let counted = output::count(&mut answer, price).await?;
                answer.release().await;
                counted
            }
            _ => return Err(Unsettled::Unreadable),
        };
        let completed = told.object.get("request_counts").and_then(|counts| counts.get("completed")?.as_u64());
        let mut files = Vec::new();
        for name in ["output_file_id", "error_file_id"] {
            let id = told.text(name);
            if desk::is_id(id) {
                files.push(self.file(batch, id).await?);
            }
        }
        Ok(BatchEnd {
            tally: counted.tally,
            uncertain: counted.uncounted > 0 || completed.unwrap_or(0) > counted.answered,
            complete: told.text("status") == "completed",
            body: Some(body),
            files,
        })
    }

    /// A file that a batch has put out.
    async fn file(&self, batch: &Batch, id: &str) -> Result<NewObject, Unsettled> {
        let body = self.ask(Method::GET, format!("/files/{id}")).await?;
        let told = Told::read(&body).filter(|told| told.id == id).ok_or(Unsettled::Unreadable)?;
        Ok(NewObject {
            id: id.to_owned(),
            kind: ObjectKind::File,
            purpose: told.text("purpose").to_owned(),
            upstream: batch.upstream.clone(),
            own_key: batch.own_key,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// Looks for a batch whose making was not answered, by the file that was made for it alone.
    async fn look_for(&self, shared: &Shared, batch: &Batch) -> Result<Found, Unsettled> {
        let admitted = batch.reservation.admitted_at;
        let mut after = String::new();
        for _ in 0..PAGES {
            let body = self.ask(Method::GET, format!("/batches?limit={PAGE}{after}")).await?;
            let page: Value = serde_json::from_slice(&body).map_err(|_| Unsettled::Unreadable)?;
            let listed = page.get("data").and_then(Value::as_array).ok_or(Unsettled::Unreadable)?;
            let is_it = |one: &&Value| one.get("input_file_id").and_then(Value::as_str) == Some(&batch.sent_file);
            if let Some(found) = listed.iter().find(is_it) {
                let body = found.to_string();
                let told = Told::read(body.as_bytes()).ok_or(Unsettled::Unreadable)?;
                tracing::info!(batch = told.id, tenant = %batch.tenant, "a batch was found whose making was not answered");
                shared.store.batch_created(batch, &told.id, body).await?;
                return Ok(Found::It(told));
            }
            let more = page.get("has_more").and_then(Value::as_bool).unwrap_or(false);
            let last = listed.last().filter(|_| more);
            // Newest first: what is older than this batch is not it.
            let younger = |last: &&Value| {
                let created = last.get("created_at").and_then(Value::as_i64).unwrap_or(i64::MAX);
                created.saturating_mul(1_000).saturating_add(SLACK_MS) > admitted.0
            };
            let Some(id) = last.filter(younger).and_then(|last| last.get("id")?.as_str()).filter(|id| desk::is_id(id))
            else {
                return Ok(Found::Nothing);
            };
            after = format!("&after={id}");
        }
        Ok(Found::NotYet)
    }

    /// The provider does not have it. An answer may be on its way for a while.
    async fn give_up(&self, shared: &Shared, batch: &Batch) -> Result<(), Unsettled> {
        if shared.store.clock().now() < batch.reservation.admitted_at.plus_ms(LOOKED_FOR_MS) {
            return Ok(());
        }
        if shared.store.end_batch(batch, BatchEnd::default()).await? {
            tracing::warn!(tenant = %batch.tenant, "the provider has no batch whose making was not answered; what was held is given back");
            self.remove_sent(batch).await;
        }
        Ok(())
    }

    /// Removes the input that was made for a batch.
    async fn remove_sent(&self, batch: &Batch) {
        if let Err(err) = self.ask(Method::DELETE, format!("/files/{}", batch.sent_file)).await {
            tracing::warn!(%err, sent_file = batch.sent_file, "the input of a batch that has ended stays at the provider");
        }
    }
}

/// What deleted tenants had in the operator's accounts goes; their batches are cancelled, and billed for what was run.
async fn sweep(shared: &Shared) {
    let orphans = match shared.store.orphaned_objects(ORPHANS) {
        Ok(orphans) => orphans,
        Err(err) => return tracing::error!(%err, "what deleted tenants had at providers can't be read"),
    };
    for orphan in orphans {
        if let Err(err) = remove(shared, &orphan).await {
            tracing::warn!(%err, id = orphan.object.id, "what a deleted tenant had at a provider can't be removed now");
        }
    }
}

async fn remove(shared: &Shared, orphan: &OrphanedObject) -> Result<(), Unsettled> {
    let OrphanedObject { tenant, kind, object } = orphan;
    let upstream = shared.catalog.load().upstream(&object.upstream).cloned();
    // What is in an account of the tenant's own is the tenant's to remove.
    if let Some(upstream) = upstream.filter(|_| !object.own_key) {
        let account = Account { upstream, own_key: None };
        let gone = match kind {
            ObjectKind::File => account.ask(Method::DELETE, format!("/files/{}", object.id)).await,
            ObjectKind::Batch => {
                let ended = shared.store.batch(*tenant, &object.id)?.is_none_or(|batch| batch.ended);
                let status = Told::read(object.body.as_bytes()).map(|told| told.text("status").to_owned());
                if !ended && matches!(status.as_deref(), Some("validating" | "in_progress")) {
                    account.ask(Method::POST, format!("/batches/{}/cancel", object.id)).await?;
                }
                if !ended {
                    return Ok(());
                }
                Ok(Bytes::new())
            }
        };
        match gone {
            Ok(_) => {}
            Err(Unsettled::Failed(Failure::Refused(refused))) if refused.status == 404 => {}
            Err(err) => return Err(err),
        }
    }
    Ok(shared.store.forget_object(*tenant, &object.id).await?)
}
