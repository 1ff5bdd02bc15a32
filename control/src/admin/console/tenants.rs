//! All tenants, and a new one.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use openclawmu_store::NewTenant;
use serde_json::Value;

use crate::admin::call::Params;
use crate::admin::console::field::{Field, Fields, Shape};
use crate::admin::console::form::{Form, Kind, Spec};
use crate::admin::console::guard::Visit;
use crate::admin::console::page::{self, Failed, Page, made, value_of};
use crate::admin::console::setting::{QUOTA, quota_fields};
use crate::admin::console::shown::{next, rows, state as mark, tenant_path, text, time};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::tenant::{self, TenantParams};

/// Where a tenant is made. Not below `tenants`: any name there may be a tenant's id.
pub(super) const NEW: &str = "/console/new-tenant";
/// The form.
const FORM: &str = "tenant";
const SPECS: [Spec; 5] = [
    ("id", Kind::Text),
    ("name", Kind::Text),
    ("timezone", Kind::Text),
    ("models", Kind::List),
    ("quota.on_tight_budget", Kind::Text),
];

pub(super) async fn list(
    State(state): State<AdminState>,
    visit: Visit,
    Params(params): Params<TenantParams>,
) -> Result<Response, Refusal> {
    let search = params.search.clone().unwrap_or_default();
    let answer = value_of(tenant::list(State(state.clone()), Params(params)).await?).await?;
    let found = rows(&answer, "/data");
    let body = html! {
        div.head { h1 { "Tenants" } a.button.primary href=(NEW) { "New tenant" } }
        form.filter method="get" action="/console/tenants" role="search" {
            div.field { label for="search" { "Id or name holds" } input #search name="search" type="search" maxlength="200" value=(search); }
            button { "Search" }
        }
        section {
            @if found.is_empty() && search.is_empty() {
                p.empty { "There is no tenant yet. " a href=(NEW) { "Make the first one" } ": it gets a token, which its programs present." }
            } @else if found.is_empty() {
                p.empty { "No tenant's id or name holds this. " a href="/console/tenants" { "Show all" } }
            } @else { (table(found)) }
        }
        (next("/console/tenants", &[("search", &search)], &answer))
    };
    Ok(page::show(&state, &visit, &Page { title: "Tenants", place: "Tenants", body }))
}

fn table(found: &[Value]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "Id" } th { "Name" } th { "State" } th.number { "USD a day" } th.number { "USD a month" } th { "Time zone" } th { "Created (UTC)" } } }
            tbody { @for one in found { tr {
                td.keep { a href=(tenant_path(&text(one, "/id"), "")) { (text(one, "/id")) } }
                td { (text(one, "/name")) }
                td { (mark(&text(one, "/status"))) }
                td.number { (or_unlimited(&text(one, "/quota/usd_per_day"))) }
                td.number { (or_unlimited(&text(one, "/quota/usd_per_month"))) }
                td { (text(one, "/timezone")) }
                td { (time(&text(one, "/created_at"))) }
            } } }
        } }
    }
}

fn or_unlimited(cap: &str) -> Markup {
    html! { @if cap.is_empty() { span.quiet { "unlimited" } } @else { (cap) } }
}

pub(super) async fn new(State(state): State<AdminState>, visit: Visit) -> Response {
    asking(&state, &visit, None)
}

fn asking(state: &AdminState, visit: &Visit, failed: Option<&Failed>) -> Response {
    let fields = Fields::of(FORM, failed);
    let field = |name, label, hint| fields.field(Field { name, label, hint, ..Field::default() });
    let inner = html! {
        (fields.problem())
        div.grid {
            (field("id", "Id", "Lower-case letters, digits and hyphens; never used again. Empty: one is made."))
            (field("name", "Name", "What people call it. Empty: the id."))
            (field("timezone", "Time zone", "Where its days and months begin, such as Europe/Berlin. Empty: UTC."))
        }
        (fields.field(Field { name: "models", label: "Models", hint: "Names, or beginnings followed by *, one a line. Empty: all.", shape: Shape::Lines, ..Field::default() }))
        h2 { "Limits" }
        p.quiet { "What is empty is not limited." }
        (quota_fields(&fields, &Value::Null))
        button.primary { "Create" }
    };
    let body = html! {
        h1 { "New tenant" }
        section { (page::form(visit, NEW, &inner)) }
    };
    page::show_failed(state, visit, &Page { title: "New tenant", place: "Tenants", body }, failed)
}

pub(super) async fn create(State(state): State<AdminState>, visit: Visit, form: Form) -> Response {
    match created(&state, &visit, &form).await {
        Ok(response) => response,
        Err(refusal) => asking(&state, &visit, Some(&Failed { form: FORM, sent: form, refusal })),
    }
}

async fn created(state: &AdminState, visit: &Visit, form: &Form) -> Result<Response, Refusal> {
    let body = form.body(&[&SPECS[..], &QUOTA.map(|limit| (limit.name, limit.kind))].concat())?;
    let call = form.create::<NewTenant>(&visit.actor, (NEW, body))?;
    let Some(answer) = made(tenant::create(State(state.clone()), call).await?).await? else {
        return Ok(page::done_before(state, visit, "/console/tenants"));
    };
    let id = text(&answer, "/tenant/id");
    let title = format!("The first token of {id}");
    let hint = "Give it to the tenant: its programs present it.";
    Ok(page::secret(state, visit, &tenant_path(&id, ""), (title, hint, &text(&answer, "/token/value"))))
}
