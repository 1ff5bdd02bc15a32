//! `/v1/reports/reconcile`: whether all the books agree.

use axum::Json;
use axum::extract::State;
use openclawmu_store::{Reconciled, TenantId};
use serde::Deserialize;

use crate::admin::call::Params;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// Whose books to compare.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReconcileParams {
    #[serde(default)]
    tenant: Option<String>,
}

/// `GET /v1/reports/reconcile`: 200 also where there are differences; they are the answer.
pub(super) async fn get(
    State(state): State<AdminState>,
    Params(params): Params<ReconcileParams>,
) -> Result<Json<Reconciled>, Refusal> {
    let tenant =
        params.tenant.map(|id| id.parse::<TenantId>().map_err(|_| Refusal::not_found("tenant"))).transpose()?;
    let _permit = state.reports.acquire().await.map_err(|err| Refusal::internal(&err))?;
    let store = state.store.clone();
    let found = tokio::task::spawn_blocking(move || store.reconcile(tenant.as_ref())).await;
    Ok(Json(found.map_err(|err| Refusal::internal(&err))??))
}
