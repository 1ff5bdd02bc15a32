//! One run, from what is asked to what came of it: its turn, its files, its place in the ledger, its way out. The same for a tenant
//! and for the operator. Must never run anything without a ticket.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use openclawmu_sandbox::egress::{Egress, Policy};
use openclawmu_sandbox::{
    Backend, Chunk, DiskUsage, HostUid, Job, Limits, Outcome as Ran, PathError, Root, RunId, SandboxError, Stdio,
};
use openclawmu_store::{
    Actor, Bound, Demand, End, Label, Markup, ModelPrice, Outcome, Quota, RequestId, SANDBOX, SecretCap, ServiceTier,
    StoreError, TenantId, TenantKey, Ticket, TokenKey, Usage, Zone,
};
use tokio::sync::mpsc;

use super::artifact::{Artifact, Globs};
use super::ask::Ask;
use super::egress::Of;
use super::room::{Turn, refused};
use crate::context::Shared;
use crate::refusal::Refusal;

/// What a run costs in money.
static NOTHING: LazyLock<Arc<ModelPrice>> = LazyLock::new(Arc::default);

/// For whom something is run, and on whose word.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) tenant: TenantId,
    pub(crate) key: TenantKey,
    pub(crate) token: TokenKey,
    pub(crate) quota: Quota,
    pub(crate) zone: Zone,
    pub(crate) markup: Markup,
    pub(crate) cap: Option<SecretCap>,
    pub(crate) actor: Actor,
}

/// What is asked, and by which request.
pub(super) struct Order {
    pub(super) owner: Owner,
    pub(super) request_id: RequestId,
    pub(super) streams: bool,
    pub(super) label: Label,
    pub(super) ask: Ask,
}

/// A run that has its place in the ledger. Whoever lets go of it has it settled with the time until then.
pub(crate) struct Open {
    ticket: Option<Ticket>,
    started: Instant,
    /// The seconds that were reserved: what it takes to end a run after its time is not the tenant's.
    most: u32,
    /// A run waits for its turn; a terminal has a place of its own.
    _turn: Option<Turn>,
}

/// A run that is about to begin.
pub(super) struct Ready {
    pub(super) id: String,
    backend: Arc<dyn Backend>,
    job: Job,
    root: Root,
    globs: Globs,
    egress: Option<Egress>,
}

/// A run that ended, and what it left.
pub(super) struct Done {
    pub(super) ran: Ran,
    pub(super) artifacts: Vec<Artifact>,
}

impl Order {
    /// Waits for its turn, admits it, and puts its files in their places.
    ///
    /// # Errors
    /// 429, 503, 507 and what is wrong with what was asked; nothing was run.
    pub(super) async fn begin(self, shared: &Arc<Shared>) -> Result<(Open, Ready), Refusal> {
        let Self { owner, request_id, streams, label, mut ask } = self;
        let rooms = &shared.rooms;
        let backend = rooms.backend(ask.backend).await?;
        let id = format!("run_{request_id}");
        let turn = rooms.turn(owner.key, shared.store.clock().now()).await?;
        let network = std::mem::take(&mut ask.network);
        let most = seconds(ask.limits.wall);
        let ticket = admit(shared, &owner, (request_id, streams), &label, most).await?;
        let mut open = Open { ticket: Some(ticket), started: Instant::now(), most, _turn: Some(turn) };
        let (mut job, root, globs) = match prepare(shared, &owner, ask, &id).await {
            Ok(prepared) => prepared,
            Err(refusal) => {
                open.refused(&refusal);
                return Err(refusal);
            }
        };
        open.started = Instant::now();
        let egress = match way_out(shared, (&owner, request_id, &id), network, job.workspace.owner()).await {
            Ok(egress) => egress,
            Err(refusal) => {
                open.refused(&refusal);
                return Err(refusal);
            }
        };
        job.egress = egress.as_ref().map(|egress| egress.socket().to_owned());
        Ok((open, Ready { id, backend, job, root, globs, egress }))
    }
}

impl Ready {
    /// Runs it; what it writes goes to `output` as well. Dropping what this gives ends the run.
    pub(super) async fn run(self, output: Option<mpsc::Sender<Chunk>>) -> Result<Done, Refusal> {
        let Self { backend, job, root, globs, egress, .. } = self;
        let ran = backend.run(job, output).await.map_err(|err| refused(&err))?;
        drop(egress);
        let found = blocking(move || globs.collect(&root)).await?;
        let artifacts = found.map_err(|err| refused(&SandboxError::Path(err)))?;
        Ok(Done { ran, artifacts })
    }
}

impl Open {
    /// A terminal's next `most` seconds, which begin now.
    pub(crate) fn of(ticket: Ticket, most: u32) -> Self {
        Self { ticket: Some(ticket), started: Instant::now(), most, _turn: None }
    }

    /// Its time begins now, and not when it was reserved.
    pub(crate) fn begin(&mut self) {
        self.started = Instant::now();
    }

    /// It did not begin.
    pub(crate) fn unused(mut self) {
        self.end(Outcome::Void, 200, Usage::default());
    }

    /// How much of what was reserved is left.
    pub(crate) fn left(&self) -> Duration {
        Duration::from_secs(self.most.into()).saturating_sub(self.started.elapsed())
    }

    /// It is over, and took until now.
    pub(crate) fn over(mut self) {
        let used = self.used(self.started.elapsed());
        self.end(Outcome::Complete, 200, used);
    }

    /// Notes what was used until now, which is what a crash bills.
    pub(crate) fn note(&self) {
        if let Some(ticket) = &self.ticket {
            ticket.progress(&self.used(self.started.elapsed()));
        }
    }

    /// It ended by itself.
    pub(super) fn done(mut self, ran: &Ran) {
        let usage = self.used(ran.duration);
        self.end(Outcome::Complete, 200, usage);
    }

    /// Nothing was run.
    pub(crate) fn refused(mut self, refusal: &Refusal) {
        self.end(Outcome::Void, refusal.told().status, Usage::default());
    }

    fn end(&mut self, outcome: Outcome, http_status: u16, usage: Usage) {
        if let Some(ticket) = self.ticket.take() {
            end(ticket, outcome, http_status, usage);
        }
    }

    fn used(&self, ran: Duration) -> Usage {
        Usage { input_ms: seconds(ran).min(self.most).saturating_mul(1000), ..Usage::default() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let used = self.used(self.started.elapsed());
        self.end(Outcome::Partial, 499, used);
    }
}

/// The way out of what runs as `id`, where it may reach anything: put on record first, and then opened.
///
/// # Errors
/// 503 where either can't be.
pub(crate) async fn way_out(
    shared: &Shared,
    (owner, request_id, id): (&Owner, RequestId, &str),
    network: Policy,
    uid: HostUid,
) -> Result<Option<Egress>, Refusal> {
    if network.is_empty() {
        return Ok(None);
    }
    let of = Of { tenant: owner.tenant.clone(), actor: owner.actor.clone(), run: id.to_owned() };
    shared.store.audit(&owner.actor, of.granted(&network)).await.map_err(|err| not_on_record(&err))?;
    let opened = shared.rooms.sockets.open((of, request_id.0), uid, network, shared.store.clock());
    opened.map(Some).map_err(|err| refused(&err))
}

fn not_on_record(err: &StoreError) -> Refusal {
    tracing::error!(%err, "what a run may reach can't be put on record");
    let message = "What this run may reach can't be put on record at the moment. Please try again.".to_owned();
    Refusal::Sandbox { code: "audit_unavailable", message }
}

/// What a run may use, with its files in their places.
async fn prepare(shared: &Arc<Shared>, owner: &Owner, ask: Ask, id: &str) -> Result<(Job, Root, Globs), Refusal> {
    let (shared, owner) = (Arc::clone(shared), owner.clone());
    let id = RunId::parse(id).map_err(|err| refused(&err))?;
    blocking(move || {
        let mut workspace = shared.rooms.workspace(&owner.tenant, owner.key).map_err(|err| refused(&err))?;
        shared.rooms.hold(&mut workspace, owner.quota.storage_bytes);
        let root = workspace.files().again().map_err(|err| refused(&SandboxError::Path(err)))?;
        let coming = ask.files.iter().map(|(_, content)| u64::try_from(content.len()).unwrap_or(u64::MAX));
        let coming = coming.fold(0, u64::saturating_add);
        let saw = |bytes| shared.meter.saw(owner.key, bytes);
        let limits = with_disk(ask.limits, (ask.disk_bytes, coming), owner.quota.storage_bytes, (&root, &saw))?;
        for (path, content) in &ask.files {
            let placed = match path.parent() {
                Some(parent) => root.create_dir_all(&parent).and_then(|()| root.replace(path, content)),
                None => root.replace(path, content),
            };
            placed.map_err(|err| crate::workspace::refused("files", &err))?;
        }
        let job = Job {
            id,
            command: ask.command,
            env: ask.env,
            cwd: None,
            stdio: Stdio::Piped(ask.stdin),
            limits,
            workspace,
            egress: None,
        };
        job.check().map_err(|err| refused(&err))?;
        Ok((job, root, ask.artifacts))
    })
    .await?
}

/// The limits with what the tenant's storage quota, and the run's own wish, leave of the disk behind the files that are `coming`.
/// What there is, is told to `saw`.
pub(crate) fn with_disk(
    limits: Limits,
    (grow, coming): (Option<u64>, u64),
    quota: Option<u64>,
    (root, saw): (&Root, &dyn Fn(u64)),
) -> Result<Limits, Refusal> {
    if grow.is_none() && quota.is_none() {
        return Ok(limits);
    }
    let used = match root.disk_usage(DiskUsage { bytes: quota.unwrap_or(u64::MAX), entries: u64::MAX }) {
        Ok(usage) => {
            saw(usage.bytes);
            usage.bytes.saturating_add(coming)
        }
        Err(PathError::NoSpace) => return Err(crate::workspace::over_quota()),
        Err(err) => return Err(refused(&SandboxError::Path(err))),
    };
    if quota.is_some_and(|quota| used > quota) {
        return Err(crate::workspace::over_quota());
    }
    let most = grow.map_or(u64::MAX, |grow| used.saturating_add(grow)).min(quota.unwrap_or(u64::MAX));
    Ok(Limits { disk_bytes: Some(most), ..limits })
}

pub(crate) async fn admit(
    shared: &Shared,
    owner: &Owner,
    (request_id, stream): (RequestId, bool),
    label: &Label,
    seconds: u32,
) -> Result<Ticket, Refusal> {
    let store = &shared.store;
    let unavailable = |err: StoreError| {
        tracing::error!(%err, "a run can't be noted");
        Refusal::Store
    };
    let name = store.name_key(SANDBOX).await.map_err(unavailable)?;
    let demand = Demand {
        request_id,
        attempt: 0,
        stream,
        tenant: owner.key,
        token: owner.token,
        quota: &owner.quota,
        zone: &owner.zone,
        model: name,
        upstream: name,
        price: &NOTHING,
        rate_card: 0,
        bound: Bound::default(),
        prompt_estimate: 0,
        service_tier: ServiceTier::Standard,
        label: store.label_key(owner.key, label),
        markup: owner.markup,
        cap: owner.cap,
    };
    let ticket = store.admit_sandbox(&demand, seconds).map_err(|err| Refusal::quota(err, store.clock().now()))?;
    if let Err(err) = ticket.durable().await {
        end(ticket, Outcome::Void, 503, Usage::default());
        return Err(unavailable(err));
    }
    Ok(ticket)
}

fn end(ticket: Ticket, outcome: Outcome, http_status: u16, usage: Usage) {
    let first_byte_ms = ticket.elapsed_ms();
    let service_tier = ServiceTier::Standard;
    ticket.settle(End { outcome, http_status, estimated: false, usage, service_tier, first_byte_ms });
}

/// Whole seconds, each begun one counted.
fn seconds(duration: Duration) -> u32 {
    let whole = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    whole.saturating_add(u32::from(duration.subsec_nanos() > 0))
}

/// Moves what waits for the disk to where waiting holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|err| {
        tracing::error!(%err, "work on the disk did not end");
        Refusal::Store
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_that_was_begun_counts() {
        for (ms, wanted) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (60_000, 60)] {
            assert_eq!(seconds(Duration::from_millis(ms)), wanted, "{ms}");
        }
    }
}
