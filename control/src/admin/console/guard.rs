//! Who may pass to a page, and what no page may do: the layer around every route of the console. A page without a session leads to
//! the login, a change without one is refused, and no change is made that a page of this session did not ask for.

use axum::body::to_bytes;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{CONTENT_SECURITY_POLICY, ORIGIN, REFERRER_POLICY};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use openclawmu_store::{Actor, ActorKind, RequestId};

use crate::admin::attempt::Attempt;
use crate::admin::call::MAX_BODY_BYTES;
use crate::admin::console::form::{CSRF, Form};
use crate::admin::console::session::{Open, SessionKey};
use crate::admin::console::{cookie, login, page, route};
use crate::admin::gate;
use crate::admin::peer::Peer;
use crate::admin::refusal::{Refusal, RefusalCode};
use crate::admin::state::AdminState;

/// What a page may do: show style, script and pictures of this program, and send its forms to it. No page is in a frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";
/// What a browser says of where a request comes from.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// And of how it was asked for.
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const COOP: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Somebody at a page: who, in which session.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) actor: Actor,
    pub(super) session: SessionKey,
    pub(super) csrf: String,
}

impl FromRequestParts<AdminState> for Visit {
    type Rejection = Refusal;

    /// The guard has put it there; without one nothing may happen.
    async fn from_request_parts(parts: &mut Parts, _: &AdminState) -> Result<Self, Refusal> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Refusal::internal(&"a visit came past the guard"))
    }
}

/// The layer.
pub(super) async fn guard(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    let mut response = passed(&state, request, next).await;
    let headers = response.headers_mut();
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
    // Not `no-referrer`: a browser would then name no origin where a form comes from.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(COOP, HeaderValue::from_static("same-origin"));
    headers.insert(CORP, HeaderValue::from_static("same-origin"));
    response
}

async fn passed(state: &AdminState, mut request: Request, next: Next) -> Response {
    let attempt = Attempt::of(&request);
    let changes = !gate::is_safe(request.method());
    let open = route::is_open(request.uri().path());
    // What another site, or another port of this host, loads in the back of a page is nobody's: it would use up what is shown once.
    let visit = visit(state, &request).filter(|_| changes || !is_loaded_elsewhere(request.headers()));
    if !changes && open {
        return next.run(request).await;
    }
    let Some(visit) = visit.filter(|_| !open) else {
        return outside(state, (attempt, open), request, next).await;
    };
    let actor = visit.actor.clone();
    let checked = match changes {
        true => with_form(&mut request, Some(&visit)).await,
        false => without_empty(&mut request),
    };
    request.extensions_mut().insert(actor.clone());
    request.extensions_mut().insert(visit.clone());
    let response = match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    if changes {
        attempt.refused(state, Some(actor), &response);
    }
    page::readable(state, Some(&visit), response)
}

/// Somebody without a session: at the login, or led there.
async fn outside(state: &AdminState, (attempt, open): (Attempt, bool), mut request: Request, next: Next) -> Response {
    if gate::is_safe(request.method()) {
        return Redirect::to(login::PATH).into_response();
    }
    let response = match with_form(&mut request, None).await {
        Ok(()) if open => next.run(request).await,
        Ok(()) => Refusal::new(StatusCode::UNAUTHORIZED, "session_needed", "you are not logged in, or no longer")
            .hint("log in, and do it again: nothing was changed")
            .into_response(),
        Err(refusal) => refusal.into_response(),
    };
    attempt.refused(state, None, &response);
    page::readable(state, None, response)
}

/// Who makes a request, if its cookie stands for a session.
fn visit(state: &AdminState, request: &Request) -> Option<Visit> {
    let now_ms = state.store.clock().monotonic_ms();
    let open: Open = cookie::presented(request.headers()).find_map(|id| state.sessions.used(id, now_ms))?;
    let actor = Actor { id: open.admin_key, ..stranger(request.extensions()) };
    Some(Visit { actor, session: open.key, csrf: open.csrf })
}

/// An actor of whom only the address is known.
pub(super) fn stranger(extensions: &Extensions) -> Actor {
    let peer = extensions.get::<ConnectInfo<Peer>>().map(|info| info.0);
    let ip = match peer {
        Some(Peer::Network(ip)) => Some(ip),
        Some(Peer::Local(_)) | None => None,
    };
    let request_id = extensions.get::<RequestId>().map(ToString::to_string);
    Actor { kind: ActorKind::Operator, id: String::new(), ip, request_id }
}

/// Reads the form of a change, once it is known that a page of the console sent it.
async fn with_form(request: &mut Request, visit: Option<&Visit>) -> Result<(), Refusal> {
    gate::check_origin(request.method(), request.uri(), request.headers())?;
    check_site(request.headers())?;
    let taken = std::mem::take(request);
    let (parts, body) = taken.into_parts();
    *request = Request::from_parts(parts, axum::body::Body::empty());
    let bytes = to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the form is too large, or broke off")
    })?;
    let form = Form::read(&bytes);
    if visit.is_some_and(|visit| !own(visit, &form)) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "csrf", "this form is not of your session")
            .hint("load the page again, and send its form: nothing was changed"));
    }
    request.extensions_mut().insert(form);
    Ok(())
}

fn own(visit: &Visit, form: &Form) -> bool {
    Open { key: visit.session, admin_key: String::new(), csrf: visit.csrf.clone() }.is_own(form.text(CSRF))
}

/// A browser says where a change comes from, in one way or the other; what says nothing is refused.
fn check_site(headers: &HeaderMap) -> Result<(), Refusal> {
    let sites: Vec<_> = headers.get_all(SEC_FETCH_SITE).iter().collect();
    let is_here = sites.iter().all(|site| site.as_bytes() == b"same-origin");
    if is_here && (headers.contains_key(ORIGIN) || !sites.is_empty()) {
        return Ok(());
    }
    let message = "a page of another origin may not change anything here";
    Err(Refusal::new(StatusCode::FORBIDDEN, "foreign_origin", message))
}

/// Whether a page of another origin asks, and not by leading its reader here.
fn is_loaded_elsewhere(headers: &HeaderMap) -> bool {
    let said = |name: &HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    let foreign = said(&SEC_FETCH_SITE).is_some_and(|site| site != b"same-origin" && site != b"none");
    foreign && said(&SEC_FETCH_MODE).is_some_and(|mode| mode != b"navigate")
}

/// Takes the fields that are empty out of a query: a browser sends every field of a form, and what is empty means nothing.
fn without_empty(request: &mut Request) -> Result<(), Refusal> {
    let Some(query) = request.uri().query() else { return Ok(()) };
    let filled = query.split('&').filter(|pair| pair.split_once('=').is_some_and(|(_, value)| !value.is_empty()));
    let text = format!("{}?{}", request.uri().path(), filled.collect::<Vec<_>>().join("&"));
    let path: PathAndQuery = text.parse().map_err(|err| Refusal::internal(&err))?;
    *request.uri_mut() = Uri::from(path);
    Ok(())
}

/// Whether an answer is a refusal that has not been made a page yet.
pub(super) fn is_plain_refusal(response: &Response) -> bool {
    response.extensions().get::<RefusalCode>().is_some()
        && response.headers().get(http::header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json")
}
