//! `/v1/archives`: months of request detail that were moved to compressed files.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use openclawmu_store::{Archive, Month};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::call::Call;
use crate::admin::page::Whole;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// Which month to move.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewArchive {
    /// A month that is over.
    #[serde(default)]
    #[schema(value_type = Month, required = true)]
    month: Option<String>,
}

/// What was moved
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Archived {
    /// The file; null where there was nothing left to move.
    #[schema(required = true)]
    archive: Option<Archive>,
}

/// Move the request detail of a month that is over to a compressed file
///
/// To call it again is to do it once, so that it needs no idempotency key. Takes long on a large month.
#[utoipa::path(post, path = "/v1/archives", tag = "archives", request_body = NewArchive, responses(
    (status = 200, description = "There was nothing left to move", body = Archived),
    (status = 201, description = "The file", body = Archived),
))]
pub(super) async fn create(State(state): State<AdminState>, call: Call<NewArchive>) -> Result<Response, Refusal> {
    let missing = || Refusal::invalid("month", "month must be a month such as 2026-11");
    let month: Month = call.body.month.ok_or_else(missing)?.parse().map_err(|_| missing())?;
    let (store, actor) = (state.store.clone(), call.actor);
    let made = tokio::task::spawn_blocking(move || store.archive(&actor, month));
    Ok(match made.await.map_err(|err| Refusal::internal(&err))?? {
        Some(archive) => (StatusCode::CREATED, Json(Archived { archive: Some(archive) })).into_response(),
        None => Json(Archived { archive: None }).into_response(),
    })
}

/// List the archives, oldest month first
#[utoipa::path(get, path = "/v1/archives", tag = "archives", responses(
    (status = 200, description = "All archives", body = Whole<Archive>),
))]
pub(super) async fn list(State(state): State<AdminState>) -> Result<Json<Whole<Archive>>, Refusal> {
    Ok(Json(Whole { data: state.store.archives()? }))
}
