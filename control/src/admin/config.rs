//! `/v1/config`: what is in use, and how it is read again.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::admin::alert::NoFields;
use crate::admin::call::Call;
use crate::admin::idempotency;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::reload::{self, Reloaded};

/// The configuration in use
///
/// As the file has it, with every default. Secrets are references in it and stay so. What was changed in the file and not
/// reloaded, or needs a start, is not in it.
#[utoipa::path(get, path = "/v1/config", tag = "config", responses((status = 200, description = "Table by table", body = Object)))]
pub(super) async fn config(State(state): State<AdminState>) -> Json<Value> {
    Json((state.hooks.config)())
}

/// Read the configuration file again
///
/// It is checked as a whole: one with a mistake changes nothing. Upstreams and aliases change at once; what needs a start is
/// named.
#[utoipa::path(post, path = "/v1/config/reload", tag = "config", request_body = NoFields, responses(
    (status = 201, description = "What changed", body = Reloaded),
))]
pub(super) async fn reload(State(state): State<AdminState>, call: Call<NoFields>) -> Result<Response, Refusal> {
    if let Some(once) = &call.once
        && let Some(answer) = idempotency::replayed(&state, once)?
    {
        return Ok(answer);
    }
    let reread = state.hooks.reread.clone();
    let prepared = tokio::task::spawn_blocking(move || reread()).await.map_err(|err| Refusal::internal(&err))?;
    match prepared {
        Ok(prepared) => {
            let change = reload::reload(&state.store, &call.actor, prepared);
            idempotency::create(&state, call.once, change, |reloaded| json!(reloaded)).await
        }
        Err(reason) => {
            reload::refused(&state.store, &call.actor).await?;
            Err(Refusal::new(StatusCode::BAD_REQUEST, "invalid_config", reason).hint(
                "nothing was changed: correct the file, try it with `openclawmu config check`, and reload it again",
            ))
        }
    }
}
