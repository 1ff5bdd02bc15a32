//! Everything that the admin API refuses with, and the one match from the store's errors to it. The cause goes to the log.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use openclawmu_store::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

/// The code of a refusal, in the extensions of its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusalCode(pub(super) &'static str);

/// What a refusal says to people, in the extensions of its answer: for whoever shows it otherwise than as JSON.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) message: String,
    pub(super) field: Option<String>,
    pub(super) hint: Option<String>,
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: ErrorDetail,
    retry_after_seconds: Option<i64>,
}

/// The body of every refusal
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorBody {
    error: ErrorDetail,
}

/// What is wrong
#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetail {
    /// The kind of refusal, for programs.
    code: &'static str,
    /// What is wrong, for people.
    message: String,
    /// The field or parameter at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    hint: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let error = ErrorDetail { code, message: message.into(), field: None, hint: None };
        Self { status, error, retry_after_seconds: None }
    }

    /// A value that can't be used: 400.
    pub(super) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        let mut refusal = Self::new(StatusCode::BAD_REQUEST, "invalid_value", message);
        refusal.error.field = Some(field.into());
        refusal
    }

    /// Names the field or parameter at fault.
    pub(super) fn field(mut self, field: impl Into<String>) -> Self {
        self.error.field = Some(field.into());
        self
    }

    /// No such thing: 404.
    pub(super) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("no such {what}"))
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The field or parameter at fault.
    pub(super) fn field_name(&self) -> Option<&str> {
        self.error.field.as_deref()
    }

    pub(super) fn said(&self) -> Said {
        let ErrorDetail { message, field, hint, .. } = &self.error;
        Said { message: message.clone(), field: field.clone(), hint: hint.clone() }
    }

    /// Marks an answer as this refusal: its code, for the audit log, and when to try again.
    pub(super) fn mark(&self, response: &mut Response) {
        response.extensions_mut().insert(RefusalCode(self.error.code));
        response.extensions_mut().insert(self.said());
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error.hint = Some(hint.into());
        self
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
        let mut marked = Response::default();
        self.mark(&mut marked);
        let mut response = (self.status, Json(ErrorBody { error: self.error })).into_response();
        response.extensions_mut().extend(marked.extensions().clone());
        response.headers_mut().extend(marked.headers().clone());
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"openclawmu-admin\""));
        }
        response
    }
}
