//! `/v1/tenants/{id}/credits`: money given back.

use axum::extract::State;
use axum::response::Response;
use openclawmu_store::{Credit, NewCredit};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::call::{Call, TenantPath};
use crate::admin::idempotency;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// A credit to be given. Both fields are needed; one that is absent is named in the refusal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreditBody {
    #[serde(default)]
    amount_usd: Option<openclawmu_store::NanoUsd>,
    #[serde(default)]
    reason: Option<String>,
}

/// `POST /v1/tenants/{id}/credits`: 201 with the credit. The tenant may spend it at once.
pub(super) async fn create(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    call: Call<CreditBody>,
) -> Result<Response, Refusal> {
    let amount_usd = call.body.amount_usd.ok_or_else(|| {
        Refusal::invalid("amount_usd", "amount_usd is needed").hint("give an exact decimal, such as \"5.00\"")
    })?;
    let reason = call.body.reason.ok_or_else(|| Refusal::invalid("reason", "reason is needed"))?;
    let change = state.store.credit(&call.actor, &id, NewCredit { amount_usd, reason });
    idempotency::create(&state, call.once, change, render).await
}

fn render(credit: &Credit) -> Value {
    json!({"credit": credit})
}
