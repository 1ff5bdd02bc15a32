//! `POST /v1/sandbox/exec`: read, run, answered.
//!
//! A run is a row of the ledger like a call to a model, so that rates, concurrency, the request log and the reports hold for
//! it. What it used is whole seconds, from its start to when all of it is gone.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use openclawmu_sandbox::Chunk;
use openclawmu_store::{Actor, ActorKind, Label, RequestId};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::answer;
use super::ask::{self, Ask};
use super::operator::ends;
use super::order::{Done, Open, Order, Owner};
use crate::answer::Head;
use crate::authenticate::Caller;
use crate::client::Client;
use crate::context::{Context, Shared};
use crate::gateway::{Gateway, Stop};
use crate::label::tags;
use crate::read;
use crate::refusal::Refusal;
use crate::session::Session;

/// Between two notes of what a run has used, which is what a crash bills.
const NOTE: Duration = Duration::from_secs(1);
/// Pieces of output that wait for a client.
const PIECES: usize = 16;

impl Gateway {
    /// Runs what the caller asks for.
    pub(crate) async fn exec(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        (caller, peer): (&Caller, IpAddr),
    ) -> Result<(), Stop> {
        let shared = Arc::clone(&self.shared);
        let streams = wants_events(session);
        let mut label = Label::default();
        tags(&session.req_header().headers, &mut label)?;
        let body = read::body(session, &shared.config).await?;
        let ask = Ask::of(ask::request(&body)?, &shared.rooms.config, &caller.policy.tenant)?;
        let owner = owner(caller, peer, Some(ctx.request_id));
        let order = Order { owner, request_id: ctx.request_id, streams, label, ask };
        let (open, ready) = order.begin(&shared).await?;
        let id = ready.id.clone();
        let (sender, receiver) = mpsc::channel(PIECES);
        let run = ready.run(streams.then_some(sender));
        let client = &mut Client::Http(session.again());
        let ended = if streams {
            Box::pin(stream(client, ctx, (&open, &shared), run, receiver)).await
        } else {
            Box::pin(until_done(client, (&open, &shared), run)).await
        };
        match &ended {
            Ok(done) => open.done(&done.ran),
            Err(Stop::Refused(refusal, _)) => open.refused(refusal),
            // Whoever left has used the time until then.
            Err(Stop::Gone | Stop::Io(_) | Stop::Passed(_)) => drop(open),
        }
        let done = ended?;
        let told = json!(answer::outcome(id, &done.ran, done.artifacts));
        if streams {
            return Ok(client.last(answer::event("result", &told).into()).await?);
        }
        let head = Head::of(200, ctx.request_id, ctx.dialect)?;
        Ok(head.send(client, "application/json", told.to_string().into()).await?)
    }
}

/// Whose a run or a terminal is, and who asked; by no request where one goes on.
pub(crate) fn owner(caller: &Caller, peer: IpAddr, request_id: Option<RequestId>) -> Owner {
    let policy = &caller.policy;
    Owner {
        tenant: policy.tenant.clone(),
        key: policy.tenant_key,
        token: policy.token_key,
        quota: policy.quota,
        zone: policy.zone.clone(),
        markup: policy.markup,
        cap: policy.cap(),
        actor: Actor {
            kind: ActorKind::Tenant,
            id: policy.token.to_string(),
            ip: Some(peer),
            request_id: request_id.map(|id| id.to_string()),
        },
    }
}

/// What is being run.
type Watched<'a> = (&'a Open, &'a Shared);

/// Waits for the end; a client that leaves, or a gateway that ends, ends the run.
async fn until_done(
    client: &mut Client<'_>,
    (open, shared): Watched<'_>,
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
            _ = noted.tick() => open.note(),
        }
    }
}

/// The same, with what it writes on its way to the client. A refusal before the first byte is an ordinary one.
async fn stream(
    client: &mut Client<'_>,
    ctx: &Context,
    (open, shared): Watched<'_>,
    run: impl Future<Output = Result<Done, Refusal>>,
    mut output: mpsc::Receiver<Chunk>,
) -> Result<Done, Stop> {
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
            _ = noted.tick() => open.note(),
        }
    };
    while let Ok(piece) = output.try_recv() {
        client.piece(answer::chunk(&piece).into()).await?;
    }
    match done {
        Ok(done) => Ok(done),
        Err(refusal) => {
            let told = serde_json::from_slice(&refusal.told().openai_body()).unwrap_or_default();
            let event: Bytes = answer::event("error", &told).into();
            client.last(event).await?;
            Err(Stop::Gone)
        }
    }
}

/// Resolves when requests still running must end.
pub(super) async fn is_cut(cut: &mut watch::Receiver<bool>) {
    // The sender is gone with the process.
    let _ = cut.wait_for(|cut| *cut).await;
}

fn wants_events(session: &Session<'_>) -> bool {
    let accept = session.get_header(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/event-stream"))
}
