//! What all tenants used in a month: on the page by tenant, as CSV and FOCUS by line.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use openclawmu_store::{Month, NanoUsd, UsageQuery, UsageRange, UsageTotal, Windows, Zone};
use serde::Deserialize;

use crate::admin::call::Params;
use crate::admin::console::guard::Visit;
use crate::admin::console::page::{self, Page, problem};
use crate::admin::console::shown::{count, tenant_path, with_query};
use crate::admin::console::usage::summed;
use crate::admin::period;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::usage::{self, ReportParams};

/// The most tenants of a page: the dearest. A CSV has all of them.
const MOST_TENANTS: usize = 500;
const DOWNLOAD: &str = "/console/reports/download";

/// Which month.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(default)]
    period: Option<String>,
}

/// A tenant's month.
#[derive(Default)]
struct Sum {
    name: String,
    requests: u64,
    tokens: u64,
    cost: NanoUsd,
    markup: NanoUsd,
    billed: NanoUsd,
}

pub(super) async fn show(
    State(state): State<AdminState>,
    visit: Visit,
    Params(asked): Params<Asked>,
) -> Result<Response, Refusal> {
    let present = Month(Windows::at(state.store.clock().now(), &Zone::utc()).month).to_string();
    let period = asked.period.unwrap_or(present);
    let found = match period::month(&period) {
        Ok(known) => Ok(by_tenant(&state, known.month).await?),
        Err(refusal) => Err(refusal),
    };
    let link = |format| with_query(DOWNLOAD, &[("period", &period), ("format", format)]);
    let body = html! {
        h1 { "Reports" }
        form.filter method="get" action="/console/reports" {
            div.field { label for="period" { "Month" } input #period name="period" type="month" value=(period) placeholder="2026-11" required; }
            button { "Show" }
        }
        @match &found {
            Err(refusal) => (problem(refusal)),
            Ok((sums, total)) => {
                section {
                    h2 { "Files for " (period) }
                    p.quiet { "Each line is a tenant, model, upstream, token and version of the rates." }
                    div.row {
                        a.button href=(link("csv")) { "CSV" }
                        a.button href={(link("csv")) "&include=markup"} { "CSV with markups" }
                        a.button href=(link("focus")) { "FOCUS 1.2" }
                    }
                }
                section { (table(sums, total)) }
                p.quiet { "A month is each tenant's own calendar month, so that a report adds up to what its budget counted." }
            },
        }
    };
    Ok(page::show(&state, &visit, &Page { title: "Reports", place: "Reports", body }))
}

fn table(sums: &BTreeMap<String, Sum>, total: &UsageTotal) -> Markup {
    let mut dearest: Vec<_> = sums.iter().collect();
    dearest.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.billed));
    let total = &total.sums;
    html! {
        @if sums.is_empty() { p.empty { "Nothing was used in this month." } } @else {
            div.scroll { table {
                thead { tr {
                    th { "Tenant" } th { "Name" } th.number { "Requests" } th.number { "Tokens" } th.number { "Cost USD" } th.number { "Markup USD" } th.number { "Billed USD" }
                } }
                tbody { @for (id, sum) in dearest.iter().take(MOST_TENANTS) { tr {
                    td.keep { a href=(tenant_path(id, "/usage")) { (id) } } td { (sum.name) }
                    td.number { (count(&sum.requests.to_string())) } td.number { (count(&sum.tokens.to_string())) }
                    td.number { (sum.cost) } td.number { (sum.markup) } td.number { (sum.billed) }
                } } }
                tfoot { tr {
                    td colspan="2" { "Total of " (count(&sums.len().to_string())) @if sums.len() == 1 { " tenant" } @else { " tenants" } } td.number { (count(&total.requests.to_string())) } td {}
                    td.number { (total.cost_usd) } td.number { (total.markup_usd) } td.number { (total.billed_usd) }
                } }
            } }
            @if sums.len() > MOST_TENANTS { p.quiet { "The " (MOST_TENANTS) " dearest; the CSV has them all." } }
            p.quiet { "A tenant's requests are attempts: one that fell back counts for each model that it tried, and once in the total." }
        }
    }
}

/// The lines of the month's report, summed by tenant.
async fn by_tenant(state: &AdminState, month: Month) -> Result<(BTreeMap<String, Sum>, UsageTotal), Refusal> {
    let query = UsageQuery { tenant: None, range: UsageRange::Month(month), group_by: BTreeSet::new() };
    summed(state, move |store| {
        let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
        let total = store.usage_lines(&query, &mut |line| {
            let sum = sums.entry(line.tenant).or_default();
            let tokens = [line.input_tokens, line.cache_read_tokens, line.cache_write_tokens, line.output_tokens];
            sum.tokens = tokens.into_iter().chain([line.reasoning_tokens]).fold(sum.tokens, u64::saturating_add);
            sum.requests = sum.requests.saturating_add(line.requests);
            sum.cost = sum.cost.saturating_add(line.cost_usd);
            sum.markup = sum.markup.saturating_add(line.markup_usd);
            sum.billed = sum.billed.saturating_add(line.billed_usd);
            sum.name = line.tenant_name;
            Ok(())
        })?;
        Ok((sums, total))
    })
    .await
}

/// The report as a file.
pub(super) async fn download(
    State(state): State<AdminState>,
    _: Visit,
    asked: Params<ReportParams>,
) -> Result<Response, Refusal> {
    usage::report(State(state), asked).await
}
