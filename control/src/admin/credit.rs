//! `/v1/tenants/{id}/credits`: money given back.

use axum::extract::State;
use axum::response::Response;
use openclawmu_store::{Credit, NewCredit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::admin::call::{Call, TenantPath};
use crate::admin::idempotency;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// A credit to be given. Both fields are needed; one that is absent is named in the refusal.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCredit)]
pub(super) struct CreditBody {
    /// How much; more than nothing.
    #[serde(default)]
    #[schema(value_type = openclawmu_store::NanoUsd, required = true)]
    amount_usd: Option<openclawmu_store::NanoUsd>,
    /// Why, in one line.
    #[serde(default)]
    #[schema(value_type = String, required = true, min_length = 1, max_length = 500)]
    reason: Option<String>,
}

/// A credit that was given
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreditGiven {
    credit: Credit,
}

/// Give a tenant money back
///
/// A compensating row of the ledger. The tenant may spend it at once.
#[utoipa::path(post, path = "/v1/tenants/{id}/credits", tag = "credits", params(TenantPath), request_body = CreditBody, responses(
    (status = 201, description = "The credit", body = CreditGiven),
))]
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
    json!(CreditGiven { credit: credit.clone() })
}
