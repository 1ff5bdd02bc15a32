//! The audit log: its lines, newest first, and whether they are as they were written.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Map, Value};

use crate::admin::audit::{self, AuditParams};
use crate::admin::call::Params;
use crate::admin::console::form::Form;
use crate::admin::console::guard::Visit;
use crate::admin::console::page::{self, Page, value_of};
use crate::admin::console::shown::{next, rows, state as mark, tenant_path, text, time};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

const PATH: &str = "/console/audit";

pub(super) async fn show(
    State(state): State<AdminState>,
    visit: Visit,
    Params(asked): Params<AuditParams>,
) -> Result<Response, Refusal> {
    let (tenant, action) = (asked.tenant.clone().unwrap_or_default(), asked.action.clone().unwrap_or_default());
    let order = asked.order.clone().unwrap_or_else(|| "desc".to_owned());
    let asked = AuditParams { order: Some(order.clone()), ..asked };
    let answer = value_of(audit::list(State(state.clone()), Params(asked)).await?).await?;
    let found = rows(&answer, "/data");
    let body = html! {
        div.head { h1 { "Audit log" } (page::button(&visit, "/console/audit/verify", ("Verify the whole log", ""))) }
        form.filter method="get" action=(PATH) {
            div.field { label for="tenant" { "Tenant" } input #tenant name="tenant" value=(tenant) autocomplete="off" spellcheck="false"; }
            div.field { label for="action" { "Action" } input #action name="action" value=(action) placeholder="token.revoke" autocomplete="off" spellcheck="false"; }
            div.field { label for="order" { "Order" } select #order name="order" {
                @for (value, says) in [("desc", "newest first"), ("asc", "oldest first")] { option value=(value) selected[value == order] { (says) } }
            } }
            button { "Show" }
        }
        section {
            @if found.is_empty() { p.empty { "No line is like this. Every change, and every refused one, is a line here." } } @else { (table(found)) }
        }
        (next(PATH, &[("tenant", &tenant), ("action", &action), ("order", &order)], &answer))
    };
    Ok(page::show(&state, &visit, &Page { title: "Audit log", place: "Audit log", body }))
}

fn table(found: &[Value]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th.number { "Line" } th { "At (UTC)" } th { "Who" } th { "From" } th { "Action" } th { "Outcome" } th { "Tenant" } th { "Target, detail, request" } } }
            tbody { @for line in found {
                @let tenant = text(line, "/tenant");
                tr {
                    td.number { (text(line, "/seq")) }
                    td { (time(&text(line, "/at"))) }
                    td.keep { (text(line, "/actor/id")) br; span.quiet { (text(line, "/actor/kind")) } }
                    td.keep { (text(line, "/ip")) }
                    td.keep { (text(line, "/action")) }
                    td { (mark(&text(line, "/outcome"))) }
                    td.keep { @if !tenant.is_empty() { a href=(tenant_path(&tenant, "")) { (tenant) } } }
                    td.wide { (text(line, "/target")) " " (detail(line)) " " span.quiet.mono { (text(line, "/request_id")) } }
                }
            } }
        } }
    }
}

fn detail(line: &Value) -> Markup {
    let detail = line.pointer("/detail").filter(|detail| detail.as_object().is_none_or(|all| !all.is_empty()));
    html! { @if let Some(detail) = detail { span.mono { (detail) } } }
}

pub(super) async fn verify(State(state): State<AdminState>, visit: Visit, form: Form) -> Result<Response, Refusal> {
    let call = form.call(&visit.actor, Map::new())?;
    let verdict = value_of(audit::verify(State(state.clone()), call).await?).await?;
    let said = |path: &str| text(&verdict, path).into_owned();
    let files = rows(&verdict, "/files");
    let body = html! {
        h1 { "The audit log" }
        @if said("/ok") == "true" {
            div.message.good role="status" { p { "All " (said("/lines")) " lines are as they were written: " (said("/first_seq")) " to " (said("/last_seq")) "." } }
        } @else {
            div.message.bad role="alert" {
                p { "Line " (said("/problem/seq")) " is not there as it was written: " (said("/problem/kind")) " " (said("/problem/file")) }
                p { (said("/lines")) " lines before it are." }
            }
        }
        section { h2 { "Files" } ul { @for file in files { li { code { (text(file, "")) } } } } }
        p { a href=(PATH) { "To the log" } }
    };
    Ok(page::show(&state, &visit, &Page { title: "Audit log", place: "Audit log", body }))
}
