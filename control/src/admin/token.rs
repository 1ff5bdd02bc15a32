//! `/v1/tenants/{id}/tokens`: create, list, rotate, revoke. A secret is in the answer that made it and in no other.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use openclawmu_store::{NewToken, PlainToken, Token, TokenId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::call::{Call, Caller, Params, TenantPath, TokenPath};
use crate::admin::idempotency;
use crate::admin::page::{PageParams, page};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// `POST /v1/tenants/{id}/tokens`: 201 with the token and its `value`.
pub(super) async fn create(
    State(state): State<AdminState>,
    TenantPath(tenant): TenantPath,
    call: Call<NewToken>,
) -> Result<Response, Refusal> {
    let change = state.store.create_token(&call.actor, &tenant, call.body);
    idempotency::create(&state, call.once, change, render).await
}

/// `GET /v1/tenants/{id}/tokens`: oldest first, revoked and expired ones too.
pub(super) async fn list(
    State(state): State<AdminState>,
    TenantPath(tenant): TenantPath,
    Params(params): Params<PageParams>,
) -> Result<Json<Value>, Refusal> {
    let (limit, after) = (params.limit()?, params.after::<TokenId>()?);
    let tokens = state.store.tokens(&tenant, after.as_ref(), limit.saturating_add(1))?;
    Ok(Json(page(tokens, limit, |token| token.id.to_string())))
}

/// How to rotate. Nothing that the token may do is here: a rotation never widens it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    #[serde(default)]
    grace_seconds: Option<u32>,
}

/// `POST /v1/tenants/{id}/tokens/{token}/rotate`: 201 with the new token and its `value`.
pub(super) async fn rotate(
    State(state): State<AdminState>,
    TokenPath(tenant, token): TokenPath,
    call: Call<Rotation>,
) -> Result<Response, Refusal> {
    let change = state.store.rotate_token(&call.actor, &tenant, &token, call.body.grace_seconds);
    idempotency::create(&state, call.once, change, render).await
}

/// `DELETE /v1/tenants/{id}/tokens/{token}`: the next request that presents it fails. Answers the token as it is now.
pub(super) async fn revoke(
    State(state): State<AdminState>,
    TokenPath(tenant, token): TokenPath,
    Caller(actor): Caller,
) -> Result<Json<Token>, Refusal> {
    Ok(Json(state.store.revoke_token(&actor, &tenant, &token).await?))
}

fn render((token, plain): &(Token, PlainToken)) -> Value {
    with_value(token, plain)
}

/// A new token with its secret.
pub(super) fn with_value(token: &Token, plain: &PlainToken) -> Value {
    let mut shown = json!(token);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("value".to_owned(), plain.expose().into());
    }
    shown
}
