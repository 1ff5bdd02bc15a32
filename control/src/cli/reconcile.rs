//! `billing reconcile`.

use openclawmu_store::TenantId;
use serde_json::Value;

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::table::Table;

/// The books differ: printed in full on standard output, and an exit code of 1.
#[derive(Debug, thiserror::Error)]
#[error("the books differ in {count} places")]
pub(crate) struct BooksDiffer {
    /// What is to be printed.
    pub(crate) said: String,
    count: u64,
}

pub(crate) async fn reconcile(tenant: Option<&TenantId>, client: &Client, json: bool) -> anyhow::Result<String> {
    let query: Vec<(&str, &str)> = tenant.map(|tenant| ("tenant", tenant.as_str())).into_iter().collect();
    let answer = client.long_text(Call::get(&["reports", "reconcile"], &query)).await?;
    let found: Value = serde_json::from_str(&answer)?;
    let count = field(&found, "difference_count").as_u64().unwrap_or(u64::MAX);
    let said = if json { format!("{answer}\n") } else { told(&found) };
    if count == 0 { Ok(said) } else { Err(BooksDiffer { said, count }.into()) }
}

/// One line for each difference, and what was compared.
fn told(found: &Value) -> String {
    let mut table = Table::new(&["TENANT", "PERIOD", "SUM", "PLACE", ">SAYS"]);
    for difference in field(found, "differences").as_array().into_iter().flatten() {
        let cell = |name: &str| shown(field(difference, name));
        let places = ["ledger", "windows", "usage_days", "archive", "memory", "in_flight"];
        for (place, says) in places.iter().filter_map(|place| Some((place, difference.get(place)?))) {
            table.row([cell("tenant"), cell("period"), cell("what"), (*place).to_owned(), shown(says)]);
        }
    }
    let count = |name: &str| shown(field(found, name));
    let busy = match field(found, "moving").as_u64() {
        Some(0) | None => String::new(),
        Some(moving) => format!("; {moving} sums in memory moved at every look"),
    };
    format!(
        "{}{} windows of {} tenants and {} budgets in memory were compared: {} differences{busy}\n",
        table.render("the books agree"),
        count("windows"),
        count("tenants"),
        count("budgets"),
        count("difference_count")
    )
}
