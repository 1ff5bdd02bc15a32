//! `/v1/tenants/{id}/provider_keys`: a tenant's own keys at providers. Written, never read back.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use openclawmu_store::ProviderKey;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::call::{Call, Caller, TenantPath, UpstreamPath};
use crate::admin::page::Whole;
use crate::admin::refusal::{ErrorBody, Refusal};
use crate::admin::state::AdminState;

/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 8 << 10;

/// A key to set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewProviderKey)]
pub(super) struct NewKey {
    /// The key, of visible ASCII characters. No answer ever shows it.
    #[serde(default)]
    #[schema(value_type = String, required = true, min_length = 1, max_length = 8192, pattern = "^[!-~]+$", write_only)]
    api_key: Option<SecretString>,
}

/// Set a tenant's own key at an upstream
///
/// From the next request on, the tenant's calls to that upstream carry it.
#[utoipa::path(put, path = "/v1/tenants/{id}/provider_keys/{upstream}", tag = "provider_keys", params(UpstreamPath), request_body = NewKey, responses(
    (status = 200, description = "What may be told of it", body = ProviderKey),
    (status = 409, description = "The tenant has as many as it may have, or the upstream takes none", body = ErrorBody),
))]
pub(super) async fn put(
    State(state): State<AdminState>,
    UpstreamPath(id, upstream): UpstreamPath,
    call: Call<NewKey>,
) -> Result<Json<ProviderKey>, Refusal> {
    let key = call.body.api_key.filter(|key| is_key(key.expose_secret()));
    let key = key.ok_or_else(|| Refusal::invalid("api_key", "api_key must be a key of visible ASCII characters"))?;
    let known = (state.hooks.upstreams)();
    if !known.contains(&upstream) {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "not_found", format!("there is no upstream `{upstream}`"))
            .hint(format!("the configured ones are {}", known.join(", "))));
    }
    if !(state.hooks.takes_own_key)(&upstream) {
        let message = format!("a tenant can't have a key of its own at the upstream `{upstream}`");
        return Err(Refusal::new(StatusCode::CONFLICT, "no_own_key", message)
            .hint("only at one of the kinds openai, azure, anthropic and gemini"));
    }
    state.store.tenant(&id)?;
    let _sealing = state.master.sealing().await;
    let sealed = state.master.seal_provider_key(&id, &upstream, &key).map_err(|err| Refusal::internal(&err))?;
    Ok(Json(state.store.put_provider_key(&call.actor, &id, sealed).await?))
}

/// A key that is no more
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeletedKey {
    upstream: String,
    deleted: bool,
}

/// Take a tenant's own key at an upstream away
///
/// From the next request on, the operator's key is used.
#[utoipa::path(delete, path = "/v1/tenants/{id}/provider_keys/{upstream}", tag = "provider_keys", params(UpstreamPath), responses(
    (status = 200, description = "It is gone", body = DeletedKey),
))]
pub(super) async fn delete(
    State(state): State<AdminState>,
    UpstreamPath(id, upstream): UpstreamPath,
    Caller(actor): Caller,
) -> Result<Json<DeletedKey>, Refusal> {
    state.store.delete_provider_key(&actor, &id, &upstream).await?;
    Ok(Json(DeletedKey { upstream, deleted: true }))
}

/// List the upstreams where a tenant has a key of its own
#[utoipa::path(get, path = "/v1/tenants/{id}/provider_keys", tag = "provider_keys", params(TenantPath), responses(
    (status = 200, description = "By upstream", body = Whole<ProviderKey>),
))]
pub(super) async fn list(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
) -> Result<Json<Whole<ProviderKey>>, Refusal> {
    Ok(Json(Whole { data: state.store.provider_keys(&id)? }))
}

fn is_key(text: &str) -> bool {
    (1..=MAX_KEY_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
