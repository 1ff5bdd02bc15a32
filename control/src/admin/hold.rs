//! `/v1/tenants/{id}/held`: what is held after a crash, and how the operator ends it.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use openclawmu_store::{HoldAction, NewResolution, ReservationId, Resolution};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::call::{Call, EventPath, Params, TenantPath};
use crate::admin::idempotency;
use crate::admin::page::{PageParams, page};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// `GET /v1/tenants/{id}/held`: what is held and has not been resolved, oldest first.
pub(super) async fn list(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    Params(params): Params<PageParams>,
) -> Result<Json<Value>, Refusal> {
    let (limit, after) = (params.limit()?, params.after::<ReservationId>()?);
    let holds = state.store.holds(Some(&id), after, limit.saturating_add(1))?;
    Ok(Json(page(holds, limit, |hold| hold.id.to_string())))
}

/// `GET /v1/held`: the same of all tenants.
pub(super) async fn all(
    State(state): State<AdminState>,
    Params(params): Params<PageParams>,
) -> Result<Json<Value>, Refusal> {
    let (limit, after) = (params.limit()?, params.after::<ReservationId>()?);
    let holds = state.store.holds(None, after, limit.saturating_add(1))?;
    Ok(Json(page(holds, limit, |hold| hold.id.to_string())))
}

/// A decision on a hold. Both fields are needed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResolveBody {
    #[serde(default)]
    action: Option<HoldAction>,
    #[serde(default)]
    reason: Option<String>,
}

/// `POST /v1/tenants/{id}/held/{event}/resolve`: 201 with what was done. A hold is resolved once: 409 the second time.
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
    json!({"resolution": resolution})
}
