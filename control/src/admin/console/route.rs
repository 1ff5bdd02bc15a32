//! Every page of the console, in one list, from which the router is made, and what the tests try.

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::Redirect;
use axum::routing::{MethodRouter, get, post};
use http::Method;

use crate::admin::console::guard::guard;
use crate::admin::console::{
    asset, audit, backup, config, key, login, money, overview, rate, report, request, setting, tenant, tenants,
    terminal, token, upkeep, usage,
};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// What is answered without a session: it says nothing of the gateway.
const OPEN: [&str; 4] = [login::PATH, "/console/style.css", "/console/script.js", "/console/icon.svg"];

/// A page, or a change that a page asks for.
pub(in crate::admin) struct Route {
    #[cfg_attr(not(test), expect(dead_code, reason = "for the tests, which try every route by its method"))]
    pub(in crate::admin) method: Method,
    pub(in crate::admin) path: String,
    handler: MethodRouter<AdminState>,
}

/// A page.
fn page(path: &str, handler: MethodRouter<AdminState>) -> Route {
    Route { method: Method::GET, path: path.to_owned(), handler }
}

/// A change.
fn change(path: &str, handler: MethodRouter<AdminState>) -> Route {
    Route { method: Method::POST, ..page(path, handler) }
}

/// A page or a change of one tenant.
fn of_tenant(route: Route) -> Route {
    Route { path: format!("/console/tenants/{{id}}{}", route.path), ..route }
}

/// The list.
pub(in crate::admin) fn routes() -> Vec<Route> {
    let mut all = vec![
        page("/console", get(overview::show)),
        page(login::PATH, get(login::show)),
        change(login::PATH, post(login::log_in)),
        change("/console/logout", post(login::log_out)),
        page("/console/style.css", get(asset::style)),
        page("/console/script.js", get(asset::script)),
        page("/console/icon.svg", get(asset::icon)),
        page("/console/tenants", get(tenants::list)),
        page(tenants::NEW, get(tenants::new)),
        change(tenants::NEW, post(tenants::create)),
        page("/console/rates", get(rate::show)),
        page("/console/rates/history", get(rate::history)),
        page("/console/reports", get(report::show)),
        page("/console/reports/download", get(report::download)),
        page(upkeep::PATH, get(upkeep::show)),
        change("/console/upkeep/backups", post(upkeep::back_up)),
        change("/console/upkeep/archives", post(upkeep::archive)),
        change(upkeep::TEST, post(upkeep::test)),
        page("/console/audit", get(audit::show)),
        change("/console/audit/verify", post(audit::verify)),
        page("/console/config", get(config::show)),
        change("/console/config/reload", post(config::reload)),
    ];
    let of_a_tenant = [
        page("", get(tenant::show)),
        page("/usage", get(usage::show)),
        page("/usage.csv", get(usage::csv)),
        page("/requests", get(request::show)),
        page("/requests.csv", get(request::csv)),
        page("/tokens", get(token::show)),
        change("/tokens", post(token::create)),
        change("/tokens/{token}/rotate", post(token::rotate)),
        change("/tokens/{token}/revoke", post(token::revoke)),
        page("/money", get(money::show)),
        change("/money", post(money::credit)),
        change("/held/{event}/resolve", post(money::resolve)),
        page("/keys", get(key::show)),
        change("/keys", post(key::put)),
        change("/keys/{upstream}/remove", post(key::remove)),
        change("/client_secrets", post(key::client_secret)),
        page("/terminals", get(terminal::show)),
        change("/terminals", post(terminal::ticket)),
        change("/terminals/{terminal}/end", post(terminal::end)),
        page("/recordings/{recording}", get(terminal::recording)),
        page("/backups", get(backup::show)),
        change("/backups", post(backup::create)),
        page("/settings", get(setting::show)),
        change("/settings", post(setting::save)),
        change("/suspend", post(setting::suspend)),
        change("/activate", post(setting::activate)),
        change("/delete", post(setting::delete)),
    ];
    all.extend(of_a_tenant.into_iter().map(of_tenant));
    all
}

/// Whether a path is the console's. Its guard is there, and not the API's gate.
pub(in crate::admin) fn owns(path: &str) -> bool {
    path == "/console" || path.starts_with("/console/")
}

/// Whether a path is answered without a session.
pub(in crate::admin) fn is_open(path: &str) -> bool {
    OPEN.contains(&path)
}

/// The console, with its guard around every path below its own, also around what is no page.
pub(in crate::admin) fn router(state: AdminState) -> Router<AdminState> {
    let every = routes().into_iter().fold(Router::new(), |router, route| router.route(&route.path, route.handler));
    every
        // What people type.
        .route("/console/", get(async || Redirect::to("/console")))
        .route("/console/{*rest}", get(async || Refusal::not_found("page")).post(async || Refusal::not_found("page")))
        .layer(from_fn_with_state(state, guard))
}
