//! `billing report|summary|rollup`. Sums are exact: nano-dollars, never floats.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Context;
use clap::{Args, ValueEnum};
use openclawmu_store::{Clock, NanoUsd, SystemClock, TenantId};
use serde_json::Value;

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::table::{Table, grouped};

/// Which month's report, and how.
#[derive(Debug, Args)]
pub struct ReportFlags {
    /// The tenant; all of them when absent
    pub tenant: Option<TenantId>,
    /// The month as YYYY-MM, of each tenant's own calendar; the present one when absent
    #[arg(long, value_parser = month, value_name = "YYYY-MM")]
    pub period: Option<String>,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Print FOCUS 1.2, for FinOps tools
    #[arg(long, conflicts_with_all = ["json", "csv"])]
    pub focus: bool,
    /// Add day, user or tag to what the lines are by
    #[arg(long, value_name = "KEYS")]
    pub group_by: Option<String>,
    /// Add the markup and what is billed to the CSV
    #[arg(long, requires = "csv")]
    pub markup: bool,
}

/// Which days of a tenant.
#[derive(Debug, Args)]
pub struct RollupFlags {
    /// The tenant
    #[arg(long)]
    pub tenant: TenantId,
    /// The first day, or an instant; the first of the month when absent
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// The day after the last, or an instant; tomorrow when absent
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// The form
    #[arg(long, value_enum, conflicts_with = "json")]
    pub format: Option<RollupFormat>,
}

/// The form of a rollup. A table for people when absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RollupFormat {
    /// One row for each day
    Json,
    /// One line for each day, model, upstream, token and rate card
    Csv,
}

/// What may be asked of `/v1/reports/usage`.
type Asked<'a> = Vec<(&'a str, &'a str)>;

pub(crate) async fn report(flags: &ReportFlags, client: &Client, json: bool) -> anyhow::Result<String> {
    let present = present_month();
    let query = flags.query(&present, "json");
    let answer = client.long_text(Call::get(&["reports", "usage"], &query)).await?;
    if json { Ok(format!("{answer}\n")) } else { lines(&serde_json::from_str(&answer)?) }
}

pub(crate) async fn copy_report(
    flags: &ReportFlags,
    client: &Client,
    to: &mut dyn Write,
) -> Option<anyhow::Result<()>> {
    let format = match (flags.csv, flags.focus) {
        (true, _) => "csv",
        (_, true) => "focus",
        (false, false) => return None,
    };
    let present = present_month();
    let query = flags.query(&present, format);
    Some(client.copy(Call::get(&["reports", "usage"], &query), to).await)
}

impl ReportFlags {
    fn query<'a>(&'a self, present: &'a str, format: &'a str) -> Asked<'a> {
        let mut query = vec![("period", self.period.as_deref().unwrap_or(present)), ("format", format)];
        query.extend(self.tenant.as_ref().map(|tenant| ("tenant", tenant.as_str())));
        query.extend(self.group_by.as_deref().map(|keys| ("group_by", keys)));
        query.extend(self.markup.then_some(("include", "markup")));
        query
    }
}

pub(crate) async fn summary(period: Option<&str>, client: &Client, json: bool) -> anyhow::Result<String> {
    let present = present_month();
    let query = [("period", period.unwrap_or(&present)), ("format", "json")];
    let answer = client.long_text(Call::get(&["reports", "usage"], &query)).await?;
    if json { Ok(format!("{answer}\n")) } else { by_tenant(&serde_json::from_str(&answer)?) }
}

pub(crate) async fn rollup(flags: &RollupFlags, client: &Client, json: bool) -> anyhow::Result<String> {
    let path = ["tenants", flags.tenant.as_str(), "usage"];
    let answer = client.long_text(Call::get(&path, &flags.query("json"))).await?;
    if json || flags.format == Some(RollupFormat::Json) {
        return Ok(format!("{answer}\n"));
    }
    by_day(&serde_json::from_str(&answer)?)
}

pub(crate) async fn copy_rollup(
    flags: &RollupFlags,
    client: &Client,
    to: &mut dyn Write,
) -> Option<anyhow::Result<()>> {
    if flags.format != Some(RollupFormat::Csv) {
        return None;
    }
    let path = ["tenants", flags.tenant.as_str(), "usage"];
    Some(client.copy(Call::get(&path, &flags.query("csv")), to).await)
}

impl RollupFlags {
    fn query<'a>(&'a self, format: &'a str) -> Asked<'a> {
        let mut query = vec![("group_by", "day"), ("format", format)];
        query.extend(self.from.as_deref().map(|from| ("from", from)));
        query.extend(self.to.as_deref().map(|to| ("to", to)));
        query
    }
}

fn present_month() -> String {
    SystemClock.now().rfc3339().get(..7).unwrap_or_default().to_owned()
}

/// One line for each row of the report, and the total.
fn lines(report: &Value) -> anyhow::Result<String> {
    // What the report was also grouped by.
    let also = ["user", "tag"].map(|key| Some(key).filter(|key| rows(report).any(|row| row.get(key).is_some())));
    let also: Vec<&str> = also.into_iter().flatten().collect();
    let mut headings = vec!["TENANT", "MODEL", "UPSTREAM", "TOKEN"];
    headings.extend(also.iter().map(|key| if *key == "user" { "USER" } else { "TAG" }));
    headings.extend([">REQUESTS", ">INPUT", ">CACHED", ">OUTPUT", ">USD"]);
    let mut table = Table::new(&headings);
    for row in rows(report) {
        let cell = |name: &str| row.get(name).map(shown).unwrap_or_default();
        let used = Sums::of(row)?;
        let [requests, input, cached, output] = used.counts();
        let named = ["tenant", "model", "upstream", "token"].iter().chain(&also).map(|name| cell(name));
        table.row(named.chain([requests, input, cached, output, used.cost.to_string()]));
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

/// One line for each day, and the total.
fn by_day(usage: &Value) -> anyhow::Result<String> {
    let mut table = Table::new(&["DAY", ">REQUESTS", ">INPUT", ">CACHED", ">OUTPUT", ">USD", ">BILLED USD"]);
    for row in rows(usage) {
        let used = Sums::of(row)?;
        let [requests, input, cached, output] = used.counts();
        let (day, billed) = (shown(field(row, "day")), shown(field(row, "billed_usd")));
        table.row([day, requests, input, cached, output, used.cost.to_string(), billed]);
    }
    let total = field(usage, "total");
    let sum = |name: &str| shown(field(total, name));
    Ok(format!(
        "{}\n{} USD in {} requests, {} USD billed\n",
        table.render("nothing was used"),
        sum("cost_usd"),
        sum("requests"),
        sum("billed_usd")
    ))
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
pub(crate) fn month(text: &str) -> Result<String, String> {
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
    fn a_report_shows_what_it_is_grouped_by() {
        let row = |user: &str| {
            json!({"tenant": "acme", "model": "m", "upstream": "u", "token": "t", "user": user, "requests": 1,
            "input_tokens": 1, "cache_read_tokens": 0, "cache_write_tokens": 0, "output_tokens": 2,
            "reasoning_tokens": 0, "cost_usd": "0.100000001"})
        };
        let total = json!({"requests": 2, "cost_usd": "0.200000002"});
        let report = json!({"period": "2026-11", "rows": [row("ann"), row("")], "total": total});
        let text = lines(&report).unwrap();
        assert!(text.starts_with("TENANT  MODEL  UPSTREAM  TOKEN  USER  REQUESTS"), "{text}");
        assert!(text.contains("acme    m      u         t      ann"), "{text}");
        let mut plain = report;
        for row in plain["rows"].as_array_mut().unwrap() {
            row.as_object_mut().unwrap().remove("user");
        }
        assert!(lines(&plain).unwrap().starts_with("TENANT  MODEL  UPSTREAM  TOKEN  REQUESTS"));
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
