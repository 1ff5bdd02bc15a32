//! `billing credit`.

use http::Method;
use openclawmu_store::{NanoUsd, TenantId};
use serde_json::{Value, json};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};

pub(crate) async fn create(
    (tenant, amount, reason): (&TenantId, NanoUsd, &str),
    client: &Client,
    json: bool,
) -> anyhow::Result<String> {
    let body = json!({"amount_usd": amount, "reason": reason});
    let answer = client.text(Call::send(Method::POST, &["tenants", tenant.as_str(), "credits"], body)).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let answer: Value = serde_json::from_str(&answer)?;
    let cell = |name: &str| shown(field(field(&answer, "credit"), name));
    Ok(format!("{} USD were given back to {tenant} on {} as {}\n", cell("amount_usd"), cell("day"), cell("id")))
}
