//! `/v1/tenants/{id}/tokens`: create, list, rotate, revoke. A secret is in the answer that made it and in no other.

use std::fmt;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use openclawmu_store::{NewToken, PlainToken, Token, TokenId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::admin::call::{Call, Caller, Params, TenantPath, TokenPath};
use crate::admin::idempotency;
use crate::admin::page::{Page, PageParams, page};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// Create a token
///
/// Its secret, `value`, is in this answer and in no other.
#[utoipa::path(post, path = "/v1/tenants/{id}/tokens", tag = "tokens", params(TenantPath), request_body = NewToken, responses(
    (status = 201, description = "The token and its secret", body = TokenShown),
))]
pub(super) async fn create(
    State(state): State<AdminState>,
    TenantPath(tenant): TenantPath,
    call: Call<NewToken>,
) -> Result<Response, Refusal> {
    let change = state.store.create_token(&call.actor, &tenant, call.body);
    idempotency::create(&state, call.once, change, render).await
}

/// List a tenant's tokens, oldest first
///
/// Revoked and expired ones too, never a secret.
#[utoipa::path(get, path = "/v1/tenants/{id}/tokens", tag = "tokens", params(TenantPath, PageParams), responses(
    (status = 200, description = "A page of tokens", body = Page<Token>),
))]
pub(super) async fn list(
    State(state): State<AdminState>,
    TenantPath(tenant): TenantPath,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Token>>, Refusal> {
    let (limit, after) = (params.limit()?, params.after::<TokenId>()?);
    let tokens = state.store.tokens(&tenant, after.as_ref(), limit.saturating_add(1))?;
    Ok(page(tokens, limit, |token| token.id.to_string()))
}

/// How to rotate. Nothing that the token may do is here: a rotation never widens it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// How long the old token still works; absent or 0: not at all.
    #[serde(default)]
    #[schema(maximum = 2_592_000)]
    grace_seconds: Option<u32>,
}

/// Replace a token by a new one that may do the same
#[utoipa::path(post, path = "/v1/tenants/{id}/tokens/{token}/rotate", tag = "tokens", params(TokenPath), request_body = Rotation, responses(
    (status = 201, description = "The new token and its secret", body = TokenShown),
))]
pub(super) async fn rotate(
    State(state): State<AdminState>,
    TokenPath(tenant, token): TokenPath,
    call: Call<Rotation>,
) -> Result<Response, Refusal> {
    let change = state.store.rotate_token(&call.actor, &tenant, &token, call.body.grace_seconds);
    idempotency::create(&state, call.once, change, render).await
}

/// Revoke a token
///
/// The next request that presents it fails.
#[utoipa::path(delete, path = "/v1/tenants/{id}/tokens/{token}", tag = "tokens", params(TokenPath), responses(
    (status = 200, description = "The token as it is now", body = Token),
))]
pub(super) async fn revoke(
    State(state): State<AdminState>,
    TokenPath(tenant, token): TokenPath,
    Caller(actor): Caller,
) -> Result<Json<Token>, Refusal> {
    Ok(Json(state.store.revoke_token(&actor, &tenant, &token).await?))
}

fn render((token, plain): &(Token, PlainToken)) -> Value {
    json!(TokenShown::of(token, plain))
}

/// A new token with its secret
#[derive(Serialize, ToSchema)]
pub(super) struct TokenShown {
    #[serde(flatten)]
    token: Token,
    /// What is presented: `tk_<tenant>_...`.
    value: String,
}

impl TokenShown {
    /// For the one answer that shows it.
    pub(super) fn of(token: &Token, plain: &PlainToken) -> Self {
        Self { token: token.clone(), value: plain.expose().to_owned() }
    }
}

impl fmt::Debug for TokenShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenShown").field("token", &self.token.id).finish_non_exhaustive()
    }
}
