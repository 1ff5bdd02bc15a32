//! The usage report in the FinOps Open Cost and Usage Specification, version 1.2 (focus.finops.org), for FinOps tools.
//!
//! One line for each day, tenant, model, upstream, token, rate card and label. What the specification leaves to the
//! provider:
//!
//! - A tenant is the billing account, its token the sub-account, `upstream/model` the resource and the SKU.
//! - Billed, effective, contracted and list cost are one amount: what the tenant is billed, cost and markup together. The two
//!   parts are in `x_CostUsd` and `x_MarkupUsd`.
//! - A line sums several meters with prices of their own, so it has no unit price: those columns, and the ones for
//!   commitments, capacity, regions and virtual currencies, are conditional and left out.
//! - Periods are the tenant's own calendar days and months, written as if they were UTC's, so that no later change of its
//!   time zone changes a report.
//! - What files take of the disk is no line: it costs nothing.
//! - The end user is the tag `openclawmu/user`. A tag such as `team=blue` is the key `team`; one without a value, or whose key
//!   is taken, is a key whose value is `true`.

use std::collections::BTreeSet;
use std::io::Write;

use serde_json::{Map, Value};

use crate::error::Result;
use crate::ledger::report::csv::{neutral, refused, writer};
use crate::ledger::report::group::{self, Dimension, Group};
use crate::ledger::report::line::FINEST;
use crate::ledger::report::{UsageQuery, UsageSums};
use crate::store::Store;
use crate::window::{Windows, Zone};

/// Who offers the service and issues the invoices, as far as the gateway knows.
const PROVIDER: &str = "OpenClawMU";
const SERVICE: &str = "OpenClawMU AI Gateway";

/// What is in a line's cell.
type Cell = fn(&Line) -> String;

/// The columns and what is in them: in the specification's order, which is that of the alphabet, then the gateway's own.
/// An empty cell is null.
const COLUMNS: [(&str, Cell); 42] = [
    ("BilledCost", |line| line.sums.billed_usd.to_string()),
    ("BillingAccountId", |line| neutral(line.group.tenant.clone().unwrap_or_default())),
    ("BillingAccountName", |line| neutral(line.group.tenant_name.clone().unwrap_or_default())),
    ("BillingAccountType", |_| "Tenant".to_owned()),
    ("BillingCurrency", |_| "USD".to_owned()),
    ("BillingPeriodEnd", |line| month_start(line.month.saturating_add(1))),
    ("BillingPeriodStart", |line| month_start(line.month)),
    ("ChargeCategory", |line| line.either("Usage", "Credit")),
    ("ChargeClass", |_| String::new()),
    ("ChargeDescription", |line| neutral(line.description())),
    ("ChargeFrequency", |line| line.either("Usage-Based", "One-Time")),
    ("ChargePeriodEnd", |line| day_start(line.day.saturating_add(1))),
    ("ChargePeriodStart", |line| day_start(line.day)),
    ("ConsumedQuantity", Line::tokens),
    ("ConsumedUnit", |line| line.either("Tokens", "")),
    ("ContractedCost", |line| line.sums.billed_usd.to_string()),
    ("EffectiveCost", |line| line.sums.billed_usd.to_string()),
    ("InvoiceId", |_| String::new()),
    ("InvoiceIssuerName", |_| PROVIDER.to_owned()),
    ("ListCost", |line| line.sums.billed_usd.to_string()),
    ("PricingCategory", |line| line.either("Standard", "")),
    ("PricingQuantity", Line::tokens),
    ("PricingUnit", |line| line.either("Tokens", "")),
    ("ProviderName", |_| PROVIDER.to_owned()),
    ("PublisherName", |line| line.publisher()),
    ("ResourceId", Line::sku),
    ("ResourceName", |line| if line.group.is_credit { String::new() } else { neutral(line.model()) }),
    ("ResourceType", |line| line.either("Model", "")),
    ("ServiceCategory", |_| "AI and Machine Learning".to_owned()),
    ("ServiceName", |_| SERVICE.to_owned()),
    ("ServiceSubcategory", |_| "Generative AI".to_owned()),
    ("SkuId", Line::sku),
    ("SkuMeter", |line| line.either("Tokens", "")),
    ("SkuPriceId", Line::sku),
    ("SubAccountId", |line| neutral(line.group.token.clone().unwrap_or_default())),
    ("SubAccountName", |line| neutral(line.group.token_name.clone().unwrap_or_default())),
    ("SubAccountType", |line| if line.has_token() { "Token".to_owned() } else { String::new() }),
    ("Tags", Line::tags),
    ("x_CostUsd", |line| line.sums.cost_usd.to_string()),
    ("x_MarkupUsd", |line| line.sums.markup_usd.to_string()),
    ("x_RateCard", |line| line.group.rate_card.unwrap_or_default().to_string()),
    ("x_Requests", |line| line.sums.requests.to_string()),
];

impl Store {
    /// Writes the report as FOCUS 1.2. May take long: not for an async thread.
    ///
    /// # Errors
    /// Those of [`Store::usage_rows`], [`crate::StoreError::Unavailable`] when `to` refuses.
    pub fn usage_focus(&self, query: &UsageQuery, to: &mut dyn Write) -> Result<()> {
        let mut csv = writer(to);
        csv.write_record(COLUMNS.map(|(name, _)| name)).map_err(|err| refused(&err))?;
        let by: BTreeSet<Dimension> = FINEST.into_iter().chain([Dimension::Day, Dimension::Label]).collect();
        self.read_report(query, |conn, source| {
            group::read(conn, source, &by, &mut |group| {
                if group.is_storage {
                    return Ok(());
                }
                let line = Line::of(group);
                csv.write_record(COLUMNS.map(|(_, cell)| cell(&line))).map_err(|err| refused(&err))
            })
        })?;
        csv.flush().map_err(|err| refused(&err.into()))
    }
}

struct Line {
    group: Group,
    sums: UsageSums,
    day: i32,
    month: i32,
}

impl Line {
    fn of(group: Group) -> Self {
        let day = group.day.unwrap_or_default();
        Self { sums: group.sums, day, month: Windows::month_of_day(day), group }
    }

    /// What holds for usage, or what holds for a credit.
    fn either(&self, usage: &str, credit: &str) -> String {
        if self.group.is_credit { credit.to_owned() } else { usage.to_owned() }
    }

    fn model(&self) -> String {
        self.group.model.clone().unwrap_or_default()
    }

    fn upstream(&self) -> &str {
        self.group.upstream.as_deref().unwrap_or_default()
    }

    fn has_token(&self) -> bool {
        self.group.token.as_deref().is_some_and(|token| !token.is_empty())
    }

    fn description(&self) -> String {
        if self.group.is_credit { "Credit".to_owned() } else { format!("{} at {}", self.model(), self.upstream()) }
    }

    fn publisher(&self) -> String {
        if self.upstream().is_empty() { PROVIDER.to_owned() } else { neutral(self.upstream().to_owned()) }
    }

    fn sku(&self) -> String {
        if self.group.is_credit { String::new() } else { neutral(format!("{}/{}", self.upstream(), self.model())) }
    }

    fn tokens(&self) -> String {
        if self.group.is_credit { String::new() } else { self.sums.tokens().to_string() }
    }

    fn tags(&self) -> String {
        let mut tags = Map::new();
        if let Some(user) = self.group.user.as_ref().filter(|user| !user.is_empty()) {
            tags.insert("openclawmu/user".to_owned(), user.clone().into());
        }
        let listed = self.group.tags.as_deref().map(serde_json::from_str::<Vec<String>>);
        for tag in listed.and_then(std::result::Result::ok).unwrap_or_default() {
            match tag.split_once('=').filter(|(key, _)| !key.is_empty() && !tags.contains_key(*key)) {
                Some((key, value)) => tags.insert(key.to_owned(), value.into()),
                None => tags.insert(tag, Value::Bool(true)),
            };
        }
        if tags.is_empty() { String::new() } else { Value::Object(tags).to_string() }
    }
}

fn day_start(day: i32) -> String {
    Windows::end_of_day(day.saturating_sub(1), &Zone::utc()).rfc3339().replace(".000Z", "Z")
}

fn month_start(month: i32) -> String {
    Windows::end_of_month(month.saturating_sub(1), &Zone::utc()).rfc3339().replace(".000Z", "Z")
}
