//! `billing report|summary`. Sums are exact: nano-dollars, never floats.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::Subcommand;
use openclawmu_store::{Clock, NanoUsd, SystemClock, TenantId};
use serde_json::Value;

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::table::{Table, grouped};

/// What the operator can ask about usage and cost.
#[derive(Debug, Subcommand)]
pub enum BillingCommand {
    /// What a tenant used in a month, by model and token
    Report {
        /// The tenant; all of them when absent
        tenant: Option<TenantId>,
        /// The month as YYYY-MM, in UTC; the present one when absent
        #[arg(long, value_parser = month, value_name = "YYYY-MM")]
        period: Option<String>,
        /// Print CSV
        #[arg(long, conflicts_with = "json")]
        csv: bool,
    },
    /// What each tenant used in a month
    Summary {
        /// The month as YYYY-MM, in UTC; the present one when absent
        #[arg(long, value_parser = month, value_name = "YYYY-MM")]
        period: Option<String>,
    },
}

pub(crate) async fn execute(command: &BillingCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        BillingCommand::Report { tenant, period, csv } => {
            let format = if *csv { "csv" } else { "json" };
            let answer = report(client, tenant.as_ref(), period.as_deref(), format).await?;
            if *csv {
                return Ok(answer);
            }
            if json { Ok(format!("{answer}\n")) } else { lines(&serde_json::from_str(&answer)?) }
        }
        BillingCommand::Summary { period } => {
            let answer = report(client, None, period.as_deref(), "json").await?;
            if json { Ok(format!("{answer}\n")) } else { by_tenant(&serde_json::from_str(&answer)?) }
        }
    }
}

async fn report(
    client: &Client,
    tenant: Option<&TenantId>,
    period: Option<&str>,
    format: &str,
) -> anyhow::Result<String> {
    let present = SystemClock.now().rfc3339();
    let present = present.get(..7).unwrap_or_default();
    let mut query = vec![("period", period.unwrap_or(present)), ("format", format)];
    query.extend(tenant.map(|tenant| ("tenant", tenant.as_str())));
    client.text(Call::get(&["reports", "usage"], &query)).await
}

/// One line for each row of the report, and the total.
fn lines(report: &Value) -> anyhow::Result<String> {
    let mut table =
        Table::new(&["TENANT", "MODEL", "UPSTREAM", "TOKEN", ">REQUESTS", ">INPUT", ">CACHED", ">OUTPUT", ">USD"]);
    for row in rows(report) {
        let cell = |name: &str| row.get(name).map(shown).unwrap_or_default();
        let used = Sums::of(row)?;
        let [requests, input, cached, output] = used.counts();
        table.row([
            cell("tenant"),
            cell("model"),
            cell("upstream"),
            cell("token"),
            requests,
            input,
            cached,
            output,
            used.cost.to_string(),
        ]);
    }
    Ok(format!("{}{}", table.render("nothing was used"), total(report)))
}

/// One line for each tenant, and the total.
fn by_tenant(report: &Value) -> anyhow::Result<String> {
    let mut tenants: BTreeMap<String, (String, Sums)> = BTreeMap::new();
    for row in rows(report) {
        let cell = |name: &str| row.get(name).map(shown).unwrap_or_default();
        let (_, sums) = tenants.entry(cell("tenant")).or_insert_with(|| (cell("tenant_name"), Sums::default()));
        sums.add(&Sums::of(row)?);
    }
    let mut table = Table::new(&["TENANT", "NAME", ">REQUESTS", ">INPUT", ">CACHED", ">OUTPUT", ">USD"]);
    for (tenant, (name, sums)) in tenants {
        let [requests, input, cached, output] = sums.counts();
        table.row([tenant, name, requests, input, cached, output, sums.cost.to_string()]);
    }
    Ok(format!("{}{}", table.render("nothing was used"), total(report)))
}

fn rows(report: &Value) -> impl Iterator<Item = &Value> {
    field(report, "rows").as_array().into_iter().flatten()
}

fn total(report: &Value) -> String {
    format!(
        "\n{}: {} USD in {} requests\n",
        shown(field(report, "period")),
        shown(field(field(report, "total"), "cost_usd")),
        shown(field(field(report, "total"), "requests"))
    )
}

/// What the tables show of some rows.
#[derive(Default)]
struct Sums {
    requests: u64,
    input: u64,
    cached: u64,
    output: u64,
    cost: NanoUsd,
}

impl Sums {
    fn of(row: &Value) -> anyhow::Result<Self> {
        let count = |name: &str| field(row, name).as_u64().with_context(|| format!("the report has no {name}"));
        let cost = field(row, "cost_usd").as_str().context("the report has no cost_usd")?;
        Ok(Self {
            requests: count("requests")?,
            input: count("input_tokens")?,
            cached: count("cache_read_tokens")?.saturating_add(count("cache_write_tokens")?),
            output: count("output_tokens")?.saturating_add(count("reasoning_tokens")?),
            cost: cost.parse()?,
        })
    }

    fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.input = self.input.saturating_add(other.input);
        self.cached = self.cached.saturating_add(other.cached);
        self.output = self.output.saturating_add(other.output);
        self.cost = self.cost.saturating_add(other.cost);
    }

    fn counts(&self) -> [String; 4] {
        [self.requests, self.input, self.cached, self.output].map(grouped)
    }
}

/// A month as `YYYY-MM`.
fn month(text: &str) -> Result<String, String> {
    let day = format!("{text}-01");
    let valid = text.len() == 7 && day.parse::<jiff::civil::Date>().is_ok();
    if valid { Ok(text.to_owned()) } else { Err(format!("`{text}` is not a month such as 2026-11")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_month_is_four_digits_a_dash_and_two() {
        assert_eq!(month("2026-11").as_deref(), Ok("2026-11"));
        for bad in ["2026", "2026-13", "2026-00", "26-11", "2026-11-01", "2026/11", ""] {
            assert!(month(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_summary_adds_up_to_the_nano() {
        let row = |tenant: &str, cost: &str| {
            json!({"tenant": tenant, "tenant_name": "N", "requests": 1, "input_tokens": 1000, "cache_read_tokens": 1,
            "cache_write_tokens": 1, "output_tokens": 2, "reasoning_tokens": 3, "cost_usd": cost})
        };
        let rows = [row("acme", "0.100000001"), row("acme", "0.200000002"), row("b", "1.000000000")];
        let report = json!({"period": "2026-11", "rows": rows, "total": {"requests": 3, "cost_usd": "1.300000003"}});
        let text = by_tenant(&report).unwrap();
        assert!(text.contains("acme    N            2  2,000       4      10  0.300000003"), "{text}");
        assert!(text.ends_with("2026-11: 1.300000003 USD in 3 requests\n"), "{text}");
    }
}
