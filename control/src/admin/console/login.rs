//! In and out. Who logs in presents an admin key once; it is compared as the API compares it, with the same bound on guessing, and is
//! neither kept nor shown. Both are on record.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use http::header::{ORIGIN, SET_COOKIE};
use maud::{Markup, html};
use openclawmu_store::{Actor, AuditNote, AuditOutcome};
use serde_json::json;

use crate::admin::console::cookie::{self, Scheme};
use crate::admin::console::form::Form;
use crate::admin::console::guard::{Visit, stranger};
use crate::admin::console::page;
use crate::admin::gate;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// Where one logs in.
pub(super) const PATH: &str = "/console/login";

/// The page that asks for an admin key.
pub(super) async fn show() -> Response {
    page::bare("Log in", StatusCode::OK, &asking(None))
}

/// Begins a session.
pub(super) async fn log_in(State(state): State<AdminState>, form: Form, request: Request) -> Response {
    let origin = request.headers().get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let (scheme, stranger) = (Scheme::of_origin(origin.unwrap_or_default()), stranger(request.extensions()));
    let before: Vec<String> = cookie::presented(request.headers()).map(str::to_owned).collect();
    drop(request);
    match begun(&state, &form, (stranger, scheme)).await {
        Ok(response) => {
            // Whoever logs in anew has no use for the session before.
            before.iter().for_each(|id| state.sessions.forget(id));
            response
        }
        Err(refusal) => {
            let page = page::bare("Log in", refusal.status(), &asking(Some(&refusal)));
            page::marked(page, &refusal)
        }
    }
}

async fn begun(state: &AdminState, form: &Form, (stranger, scheme): (Actor, Scheme)) -> Result<Response, Refusal> {
    let id = gate::key_name(state, Some(form.text("key")).filter(|key| !key.is_empty()), stranger.ip).map_err(
        |refusal| match refusal.status() {
            // The API's hint is of a header.
            StatusCode::UNAUTHORIZED => {
                refusal.hint("it is in the configuration, else in admin.key of the data directory")
            }
            _ => refusal,
        },
    )?;
    let actor = Actor { id, ..stranger };
    state.store.audit(&actor, note("console.login")).await?;
    let now_ms = state.store.clock().monotonic_ms();
    let session = state.sessions.begin(&actor.id, now_ms).map_err(|err| Refusal::internal(&err))?;
    let cookie = cookie::set(&session, scheme).ok_or_else(|| Refusal::internal(&"a session's id is no header"))?;
    let mut response = Redirect::to("/console").into_response();
    response.headers_mut().append(SET_COOKIE, cookie);
    Ok(response)
}

/// Ends the session, whatever becomes of its line in the audit log.
pub(super) async fn log_out(State(state): State<AdminState>, visit: Visit) -> Result<Response, Refusal> {
    state.sessions.end(visit.session);
    let told = state.store.audit(&visit.actor, note("console.logout")).await;
    let mut response = match told {
        Ok(()) => Redirect::to(PATH).into_response(),
        Err(err) => Refusal::from(err).into_response(),
    };
    for cookie in cookie::cleared() {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

fn note(action: &'static str) -> AuditNote {
    AuditNote { action, tenant: None, target: None, outcome: AuditOutcome::Ok, detail: json!({}) }
}

fn asking(refusal: Option<&Refusal>) -> Markup {
    html! {
        form.login method="post" action=(PATH) {
            h1 { "OpenClawMU" }
            p.quiet { "The operator's console. It takes an admin key: one of the configuration, or the one in " code { "admin.key" } " of the data directory." }
            @if let Some(refusal) = refusal { (page::problem(refusal)) }
            label for="key" { "Admin key" }
            input #key name="key" type="password" required autofocus autocomplete="current-password" spellcheck="false"
                aria-invalid[refusal.is_some()] aria-describedby=[refusal.map(|_| "problem")];
            button.primary { "Log in" }
        }
    }
}
