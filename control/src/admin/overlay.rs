//! `/v1/tenants/{id}/config`: a tenant's overlay, and what is in effect with it.
//!
//! A key that only the operator may set is refused by its name, never merged and never ignored.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use openclawmu_store::{OnTightBudget, Overlay, Quota, TenantId};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::admin::call::{self, Call, TenantPath};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::overlay_file;

/// Where the operator sets what concerns all tenants.
const CONFIG_FILE: &str = "the operator's configuration file";
/// Keys that only the operator sets, and where. So are all tables of the configuration.
const ADMIN_ONLY: [(&str, &[&str]); 4] = [
    ("PATCH /v1/tenants/{id}", &["quota", "models", "status", "timezone", "markup_percent", "metadata", "name", "id"]),
    ("the tenant's tokens, POST /v1/tenants/{id}/tokens", &["tokens", "token", "scopes", "allowed_ips", "expires_at"]),
    ("PUT /v1/tenants/{id}/provider_keys/{upstream}", &["provider_keys", "api_key", "api_keys", "keys"]),
    (CONFIG_FILE, &["base_url", "listen", "model", "server", "tls", "upstream", "upstreams"]),
];

/// A tenant's overlay, and what is in effect with it
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TenantConfig {
    overlay: Overlay,
    effective: EffectiveConfig,
}

/// What the tenant's next request goes by
#[derive(Debug, Serialize, ToSchema)]
struct EffectiveConfig {
    /// The model of a request that names none; null: it is refused.
    #[schema(required = true)]
    default_model: Option<String>,
    /// Names of its own for models: the operator's for it stand over the overlay's.
    aliases: BTreeMap<String, String>,
    /// Days that its responses are kept.
    #[schema(required = true)]
    response_ttl_days: Option<u64>,
    /// What is done with a request that does not fit the rest of the budget.
    on_tight_budget: OnTightBudget,
    /// The operator's: the models that it may call; null is all.
    #[schema(required = true)]
    models: Option<Vec<String>>,
    /// The operator's: its limits.
    quota: Quota,
}

/// A tenant's overlay, and what is in effect with it
#[utoipa::path(get, path = "/v1/tenants/{id}/config", tag = "config", params(TenantPath), responses(
    (status = 200, description = "Both", body = TenantConfig),
))]
pub(super) async fn tenant(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
) -> Result<Json<TenantConfig>, Refusal> {
    shown(&state, &id).map(Json)
}

/// Put an overlay in the place of the tenant's
///
/// It prefers and names things and widens nothing: a key that only the operator may set is refused by its name. The next
/// request goes by it.
#[utoipa::path(put, path = "/v1/tenants/{id}/config", tag = "config", params(TenantPath), request_body = Overlay, responses(
    (status = 200, description = "The overlay, and what is in effect with it", body = TenantConfig),
))]
pub(super) async fn put(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    call: Call<Box<RawValue>>,
) -> Result<Json<TenantConfig>, Refusal> {
    let overlay = read(&state, &call.body)?;
    let overlay = state.store.put_overlay(&call.actor, &id, overlay).await?;
    let (store, copied) = (state.store.clone(), id.clone());
    // The store has it: a copy that can't be written is written again by the next start.
    let copy = tokio::task::spawn_blocking(move || overlay_file::write_one(&store, &copied, &overlay)).await;
    if let Err(err) = copy.map_err(|err| err.to_string()).and_then(|copy| copy.map_err(|err| err.to_string())) {
        tracing::warn!(tenant = %id, err, "the copy of a tenant's configuration can't be written");
    }
    shown(&state, &id).map(Json)
}

/// Reads an overlay; names the key at fault.
fn read(state: &AdminState, body: &RawValue) -> Result<Overlay, Refusal> {
    // Whatever is no object is refused below, in the words for that.
    let keys: BTreeMap<String, IgnoredAny> = serde_json::from_str(body.get()).unwrap_or_default();
    let config = (state.hooks.config)();
    for name in keys.keys() {
        let by_a_call = ADMIN_ONLY.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(place, _)| *place);
        if let Some(place) = by_a_call.or_else(|| config.get(name).map(|_| CONFIG_FILE)) {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "admin_only_key",
                format!("`{name}` is the operator's to set and never part of a tenant's configuration"),
            )
            .field(name)
            .hint(format!("it is set by {place}")));
        }
    }
    call::parse(body.get().as_bytes())
}

fn shown(state: &AdminState, id: &TenantId) -> Result<TenantConfig, Refusal> {
    let (tenant, overlay) = (state.store.tenant(id)?, state.store.overlay(id)?);
    let mut aliases = overlay.aliases.clone();
    aliases.extend(tenant.aliases);
    let operators = (state.hooks.config)().pointer("/responses/ttl_days").and_then(Value::as_u64);
    let own = overlay.response_ttl_days.map(u64::from);
    let effective = EffectiveConfig {
        default_model: overlay.default_model.clone(),
        aliases,
        response_ttl_days: operators.into_iter().chain(own).min(),
        on_tight_budget: overlay.on_tight_budget.unwrap_or(tenant.quota.on_tight_budget),
        models: tenant.models,
        quota: tenant.quota,
    };
    Ok(TenantConfig { overlay, effective })
}
