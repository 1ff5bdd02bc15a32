//! `POST /v1/sandbox/exec`: admitted, given its turn, run, settled.
//!
//! A run is a row of the ledger like a call to a model, so that rates, concurrency, the request log and the reports hold for
//! it. What it used is whole seconds, from its start to when all of it is gone. Must never run anything without a ticket.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header;
use openclawmu_sandbox::{Chunk, DiskUsage, Job, Limits, Outcome as Ran, PathError, Root, RunId, SandboxError, Stdio};
use openclawmu_store::{
    Bound, Demand, End, Label, ModelPrice, Outcome, RequestId, SANDBOX, ServiceTier, StoreError, Ticket, Usage,
};
use pingora::proxy::Session;
use tokio::sync::{mpsc, watch};

use super::answer;
use super::artifact::Artifact;
use super::ask::Ask;
use super::room::refused;
use crate::answer::Head;
use crate::authenticate::Caller;
use crate::client::Client;
use crate::context::{Context, Shared};
use crate::gateway::{Gateway, Stop};
use crate::label::tags;
use crate::read;
use crate::refusal::Refusal;

/// Between two notes of what a run has used, which is what a crash bills.
const NOTE: Duration = Duration::from_secs(1);
/// Pieces of output that wait for a client.
const PIECES: usize = 16;
/// What a run costs in money.
static NOTHING: LazyLock<Arc<ModelPrice>> = LazyLock::new(Arc::default);

/// A run that ended, and what it left.
struct Done {
    ran: Ran,
    artifacts: Vec<Artifact>,
}

impl Gateway {
    /// Runs what the caller asks for.
    pub(crate) async fn exec(&self, session: &mut Session, ctx: &mut Context, caller: &Caller) -> Result<(), Stop> {
        let shared = Arc::clone(&self.shared);
        let streams = wants_events(session);
        let mut label = Label::default();
        tags(&session.req_header().headers, &mut label)?;
        let body = read::body(session, &shared.config).await?;
        let ask = Ask::read(&body, &shared.rooms.config)?;
        let backend = shared.rooms.backend().await?;
        let id = format!("run_{}", ctx.request_id);
        let turn = shared.rooms.turn(caller.policy.tenant_key, shared.store.clock().now()).await?;
        let (job, root, globs) = prepare(&shared, caller, ask, &id).await?;
        let ticket = admit(&shared, caller, (ctx.request_id, streams), &label, job.limits.wall).await?;
        let started = Instant::now();
        let (sender, receiver) = mpsc::channel(PIECES);
        let output = streams.then_some(sender);
        let run = async {
            let ran = backend.run(job, output).await.map_err(|err| refused(&err))?;
            let artifacts =
                blocking(move || globs.collect(&root)).await?.map_err(|err| refused(&SandboxError::Path(err)))?;
            Ok(Done { ran, artifacts })
        };
        let client = &mut Client::Http(session);
        let ended = if streams {
            Box::pin(stream(client, ctx, (&ticket, started, &shared), run, receiver)).await
        } else {
            Box::pin(until_done(client, (&ticket, started, &shared), run)).await
        };
        settle(ticket, &ended, started);
        drop(turn);
        let done = ended?;
        let told = answer::outcome(&id, &done.ran, &done.artifacts);
        if streams {
            return Ok(client.last(answer::event("result", &told).into()).await?);
        }
        let head = Head::of(200, ctx.request_id, ctx.dialect)?;
        Ok(head.send(client, "application/json", told.to_string().into()).await?)
    }
}

/// What is being run, for whom, since when.
type Watched<'a> = (&'a Ticket, Instant, &'a Shared);

/// Waits for the end; a client that leaves, or a gateway that ends, ends the run.
async fn until_done(
    client: &mut Client<'_>,
    (ticket, started, shared): Watched<'_>,
    run: impl Future<Output = Result<Done, Refusal>>,
) -> Result<Done, Stop> {
    let mut run = std::pin::pin!(run);
    let mut cut = shared.cut.subscribe();
    let mut noted = tokio::time::interval(NOTE);
    loop {
        tokio::select! {
            done = &mut run => return Ok(done?),
            () = client.gone() => return Err(Stop::Gone),
            () = is_cut(&mut cut) => return Err(ends().into()),
            _ = noted.tick() => ticket.progress(&used(started)),
        }
    }
}

/// The same, with what it writes on its way to the client. A refusal before the first byte is an ordinary one.
async fn stream(
    client: &mut Client<'_>,
    ctx: &Context,
    watched: Watched<'_>,
    run: impl Future<Output = Result<Done, Refusal>>,
    mut output: mpsc::Receiver<Chunk>,
) -> Result<Done, Stop> {
    let (ticket, started, shared) = watched;
    let mut head = Head::of(200, ctx.request_id, ctx.dialect)?;
    head.set("content-type", "text/event-stream");
    head.set("cache-control", "no-store");
    head.begin(client).await?;
    let mut run = std::pin::pin!(run);
    let mut cut = shared.cut.subscribe();
    let mut noted = tokio::time::interval(NOTE);
    let done = loop {
        tokio::select! {
            biased;
            piece = output.recv(), if !output.is_closed() || !output.is_empty() => {
                if let Some(piece) = piece {
                    client.piece(answer::chunk(&piece).into()).await?;
                }
            }
            done = &mut run => break done,
            () = client.gone() => return Err(Stop::Gone),
            () = is_cut(&mut cut) => break Err(ends()),
            _ = noted.tick() => ticket.progress(&used(started)),
        }
    };
    while let Ok(piece) = output.try_recv() {
        client.piece(answer::chunk(&piece).into()).await?;
    }
    match done {
        Ok(done) => Ok(done),
        Err(refusal) => {
            let event: Bytes =
                answer::event("error", &serde_json::from_slice(&refusal.told().openai_body()).unwrap_or_default())
                    .into();
            client.last(event).await?;
            Err(Stop::Gone)
        }
    }
}

/// Resolves when requests still running must end.
async fn is_cut(cut: &mut watch::Receiver<bool>) {
    // The sender is gone with the process.
    let _ = cut.wait_for(|cut| *cut).await;
}

fn ends() -> Refusal {
    Refusal::Sandbox { code: "shutting_down", message: "The gateway is shutting down. Please try again.".to_owned() }
}

/// What a run may use, with its files in their places.
async fn prepare(
    shared: &Arc<Shared>,
    caller: &Caller,
    ask: Ask,
    id: &str,
) -> Result<(Job, Root, super::artifact::Globs), Refusal> {
    let (shared, policy) = (Arc::clone(shared), Arc::clone(&caller.policy));
    let id = RunId::parse(id).map_err(|err| refused(&err))?;
    blocking(move || {
        let workspace = shared.rooms.workspace(&policy).map_err(|err| refused(&err))?;
        let root = workspace.files().again().map_err(|err| refused(&SandboxError::Path(err)))?;
        let limits = with_disk(ask.limits, ask.disk_bytes, policy.quota.storage_bytes, &root)?;
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

/// The limits with what the tenant's storage quota, and the run's own wish, leave of the disk.
fn with_disk(limits: Limits, grow: Option<u64>, quota: Option<u64>, root: &Root) -> Result<Limits, Refusal> {
    if grow.is_none() && quota.is_none() {
        return Ok(limits);
    }
    let used = match root.disk_usage(DiskUsage { bytes: quota.unwrap_or(u64::MAX), entries: u64::MAX }) {
        Ok(usage) => usage.bytes,
        Err(PathError::NoSpace) => return Err(crate::workspace::over_quota()),
        Err(err) => return Err(refused(&SandboxError::Path(err))),
    };
    let most = grow.map_or(u64::MAX, |grow| used.saturating_add(grow)).min(quota.unwrap_or(u64::MAX));
    Ok(Limits { disk_bytes: Some(most), ..limits })
}

async fn admit(
    shared: &Shared,
    caller: &Caller,
    (request_id, stream): (RequestId, bool),
    label: &Label,
    wall: Duration,
) -> Result<Ticket, Refusal> {
    let (store, policy) = (&shared.store, &caller.policy);
    let unavailable = |err: StoreError| {
        tracing::error!(%err, "a run can't be noted");
        Refusal::Store
    };
    let name = store.name_key(SANDBOX).await.map_err(unavailable)?;
    let demand = Demand {
        request_id,
        attempt: 0,
        stream,
        tenant: policy.tenant_key,
        token: policy.token_key,
        quota: &policy.quota,
        zone: &policy.zone,
        model: name,
        upstream: name,
        price: &NOTHING,
        rate_card: 0,
        bound: Bound::default(),
        prompt_estimate: 0,
        service_tier: ServiceTier::Standard,
        label: store.label_key(policy.tenant_key, label),
        markup: policy.markup,
        cap: policy.cap(),
    };
    let ticket = store.admit_sandbox(&demand, seconds(wall)).map_err(|err| Refusal::quota(err, store.clock().now()))?;
    if let Err(err) = ticket.durable().await {
        end(ticket, Outcome::Void, 503, Usage::default());
        return Err(unavailable(err));
    }
    Ok(ticket)
}

/// Ends the ticket, whatever came of the run: a refusal used nothing, a client that left used the time until then.
fn settle(ticket: Ticket, ended: &Result<Done, Stop>, started: Instant) {
    match ended {
        Ok(done) => {
            let usage = Usage { input_ms: seconds(done.ran.duration).saturating_mul(1000), ..Usage::default() };
            end(ticket, Outcome::Complete, 200, usage);
        }
        Err(Stop::Refused(refusal, _)) => end(ticket, Outcome::Void, refusal.told().status, Usage::default()),
        Err(Stop::Gone | Stop::Io(_) | Stop::Passed(_)) => end(ticket, Outcome::Partial, 499, used(started)),
    }
}

fn end(ticket: Ticket, outcome: Outcome, http_status: u16, usage: Usage) {
    let first_byte_ms = ticket.elapsed_ms();
    let service_tier = ServiceTier::Standard;
    ticket.settle(End { outcome, http_status, estimated: false, usage, service_tier, first_byte_ms });
}

/// What a run has used until now.
fn used(started: Instant) -> Usage {
    Usage { input_ms: seconds(started.elapsed()).saturating_mul(1000), ..Usage::default() }
}

/// Whole seconds, each begun one counted.
fn seconds(duration: Duration) -> u32 {
    let whole = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    whole.saturating_add(u32::from(duration.subsec_nanos() > 0))
}

fn wants_events(session: &Session) -> bool {
    let accept = session.get_header(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/event-stream"))
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
