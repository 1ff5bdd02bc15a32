//! Money that is given back to a tenant, and money that is held.

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use maud::{Markup, html};
use openclawmu_store::TenantId;
use serde_json::Value;

use crate::admin::call::{EventPath, Params, TenantPath};
use crate::admin::console::field::{Field, Fields, Shape};
use crate::admin::console::form::{Form, Kind, Spec};
use crate::admin::console::guard::Visit;
use crate::admin::console::page::{self, Failed, made, value_of};
use crate::admin::console::shown::{rows, segment, tenant_path, text, time};
use crate::admin::console::tenant::{read, show_tab};
use crate::admin::page::PageParams;
use crate::admin::refusal::Refusal;
use crate::admin::request::{self, RequestParams};
use crate::admin::state::AdminState;
use crate::admin::{credit, hold};

const FORM: &str = "credit";
const SPECS: [Spec; 2] = [("amount_usd", Kind::Text), ("reason", Kind::Text)];

pub(super) async fn show(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
) -> Result<Response, Refusal> {
    shown(&state, &visit, &id, None).await
}

async fn shown(state: &AdminState, visit: &Visit, id: &TenantId, failed: Option<&Failed>) -> Result<Response, Refusal> {
    let tenant = read(state, id).await?;
    let (with, of) = (|| State(state.clone()), || TenantPath(id.clone()));
    let held = value_of(hold::list(with(), of(), Params(PageParams::new(None, None))).await?).await?;
    let credits = Params(RequestParams { outcome: Some("credit".to_owned()), ..RequestParams::default() });
    let given = value_of(request::requests(with(), of(), credits, HeaderMap::new()).await?).await?;
    let path = tenant_path(id.as_str(), "/money");
    let inner = html! {
        section { h2 { "Give money back" } (page::form(visit, &path, &asking(&Fields::of(FORM, failed)))) }
        section { h2 { "Credits" } (credits_table(rows(&given, "/data"))) }
        section {
            h2 { "Held" }
            p.quiet { "What a provider may have billed when the gateway died, and what a batch that runs may still cost. It counts against the budgets until its end is known." }
            (holds(visit, id, rows(&held, "/data")))
        }
    };
    Ok(show_tab(state, visit, (&tenant, "Credits and holds"), &inner, failed))
}

fn asking(fields: &Fields<'_>) -> Markup {
    html! {
        (fields.problem())
        div.grid {
            (fields.field(Field { name: "amount_usd", label: "USD", hint: "An exact decimal, such as 5.00. The tenant may spend it at once.", needed: true, shape: Shape::Amount, ..Field::default() }))
            (fields.field(Field { name: "reason", label: "Why", hint: "In one line; it stands in the ledger and in the audit log.", needed: true, ..Field::default() }))
        }
        button.primary { "Give" }
    }
}

fn credits_table(found: &[Value]) -> Markup {
    html! {
        @if found.is_empty() { p.empty { "Nothing was given back yet." } } @else {
            div.scroll { table {
                thead { tr { th { "At (UTC)" } th.number { "Cost USD" } th { "Why" } th { "Row" } } }
                tbody { @for row in found { tr {
                    td { (time(&text(row, "/at"))) } td.number { (text(row, "/cost_usd")) } td { (text(row, "/reason")) } td { code { (text(row, "/id")) } }
                } } }
            } }
        }
    }
}

fn holds(visit: &Visit, id: &TenantId, found: &[Value]) -> Markup {
    html! {
        @if found.is_empty() { p.empty { "Nothing is held." } } @else {
            div.scroll { table {
                thead { tr { th { "At (UTC)" } th { "Model" } th { "Upstream" } th.number { "Billed USD" } th.number { "Held USD" } th { "Request" } th { "How it ended at the provider" } } }
                tbody { @for row in found { tr {
                    td { (time(&text(row, "/at"))) } td { (text(row, "/model")) } td { (text(row, "/upstream")) }
                    td.number { (text(row, "/cost_usd")) } td.number { (text(row, "/held_usd")) } td { code { (text(row, "/request_id")) } }
                    td { @if text(row, "/batch").is_empty() { (resolving(visit, id, &text(row, "/id"))) } @else { span.quiet { "its batch runs" } } }
                } } }
            } }
        }
    }
}

fn resolving(visit: &Visit, id: &TenantId, event: &str) -> Markup {
    let inner = html! {
        select name="action" aria-label={"How " (event) " ended"} { option value="release" { "not billed: release" } option value="post" { "billed: post it" } }
        input name="reason" placeholder="Why" aria-label="Why" required maxlength="500";
        button.small { "Resolve" }
    };
    let path = tenant_path(id.as_str(), &format!("/held/{}/resolve", segment(event)));
    html! { div.row { (page::form(visit, &path, &inner)) } }
}

pub(super) async fn credit(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
    form: Form,
) -> Result<Response, Refusal> {
    match credited(&state, &visit, &id, &form).await {
        Ok(response) => Ok(response),
        Err(refusal) => shown(&state, &visit, &id, Some(&Failed { form: FORM, sent: form, refusal })).await,
    }
}

async fn credited(state: &AdminState, visit: &Visit, id: &TenantId, form: &Form) -> Result<Response, Refusal> {
    let path = tenant_path(id.as_str(), "/money");
    let call = form.create(&visit.actor, (&path, form.body(&SPECS)?))?;
    let given = made(credit::create(State(state.clone()), TenantPath(id.clone()), call).await?).await?;
    Ok(match given {
        Some(given) => {
            page::done(state, visit, &path, format!("{} USD were given.", text(&given, "/credit/amount_usd")))
        }
        None => page::done_before(state, visit, &path),
    })
}

pub(super) async fn resolve(
    State(state): State<AdminState>,
    visit: Visit,
    EventPath(id, event): EventPath,
    form: Form,
) -> Result<Response, Refusal> {
    let path = tenant_path(id.as_str(), "/money");
    let body = form.body(&[("action", Kind::Text), ("reason", Kind::Text)])?;
    let call = form.create(&visit.actor, (&tenant_path(id.as_str(), &format!("/held/{event}/resolve")), body))?;
    made(hold::resolve(State(state.clone()), EventPath(id, event), call).await?).await?;
    Ok(page::done(&state, &visit, &path, "It is resolved."))
}
