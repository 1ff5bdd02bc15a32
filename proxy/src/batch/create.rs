//! From a request to a batch that runs. The input is fetched from the provider, where files never change, so that what was
//! bounded is what runs; it is sent again as a file of this batch alone, with what the bound relies on written into its lines.
//! Everything is reserved and held, on the disk, before the provider is asked for the batch; whether it has it, should its
//! answer be lost, is found out by that file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method};
use openclawmu_store::{
    Batch, BatchEnd, Bound, Demand, NewBatch as Held, ObjectKind, Refused, ServiceTier, Standing, Ticket,
};

use super::ask::NewBatch;
use super::input::{Input, Judge};
use super::line::Endpoint;
use super::show::show;
use super::watch;
use crate::authenticate::Caller;
use crate::context::Context;
use crate::file::call::Call;
use crate::file::check_mentions;
use crate::file::desk::{self, Desk, Told, no_room, reply};
use crate::forward::Failure;
use crate::gateway::{Gateway, Stop};
use crate::label;
use crate::metrics::AttemptOutcome;
use crate::read;
use crate::refusal::Refusal;
use crate::session::Session;
use crate::settle;
use crate::upstream::http::Fault;

/// The most that is read of what a provider says of a batch.
const TOLD_BYTES: usize = 4 << 20;
/// How long a provider may take to take in a file, and the pause between two looks.
const TAKEN_IN_WITHIN: Duration = Duration::from_secs(60);
const TAKEN_IN_PAUSE: Duration = Duration::from_millis(500);

impl Gateway {
    pub(super) async fn create_batch(
        &self,
        session: &mut Session<'_>,
        ctx: &Context,
        caller: &Caller,
    ) -> Result<(), Stop> {
        let shared = &*self.shared;
        let headers = session.req_header().headers.clone();
        let body = read::body(session, &shared.config).await?;
        let new = NewBatch::read(&body)?;
        let endpoint = Endpoint { route: new.route()?, url: new.endpoint.clone() };
        let file = desk::owned((shared, caller), ObjectKind::File, &new.input_file_id)?;
        if file.purpose != "batch" {
            return Err(Refusal::bad("input_file_id", "The purpose of a batch's input file must be `batch`.").into());
        }
        let tenant = caller.policy.tenant_key;
        shared.store.check_object_room(tenant, ObjectKind::Batch).map_err(|err| no_room(&err))?;
        let mut desk = Desk::of((shared, caller), (ctx.request_id, &headers), (ObjectKind::Batch, &file))?;
        if let Some(metadata) = &new.metadata {
            label::add(&mut desk.label, metadata);
        }
        let fetch = Call::bare(Method::GET, format!("/files/{}/content", file.id));
        let input = desk.ask_within(&fetch, shared.config.max_body_bytes).await?;
        let (ticket, input) = self.reserve(&mut desk, (endpoint, input)).await?;
        let standing = ticket.standing();
        let sent_file = match send_input(&mut desk, &ticket, input.sent).await {
            Ok(id) => id,
            Err(stop) => {
                settle::void(&shared.metrics, &desk.upstream.name, ticket, AttemptOutcome::Failed, 502);
                return Err(stop);
            }
        };
        let held = Held {
            upstream: desk.upstream.name.to_string(),
            own_key: desk.own_key.is_some(),
            input_file: file.id,
            sent_file: sent_file.clone(),
        };
        let batch = match shared.store.hold_batch(ticket, held).await {
            Ok(batch) => batch,
            Err(err) => {
                remove_sent(&desk, &sent_file).await;
                return Err(desk::unavailable(&err).into());
            }
        };
        let told = self.ask_for(&desk, &batch, new.sent(&sent_file), standing).await?;
        let body = show(&told.object, &batch.input_file, false);
        reply(session, ctx, &desk, body.into()).await
    }

    /// Bounds the input and reserves all of it, or nothing.
    async fn reserve(
        &self,
        desk: &mut Desk<'_>,
        (endpoint, input): (Endpoint, Bytes),
    ) -> Result<(Ticket, Input), Stop> {
        let attempt = desk.next_attempt();
        let read = self.understood(desk, (endpoint.clone(), input.clone()), false).await?;
        let refused = match admit(desk, attempt, &read).await? {
            Ok(ticket) => return Ok((ticket, read)),
            Err(refused) => refused,
        };
        // A byte is more than a token: counting them may still make it fit.
        if matches!(refused, Refused::Budget { .. }) && read.price.price.tokenizer.is_some() {
            let exact = self.understood(desk, (endpoint, input), true).await?;
            if let Ok(ticket) = admit(desk, attempt, &exact).await? {
                return Ok((ticket, exact));
            }
        }
        if let Refused::Unavailable(reason) = &refused {
            tracing::error!(reason, "an admission could not be proved");
        }
        Err(Refusal::quota(refused, self.shared.store.clock().now()).into())
    }

    /// Reads the input where it may take its time.
    async fn understood(
        &self,
        desk: &Desk<'_>,
        (endpoint, input): (Endpoint, Bytes),
        exact: bool,
    ) -> Result<Input, Refusal> {
        let (gateway, caller, upstream) = (self.clone(), desk.caller.clone(), Arc::clone(&desk.upstream));
        let (request_id, own_account) = (desk.request_id, desk.own_key.is_some());
        let work = move || {
            let target = |name: &str| {
                let mut targets = gateway.plan(&caller, (name, request_id))?.into_iter();
                targets.find(|target| target.upstream.name == upstream.name).ok_or_else(|| {
                    let message =
                        format!("The model `{name}` is not served where the input file is, at `{}`.", upstream.name);
                    Refusal::bad("model", message)
                })
            };
            let allowed = |call: &crate::read::Call| {
                check_mentions(&gateway.shared.store, &caller, (&upstream.name, own_account), &call.body)
            };
            let rates = gateway.shared.store.rates();
            Judge { endpoint: &endpoint, rates: &rates, target: &target, allowed: &allowed, exact }.read(&input)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|err| {
            tracing::error!(%err, "a batch's input could not be read");
            Err(Refusal::Store)
        })
    }

    /// Asks the provider for a batch that is held already.
    async fn ask_for(&self, desk: &Desk<'_>, batch: &Batch, body: Vec<u8>, standing: Standing) -> Result<Told, Stop> {
        let shared = &*self.shared;
        let content_type = HeaderValue::from_static("application/json");
        let call = Call { method: Method::POST, path: "/batches".to_owned(), content_type, body: body.into() };
        let failure = match desk.send_held(&call, TOLD_BYTES).await {
            Ok(body) => match Told::read(&body) {
                Some(told) => {
                    shared.metrics.attempt(&desk.upstream.name, AttemptOutcome::Complete);
                    let known = String::from_utf8_lossy(&body).into_owned();
                    let kept = shared.store.batch_created(batch, &told.id, known).await;
                    kept.map_err(|err| desk::unavailable(&err))?;
                    return Ok(told);
                }
                None => Failure::Fault(Fault::Broken("the answer is no batch".to_owned())),
            },
            Err(failure) => failure,
        };
        let surely_not = match &failure {
            Failure::Refused(refused) => (400..500).contains(&refused.status),
            Failure::Fault(Fault::Connect(_) | Fault::Exhausted) | Failure::Store => true,
            Failure::Fault(Fault::Timeout(_) | Fault::Broken(_)) | Failure::ClientGone => false,
        };
        if surely_not {
            shared.metrics.attempt(&desk.upstream.name, AttemptOutcome::Refused);
            let ended = shared.store.end_batch(batch, BatchEnd::default()).await;
            ended.map_err(|err| desk::unavailable(&err))?;
            remove_sent(desk, &batch.sent_file).await;
        } else {
            shared.metrics.attempt(&desk.upstream.name, AttemptOutcome::Failed);
            tracing::warn!(
                sent_file = batch.sent_file,
                "it is not known whether the provider has a batch; it is looked for"
            );
            // A client that is told of a failure asks again, and would have two.
            if let Some(told) = watch::find(shared, batch).await {
                return Ok(told);
            }
        }
        Err(desk.stop(failure, standing))
    }
}

/// Reserves what an input can cost at most.
async fn admit(desk: &Desk<'_>, attempt: u16, input: &Input) -> Result<Result<Ticket, Refused>, Refusal> {
    let (store, policy) = (&desk.shared.store, &desk.caller.policy);
    let demand = Demand {
        request_id: desk.request_id,
        attempt,
        stream: false,
        tenant: policy.tenant_key,
        token: policy.token_key,
        quota: &policy.quota,
        zone: &policy.zone,
        model: store.name_key(&input.target.model).await.map_err(|err| desk::unavailable(&err))?,
        upstream: desk.upstream.key(store).await.map_err(|err| desk::unavailable(&err))?,
        price: &input.price.price,
        rate_card: input.price.card,
        bound: Bound::default(),
        prompt_estimate: 0,
        service_tier: ServiceTier::Batch,
        label: store.label_key(policy.tenant_key, &desk.label),
        markup: policy.markup,
        cap: policy.cap(),
    };
    Ok(store.admit_batch(&demand, &input.bound))
}

/// Sends the input as a file of its own; its id.
async fn send_input(desk: &mut Desk<'_>, ticket: &Ticket, content: Vec<u8>) -> Result<String, Stop> {
    // No line of the input begins with a dash.
    let boundary = format!("openclawmu-{}", desk.request_id);
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--{boundary}\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"batch.jsonl\"\r\nContent-Type: application/jsonl\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(&content);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let content_type = HeaderValue::try_from(format!("multipart/form-data; boundary={boundary}"));
    let content_type = content_type.map_err(|_| desk.unreadable())?;
    let call = Call { method: Method::POST, path: "/files".to_owned(), content_type, body: body.into() };
    let body = desk.ask_beside(ticket, &call).await?;
    let sent = desk.told(&body)?;
    if desk.shared.store.knows_file(&sent.id).map_err(|err| desk::unavailable(&err))? {
        // A server that keeps equal files once: this one may be a tenant's, and no batch could be told by it.
        tracing::error!(upstream = %desk.upstream.name, file = sent.id, "an upstream gave the id of another file to a new one");
        return Err(desk.unreadable().into());
    }
    let id = sent.id.clone();
    if let Err(stop) = until_usable(desk, sent).await {
        remove_sent(desk, &id).await;
        return Err(stop);
    }
    Ok(id)
}

/// Waits until a provider has taken a file in: Azure takes a while, and refuses batches of it until then.
async fn until_usable(desk: &Desk<'_>, mut sent: Told) -> Result<(), Stop> {
    let deadline = Instant::now() + TAKEN_IN_WITHIN;
    while matches!(sent.text("status"), "pending" | "running") {
        if Instant::now() > deadline {
            let message = format!("The upstream `{}` has not taken in the batch's input in time.", desk.upstream.name);
            return Err(Refusal::UpstreamTimeout { message }.into());
        }
        tokio::time::sleep(TAKEN_IN_PAUSE).await;
        let call = Call::bare(Method::GET, format!("/files/{}", sent.id));
        match desk.send_held(&call, TOLD_BYTES).await {
            Ok(body) => sent = desk.told(&body)?,
            Err(failure) => return Err(desk.stop(failure, *desk.standing())),
        }
    }
    Ok(())
}

/// Removes the file of a batch that came to nothing; nobody but the operator sees it where that fails.
async fn remove_sent(desk: &Desk<'_>, sent_file: &str) {
    let call = Call::bare(Method::DELETE, format!("/files/{sent_file}"));
    if let Err(failure) = desk.send_held(&call, TOLD_BYTES).await {
        tracing::warn!(sent_file, ?failure, "the input of a batch that came to nothing stays at the provider");
    }
}
