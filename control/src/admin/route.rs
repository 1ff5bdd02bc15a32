//! Every route of the admin API, in one list, from which the router is made, the OpenAPI document, the gate's knowledge of
//! what is open, and what the tests try.
//!
//! To add a route:
//! 1. Write its handler with `#[utoipa::path(METHOD, path = "...", tag = "NOUN", ...)]` over it: the parameters by the
//!    extractors' own types (`TenantPath`, a `Params` struct that derives `IntoParams`), the body as `request_body = T`, each
//!    answer that is no common refusal in `responses(...)` with its type. The first line of its doc comment is the summary.
//!    Body and answer types derive `ToSchema`; they are the very types that are read and written.
//! 2. Add the handler to the list below. One without that attribute does not compile.
//!
//! What all routes have in common is not repeated there: `document` adds the key, the idempotency header of a POST, and the
//! common refusals. The tests fail for a route whose parameters, tag or answers are not in the document.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use http::{Method, StatusCode};
use utoipa_axum::router::{UtoipaMethodRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use crate::admin::call::{MAX_BODY_BYTES, MAX_PRICE_LIST_BYTES};
use crate::admin::console;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::{
    alert, answer, archive, audit, backup, channel, client_secret, config, credit, docs, document, gate, health, hold,
    key, overlay, provider_key, quota, rate, rate_import, reconcile, request, sandbox, stripe, tenant, terminal, token,
    usage,
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
    /// Its path, with a name in braces, such as `{id}`, for what varies.
    pub path: String,
    /// Who may call it.
    pub access: Access,
}

/// What is answered without a key: it is the same for every gateway, or says nothing of any tenant.
const OPEN: [&str; 5] = ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"];
/// And what is below it.
const OPEN_BELOW: &str = "/docs/";

/// The list: all handlers of a path in one row.
pub(super) fn routes() -> Vec<UtoipaMethodRouter<AdminState>> {
    vec![
        routes!(health::healthz),
        routes!(health::readyz),
        routes!(health::metrics),
        routes!(docs::openapi),
        routes!(docs::index),
        routes!(docs::file),
        routes!(tenant::create, tenant::list),
        routes!(tenant::get, tenant::patch, tenant::delete),
        routes!(token::create, token::list),
        routes!(token::revoke),
        routes!(token::rotate),
        routes!(client_secret::create),
        routes!(provider_key::list),
        routes!(provider_key::put, provider_key::delete),
        routes!(overlay::tenant, overlay::put),
        routes!(usage::tenant),
        routes!(request::requests),
        routes!(quota::get),
        routes!(sandbox::exec),
        routes!(terminal::ticket),
        routes!(terminal::list),
        routes!(terminal::end),
        routes!(terminal::recordings),
        routes!(terminal::recording),
        routes!(channel::pair),
        routes!(channel::list),
        routes!(channel::block),
        routes!(channel::senders, channel::approve),
        routes!(channel::get, channel::remove),
        routes!(credit::create),
        routes!(hold::list),
        routes!(hold::resolve),
        routes!(hold::all),
        routes!(usage::report),
        routes!(reconcile::reconcile),
        routes!(rate::get, rate::put),
        routes!(rate::history),
        routes!(rate_import::import).layer(DefaultBodyLimit::max(MAX_PRICE_LIST_BYTES)),
        routes!(archive::list, archive::create),
        routes!(backup::create, backup::list),
        routes!(backup::create_whole, backup::list_whole),
        routes!(backup::progress),
        routes!(backup::verify),
        routes!(backup::restore),
        routes!(alert::list),
        routes!(alert::test),
        routes!(alert::get),
        routes!(stripe::push, stripe::progress),
        routes!(audit::list),
        routes!(audit::verify),
        routes!(key::list),
        routes!(key::rotate),
        routes!(config::config),
        routes!(config::reload),
    ]
}

/// Whether a path is answered without a key. Anything else needs one, also what is no route.
pub(super) fn is_open(path: &str) -> bool {
    OPEN.contains(&path) || path.starts_with(OPEN_BELOW)
}

/// Every route's name.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    let paths = routes().into_iter().flat_map(|(_, paths, _)| paths.paths);
    let named = paths.flat_map(|(path, item)| {
        let access = if is_open(&path) { Access::Open } else { Access::Admin };
        let methods = document::operations(&item).into_iter().map(|(method, _)| method);
        methods.map(move |method| Endpoint { method, path: path.clone(), access }).collect::<Vec<_>>()
    });
    named.collect()
}

/// The admin API. A connection is told apart by its [`crate::admin::Peer`] in axum's connect info; without one, a key is
/// needed.
pub fn router(state: AdminState) -> Router {
    let every = routes().into_iter().fold(Router::new(), |router, (_, paths, handlers)| {
        paths.paths.into_keys().fold(router, |router, path| router.route(&path, handlers.clone()))
    });
    every
        // What people type. The document has it without the slash.
        .route("/docs/", get(docs::index))
        // For people, so not in the document.
        .merge(console::router(state.clone()))
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
