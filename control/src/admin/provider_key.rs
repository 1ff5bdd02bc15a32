//! `/v1/tenants/{id}/provider_keys`: a tenant's own keys at providers. Written, never read back.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use openclawmu_store::ProviderKey;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::call::{Call, Caller, TenantPath};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 8 << 10;

/// A key to set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    #[serde(default)]
    api_key: Option<SecretString>,
}

/// `PUT /v1/tenants/{id}/provider_keys/{upstream}`: from the next request on, the tenant's calls to that upstream carry it.
pub(super) async fn put(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    Path((_, upstream)): Path<(String, String)>,
    call: Call<NewKey>,
) -> Result<Json<ProviderKey>, Refusal> {
    let key = call.body.api_key.filter(|key| is_key(key.expose_secret()));
    let key = key.ok_or_else(|| Refusal::invalid("api_key", "api_key must be a key of visible ASCII characters"))?;
    let known = (state.hooks.upstreams)();
    if !known.contains(&upstream) {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "not_found", format!("there is no upstream `{upstream}`"))
            .hint(format!("the configured ones are {}", known.join(", "))));
    }
    state.store.tenant(&id)?;
    let sealed = state.master.seal_provider_key(&id, &upstream, &key).map_err(|err| Refusal::internal(&err))?;
    Ok(Json(state.store.put_provider_key(&call.actor, &id, sealed).await?))
}

/// `DELETE /v1/tenants/{id}/provider_keys/{upstream}`: from the next request on, the operator's key is used.
pub(super) async fn delete(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    Path((_, upstream)): Path<(String, String)>,
    Caller(actor): Caller,
) -> Result<Json<Value>, Refusal> {
    state.store.delete_provider_key(&actor, &id, &upstream).await?;
    Ok(Json(json!({"upstream": upstream, "deleted": true})))
}

/// `GET /v1/tenants/{id}/provider_keys`: which upstreams have one, since when.
pub(super) async fn list(State(state): State<AdminState>, TenantPath(id): TenantPath) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({"data": state.store.provider_keys(&id)?})))
}

fn is_key(text: &str) -> bool {
    (1..=MAX_KEY_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
