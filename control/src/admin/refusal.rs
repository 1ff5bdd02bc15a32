//! Everything that the admin API refuses with, and the one match from the store's errors to it. The cause goes to the log.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use openclawmu_store::StoreError;
use serde_json::{Map, Value, json};

/// The code of a refusal, in the extensions of its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusalCode(pub(super) &'static str);

/// A refusal: `{"error":{"code","message","field"?,"hint"?}}`.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    field: Option<String>,
    hint: Option<String>,
    retry_after_seconds: Option<i64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), field: None, hint: None, retry_after_seconds: None }
    }

    /// A value that can't be used: 400.
    pub(super) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(StatusCode::BAD_REQUEST, "invalid_value", message) }
    }

    /// No such thing: 404.
    pub(super) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("no such {what}"))
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(super) fn retry_after(self, seconds: i64) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    /// A defect of this program or a damaged store: 500.
    pub(super) fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "an admin call failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the gateway failed to do this")
            .hint("the cause is in the gateway's log, with this answer's x-request-id")
    }
}

impl From<StoreError> for Refusal {
    fn from(err: StoreError) -> Self {
        match err {
            StoreError::Unavailable(cause) => {
                tracing::error!(cause, "the store is unavailable");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "store_unavailable",
                    "the store can't answer now; nothing was changed",
                )
                .hint("try again; if it lasts, see the gateway's log: the disk may be full")
                .retry_after(1)
            }
            StoreError::AuditUnavailable(cause) => {
                tracing::error!(cause, "the audit log is unavailable");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "audit_unavailable",
                    "the audit log can't be written now; nothing was changed",
                )
                .hint("try again; if it lasts, see the gateway's log: the disk may be full, or the log's folder read-only")
                .retry_after(1)
            }
            StoreError::NotFound(what) => Self::not_found(what),
            StoreError::Conflict(message) => Self::new(StatusCode::CONFLICT, "conflict", message),
            StoreError::Invalid { field, message } => Self::invalid(field.clone(), format!("{field}: {message}")),
            StoreError::KeyReused => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", err.to_string())
            }
            StoreError::Corrupt(_)
            | StoreError::Locked(_)
            | StoreError::NewerSchema { .. }
            | StoreError::SqliteTooOld(_)
            | StoreError::KeyFile { .. }
            | StoreError::DataDir { .. } => Self::internal(&err),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut error = Map::new();
        error.insert("code".to_owned(), self.code.into());
        error.insert("message".to_owned(), self.message.into());
        if let Some(field) = self.field {
            error.insert("field".to_owned(), field.into());
        }
        if let Some(hint) = self.hint {
            error.insert("hint".to_owned(), hint.into());
        }
        let mut response = (self.status, Json(json!({"error": Value::Object(error)}))).into_response();
        response.extensions_mut().insert(RefusalCode(self.code));
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"openclawmu-admin\""));
        }
        response
    }
}
