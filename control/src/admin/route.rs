//! Every route of the admin API, in one list, from which the router is made, the gate knows what is open, and the tests
//! know what to try.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use http::{Method, StatusCode};

use crate::admin::call::{MAX_BODY_BYTES, MAX_PRICE_LIST_BYTES, PRICE_LIST_PATH};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::{
    alert, answer, archive, audit, client_secret, credit, gate, health, hold, provider_key, quota, rate, rate_import,
    reconcile, request, stripe, tenant, token, usage,
};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody who reaches the listener.
    Open,
    /// Holders of an admin key, and users of `admin.sock`.
    Admin,
}

/// A route's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its method.
    pub method: Method,
    /// Its path, with `{id}`, `{token}`, `{event}` and `{webhook}` for what varies.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
}

/// What is answered without a key.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The list.
fn routes() -> Vec<(Method, &'static str, MethodRouter<AdminState>)> {
    vec![
        (Method::GET, "/healthz", get(health::healthz)),
        (Method::GET, "/readyz", get(health::readyz)),
        (Method::GET, "/metrics", get(health::metrics)),
        (Method::POST, "/v1/tenants", post(tenant::create)),
        (Method::GET, "/v1/tenants", get(tenant::list)),
        (Method::GET, "/v1/tenants/{id}", get(tenant::get)),
        (Method::PATCH, "/v1/tenants/{id}", patch(tenant::patch)),
        (Method::DELETE, "/v1/tenants/{id}", delete(tenant::delete)),
        (Method::POST, "/v1/tenants/{id}/tokens", post(token::create)),
        (Method::GET, "/v1/tenants/{id}/tokens", get(token::list)),
        (Method::DELETE, "/v1/tenants/{id}/tokens/{token}", delete(token::revoke)),
        (Method::POST, "/v1/tenants/{id}/tokens/{token}/rotate", post(token::rotate)),
        (Method::POST, "/v1/tenants/{id}/client_secrets", post(client_secret::create)),
        (Method::GET, "/v1/tenants/{id}/provider_keys", get(provider_key::list)),
        (Method::PUT, "/v1/tenants/{id}/provider_keys/{upstream}", put(provider_key::put)),
        (Method::DELETE, "/v1/tenants/{id}/provider_keys/{upstream}", delete(provider_key::delete)),
        (Method::GET, "/v1/tenants/{id}/usage", get(usage::tenant)),
        (Method::GET, "/v1/tenants/{id}/requests", get(request::list)),
        (Method::GET, "/v1/tenants/{id}/quota", get(quota::get)),
        (Method::POST, "/v1/tenants/{id}/credits", post(credit::create)),
        (Method::GET, "/v1/tenants/{id}/held", get(hold::list)),
        (Method::POST, "/v1/tenants/{id}/held/{event}/resolve", post(hold::resolve)),
        (Method::GET, "/v1/held", get(hold::all)),
        (Method::GET, "/v1/reports/usage", get(usage::report)),
        (Method::GET, "/v1/reports/reconcile", get(reconcile::get)),
        (Method::GET, "/v1/rates", get(rate::get)),
        (Method::PUT, "/v1/rates", put(rate::put)),
        (Method::GET, "/v1/rates/history", get(rate::history)),
        (Method::GET, "/v1/archives", get(archive::list)),
        (Method::POST, "/v1/archives", post(archive::create)),
        (Method::POST, PRICE_LIST_PATH, post(rate_import::import).layer(DefaultBodyLimit::max(MAX_PRICE_LIST_BYTES))),
        (Method::GET, "/v1/alerts", get(alert::list)),
        (Method::GET, "/v1/alerts/{webhook}", get(alert::get)),
        (Method::POST, "/v1/alerts/test", post(alert::test)),
        (Method::POST, "/v1/billing/push/stripe", post(stripe::push)),
        (Method::GET, "/v1/billing/push/stripe", get(stripe::progress)),
        (Method::GET, "/v1/audit", get(audit::list)),
        (Method::POST, "/v1/audit/verify", post(audit::verify)),
        (Method::GET, "/v1/config", get(health::config)),
    ]
}

/// Whether a path is answered without a key. Anything else needs one, also what is no route.
pub(super) fn is_open(path: &str) -> bool {
    OPEN.contains(&path)
}

/// Every route's name.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    let named = routes().into_iter().map(|(method, path, _)| {
        let access = if is_open(path) { Access::Open } else { Access::Admin };
        Endpoint { method, path, access }
    });
    named.collect()
}

/// The admin API. A connection is told apart by its [`crate::admin::Peer`] in axum's connect info; without one, a key is
/// needed.
pub fn router(state: AdminState) -> Router {
    let every = routes().into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler));
    every
        .fallback(async || Refusal::not_found("route"))
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this route has other methods; see the Allow header",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(state.clone(), gate::guard))
        .layer(from_fn(answer::finish))
        .with_state(state)
}
