//! `/v1/tenants/{id}/quota`: what a tenant has used and has left, as admission sees it.

use axum::Json;
use axum::extract::State;
use openclawmu_store::QuotaStatus;

use crate::admin::call::TenantPath;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// What a tenant has used of its quota and has left
///
/// As admission sees it at this moment.
#[utoipa::path(get, path = "/v1/tenants/{id}/quota", tag = "quota", params(TenantPath), responses(
    (status = 200, description = "Bucket by bucket", body = QuotaStatus),
))]
pub(super) async fn get(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
) -> Result<Json<QuotaStatus>, Refusal> {
    let policy = state.store.tenant_policy(&id)?;
    Ok(Json(state.store.quota_status_of(policy.key, &policy.quota, &policy.zone)?))
}
