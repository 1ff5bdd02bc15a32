//! What a tenant used and what it cost, by day and model.

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use maud::{Markup, html};
use openclawmu_store::{NanoUsd, Store, StoreError, UsageQuery, UsageSums};
use serde_json::Value;

use crate::admin::call::{Params, TenantPath};
use crate::admin::console::chart::{self, Amount};
use crate::admin::console::guard::Visit;
use crate::admin::console::page::value_of;
use crate::admin::console::shown::{count, rows, tenant_path, text, time, with_query};
use crate::admin::console::tenant::{read, show_tab};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::usage::{self, UsageParams};

/// The most rows of a page's table. A CSV has them all.
const MOST_ROWS: usize = 1_000;

/// The columns that are counts, by the API's names.
const COUNTS: [(&str, &str); 7] = [
    ("Requests", "/requests"),
    ("Input", "/input_tokens"),
    ("Cache read", "/cache_read_tokens"),
    ("Cache write", "/cache_write_tokens"),
    ("Output", "/output_tokens"),
    ("Reasoning", "/reasoning_tokens"),
    ("Sandbox s", "/sandbox_seconds"),
];

/// Those that are shown also where they are zero.
const ALWAYS: [&str; 3] = ["/requests", "/input_tokens", "/output_tokens"];

/// What `read` makes of the ledger's sums, as reports are made: few at once, and with what has been settled by now.
pub(super) async fn summed<T: Send + 'static>(
    state: &AdminState,
    read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refusal> {
    // A store that can't write can still be read.
    if let Err(err) = state.store.flush().await {
        tracing::warn!(%err, "a page may lack what was settled last");
    }
    let permit = state.reports.clone().acquire_owned().await.map_err(|err| Refusal::internal(&err))?;
    let store = state.store.clone();
    let read = move || {
        let _permit = permit;
        read(&store)
    };
    Ok(tokio::task::spawn_blocking(read).await.map_err(|err| Refusal::internal(&err))??)
}

/// The sums over everything that `query` asks for, as reports have them.
pub(super) async fn total(state: &AdminState, query: UsageQuery) -> Result<UsageSums, Refusal> {
    summed(state, move |store| store.usage_rows(&query, &mut |_| Ok(()))).await
}

pub(super) async fn show(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
    Params(asked): Params<UsageParams>,
) -> Result<Response, Refusal> {
    let tenant = read(&state, &id).await?;
    let (from, to) = (asked.from.clone().unwrap_or_default(), asked.to.clone().unwrap_or_default());
    let group_by = asked.group_by.clone().unwrap_or_else(|| "day,model".to_owned());
    let asked = UsageParams { group_by: Some(group_by.clone()), format: None, ..asked };
    let report = usage::tenant(State(state.clone()), TenantPath(id.clone()), Params(asked), HeaderMap::new()).await?;
    let answer = value_of(report).await?;
    let path = tenant_path(id.as_str(), "/usage");
    let csv = with_query(
        &tenant_path(id.as_str(), "/usage.csv"),
        &[("from", &from), ("to", &to), ("group_by", &group_by), ("format", "csv")],
    );
    let groups = [
        ("day,model", "day and model"),
        ("day", "day"),
        ("model", "model"),
        ("token", "token"),
        ("user", "end user"),
        ("tag", "tag"),
    ];
    let inner = html! {
        form.filter method="get" action=(path) {
            div.field { label for="from" { "From" } input #from name="from" type="date" value=(from); }
            div.field { label for="to" { "To, exclusive" } input #to name="to" type="date" value=(to); }
            div.field { label for="group_by" { "By" } select #group_by name="group_by" {
                @for (value, says) in groups { option value=(value) selected[value == group_by] { (says) } }
            } }
            button { "Show" }
            a.button href=(csv) { "CSV" }
        }
        p.quiet {
            (time(&text(&answer, "/from"))) " to " (time(&text(&answer, "/to"))) " UTC. Days are those of " (text(&tenant, "/timezone")) "."
        }
        (table(&answer, group_by.contains("day")))
    };
    Ok(show_tab(&state, &visit, (&tenant, "Usage"), &inner, None))
}

/// The same as a file.
pub(super) async fn csv(
    State(state): State<AdminState>,
    _: Visit,
    id: TenantPath,
    asked: Params<UsageParams>,
) -> Result<Response, Refusal> {
    usage::tenant(State(state), id, asked, HeaderMap::new()).await
}

fn table(answer: &Value, has_days: bool) -> Markup {
    let found = rows(answer, "/rows");
    if found.is_empty() {
        return html! { section { p.empty { "Nothing was used in this time. What a tenant uses is here as soon as it is billed." } } };
    }
    let keys: Vec<&str> = ["day", "model", "token", "user", "tag"]
        .into_iter()
        .filter(|key| found.first().is_some_and(|row| row.get(key).is_some()))
        .collect();
    let costs = [("Cost", "/cost_usd"), ("Markup", "/markup_usd"), ("Billed", "/billed_usd")];
    // Where there is no markup, what is billed is the cost.
    let shown = if text(answer, "/total/cost_usd") == text(answer, "/total/billed_usd") { 1 } else { costs.len() };
    let costs = costs.get(..shown).unwrap_or(&costs);
    // What nobody used has no column.
    let is_used = |column: &str| ALWAYS.contains(&column) || text(answer, &format!("/total{column}")) != "0";
    let counts: Vec<_> = COUNTS.into_iter().filter(|(_, column)| is_used(column)).collect();
    let numbers = |row: &Value| {
        html! {
            @for (_, column) in &counts { td.number { (count(&text(row, column))) } }
            @for (_, column) in costs { td.number { (text(row, column)) } }
        }
    };
    html! {
        section {
            @if has_days { (drawn(found)) }
            div.scroll { table {
                thead { tr {
                    @for key in &keys { th.key-name { (key) } }
                    @for (name, _) in &counts { th.number { (name) } }
                    @for (name, _) in costs { th.number { (name) " USD" } }
                } }
                tbody { @for row in found.iter().take(MOST_ROWS) { tr {
                    @for key in &keys { td.keep[*key == "day"] { (text(row, &format!("/{key}"))) } }
                    (numbers(row))
                } } }
                tfoot { tr { td colspan=(keys.len()) { "Total" } (numbers(answer.pointer("/total").unwrap_or(&Value::Null))) } }
            } }
            @if found.len() > MOST_ROWS { p.quiet { "The first " (MOST_ROWS) " of " (found.len()) " rows; the CSV has them all." } }
        }
    }
}

fn drawn(found: &[Value]) -> Markup {
    let texts: Vec<_> =
        found.iter().map(|row| (text(row, "/day"), text(row, "/model"), text(row, "/cost_usd"))).collect();
    let amounts: Vec<Amount<'_>> = texts
        .iter()
        .map(|(day, model, cost)| Amount { day, model, nanos: cost.parse().map_or(0, |NanoUsd(nanos)| nanos) })
        .collect();
    chart::days(&amounts, |nanos| format!("{} USD", NanoUsd(nanos)))
}
