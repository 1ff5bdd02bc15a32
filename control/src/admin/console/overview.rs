//! The first page: how the gateway is, and what everybody used.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use openclawmu_store::{Month, Store, UsageQuery, UsageRange, UsageSums, Windows, Zone};

use crate::admin::console::guard::Visit;
use crate::admin::console::page::{self, Page};
use crate::admin::console::shown::{count, state as mark, time};
use crate::admin::console::usage;
use crate::admin::health;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// An upstream, as the metrics have it.
struct Upstream {
    name: String,
    in_flight: u64,
    resting: u64,
    complete: u64,
    failed: u64,
}

pub(super) async fn show(State(state): State<AdminState>, visit: Visit) -> Result<Response, Refusal> {
    let now = state.store.clock().now();
    let windows = Windows::at(now, &Zone::utc());
    let day = UsageRange::Days { from: windows.day, to: windows.day.saturating_add(1) };
    let month = Month(windows.month);
    let today = usage::total(&state, of_all(day)).await?;
    let this_month = usage::total(&state, of_all(UsageRange::Month(month))).await?;
    let ready = health::readyz(State(state.clone())).await.err();
    let tenants = usage::summed(&state, Store::tenant_counts).await?;
    let metrics = (state.hooks.metrics)();
    let refused = sum(&metrics, "openclawmu_quota_refusals_total", "");
    let body = html! {
        div.head { h1 { "Overview" } span.quiet { (time(&now.rfc3339())) " UTC · version " (env!("CARGO_PKG_VERSION")) } }
        @if let Some(refusal) = &ready { (page::problem(refusal)) }
        dl.facts {
            (fact("The gateway", &mark(if ready.is_none() { "ready" } else { "not ready" }), "takes requests"))
            (fact("Tenants", &html! { a href="/console/tenants" { (count(&tenants.active.to_string())) } }, &format!("active, and {} suspended", tenants.suspended)))
            (fact("Cost today", &html! { (today.cost_usd) }, &format!("USD, {} requests", count(&today.requests.to_string()))))
            (fact("Cost this month", &html! { (this_month.cost_usd) }, &format!("USD in {month}, {} requests", count(&this_month.requests.to_string()))))
            (fact("Billed this month", &html! { (this_month.billed_usd) }, "USD, with markups"))
            (fact("Refused by quotas", &html! { (count(&refused.to_string())) }, "requests since the start"))
        }
        p.quiet { "A day and a month are each tenant's own, in its time zone; here those of today's date in UTC." }
        (tokens(&today, &this_month))
        (upstreams(&upstreams_of(&(state.hooks.upstreams)(), &metrics)))
    };
    Ok(page::show(&state, &visit, &Page { title: "Overview", place: "Overview", body }))
}

fn of_all(range: UsageRange) -> UsageQuery {
    UsageQuery { tenant: None, range, group_by: std::collections::BTreeSet::new() }
}

pub(super) fn fact(name: &str, value: &Markup, says: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } dd.quiet { (says) } } }
}

fn tokens(today: &UsageSums, month: &UsageSums) -> Markup {
    let row = |name: &str, sums: &UsageSums| {
        let counts = [sums.input_tokens, sums.cache_read_tokens, sums.cache_write_tokens, sums.output_tokens];
        let counts = [&counts[..], &[sums.reasoning_tokens, sums.tool_calls, sums.sandbox_seconds]].concat();
        html! { tr { td { (name) } @for number in counts { td.number { (count(&number.to_string())) } } } }
    };
    html! {
        section {
            h2 { "What was used" }
            div.scroll { table {
                thead { tr {
                    th {} th.number { "Input" } th.number { "Cache read" } th.number { "Cache write" } th.number { "Output" }
                    th.number { "Reasoning" } th.number { "Tool calls" } th.number { "Sandbox seconds" }
                } }
                tbody { (row("Today", today)) (row("This month", month)) }
            } }
        }
    }
}

fn upstreams(all: &[Upstream]) -> Markup {
    html! {
        section {
            h2 { "Upstreams" }
            @if all.is_empty() {
                p.empty { "No upstream is configured. Add an " code { "[[upstream]]" } " to the configuration, and reload it." }
            } @else {
                div.scroll { table {
                    thead { tr { th { "Name" } th { "State" } th.number { "In flight" } th.number { "Answered" } th.number { "Failed" } } }
                    tbody { @for one in all { tr {
                        td { (one.name) }
                        td { @if one.resting > 0 { (mark("resting")) " " span.quiet { (one.resting) " models are left alone for a while" } } @else { (mark("ready")) } }
                        td.number { (count(&one.in_flight.to_string())) }
                        td.number { (count(&one.complete.to_string())) }
                        td.number { (count(&one.failed.to_string())) }
                    } } }
                } }
                p.quiet { "Attempts since the start. Upstreams whose models failed, or asked for it, are asked last for a while." }
            }
        }
    }
}

fn upstreams_of(names: &[String], metrics: &str) -> Vec<Upstream> {
    let one = |name: &String| {
        let label = format!("upstream=\"{name}\"");
        let attempts = |outcome: &str| {
            let both = |labels: &str| labels.contains(&label) && labels.contains(&format!("outcome=\"{outcome}\""));
            sum_of(metrics, "openclawmu_upstream_requests_total", both)
        };
        Upstream {
            name: name.clone(),
            in_flight: sum(metrics, "openclawmu_upstream_in_flight", &label),
            resting: sum(metrics, "openclawmu_upstream_resting_models", &label),
            complete: attempts("Complete"),
            failed: ["Refused", "Failed", "Partial"].into_iter().map(attempts).fold(0, u64::saturating_add),
        }
    };
    names.iter().map(one).collect()
}

fn sum(metrics: &str, name: &str, label: &str) -> u64 {
    sum_of(metrics, name, |labels| labels.contains(label))
}

/// The sum of a metric's series whose labels are those that are wanted.
fn sum_of(metrics: &str, name: &str, wanted: impl Fn(&str) -> bool) -> u64 {
    let series = metrics.lines().filter_map(|line| line.strip_prefix(name)).filter_map(|rest| rest.rsplit_once(' '));
    let of_name = series.filter(|(labels, _)| labels.is_empty() || labels.starts_with('{'));
    of_name.filter(|(labels, _)| wanted(labels)).filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_by_its_whole_name_and_its_labels() {
        let metrics = "# TYPE openclawmu_upstream_in_flight gauge\nopenclawmu_upstream_in_flight{upstream=\"a\"} 3\n\
                       openclawmu_upstream_in_flight{upstream=\"b\"} 4\nopenclawmu_upstream_in_flight_most{upstream=\"a\"} 9\n\
                       openclawmu_upstream_requests_total{upstream=\"a\",outcome=\"Failed\"} 2\nopenclawmu_ready 1\n";
        assert_eq!(sum(metrics, "openclawmu_upstream_in_flight", "upstream=\"a\""), 3);
        assert_eq!(sum(metrics, "openclawmu_upstream_in_flight", ""), 7);
        assert_eq!(sum(metrics, "openclawmu_ready", ""), 1);
        let all = upstreams_of(&["a".to_owned()], metrics);
        assert_eq!((all[0].failed, all[0].complete, all[0].resting), (2, 0, 0));
    }
}
