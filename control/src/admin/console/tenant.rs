//! One tenant: what it has used and has left.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use openclawmu_store::{NanoUsd, TenantId};
use serde_json::Value;

use crate::admin::call::TenantPath;
use crate::admin::console::guard::Visit;
use crate::admin::console::page::{self, Page, value_of};
use crate::admin::console::shown::{count, state as mark, tenant_path, text, time};
use crate::admin::console::{chart, page::Failed};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::{quota, tenant};

/// The pages of a tenant.
const TABS: [(&str, &str); 9] = [
    ("Overview", ""),
    ("Usage", "/usage"),
    ("Requests", "/requests"),
    ("Tokens", "/tokens"),
    ("Credits and holds", "/money"),
    ("Keys and secrets", "/keys"),
    ("Terminals", "/terminals"),
    ("Backups", "/backups"),
    ("Settings", "/settings"),
];

/// A tenant as the API shows it.
pub(super) async fn read(state: &AdminState, id: &TenantId) -> Result<Value, Refusal> {
    value_of(tenant::get(State(state.clone()), TenantPath(id.clone())).await?).await
}

/// Shows one of a tenant's pages.
pub(super) fn show_tab(
    state: &AdminState,
    visit: &Visit,
    (shown, tab): (&Value, &str),
    inner: &Markup,
    failed: Option<&Failed>,
) -> Response {
    let id = text(shown, "/id");
    let body = html! {
        div.head {
            h1 { (text(shown, "/name")) }
            div.row { code { (id) } (mark(&text(shown, "/status"))) }
        }
        nav.tabs aria-label="Tenant" {
            @for (name, rest) in TABS {
                a href=(tenant_path(&id, rest)) aria-current=[(name == tab).then_some("page")] { (name) }
            }
        }
        (inner)
    };
    let title = format!("{id}: {tab}");
    page::show_failed(state, visit, &Page { title: &title, place: "Tenants", body }, failed)
}

pub(super) async fn show(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
) -> Result<Response, Refusal> {
    let shown = read(&state, &id).await?;
    let status = value_of(quota::get(State(state.clone()), TenantPath(id)).await?).await?;
    let zone = text(&shown, "/timezone");
    let inner = html! {
        section {
            h2 { "Budgets" }
            p.quiet {
                span.key.posted {} "billed  " span.key.pending {} "reserved by what is in flight  "
                span.key.held {} "held after a crash, or for a batch. Days and months begin in " (zone) "."
            }
            (bucket("Dollars today", "USD", &status, "/usd_per_day"))
            (bucket("Dollars this month", "USD", &status, "/usd_per_month"))
            (bucket("Tokens today", "tokens", &status, "/tokens_per_day"))
            (bucket("Sandbox seconds today", "seconds", &status, "/sandbox_seconds_per_day"))
        }
        dl.facts {
            (rate("Requests a minute", &status, "/requests_per_minute"))
            (rate("Tokens a minute", &status, "/tokens_per_minute"))
            div {
                dt { "Requests in flight" }
                dd { (text(&status, "/concurrent_requests/in_use")) }
                dd.quiet { "of " (or(&count(&text(&status, "/concurrent_requests/limit")), "any number")) }
            }
        }
        section { h2 { "About" } (about(&shown)) }
    };
    Ok(show_tab(&state, &visit, (&shown, "Overview"), &inner, None))
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

/// A count or an amount of money in the smallest unit, for a picture.
fn units(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| text.parse().map_or(0, |NanoUsd(nanos)| nanos))
}

fn bucket(name: &str, unit: &str, status: &Value, path: &str) -> Markup {
    let part = |part: &str| text(status, &format!("{path}/{part}")).into_owned();
    let shown = |text: String| if unit == "USD" { text } else { count(&text) };
    let cap = part("cap");
    // In the same unit as the parts: a cap is written with decimals or without.
    let whole = if unit == "USD" { cap.parse().map(|NanoUsd(nanos)| nanos).ok() } else { cap.parse().ok() };
    let parts = ["posted", "pending", "held"].map(|name| units(&part(name)));
    html! {
        div.limit {
            div.head {
                strong { (name) }
                span {
                    (shown(part("posted"))) " " (unit) " billed"
                    @if !is_nothing(&part("pending")) { ", " (shown(part("pending"))) " reserved" }
                    @if !is_nothing(&part("held")) { ", " (shown(part("held"))) " held" }
                    @if cap.is_empty() { span.quiet { " · no limit" } }
                    @else { " · " (shown(part("remaining"))) " left of " (shown(cap.clone())) }
                }
            }
            (chart::quota(name, whole, parts))
            p.quiet { "Starts anew at " (time(&part("resets_at"))) " UTC" }
        }
    }
}

fn is_nothing(amount: &str) -> bool {
    amount.bytes().all(|byte| matches!(byte, b'0' | b'.'))
}

fn rate(name: &str, status: &Value, path: &str) -> Markup {
    let limit = text(status, &format!("{path}/limit"));
    html! {
        div {
            dt { (name) }
            @if limit.is_empty() { dd { "no limit" } } @else {
                dd { (count(&text(status, &format!("{path}/remaining")))) " left" }
                dd.quiet { "of " (count(&limit)) }
            }
        }
    }
}

fn about(shown: &Value) -> Markup {
    let metadata =
        shown.pointer("/metadata").filter(|metadata| metadata.as_object().is_some_and(|all| !all.is_empty()));
    let aliases = shown.pointer("/aliases");
    html! {
        dl.pairs {
            dt { "Models" } dd {
                @match shown.pointer("/models") {
                    None | Some(Value::Null) => "all that have a price",
                    Some(_) => (or(&text(shown, "/models"), "none")),
                }
            }
            dt { "Where a budget is tight" } dd { (text(shown, "/quota/on_tight_budget")) }
            dt { "Storage" } dd { @let bytes = text(shown, "/quota/storage_bytes");
                @if bytes.is_empty() { "no limit" } @else { (count(&bytes)) " bytes" } }
            dt { "Markup" } dd { (text(shown, "/markup_percent")) " %" }
            dt { "Time zone" } dd { (text(shown, "/timezone")) }
            dt { "Created (UTC)" } dd { (time(&text(shown, "/created_at"))) }
            dt { "Changed (UTC)" } dd { (time(&text(shown, "/updated_at"))) }
            @if let Some(aliases) = aliases { dt { "Aliases" } dd { pre { (format!("{aliases:#}")) } } }
            @if let Some(metadata) = metadata { dt { "Metadata" } dd { pre { (format!("{metadata:#}")) } } }
        }
    }
}
