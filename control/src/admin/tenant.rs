//! `/v1/tenants`: create, list, read, change, delete.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use openclawmu_store::{NewTenant, NewToken, PlainToken, Tenant, TenantId, TenantPatch, Token};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::admin::call::{Call, Caller, Params, TenantPath};
use crate::admin::idempotency;
use crate::admin::page::{Page, PageParams, page};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::token::TokenShown;
use crate::removal;

/// What a tenant's first token is called.
const FIRST_TOKEN: &str = "default";

/// A new tenant
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreatedTenant {
    tenant: Tenant,
    /// Its first token.
    token: TokenShown,
}

/// Create a tenant and its first token
///
/// The token's secret is in this answer and in no other.
#[utoipa::path(post, path = "/v1/tenants", tag = "tenants", request_body = NewTenant, responses(
    (status = 201, description = "The tenant and its first token", body = CreatedTenant),
))]
pub(super) async fn create(State(state): State<AdminState>, call: Call<NewTenant>) -> Result<Response, Refusal> {
    let first = NewToken { name: Some(FIRST_TOKEN.to_owned()), ..NewToken::default() };
    let change = state.store.create_tenant(&call.actor, call.body, first);
    idempotency::create(&state, call.once, change, render).await
}

fn render((tenant, token, plain): &(Tenant, Token, PlainToken)) -> Value {
    json!(CreatedTenant { tenant: tenant.clone(), token: TokenShown::of(token, plain) })
}

/// Which tenants.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TenantParams {
    /// Whose id or name holds this, whatever the case of its ASCII letters
    #[serde(default)]
    #[param(max_length = 200)]
    pub(super) search: Option<String>,
    /// How many rows at most
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    pub(super) limit: Option<String>,
    /// The `next` of the page before
    #[serde(default)]
    pub(super) after: Option<String>,
}

/// List the tenants, by id
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", params(TenantParams), responses(
    (status = 200, description = "A page of tenants", body = Page<Tenant>),
))]
pub(super) async fn list(
    State(state): State<AdminState>,
    Params(params): Params<TenantParams>,
) -> Result<Json<Page<Tenant>>, Refusal> {
    let paging = PageParams::new(params.limit, params.after);
    let (limit, after) = (paging.limit()?, paging.after::<TenantId>()?);
    let search = params.search.unwrap_or_default();
    let store = state.store.clone();
    let read = move || store.tenants_like(&search, after.as_ref(), limit.saturating_add(1));
    // A search that finds little looks at every tenant.
    let tenants = tokio::task::spawn_blocking(read).await.map_err(|err| Refusal::internal(&err))??;
    Ok(page(tenants, limit, |tenant| tenant.id.to_string()))
}

/// A tenant and its policy
#[utoipa::path(get, path = "/v1/tenants/{id}", tag = "tenants", params(TenantPath), responses(
    (status = 200, description = "The tenant", body = Tenant),
))]
pub(super) async fn get(State(state): State<AdminState>, TenantPath(id): TenantPath) -> Result<Json<Tenant>, Refusal> {
    Ok(Json(state.store.tenant(&id)?))
}

/// Change what is named of a tenant
///
/// A JSON merge patch: `null` takes a limit away. The next request sees it.
#[utoipa::path(patch, path = "/v1/tenants/{id}", tag = "tenants", params(TenantPath), request_body = TenantPatch, responses(
    (status = 200, description = "The tenant as it is now", body = Tenant),
))]
pub(super) async fn patch(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    call: Call<TenantPatch>,
) -> Result<Json<Tenant>, Refusal> {
    Ok(Json(state.store.update_tenant(&call.actor, &id, call.body).await?))
}

/// The confirmation that a deletion needs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Confirmation {
    /// The tenant's id once more
    #[serde(default)]
    #[param(required = true)]
    pub(super) confirm: Option<String>,
}

/// A tenant that is no more
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeletedTenant {
    id: TenantId,
    deleted: bool,
}

/// Remove a tenant
///
/// Its tokens stop working with the next request, its files are gone with the answer; its ledger and audit rows are kept, and
/// its id is never used again.
#[utoipa::path(delete, path = "/v1/tenants/{id}", tag = "tenants", params(TenantPath, Confirmation), responses(
    (status = 200, description = "It is gone", body = DeletedTenant),
))]
pub(super) async fn delete(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    Params(params): Params<Confirmation>,
    Caller(actor): Caller,
) -> Result<Json<DeletedTenant>, Refusal> {
    if params.confirm.as_deref() != Some(id.as_str()) {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "confirmation_needed",
            "a deletion needs the tenant's id twice",
        )
        .hint(format!("add `?confirm={id}`")));
    }
    state.store.delete_tenant(&actor, &id).await?;
    // Nothing of it writes any more when its files go.
    state.hooks.terminals.desk().end_tenant(id.clone()).await;
    let (data, gone) = (state.store.dir().to_owned(), id.clone());
    let removed = tokio::task::spawn_blocking(move || removal::remove(&data, &gone)).await;
    removed.map_err(|err| Refusal::internal(&err))?.map_err(|err| {
        tracing::error!(%err, tenant = %id, "the files of a deleted tenant can't be removed now");
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "files_left",
            "the tenant is deleted, and some of its files are left",
        )
        .hint("they are removed within the hour or by the next start; see the gateway's log")
    })?;
    Ok(Json(DeletedTenant { id, deleted: true }))
}
