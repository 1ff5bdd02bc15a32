//! A tenant's backups: made, and listed.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Map, Value};

use crate::admin::backup::{self, Whence};
use crate::admin::call::{Params, TenantPath};
use crate::admin::console::form::Form;
use crate::admin::console::guard::Visit;
use crate::admin::console::page::{self, problem, value_of};
use crate::admin::console::shown::{count, rows, tenant_path, text, time};
use crate::admin::console::tenant::{read, show_tab};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

pub(super) async fn show(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
) -> Result<Response, Refusal> {
    let tenant = read(&state, &id).await?;
    let path = tenant_path(id.as_str(), "/backups");
    let listed = backup::list(State(state.clone()), TenantPath(id), Params(Whence { from: None })).await;
    let inner = html! {
        section {
            h2 { "Backups" }
            p.quiet { "Everything of this tenant: policy, usage, files, to be restored here or elsewhere, or handed over." }
            @match listed {
                Err(refusal) => { (unlisted(&refusal)) },
                Ok(listed) => {
                    @let answer = value_of(listed).await?;
                    @if rows(&answer, "/data").is_empty() { p.empty { "There is none yet." } } @else { (table(rows(&answer, "/data"))) }
                    (page::button(&visit, &path, ("Back up now", "primary")))
                },
            }
        }
        p.quiet { "To restore one: " code { "openclawmu tenants restore --from URL" } }
    };
    Ok(show_tab(&state, &visit, (&tenant, "Backups"), &inner, None))
}

/// Why there is no list: no place is configured, or it can't be reached.
pub(super) fn unlisted(refusal: &Refusal) -> Markup {
    html! {
        @if refusal.field_name() == Some("from") {
            p.empty { "No place for backups is configured: set " code { "[backup] to" } " to a directory or " code { "s3://BUCKET/PREFIX" } ", and start the gateway again." }
        } @else { (problem(refusal)) }
    }
}

pub(super) fn table(found: &[Value]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "Made (UTC)" } th.number { "Bytes" } th.number { "Ledger rows" } th { "Sealed" } th { "URL" } } }
            tbody { @for one in found { tr {
                td { (time(&text(one, "/created_at"))) } td.number { (count(&text(one, "/bytes"))) } td.number { (count(&text(one, "/ledger_rows"))) }
                td { @if text(one, "/encrypted") == "true" { "with a passphrase" } @else { "no" } } td { (text(one, "/url")) }
            } } }
        } }
    }
}

pub(super) async fn create(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
    form: Form,
) -> Result<Response, Refusal> {
    let path = tenant_path(id.as_str(), "/backups");
    let call = form.call(&visit.actor, Map::new())?;
    let made = value_of(backup::create(State(state.clone()), TenantPath(id), call).await?).await?;
    Ok(page::done(&state, &visit, &path, format!("It is at {}.", text(&made, "/backup/url"))))
}
