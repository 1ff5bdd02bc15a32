//! `/healthz`, `/readyz`, `/metrics`, and the configuration. The first three need no key: they say nothing of any tenant.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// `GET /readyz`: 200 when the gateway can serve, else 503 with the reason.
pub(super) async fn readyz(State(state): State<AdminState>) -> Result<Json<Value>, Refusal> {
    let ready =
        if state.store.healthy() { (state.hooks.readiness)() } else { Err("the store takes no writes".to_owned()) };
    match ready {
        Ok(()) => Ok(Json(json!({"status": "ok"}))),
        Err(reason) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reason).retry_after(1)),
    }
}

/// `GET /metrics`, for Prometheus.
pub(super) async fn metrics(State(state): State<AdminState>) -> Response {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], (state.hooks.metrics)())
        .into_response()
}

/// `GET /v1/config`: what is in use, without its secrets.
pub(super) async fn config(State(state): State<AdminState>) -> Json<Value> {
    Json((state.hooks.config)())
}
