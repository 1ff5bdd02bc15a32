//! Before the stages: the head, the route, the caller; and the routes that need no stages.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use pingora::proxy::Session;

use crate::answer::{self, Head};
use crate::authenticate::{self, Caller, authenticate};
use crate::client::Client;
use crate::context::Context;
use crate::gateway::{Gateway, Stop};
use crate::refusal::Refusal;
use crate::routes::{self, Access, Found, Route, SocketRoute};
use crate::socket::Guard;
use crate::{head, own, socket};

impl Gateway {
    /// Everything before the stages: the head, the route, the caller.
    pub(crate) async fn handle(&self, session: &mut Session, ctx: &mut Context) -> Result<(), Stop> {
        let shared = &*self.shared;
        session.as_downstream_mut().set_write_timeout(Some(shared.config.write_timeout));
        check_head(session)?;
        let (method, path) = (&session.req_header().method, session.req_header().uri.path());
        let (entry, rest) = match routes::find(method, path) {
            Found::Entry(entry, rest) => (entry, rest.to_owned()),
            Found::OtherMethod(allow) => return Err(method_not_allowed(allow.as_str()).into()),
            Found::Nothing => return Err(unknown_url(method, path).into()),
        };
        ctx.route = entry.path;
        ctx.dialect = entry.route.dialect();
        ctx.status = 200;
        let caller = match entry.access {
            Access::Open => return self.health(session, ctx, entry.route).await,
            Access::Token => self.caller(session, ctx, entry.route)?,
            Access::Scope(scope) => {
                let caller = self.caller(session, ctx, entry.route)?;
                if !caller.policy.allows(scope) {
                    return Err(Refusal::scope_missing(scope).into());
                }
                caller
            }
        };
        let answer = match entry.route {
            Route::Ai(ai) => return self.call(session, ctx, &caller, (ai, &rest)).await,
            Route::Batches => return Box::pin(self.batches(session, ctx, &caller, &rest)).await,
            Route::Files => return Box::pin(self.files(session, ctx, &caller, &rest)).await,
            Route::Socket(socket) => return Box::pin(self.socket(session, ctx, socket)).await,
            Route::Models => own::models(&shared.catalog.load(), &shared.store, &caller),
            Route::Response => return Box::pin(self.kept_response(session, ctx, &caller, &rest)).await,
            Route::Model => own::model(&shared.catalog.load(), &shared.store, &caller, &rest)?,
            Route::Quota => own::quota(&shared.store, &caller)?,
            Route::Usage => {
                let query = session.req_header().uri.query().unwrap_or_default().to_owned();
                own::usage(&shared.store, &caller, &query).await?
            }
            Route::Health | Route::Ready => return self.health(session, ctx, entry.route).await,
        };
        Ok(answer::json(&mut Client::Http(session), ctx.request_id, &answer).await?)
    }

    fn caller(&self, session: &Session, ctx: &mut Context, route: Route) -> Result<Caller, Refusal> {
        let (store, headers) = (&self.shared.store, &session.req_header().headers);
        let caller = if matches!(route, Route::Socket(_)) {
            let presented = authenticate::socket_credential(headers).ok_or(Refusal::Unauthenticated)?;
            authenticate::check(store, presented, peer(session))?
        } else {
            authenticate(store, headers, peer(session))?
        };
        ctx.notes.caller(&caller.policy);
        Ok(caller)
    }

    /// A request for a WebSocket, its caller known.
    async fn socket(&self, session: &mut Session, ctx: &mut Context, socket: SocketRoute) -> Result<(), Stop> {
        // What follows this head is no request, whatever the answer is.
        session.set_keepalive(None);
        let head = session.req_header();
        let offer = socket::check(head)?;
        let presented = authenticate::socket_credential(&head.headers).ok_or(Refusal::Unauthenticated)?;
        let guard = Guard {
            shared: Arc::clone(&self.shared),
            presented: presented.into(),
            peer: peer(session),
            since: Instant::now(),
        };
        match socket {
            SocketRoute::Realtime => self.realtime(session, ctx, (offer, guard)).await,
            SocketRoute::Responses => self.converse(session, ctx, (offer, guard)).await,
        }
    }

    async fn health(&self, session: &mut Session, ctx: &mut Context, route: Route) -> Result<(), Stop> {
        let ready = self.shared.ready();
        let (status, text) = match (route, ready) {
            (Route::Ready, Err(reason)) => (503, reason),
            _ => (200, "ok"),
        };
        ctx.status = status;
        let client = &mut Client::Http(session);
        Ok(Head::new(status, ctx.request_id)?.send(client, "text/plain", format!("{text}\n").into()).await?)
    }
}

/// The client's address.
pub(crate) fn peer(session: &Session) -> IpAddr {
    let address = session.client_addr().and_then(|addr| addr.as_inet());
    address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |addr| addr.ip())
}

/// What the head must satisfy before anything is believed.
fn check_head(session: &Session) -> Result<(), Refusal> {
    let raw = session
        .as_downstream()
        .as_http1()
        .map(pingora::protocols::http::v1::server::HttpSession::get_headers_raw_bytes);
    if let Some(raw) = raw {
        head::check_raw(&raw)?;
    }
    head::check(session.req_header())
}

fn unknown_url(method: &http::Method, path: &str) -> Refusal {
    let path: String = path.chars().take(200).collect();
    let message =
        format!("Unknown request URL: {method} {path}. The README lists the routes that this gateway serves.");
    Refusal::NotFound { code: "unknown_url", message }
}

fn method_not_allowed(allow: &'static str) -> Refusal {
    Refusal::Bad {
        status: 405,
        param: Some(allow.into()),
        code: Some("method_not_allowed"),
        message: format!("This route takes {allow}."),
    }
}
