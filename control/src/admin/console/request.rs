//! The request log of a tenant: what was used and how it ended, never what was said.

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use maud::{Markup, html};
use serde_json::Value;

use crate::admin::call::{Params, TenantPath};
use crate::admin::console::guard::Visit;
use crate::admin::console::page::value_of;
use crate::admin::console::shown::{count, next, rows, state as mark, tenant_path, text, time, with_query};
use crate::admin::console::tenant::{read, show_tab};
use crate::admin::refusal::Refusal;
use crate::admin::request::{self, RequestParams};
use crate::admin::state::AdminState;
use crate::admin::usage::Format;

/// Fields of the filter, by the API's names.
const FILTERS: [(&str, &str); 6] = [
    ("model", "Model"),
    ("upstream", "Upstream"),
    ("token", "Token"),
    ("user", "End user"),
    ("status", "Status"),
    ("request_id", "Request id"),
];
const OUTCOMES: [(&str, &str); 8] = [
    ("", "any"),
    ("complete", "complete"),
    ("partial", "partial"),
    ("void", "void"),
    ("recovered", "recovered"),
    ("abandoned", "abandoned"),
    ("credit", "credit"),
    ("resolved", "resolved"),
];

pub(super) async fn show(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
    Params(asked): Params<RequestParams>,
) -> Result<Response, Refusal> {
    let tenant = read(&state, &id).await?;
    let kept = asked.said();
    let kept: Vec<(&str, &str)> = kept.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let of = |name: &str| kept.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
    let asked = RequestParams { format: Some(Format::Json), ..asked };
    let listed =
        request::requests(State(state.clone()), TenantPath(id.clone()), Params(asked), HeaderMap::new()).await?;
    let answer = value_of(listed).await?;
    let path = tenant_path(id.as_str(), "/requests");
    let mut csv = kept.clone();
    csv.push(("format", "csv"));
    let inner = html! {
        form.filter method="get" action=(path) {
            @for (name, label) in FILTERS {
                div.field { label for=(name) { (label) } input id=(name) name=(name) value=(of(name)) autocomplete="off" spellcheck="false"; }
            }
            div.field { label for="outcome" { "Outcome" } select #outcome name="outcome" {
                @for (value, says) in OUTCOMES { option value=(value) selected[value == of("outcome")] { (says) } }
            } }
            button { "Show" }
            a.button href=(with_query(&tenant_path(id.as_str(), "/requests.csv"), &csv)) { "CSV" }
        }
        section {
            @if rows(&answer, "/data").is_empty() { p.empty { "No request is like this. A request is here as soon as it has ended." } }
            @else { (table(rows(&answer, "/data"))) }
        }
        (next(&path, &kept, &answer))
    };
    Ok(show_tab(&state, &visit, (&tenant, "Requests"), &inner, None))
}

/// The same as a file.
pub(super) async fn csv(
    State(state): State<AdminState>,
    _: Visit,
    id: TenantPath,
    asked: Params<RequestParams>,
) -> Result<Response, Refusal> {
    request::requests(State(state), id, asked, HeaderMap::new()).await
}

fn table(found: &[Value]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th { "At (UTC)" } th { "Model" } th { "Upstream" } th { "Outcome" } th.number { "Status" } th.number { "Tokens in" } th.number { "out" }
                th.number { "Cost USD" } th.number { "ms" } th { "User, tags" } th { "Request, token" }
            } }
            tbody { @for row in found { tr {
                td { (time(&text(row, "/at"))) }
                td { (text(row, "/model")) @if text(row, "/stream") == "true" { span.quiet { " stream" } } }
                td { (text(row, "/upstream")) }
                td { (mark(&text(row, "/outcome"))) @if text(row, "/estimated") == "true" { span.quiet { " estimated" } } }
                td.number { (text(row, "/http_status")) }
                td.number { (tokens(row, &INPUTS)) }
                td.number { (tokens(row, &OUTPUTS)) }
                td.number { (text(row, "/cost_usd")) }
                td.number { (count(&text(row, "/duration_ms"))) }
                td { (text(row, "/user")) " " span.quiet { (text(row, "/tags")) " " (text(row, "/reason")) } }
                td.ids { code { (text(row, "/request_id")) } br; code.quiet { (text(row, "/token")) } }
            } } }
        } }
    }
}

/// The log's disjoint counts of a prompt's and an answer's tokens.
const INPUTS: [&str; 6] = [
    "/input_tokens",
    "/cache_read_tokens",
    "/cache_write_tokens",
    "/cache_write_1h_tokens",
    "/input_audio_tokens",
    "/input_image_tokens",
];
const OUTPUTS: [&str; 4] = ["/output_tokens", "/reasoning_tokens", "/output_audio_tokens", "/output_image_tokens"];

fn tokens(row: &Value, columns: &[&str]) -> String {
    let counts = columns.iter().filter_map(|column| row.pointer(column).and_then(Value::as_u64));
    count(&counts.fold(0, u64::saturating_add).to_string())
}
