//! `/v1/tenants/{id}/held`: what is held after a crash, and how the operator ends it.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use openclawmu_store::{Hold, HoldAction, NewResolution, ReservationId, Resolution};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::admin::call::{Call, EventPath, Params, TenantPath};
use crate::admin::idempotency;
use crate::admin::page::{Page, PageParams, page};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// What is held of a tenant's budget after a crash, oldest first
#[utoipa::path(get, path = "/v1/tenants/{id}/held", tag = "held", params(TenantPath, PageParams), responses(
    (status = 200, description = "A page of what has not been resolved", body = Page<Hold>),
))]
pub(super) async fn list(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Hold>>, Refusal> {
    let (limit, after) = (params.limit()?, params.after::<ReservationId>()?);
    let holds = state.store.holds(Some(&id), after, limit.saturating_add(1))?;
    Ok(page(holds, limit, |hold| hold.id.to_string()))
}

/// What is held after a crash, of all tenants
#[utoipa::path(get, path = "/v1/held", tag = "held", params(PageParams), responses(
    (status = 200, description = "A page of what has not been resolved", body = Page<Hold>),
))]
pub(super) async fn all(
    State(state): State<AdminState>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Hold>>, Refusal> {
    let (limit, after) = (params.limit()?, params.after::<ReservationId>()?);
    let holds = state.store.holds(None, after, limit.saturating_add(1))?;
    Ok(page(holds, limit, |hold| hold.id.to_string()))
}

/// A decision on a hold. Both fields are needed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewResolution)]
pub(super) struct ResolveBody {
    /// How it ends.
    #[serde(default)]
    #[schema(value_type = HoldAction, required = true)]
    action: Option<HoldAction>,
    /// Why, in one line.
    #[serde(default)]
    #[schema(value_type = String, required = true, min_length = 1, max_length = 500)]
    reason: Option<String>,
}

/// A hold that has ended
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Resolved {
    resolution: Resolution,
}

/// End what is held
///
/// A hold is resolved once: 409 the second time.
#[utoipa::path(post, path = "/v1/tenants/{id}/held/{event}/resolve", tag = "held", params(EventPath), request_body = ResolveBody, responses(
    (status = 201, description = "What was done", body = Resolved),
))]
pub(super) async fn resolve(
    State(state): State<AdminState>,
    EventPath(id, event): EventPath,
    call: Call<ResolveBody>,
) -> Result<Response, Refusal> {
    let action = call.body.action.ok_or_else(|| {
        Refusal::invalid("action", "action is needed")
            .hint("`release` when the provider did not bill it, `post` when it did")
    })?;
    let reason = call.body.reason.ok_or_else(|| Refusal::invalid("reason", "reason is needed"))?;
    let change = state.store.resolve_hold(&call.actor, (&id, event), NewResolution { action, reason });
    idempotency::create(&state, call.once, change, render).await
}

fn render(resolution: &Resolution) -> Value {
    json!(Resolved { resolution: resolution.clone() })
}
