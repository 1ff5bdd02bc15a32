//! `/v1/tenants/{id}/client_secrets`: a short-lived secret for a page or an app. It is in the answer that made it and in no
//! other, and can't be listed: nothing of it is stored.

use axum::extract::State;
use axum::response::Response;
use openclawmu_store::NewClientSecret;

use crate::admin::call::{Call, TenantPath};
use crate::admin::idempotency;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::client_secret::{ClientSecretShown, render};

/// Create a client secret
///
/// Its `value`, with a ready `cookie`, is in this answer and in no other.
#[utoipa::path(post, path = "/v1/tenants/{id}/client_secrets", tag = "client_secrets", params(TenantPath), request_body = NewClientSecret, responses(
    (status = 201, description = "The secret", body = ClientSecretShown),
))]
pub(super) async fn create(
    State(state): State<AdminState>,
    TenantPath(tenant): TenantPath,
    call: Call<NewClientSecret>,
) -> Result<Response, Refusal> {
    let change = state.store.create_client_secret(&call.actor, &tenant, call.body);
    idempotency::create(&state, call.once, change, render).await
}
