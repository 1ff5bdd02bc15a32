//! `/v1/reports/reconcile`: whether all the books agree.

use axum::Json;
use axum::extract::State;
use openclawmu_store::{Reconciled, TenantId};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::admin::call::Params;
use crate::admin::refusal::{ErrorBody, Refusal};
use crate::admin::state::AdminState;

/// Whose books to compare.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReconcileParams {
    /// This tenant alone
    #[serde(default)]
    #[param(value_type = Option<TenantId>, inline)]
    tenant: Option<String>,
}

/// Whether all the books agree
///
/// 200 also where there are differences; they are the answer.
#[utoipa::path(get, path = "/v1/reports/reconcile", tag = "reports", params(ReconcileParams), responses(
    (status = 200, description = "What was compared and what differs", body = Reconciled),
    (status = 404, description = "There is no such tenant", body = ErrorBody),
))]
pub(super) async fn reconcile(
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
