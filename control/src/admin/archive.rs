//! `/v1/archives`: months of request detail that were moved to compressed files.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use openclawmu_store::Month;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::call::Call;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// Which month to move.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewArchive {
    #[serde(default)]
    month: Option<String>,
}

/// `POST /v1/archives`: moves a month that is over. 201 with the file, 200 where there was nothing left to move; to call it
/// again is to do it once, so that it needs no idempotency key. Takes long on a large month.
pub(super) async fn create(State(state): State<AdminState>, call: Call<NewArchive>) -> Result<Response, Refusal> {
    let missing = || Refusal::invalid("month", "month must be a month such as 2026-11");
    let month: Month = call.body.month.ok_or_else(missing)?.parse().map_err(|_| missing())?;
    let (store, actor) = (state.store.clone(), call.actor);
    let made = tokio::task::spawn_blocking(move || store.archive(&actor, month));
    Ok(match made.await.map_err(|err| Refusal::internal(&err))?? {
        Some(archive) => (StatusCode::CREATED, Json(json!({"archive": archive}))).into_response(),
        None => Json(json!({"archive": null})).into_response(),
    })
}

/// `GET /v1/archives`: oldest month first.
pub(super) async fn list(State(state): State<AdminState>) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({"data": state.store.archives()?})))
}
