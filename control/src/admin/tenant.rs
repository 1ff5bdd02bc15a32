//! `/v1/tenants`: create, list, read, change, delete.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use openclawmu_store::{NewTenant, NewToken, PlainToken, Tenant, TenantId, TenantPatch, Token};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::call::{Call, Caller, Params, TenantPath};
use crate::admin::idempotency;
use crate::admin::page::{PageParams, page};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::token;

/// What a tenant's first token is called.
const FIRST_TOKEN: &str = "default";

/// `POST /v1/tenants`: 201 with the tenant and its first token, whose secret no other answer shows.
pub(super) async fn create(State(state): State<AdminState>, call: Call<NewTenant>) -> Result<Response, Refusal> {
    let first = NewToken { name: Some(FIRST_TOKEN.to_owned()), ..NewToken::default() };
    let change = state.store.create_tenant(&call.actor, call.body, first);
    idempotency::create(&state, call.once, change, render).await
}

fn render((tenant, token, plain): &(Tenant, Token, PlainToken)) -> Value {
    json!({"tenant": tenant, "token": token::with_value(token, plain)})
}

/// `GET /v1/tenants`: by id.
pub(super) async fn list(
    State(state): State<AdminState>,
    Params(params): Params<PageParams>,
) -> Result<Json<Value>, Refusal> {
    let (limit, after) = (params.limit()?, params.after::<TenantId>()?);
    let tenants = state.store.tenants(after.as_ref(), limit.saturating_add(1))?;
    Ok(Json(page(tenants, limit, |tenant| tenant.id.to_string())))
}

/// `GET /v1/tenants/{id}`.
pub(super) async fn get(State(state): State<AdminState>, TenantPath(id): TenantPath) -> Result<Json<Tenant>, Refusal> {
    Ok(Json(state.store.tenant(&id)?))
}

/// `PATCH /v1/tenants/{id}`: a JSON merge patch; `null` takes a limit away. Answers the tenant as it is now.
pub(super) async fn patch(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    call: Call<TenantPatch>,
) -> Result<Json<Tenant>, Refusal> {
    Ok(Json(state.store.update_tenant(&call.actor, &id, call.body).await?))
}

/// The confirmation that a deletion needs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirmation {
    #[serde(default)]
    confirm: Option<String>,
}

/// `DELETE /v1/tenants/{id}?confirm={id}`.
pub(super) async fn delete(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    Params(params): Params<Confirmation>,
    Caller(actor): Caller,
) -> Result<Json<Value>, Refusal> {
    if params.confirm.as_deref() != Some(id.as_str()) {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "confirmation_needed",
            "a deletion needs the tenant's id twice",
        )
        .hint(format!("add `?confirm={id}`")));
    }
    state.store.delete_tenant(&actor, &id).await?;
    Ok(Json(json!({"id": id, "deleted": true})))
}
