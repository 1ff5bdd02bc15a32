//! `/v1/tenants/{id}/sandbox/exec`: the operator runs something in a tenant's sandbox, on that tenant's quota.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::admin::call::{Call, TenantPath};
use crate::admin::idempotency;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::run::{OperatorRun, RunAnswer, RunRefused, RunRequest};

/// Run something in a tenant's sandbox
///
/// As `POST /v1/sandbox/exec` of the edge does: on the tenant's files, within its quotas, on a row of its ledger that names no
/// token. It is put on record before it begins. How a command ends is no error.
#[utoipa::path(post, path = "/v1/tenants/{id}/sandbox/exec", tag = "sandbox", params(TenantPath), request_body = RunRequest, responses(
    (status = 201, description = "What came of it", body = RunAnswer),
    (status = 507, description = "The tenant's workspace is full", body = crate::admin::refusal::ErrorBody),
))]
pub(super) async fn exec(
    State(state): State<AdminState>,
    TenantPath(tenant): TenantPath,
    call: Call<RunRequest>,
) -> Result<Response, Refusal> {
    if let Some(once) = &call.once
        && let Some(answer) = idempotency::replayed(&state, once)?
    {
        return Ok(answer);
    }
    let asked = OperatorRun { tenant, actor: call.actor, request: call.body };
    let answer = state.hooks.runner.run(asked).await?;
    let kept = state.store.keep_answer(json!(answer));
    idempotency::create(&state, call.once, kept, Value::clone).await
}

impl From<RunRefused> for Refusal {
    fn from(refused: RunRefused) -> Self {
        let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut refusal = Self::new(status, refused.code, refused.message);
        if let Some(field) = refused.field {
            refusal = refusal.field(field);
        }
        match refused.retry_after_seconds {
            Some(seconds) => refusal.retry_after(seconds),
            None => refusal,
        }
    }
}
