//! `/v1/tenants/{id}/client_secrets`: a short-lived secret for a page or an app. It is in the answer that made it and in no
//! other, and can't be listed: nothing of it is stored.

use axum::extract::State;
use axum::response::Response;
use openclawmu_store::NewClientSecret;

use crate::admin::call::{Call, TenantPath};
use crate::admin::idempotency;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::client_secret::render;

/// `POST /v1/tenants/{id}/client_secrets`: 201 with its `value`, `expires_at` and a ready `cookie`.
pub(super) async fn create(
    State(state): State<AdminState>,
    TenantPath(tenant): TenantPath,
    call: Call<NewClientSecret>,
) -> Result<Response, Refusal> {
    let change = state.store.create_client_secret(&call.actor, &tenant, call.body);
    idempotency::create(&state, call.once, change, render).await
}
