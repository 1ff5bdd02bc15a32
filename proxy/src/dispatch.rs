//! Before the stages: the head, the route, the caller; and the routes that need no stages.

use std::sync::Arc;
use std::time::Instant;

use crate::answer::{self, Head};
use crate::authenticate::{self, Caller};
use crate::client::Client;
use crate::context::Context;
use crate::gateway::{Gateway, Stop};
use crate::observe::Stage;
use crate::refusal::Refusal;
use crate::routes::{self, Access, Found, Route, SocketRoute};
use crate::session::Session;
use crate::socket::Guard;
use crate::{origin, own, socket};

impl Gateway {
    /// Everything before the stages: the head, the route, the caller.
    #[expect(clippy::too_many_lines, reason = "a line for each route, and no call more on the way of every request")]
    pub(crate) async fn handle(&self, session: &mut Session<'_>, ctx: &mut Context) -> Result<(), Stop> {
        let shared = &*self.shared;
        session.set_write_timeout(Some(shared.config.write_timeout));
        if ctx.leaves() {
            session.close();
        }
        session.check_head()?;
        if session.req_header().headers.contains_key(http::header::ORIGIN) {
            origin::presume(shared, session.req_header_mut());
            if origin::is_preflight(session.req_header()) {
                return self.preflight(session, ctx).await;
            }
        }
        let (method, path) = (&session.req_header().method, session.req_header().uri.path());
        let (entry, rest) = match routes::find(method, path) {
            Found::Entry(entry, rest) => (entry, rest.to_owned()),
            Found::OtherMethod(allow) => return Err(Refusal::method_not_allowed(allow.as_str()).into()),
            Found::Nothing => return Err(Refusal::unknown_url(method, path).into()),
        };
        ctx.route = entry.path;
        ctx.dialect = entry.route.dialect();
        ctx.status = 200;
        if entry.access != Access::Open {
            ctx.trace(Some((session.peer(), &session.req_header().headers)));
        }
        ctx.notes.stage(Stage::Authenticate);
        if entry.route == Route::Socket(SocketRoute::Terminal) {
            // Whoever comes with a ticket is known by it alone.
            return Box::pin(self.terminal(session, ctx, session.peer())).await;
        }
        let caller = match entry.access {
            Access::Open if entry.route == Route::TerminalPage => {
                return Box::pin(self.terminal_page(session, ctx, &rest)).await;
            }
            Access::Open if entry.route == Route::Channel => {
                return Box::pin(self.channel(session, ctx, &rest)).await;
            }
            Access::Open if entry.route == Route::Pairing => {
                return Box::pin(self.pairing(session, ctx, &rest)).await;
            }
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
            Route::ClientSecrets => return self.mint(session, ctx, (&caller, session.peer())).await,
            Route::Ai(ai) => return self.call(session, ctx, &caller, (ai, &rest)).await,
            Route::Batches => return Box::pin(self.batches(session, ctx, &caller, &rest)).await,
            Route::Files => return Box::pin(self.files(session, ctx, &caller, &rest)).await,
            Route::Exec => return Box::pin(self.exec(session, ctx, (&caller, session.peer()))).await,
            Route::Workspace => return Box::pin(self.workspace(session, ctx, &caller, &rest)).await,
            Route::TerminalTickets => {
                return Box::pin(self.terminal_ticket(session, ctx, (&caller, session.peer()))).await;
            }
            Route::Socket(socket) => return Box::pin(self.socket(session, ctx, socket)).await,
            Route::Agents(things) => {
                return Box::pin(self.agents_kept(session, ctx, &caller, (things, &rest))).await;
            }
            Route::Models => own::models(&shared.catalog.load(), &shared.store, &caller),
            Route::Response => return Box::pin(self.kept_response(session, ctx, &caller, &rest)).await,
            Route::Model => own::model(&shared.catalog.load(), &shared.store, &caller, &rest)?,
            Route::Quota => own::quota(&shared.store, &caller)?,
            Route::Usage => {
                let query = session.req_header().uri.query().unwrap_or_default().to_owned();
                own::usage(&shared.store, &caller, &query).await?
            }
            Route::Health | Route::Ready | Route::TerminalPage | Route::Channel | Route::Pairing => {
                return self.health(session, ctx, entry.route).await;
            }
        };
        Ok(answer::json(&mut Client::Http(session.again()), ctx.request_id, &answer).await?)
    }

    /// Who asks, from where it may, for what it may.
    fn caller(&self, session: &mut Session<'_>, ctx: &mut Context, route: Route) -> Result<Caller, Refusal> {
        let (shared, from) = (&*self.shared, session.peer());
        let head = session.req_header_mut();
        let (presented, by) = authenticate::presented(&head.headers, matches!(route, Route::Socket(_)))?;
        let caller = authenticate::check(&shared.store, presented, from)?;
        ctx.notes.caller(&caller.policy);
        origin::admit(shared, head, (&caller.policy, by))?;
        if caller.policy.secret.is_some() && !route.is_for_client_secrets() {
            let message = "A client secret may only call models. Use a tenant token on a server.".to_owned();
            return Err(Refusal::Forbidden { code: "not_for_client_secrets", message });
        }
        Ok(caller)
    }

    /// A browser's question whether its page may send a request.
    async fn preflight(&self, session: &mut Session<'_>, ctx: &mut Context) -> Result<(), Stop> {
        let headers = origin::preflight(&self.shared, session.req_header())?;
        ctx.status = 204;
        let mut head = Head::new(204, ctx.request_id)?;
        head.extend(headers);
        Ok(head.send_nothing(&mut Client::Http(session.again())).await?)
    }

    /// A request for a WebSocket, its caller known.
    async fn socket(&self, session: &mut Session<'_>, ctx: &mut Context, socket: SocketRoute) -> Result<(), Stop> {
        // What follows this head is no request, whatever the answer is.
        session.close();
        let head = session.req_header();
        let offer = socket::check(head)?;
        let (presented, _) = authenticate::presented(&head.headers, true)?;
        let guard = Guard {
            shared: Arc::clone(&self.shared),
            presented: presented.into(),
            peer: session.peer(),
            since: Instant::now(),
        };
        match socket {
            SocketRoute::Realtime => self.realtime(session, ctx, (offer, guard)).await,
            SocketRoute::Responses => self.converse(session, ctx, (offer, guard)).await,
            SocketRoute::Terminal => self.terminal(session, ctx, guard.peer).await,
        }
    }

    async fn health(&self, session: &mut Session<'_>, ctx: &mut Context, route: Route) -> Result<(), Stop> {
        let ready = self.shared.ready();
        let (status, text) = match (route, ready) {
            (Route::Ready, Err(reason)) => (503, reason),
            _ => (200, "ok"),
        };
        ctx.status = status;
        let client = &mut Client::Http(session.again());
        Ok(Head::new(status, ctx.request_id)?.send(client, "text/plain", format!("{text}\n").into()).await?)
    }
}
