//! Terminals in a tenant's sandbox: which are open, tickets for staff, and what was recorded.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use openclawmu_store::TenantId;
use serde_json::Value;

use crate::admin::call::{Caller, Params, RecordingPath, TenantPath, TerminalPath};
use crate::admin::console::field::{Field, Fields};
use crate::admin::console::form::{Form, Kind, Spec};
use crate::admin::console::guard::Visit;
use crate::admin::console::page::{self, Failed, made, value_of};
use crate::admin::console::shown::{count, rows, segment, tenant_path, text, time};
use crate::admin::console::tenant::{read, show_tab};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::terminal::{self, Whose};

const FORM: &str = "ticket";
const SPECS: [Spec; 3] = [("role", Kind::Text), ("reason", Kind::Text), ("session", Kind::Text)];

pub(super) async fn show(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
) -> Result<Response, Refusal> {
    shown(&state, &visit, &id, None).await
}

async fn shown(state: &AdminState, visit: &Visit, id: &TenantId, failed: Option<&Failed>) -> Result<Response, Refusal> {
    let tenant = read(state, id).await?;
    let whose = Params(Whose { tenant: Some(id.to_string()) });
    let open = value_of(terminal::list(State(state.clone()), whose).await?).await?;
    let kept = value_of(terminal::recordings(State(state.clone()), TenantPath(id.clone())).await?).await?;
    let path = |rest: &str| tenant_path(id.as_str(), rest);
    let inner = html! {
        section { h2 { "Open" } (terminals(visit, &path("/terminals"), rows(&open, "/data"))) }
        section { h2 { "A ticket" } (page::form(visit, &path("/terminals"), &asking(&Fields::of(FORM, failed)))) }
        section {
            h2 { "Recordings" }
            p.quiet { "What a terminal showed is the tenant's: fetching a recording is on record. They play with " code { "asciinema play" } " and in the terminal's own page." }
            (recordings(&path("/recordings"), rows(&kept, "/data")))
        }
    };
    Ok(show_tab(state, visit, (&tenant, "Terminals"), &inner, failed))
}

fn terminals(visit: &Visit, path: &str, found: &[Value]) -> Markup {
    html! {
        @if found.is_empty() { p.empty { "No terminal is open." } } @else {
            div.scroll { table {
                thead { tr { th { "Terminal" } th { "Opened (UTC)" } th { "On whose word" } th.number { "Types" } th.number { "Watch" } th {} } }
                tbody { @for one in found { tr {
                    td { code { (text(one, "/id")) } } td { (time(&text(one, "/opened_at"))) } td { (text(one, "/opened_by")) }
                    td.number { (text(one, "/viewers/drivers")) }
                    td.number { (text(one, "/viewers/observers")) " + " (text(one, "/viewers/moderators")) }
                    td { div.row { (page::button(visit, &format!("{path}/{}/end", segment(&text(one, "/id"))), ("End", "bad small"))) } }
                } } }
            } }
        }
    }
}

fn asking(fields: &Fields<'_>) -> Markup {
    let roles = [
        ("observer", "observer: I watch"),
        ("moderator", "moderator: I watch, and may end it"),
        ("driver", "driver: I type"),
    ];
    html! {
        (fields.problem())
        p.quiet { "It opens one terminal, once, within a minute. The reason stands in the audit log, and the tenant sees that somebody watches." }
        div.grid {
            (fields.field(Field { name: "reason", label: "Why", needed: true, ..Field::default() }))
            (fields.choice(("role", "As"), "observer", &roles))
            (fields.field(Field { name: "session", label: "Terminal", hint: "Empty: the one that was opened last; a driver opens a new one.", ..Field::default() }))
        }
        button.primary { "Make a ticket" }
    }
}

fn recordings(path: &str, found: &[Value]) -> Markup {
    html! {
        @if found.is_empty() { p.empty { "There is none." } } @else {
            div.scroll { table {
                thead { tr { th { "Recording" } th.number { "Bytes" } th {} } }
                tbody { @for one in found { tr {
                    td { code { (text(one, "/id")) } } td.number { (count(&text(one, "/size_bytes"))) }
                    td { a href={(path) "/" (segment(&text(one, "/id")))} { "Fetch" } }
                } } }
            } }
        }
    }
}

pub(super) async fn ticket(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
    form: Form,
) -> Result<Response, Refusal> {
    match ticketed(&state, &visit, &id, &form).await {
        Ok(response) => Ok(response),
        Err(refusal) => shown(&state, &visit, &id, Some(&Failed { form: FORM, sent: form, refusal })).await,
    }
}

async fn ticketed(state: &AdminState, visit: &Visit, id: &TenantId, form: &Form) -> Result<Response, Refusal> {
    let path = tenant_path(id.as_str(), "/terminals");
    let call = form.create(&visit.actor, (&path, form.body(&SPECS)?))?;
    let Some(answer) = made(terminal::ticket(State(state.clone()), TenantPath(id.clone()), call).await?).await? else {
        return Ok(page::done_before(state, visit, &path));
    };
    let url = text(&answer, "/url");
    // A socket's address, of which the page is a neighbour.
    let ui = format!("{}/ui", url.replacen("ws", "http", 1));
    let hint = format!(
        "Paste it at {ui} before {} UTC, in the role that it was made for. Its terminal is {}.",
        text(&answer, "/expires_at"),
        text(&answer, "/session")
    );
    Ok(page::secret(state, visit, &path, ("A ticket".to_owned(), &hint, &text(&answer, "/ticket"))))
}

/// The path names the terminal and, for the way back, whose it is.
pub(super) async fn end(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
    TerminalPath(name): TerminalPath,
) -> Result<Response, Refusal> {
    let open = state.hooks.terminals.desk().list(Some(&id));
    if !open.iter().any(|one| one.id == name) {
        return Err(Refusal::not_found("terminal"));
    }
    drop(terminal::end(State(state.clone()), TerminalPath(name), Caller(visit.actor.clone())).await?);
    Ok(page::done(&state, &visit, &tenant_path(id.as_str(), "/terminals"), "The terminal has ended."))
}

pub(super) async fn recording(
    State(state): State<AdminState>,
    visit: Visit,
    path: RecordingPath,
) -> Result<Response, Refusal> {
    terminal::recording(State(state), path, Caller(visit.actor)).await
}
