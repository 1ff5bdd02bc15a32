//! One request from its head to its row. Reads top to bottom; each line is a stage, each stage a file.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use openclawmu_store::{Outcome, Policy, RequestId, Standing, Ticket, Usage};
use pingora::proxy::ProxyHttp;
use pingora::upstreams::peer::HttpPeer;

use crate::admit::{Admitted, Attempt, admit};
use crate::answer::{self, Head};
use crate::authenticate::Caller;
use crate::catalog::Target;
use crate::client::Client;
use crate::context::{Context, Shared, Wire};
use crate::dialect::translate;
use crate::forward::{Failure, Rejected, Reply, forward};
use crate::metrics::AttemptOutcome;
use crate::observe::{Fate, Stage, TRACEPARENT, semantic};
use crate::read::{self, Call};
use crate::refusal::Refusal;
use crate::relay::{Ending, Relay};
use crate::response::{self, Asking};
use crate::route::{Draft, draft, route};
use crate::routes::AiRoute;
use crate::session::Session;
use crate::upstream::health::Sign;
use crate::upstream::http::Fault;
use crate::upstream::provider::Api;
use crate::way::Way;
use crate::{agent, edge, file, own, settle};

/// The edge's gateway. A copy is the same one.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
}

/// Why a request's way ended early.
pub(crate) enum Stop {
    /// It is refused.
    Refused(Refusal, Standing),
    /// The upstream's own refusal goes on.
    Passed(Rejected),
    /// The client is gone.
    Gone,
    /// Nothing more can be written.
    Io(Box<pingora::Error>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal, Standing::default())
    }
}

impl From<Box<pingora::Error>> for Stop {
    fn from(err: Box<pingora::Error>) -> Self {
        Self::Io(err)
    }
}

/// A request in the stages: its client, its notes, its target's reply still to come.
struct Exchange<'a, 'c> {
    client: &'a mut Client<'c>,
    ctx: &'a mut Context,
    call: &'a Call,
    policy: &'a Policy,
}

impl Gateway {
    /// The notes of a request that begins now.
    pub(crate) fn context(&self) -> Context {
        Context::new(&self.shared)
    }

    /// Answers a request, whatever it is.
    ///
    /// # Errors
    /// When the answer can't be written: then its connection, or its stream, must end.
    pub(crate) async fn serve(&self, session: &mut Session<'_>, ctx: &mut Context) -> pingora::Result<()> {
        match self.handle(session, ctx).await {
            Ok(()) => Ok(()),
            Err(stop) => tell(&mut Client::Http(session.again()), ctx, stop).await,
        }
    }

    /// The seven stages, the first one behind it.
    pub(crate) async fn call(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        caller: &Caller,
        ai: (AiRoute, &str),
    ) -> Result<(), Stop> {
        ctx.notes.stage(Stage::Read);
        let call = match ai {
            (route @ (AiRoute::Responses | AiRoute::Compact), _) => {
                let body = read::body(session, &self.shared.config).await?;
                self.asked(caller, (ctx.request_id, &session.req_header().headers), (route, &body)).await?
            }
            ai => {
                let default = caller.policy.overlay.default_model.as_deref();
                read::read(session, (&self.shared.config, default), ai, ctx.request_id).await?
            }
        };
        if call.ask.model.starts_with(agent::PREFIX) {
            return Box::pin(self.agent_turn(session, ctx, caller, call)).await;
        }
        if call.asked.as_ref().is_some_and(|asked| asked.background) {
            if caller.policy.secret.is_some() {
                let message = "Nothing is kept for a client secret, and so nothing answered in the background.";
                return Err(Refusal::bad("background", message).into());
            }
            return Box::pin(self.background(session, ctx, caller, call)).await;
        }
        self.answer(&mut Client::Http(session.again()), ctx, caller, &call).await
    }

    /// A request for a response, with what it continues.
    pub(crate) async fn asked(
        &self,
        caller: &Caller,
        (request_id, headers): (RequestId, &HeaderMap),
        (route, body): (AiRoute, &Bytes),
    ) -> Result<Call, Refusal> {
        let (shared, tenant) = (&*self.shared, &caller.policy.tenant);
        let (max_bytes, apart) = (shared.config.max_body_bytes, caller.policy.secret.is_some());
        let overlay = &caller.policy.overlay;
        let body = &read::with_default_model(body.clone(), overlay.default_model.as_deref());
        let asking = Asking { request_id, tenant, headers, max_bytes, near: None, seals: &shared.seals, apart };
        if route == AiRoute::Compact {
            return response::compacting(&shared.shelf, asking, body).await;
        }
        let mut call = response::call(&shared.shelf, asking, body).await?;
        if let Some(asked) = call.asked.as_mut().filter(|_| overlay.response_ttl_days == Some(0)) {
            asked.not_kept();
        }
        Ok(call)
    }

    /// The stages from the third on, whoever asks: there is no second way to an upstream.
    pub(crate) async fn answer(
        &self,
        client: &mut Client<'_>,
        ctx: &mut Context,
        caller: &Caller,
        call: &Call,
    ) -> Result<(), Stop> {
        let shared = &*self.shared;
        ctx.notes.call(call);
        let targets = self.plan(caller, (&call.ask.model, call.request_id))?;
        if call.route == AiRoute::CountTokens
            && !targets.iter().any(|target| target.upstream.provider().has(Api::CountTokens))
        {
            // Nobody has to be asked, and so nothing is reserved.
            return Ok(answer::whole(client, ctx.request_id, own::prompt_tokens(call)).await?);
        }
        let last = targets.len().saturating_sub(1);
        for (attempt, target) in (0_u16..).zip(&targets) {
            ctx.notes.stage(Stage::Admit);
            let own_key = shared.own_keys.of(&caller.policy, &target.upstream)?;
            file::check_mentions(&shared.store, caller, (&target.upstream.name, own_key.is_some()), &call.body)?;
            let draft = draft(call, target, &shared.store.rates())?;
            let wanted = Attempt { number: attempt, must_cap: matches!(draft, Draft::Translated { .. }) };
            let admitted = admit(&shared.store, caller, call, target, wanted).await?;
            ctx.notes.stage(Stage::Route);
            let mut outbound = match route((call, client.headers()), target, draft, admitted.promise, own_key) {
                Ok(outbound) => outbound,
                Err(refusal) => {
                    settle::void(&shared.metrics, &target.upstream.name, admitted.ticket, AttemptOutcome::Refused, 400);
                    return Err(refusal.into());
                }
            };
            if !client.admitted().await {
                self.give_up(target, admitted.ticket, &Failure::ClientGone);
                return Err(Stop::Gone);
            }
            ctx.notes.attempt(attempt, target, semantic::operation(call.route));
            outbound.headers.extend(ctx.notes.traceparent(target).map(|value| (TRACEPARENT, value)));
            ctx.notes.stage(Stage::Forward);
            let _in_flight = target.upstream.health.enter();
            let now = shared.store.clock().now();
            match forward(client, &target.upstream, &outbound, &admitted.ticket, now).await {
                Ok(reply) => {
                    target.upstream.health.note(&target.model, Sign::Answered, Instant::now());
                    let way = outbound.way(call, now.0.div_euclid(1_000), admitted.tariff);
                    let exchange = Exchange { client, ctx, call, policy: &caller.policy };
                    return self.deliver(exchange, target, admitted, (reply, way)).await;
                }
                Err(failure) => {
                    note_failure(target, &failure, outbound.own_key.is_some());
                    ctx.notes.missed(&failure);
                    let standing = self.give_up(target, admitted.ticket, &failure);
                    if usize::from(attempt) == last || !failure.is_retryable() {
                        return Err(stop(failure, (call, outbound.api), &target.upstream.name, standing));
                    }
                }
            }
        }
        Err(own::model_not_found(&call.ask.model).into())
    }

    /// The targets of a call that this caller may make, priced or not.
    pub(crate) fn plan(&self, caller: &Caller, (name, id): (&str, RequestId)) -> Result<Vec<Target>, Refusal> {
        let policy = &caller.policy;
        // A tenant's own name stands for another, which is allowed or not; the operator's aliases and upstreams then know that.
        let asked = policy.named(name);
        let meant = policy.aliases.get(asked).map_or(asked, String::as_str);
        let targets = self.shared.catalog.load().plan(meant, dice(id), Instant::now());
        if targets.is_empty() {
            return Err(own::model_not_found(name));
        }
        if !policy.allows_model(asked) && !policy.allows_model(meant) {
            let message = format!("This token may not call the model `{name}`. GET /v1/models lists what it may call.");
            return Err(Refusal::Forbidden { code: "model_not_allowed", message });
        }
        Ok(targets)
    }

    /// Relays a reply, settles it, and writes what was held back until then.
    async fn deliver(
        &self,
        exchange: Exchange<'_, '_>,
        target: &Target,
        admitted: Admitted,
        (reply, way): (Reply, Way),
    ) -> Result<(), Stop> {
        let (shared, Exchange { client, ctx, call, policy }) = (&*self.shared, exchange);
        let tenant = &policy.tenant;
        let Admitted { ticket, promise, tokenizer, unstated, tariff: _ } = admitted;
        let (model, cut, cap) = ((target.model.as_str(), tokenizer), shared.cut.subscribe(), promise.cap);
        ctx.notes.stage(Stage::Relay);
        let mut relayed = Relay { client, call, store: &shared.store, ticket: &ticket, cap, model, unstated, cut, way }
            .run(reply)
            .await;
        if call.route == AiRoute::CountTokens {
            // Providers don't bill it.
            (relayed.outcome, relayed.usage, relayed.estimated) = (Outcome::Void, Usage::default(), false);
        }
        ctx.notes.stage(Stage::Settle);
        let settled = settle::settle(&shared.metrics, (target, tenant), ticket, &relayed);
        ctx.notes.settled(&relayed, &settled);
        ctx.status = 200;
        response::keep(&shared.shelf, (call, policy), &mut relayed).await;
        response::compacted(&shared.seals, (call, tenant), &mut relayed);
        match relayed.ending {
            Ending::Whole { content_type, body } => {
                ctx.notes.answered(&body);
                if ctx.leaves() {
                    client.close();
                }
                let mut head = Head::of(200, ctx.request_id, ctx.dialect)?;
                head.set_attempt(&target.model, cap);
                head.set_cost(settled.cost);
                head.set_standing(&settled.standing);
                head.send(client, &content_type, body).await?;
            }
            Ending::Event(event) => client.last(event).await?,
            Ending::Refusal(refusal) => return Err(Stop::Refused(refusal, settled.standing)),
            Ending::Nothing => return Err(Stop::Gone),
            Ending::Cut => return Err(Stop::Io(client.cut())),
        }
        Ok(())
    }

    /// Settles an attempt that came to nothing.
    pub(crate) fn give_up(&self, target: &Target, ticket: Ticket, failure: &Failure) -> Standing {
        let upstream = &target.upstream.name;
        let (outcome, status) = match failure {
            Failure::ClientGone => (AttemptOutcome::ClientGone, 499),
            Failure::Refused(refused) => (AttemptOutcome::Refused, refused.status),
            Failure::Fault(Fault::Timeout(_)) => (AttemptOutcome::Failed, 504),
            Failure::Fault(Fault::Exhausted) => (AttemptOutcome::Failed, 503),
            Failure::Fault(Fault::Connect(_) | Fault::Broken(_)) | Failure::Store => (AttemptOutcome::Failed, 502),
        };
        if let Failure::Fault(fault) = failure {
            tracing::warn!(%upstream, %fault, "an upstream failed");
        }
        settle::void(&self.shared.metrics, upstream, ticket, outcome, status).standing
    }
}

/// Notes what a failure says of a target: what a tenant's own key meets says nothing of what others would meet.
fn note_failure(target: &Target, failure: &Failure, own_key: bool) {
    if let Some(sign) = failure.sign().filter(|_| !own_key) {
        target.upstream.health.note(&target.model, sign, Instant::now());
    }
}

/// A number that decides among weighted targets: the request's count, scrambled.
fn dice(id: RequestId) -> u64 {
    let count = u64::try_from(id.0 & u128::from(u64::MAX)).unwrap_or(0);
    count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}

fn stop(failure: Failure, (call, api): (&Call, Api), upstream: &str, standing: Standing) -> Stop {
    match failure.passed_on() {
        Ok(refused) if api == call.route.api() => Stop::Passed(refused),
        Ok(refused) => {
            let trouble = translate::parse_trouble(api, refused.status, &refused.body);
            let body = translate::write_trouble(call.route.dialect(), &trouble, &call.request_id.to_string());
            Stop::Passed(Rejected { content_type: "application/json".to_owned(), body: body.into(), ..refused })
        }
        Err(Failure::ClientGone) => Stop::Gone,
        Err(failure) => Stop::Refused(failure.refusal(upstream), standing),
    }
}

/// Tells why there is no answer.
pub(crate) async fn tell(client: &mut Client<'_>, ctx: &mut Context, stop: Stop) -> pingora::Result<()> {
    if ctx.leaves() {
        client.close();
    }
    match stop {
        Stop::Refused(refusal, standing) => {
            let told = refusal.told();
            ctx.status = told.status;
            ctx.notes.ended(refusal.fate(), told.code);
            ctx.shared().metrics.refused(&refusal);
            answer::refuse(client, (ctx.request_id, ctx.dialect), &told, &standing).await
        }
        Stop::Passed(rejected) => {
            ctx.status = rejected.status;
            ctx.notes.ended(Fate::UpstreamRefused, None);
            let mut head = Head::of(rejected.status, ctx.request_id, ctx.dialect)?;
            if let Some(after) = &rejected.retry_after {
                head.set("retry-after", after);
            }
            head.send(client, &rejected.content_type, rejected.body).await
        }
        Stop::Gone => {
            ctx.status = 499;
            ctx.notes.ended(Fate::ClientGone, None);
            client.close();
            Ok(())
        }
        Stop::Io(err) => Err(err),
    }
}

/// Tells of a request that has ended.
pub(crate) fn finish(session: &Session<'_>, ctx: &mut Context, err: Option<&pingora::Error>) {
    tracing::debug!(request = %ctx.request_id, route = ctx.route, status = ctx.status, took = ?ctx.started.elapsed(), err = err.map(tracing::field::display), "request");
    if err.is_some() {
        ctx.notes.ended(Fate::ClientGone, None);
    }
    ctx.finish(|| Wire {
        method: session.req_header().method.clone(),
        peer: Some(session.peer()),
        bytes: session.body_bytes(),
    });
}

/// HTTP/2. Every request is answered in `request_filter`: what it asks for is in its body.
#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        self.context()
    }

    async fn upstream_peer(
        &self,
        _session: &mut pingora::proxy::Session,
        _ctx: &mut Context,
    ) -> pingora::Result<Box<HttpPeer>> {
        // Every route is answered in `request_filter`.
        pingora::Error::e_explain(pingora::ErrorType::InternalError, "no route is proxied natively")
    }

    async fn request_filter(&self, session: &mut pingora::proxy::Session, ctx: &mut Context) -> pingora::Result<bool> {
        edge::head_seen();
        self.serve(&mut Session::Http2(session), ctx).await?;
        Ok(true)
    }

    async fn logging(&self, session: &mut pingora::proxy::Session, err: Option<&pingora::Error>, ctx: &mut Context) {
        finish(&Session::Http2(session), ctx, err);
    }

    fn suppress_error_log(&self, _session: &pingora::proxy::Session, _ctx: &Context, _error: &pingora::Error) -> bool {
        // A client that leaves is no error of ours; upstream faults are logged where they are handled.
        true
    }
}
