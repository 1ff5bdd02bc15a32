//! `/healthz`, `/readyz` and `/metrics`. They need no key: they say nothing of any tenant.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::refusal::{ErrorBody, Refusal};
use crate::admin::state::AdminState;

/// All is well
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

const OK: Json<Health> = Json(Health { status: "ok" });

/// Whether the process answers
#[utoipa::path(get, path = "/healthz", tag = "gateway", responses((status = 200, description = "It does", body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    OK
}

/// Whether the gateway can serve
#[utoipa::path(get, path = "/readyz", tag = "gateway", responses(
    (status = 200, description = "It can", body = Health),
    (status = 503, description = "It can't, and why", body = ErrorBody),
))]
pub(super) async fn readyz(State(state): State<AdminState>) -> Result<Json<Health>, Refusal> {
    let ready =
        if state.store.healthy() { (state.hooks.readiness)() } else { Err("the store takes no writes".to_owned()) };
    match ready {
        Ok(()) => Ok(OK),
        Err(reason) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reason).retry_after(1)),
    }
}

/// Metrics, for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "gateway", responses(
    (status = 200, description = "In OpenMetrics' text format", body = String, content_type = "application/openmetrics-text"),
))]
pub(super) async fn metrics(State(state): State<AdminState>) -> Response {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], (state.hooks.metrics)())
        .into_response()
}
