//! Who may pass: holders of an admin key, and whoever can open `admin.sock`. Fails closed: a connection of which nothing
//! is known needs a key. Who is turned away, and whose change is refused, is in the audit log.

use std::net::IpAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use openclawmu_store::{Actor, ActorKind, RequestId};

use crate::admin::attempt::Attempt;
use crate::admin::console;
use crate::admin::peer::Peer;
use crate::admin::refusal::Refusal;
use crate::admin::route;
use crate::admin::state::AdminState;

/// The layer around every route, and around what is no route. Who passes has an [`Actor`] in the request's extensions.
pub(super) async fn guard(State(state): State<AdminState>, mut request: Request, next: Next) -> Response {
    // The console has a guard of its own: a cookie opens nothing here, and a bearer nothing there.
    if route::is_open(request.uri().path()) || console::owns(request.uri().path()) {
        return next.run(request).await;
    }
    let attempt = Attempt::of(&request);
    match admitted(&state, &request) {
        Ok(actor) => {
            request.extensions_mut().insert(actor.clone());
            let changes = !is_safe(request.method());
            let response = next.run(request).await;
            if changes {
                attempt.refused(&state, Some(actor), &response);
            }
            response
        }
        Err(refusal) => {
            let response = refusal.into_response();
            attempt.refused(&state, None, &response);
            response
        }
    }
}

fn admitted(state: &AdminState, request: &Request) -> Result<Actor, Refusal> {
    check_origin(request.method(), request.uri(), request.headers())?;
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|info| info.0);
    let request_id = request.extensions().get::<RequestId>().map(ToString::to_string);
    match peer {
        Some(Peer::Local(uid)) => {
            let id = uid.map_or_else(|| "admin.sock".to_owned(), |uid| format!("uid {uid}"));
            Ok(Actor { kind: ActorKind::Local, id, ip: None, request_id })
        }
        Some(Peer::Network(ip)) => {
            let name = key_name(state, bearer(request.headers()), Some(ip))?;
            Ok(Actor { kind: ActorKind::Operator, id: name, ip: Some(ip), request_id })
        }
        None => {
            let name = key_name(state, bearer(request.headers()), None)?;
            Ok(Actor { kind: ActorKind::Operator, id: name, ip: None, request_id })
        }
    }
}

/// The name of the key that was presented, here or at the console's login: one bound on guessing counts for both.
pub(super) fn key_name(state: &AdminState, presented: Option<&str>, ip: Option<IpAddr>) -> Result<String, Refusal> {
    let presented = presented.ok_or_else(unauthorized)?;
    // Two kinds of key that can't be mistaken for each other: no guess, so it isn't counted as one.
    if presented.starts_with("tk_") || presented.starts_with("ek_") {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "admin_key_needed",
            "a tenant's credential opens nothing here",
        )
        .hint("the admin API takes an admin key; tenants use the edge listener"));
    }
    let now_ms = state.store.clock().monotonic_ms();
    if let Some(seconds) = ip.and_then(|ip| state.attempts.wait_seconds(ip, now_ms)) {
        return Err(Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_wrong_keys",
            "too many wrong admin keys came from this address",
        )
        .hint("wait, or use the command line on the gateway's machine, which needs no key")
        .retry_after(seconds));
    }
    match state.keys.name_of(presented) {
        Some(name) => Ok(name.to_owned()),
        None => {
            if let Some(ip) = ip {
                state.attempts.wrong(ip, now_ms);
                tracing::warn!(%ip, "a wrong admin key");
            }
            Err(unauthorized())
        }
    }
}

/// The one bearer credential; `None` when there is none, or more than one header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
}

fn unauthorized() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "admin_key_needed", "no valid admin key").hint(
        "send `Authorization: Bearer KEY`; the key is in the configuration, else in admin.key of the data directory",
    )
}

pub(super) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// A page of another site may make a browser send a request here; it must change nothing.
pub(super) fn check_origin(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    if is_safe(method) {
        return Ok(());
    }
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(http::uri::Authority::as_str));
    let same = |origin: &HeaderValue| {
        let authority =
            origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
        authority.is_some_and(|authority| host.is_some_and(|host| host.eq_ignore_ascii_case(authority)))
    };
    if headers.get_all(ORIGIN).iter().all(same) {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::FORBIDDEN, "foreign_origin", "a page of another origin may not change anything here"))
}
