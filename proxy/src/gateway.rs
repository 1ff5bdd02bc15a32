//! One request from its head to its row. Reads top to bottom; each line is a stage, each stage a file.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use openclawmu_store::{PinnedPrice, RequestId, Standing, Store};
use pingora::proxy::{ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use tokio::sync::watch;

use crate::admit::{Admitted, admit};
use crate::answer::{self, Head};
use crate::authenticate::{Caller, authenticate};
use crate::catalog::{Catalog, Target};
use crate::config::EdgeConfig;
use crate::forward::{Failure, Rejected, Reply, forward};
use crate::metrics::{AttemptOutcome, Metrics, RequestLabels};
use crate::read::{Call, read};
use crate::refusal::Refusal;
use crate::relay::{Ending, Relay};
use crate::route::route;
use crate::routes::{self, Access, AiRoute, Found, Route};
use crate::upstream::http::Fault;
use crate::{edge, head, own, settle};

/// The edge's gateway.
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
}

/// What every request needs.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) catalog: ArcSwap<Catalog>,
    pub(crate) config: EdgeConfig,
    pub(crate) metrics: Metrics,
    /// The first half of request ids, random for each process.
    pub(crate) id_prefix: u64,
    pub(crate) requests: AtomicUsize,
    /// Requests being served.
    pub(crate) active: AtomicUsize,
    /// The process is about to end: not ready for more.
    pub(crate) draining: AtomicBool,
    /// Turns true when requests still running must end.
    pub(crate) cut: watch::Sender<bool>,
}

/// A request's notes, for metrics and the log.
pub struct Context {
    request_id: RequestId,
    started: Instant,
    route: &'static str,
    status: u16,
    _active: Active,
}

/// One request being served; however it ends, it is counted out.
struct Active(Arc<Shared>);

impl Active {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.active.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Why a request's way ended early.
enum Stop {
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

impl Gateway {
    /// The seven stages.
    async fn call(&self, session: &mut Session, ctx: &mut Context, caller: &Caller, ai: AiRoute) -> Result<(), Stop> {
        let shared = &*self.shared;
        let call = read(session, &shared.config, ai, ctx.request_id).await?;
        let targets = self.plan(caller, &call)?;
        let last = targets.len().saturating_sub(1);
        for (attempt, target) in targets.iter().enumerate() {
            let admitted = admit(&shared.store, caller, &call, target, u16::try_from(attempt).unwrap_or(u16::MAX)).await?;
            let outbound = route(&call, target, admitted.cap);
            match forward(session, &target.upstream, ai, &outbound, &admitted.ticket).await {
                Ok(reply) => return self.deliver(session, ctx, &call, target, admitted, reply).await,
                Err(failure) => {
                    let standing = self.give_up(target, admitted, &failure);
                    if attempt == last || !failure.is_retryable() {
                        return Err(stop(failure, &target.upstream.name, standing));
                    }
                }
            }
        }
        Err(own::model_not_found(&call.ask.model).into())
    }

    /// The targets of a call that this caller may make, priced or not.
    fn plan(&self, caller: &Caller, call: &Call) -> Result<Vec<Target>, Refusal> {
        let name = &call.ask.model;
        let targets = self.shared.catalog.load().plan(name, dice(call.request_id));
        if targets.is_empty() {
            return Err(own::model_not_found(name));
        }
        if !caller.policy.allows_model(name) {
            return Err(Refusal::Forbidden { code: "model_not_allowed", message: format!("This token may not call the model `{name}`. GET /v1/models lists what it may call.") });
        }
        Ok(targets)
    }

    /// Relays a reply, settles it, and writes what was held back until then.
    async fn deliver(&self, session: &mut Session, ctx: &mut Context, call: &Call, target: &Target, admitted: Admitted, reply: Reply) -> Result<(), Stop> {
        let shared = &*self.shared;
        let Admitted { ticket, cap } = admitted;
        let tokenizer = target.price(&shared.store.rates()).and_then(|PinnedPrice { price, .. }| price.tokenizer);
        let relay = Relay { session, call, ticket: &ticket, cap, model: (&target.model, tokenizer), cut: shared.cut.subscribe() };
        let relayed = relay.run(reply).await;
        let settled = settle::settle(&shared.metrics, &target.upstream.name, ticket, &relayed);
        ctx.status = 200;
        match relayed.ending {
            Ending::Whole { content_type, body } => {
                let mut head = Head::new(200, ctx.request_id)?;
                head.set("x-openclawmu-model", &target.model);
                head.set_cost(settled.cost);
                head.set_standing(&settled.standing);
                if let Some(cap) = cap.filter(|cap| cap.clamped) {
                    head.set("x-openclawmu-output-clamped", cap.tokens);
                }
                head.send(session, &content_type, body).await?;
            }
            Ending::Event(event) => session.as_downstream_mut().write_response_body(event, true).await?,
            Ending::Refusal(refusal) => return Err(Stop::Refused(refusal, settled.standing)),
            Ending::Nothing => return Err(Stop::Gone),
        }
        Ok(())
    }

    /// Settles an attempt that came to nothing.
    fn give_up(&self, target: &Target, admitted: Admitted, failure: &Failure) -> Standing {
        let upstream = &target.upstream.name;
        let (outcome, status) = match failure {
            Failure::ClientGone => (AttemptOutcome::ClientGone, 499),
            Failure::Refused(refused) => (AttemptOutcome::Refused, refused.status),
            Failure::Fault(Fault::Timeout(_)) => (AttemptOutcome::Failed, 504),
            Failure::Fault(Fault::Connect(_) | Fault::Broken(_)) | Failure::Store => (AttemptOutcome::Failed, 502),
        };
        if let Failure::Fault(fault) = failure {
            tracing::warn!(upstream, %fault, "an upstream failed");
        }
        settle::void(&self.shared.metrics, upstream, admitted.ticket, outcome, status).standing
    }

    /// Everything before the stages: the head, the route, the caller.
    async fn handle(&self, session: &mut Session, ctx: &mut Context) -> Result<(), Stop> {
        let shared = &*self.shared;
        check_head(session)?;
        let (method, path) = (session.req_header().method.clone(), session.req_header().uri.path().to_owned());
        let (entry, rest) = match routes::find(&method, &path) {
            Found::Entry(entry, rest) => (entry, rest),
            Found::OtherMethod(allow) => return Err(method_not_allowed(allow.as_str()).into()),
            Found::Nothing => {
                let path: String = path.chars().take(200).collect();
                return Err(Refusal::NotFound { code: "unknown_url", message: format!("Unknown request URL: {method} {path}. See the documentation for what this gateway serves.") }.into());
            }
        };
        ctx.route = entry.path;
        ctx.status = 200;
        let caller = match entry.access {
            Access::Open => return self.health(session, ctx, entry.route).await,
            Access::Token => self.caller(session)?,
            Access::Scope(scope) => {
                let caller = self.caller(session)?;
                if !caller.policy.allows(scope) {
                    return Err(Refusal::scope_missing(scope).into());
                }
                caller
            }
        };
        let catalog = shared.catalog.load();
        let answer = match entry.route {
            Route::Ai(ai) => return self.call(session, ctx, &caller, ai).await,
            Route::Models => own::models(&catalog, &shared.store, &caller),
            Route::Model => own::model(&catalog, &shared.store, &caller, rest)?,
            Route::Quota => own::quota(&shared.store, &caller)?,
            Route::Usage => {
                let query = session.req_header().uri.query().unwrap_or_default().to_owned();
                own::usage(&shared.store, &caller, &query).await?
            }
            Route::Health | Route::Ready => return self.health(session, ctx, entry.route).await,
        };
        Ok(answer::json(session, ctx.request_id, &answer).await?)
    }

    fn caller(&self, session: &Session) -> Result<Caller, Refusal> {
        let peer = session.client_addr().and_then(|addr| addr.as_inet()).map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |addr| addr.ip());
        authenticate(&self.shared.store, &session.req_header().headers, peer)
    }

    async fn health(&self, session: &mut Session, ctx: &mut Context, route: Route) -> Result<(), Stop> {
        let ready = self.shared.ready();
        let (status, text) = match (route, ready) {
            (Route::Ready, Err(reason)) => (503, reason),
            _ => (200, "ok"),
        };
        ctx.status = status;
        Ok(Head::new(status, ctx.request_id)?.send(session, "text/plain", format!("{text}\n").into()).await?)
    }
}

impl Shared {
    /// Whether it can serve; if not, why.
    pub(crate) fn ready(&self) -> Result<(), &'static str> {
        if self.draining.load(Ordering::Relaxed) {
            Err("draining")
        } else if !self.store.healthy() {
            Err("the store does not take writes")
        } else {
            Ok(())
        }
    }

    fn next_id(&self) -> RequestId {
        let count = u64::try_from(self.requests.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
        RequestId((u128::from(self.id_prefix) << 64) | u128::from(count))
    }
}

/// What the head must satisfy before anything is believed.
fn check_head(session: &Session) -> Result<(), Refusal> {
    let raw = session.as_downstream().as_http1().map(pingora::protocols::http::v1::server::HttpSession::get_headers_raw_bytes);
    if let Some(raw) = raw {
        head::check_raw(&raw)?;
    }
    head::check(session.req_header())
}

/// A number that decides among weighted targets: the request's count, scrambled.
fn dice(id: RequestId) -> u64 {
    let count = u64::try_from(id.0 & u128::from(u64::MAX)).unwrap_or(0);
    count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}

fn method_not_allowed(allow: &'static str) -> Refusal {
    Refusal::Bad { status: 405, param: Some(allow), code: Some("method_not_allowed"), message: format!("This route takes {allow}.") }
}

fn stop(failure: Failure, upstream: &str, standing: Standing) -> Stop {
    match failure.passed_on() {
        Ok(refused) => Stop::Passed(refused),
        Err(Failure::ClientGone) => Stop::Gone,
        Err(failure) => Stop::Refused(failure.refusal(upstream), standing),
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context { request_id: self.shared.next_id(), started: Instant::now(), route: "none", status: 0, _active: Active::new(&self.shared) }
    }

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut Context) -> pingora::Result<Box<HttpPeer>> {
        // Every route is answered in `request_filter`.
        pingora::Error::e_explain(pingora::ErrorType::InternalError, "no route is proxied natively")
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<bool> {
        edge::head_seen();
        match self.handle(session, ctx).await {
            Ok(()) => {}
            Err(Stop::Refused(refusal, standing)) => {
                let told = refusal.told();
                ctx.status = told.status;
                answer::refuse(session, ctx.request_id, &told, &standing).await?;
            }
            Err(Stop::Passed(rejected)) => {
                ctx.status = rejected.status;
                let mut head = Head::new(rejected.status, ctx.request_id)?;
                if let Some(after) = &rejected.retry_after {
                    head.set("retry-after", after);
                }
                head.send(session, &rejected.content_type, rejected.body).await?;
            }
            Err(Stop::Gone) => {
                ctx.status = 499;
                session.set_keepalive(None);
            }
            Err(Stop::Io(err)) => return Err(err),
        }
        Ok(true)
    }

    async fn logging(&self, _session: &mut Session, err: Option<&pingora::Error>, ctx: &mut Context) {
        let took = ctx.started.elapsed();
        self.shared.metrics.request(RequestLabels { route: ctx.route, status: ctx.status }, took);
        tracing::debug!(request = %ctx.request_id, route = ctx.route, status = ctx.status, ?took, err = err.map(tracing::field::display), "request");
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, _error: &pingora::Error) -> bool {
        // A client that leaves is no error of ours; upstream faults are logged where they are handled.
        true
    }
}
