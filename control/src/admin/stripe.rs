//! `/v1/billing/push/stripe`: pushes usage to Stripe, and says how far it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::admin::call::Call;
use crate::admin::idempotency;
use crate::admin::refusal::{ErrorBody, Refusal};
use crate::admin::state::AdminState;
use crate::stripe::{PushError, PushProgress, PushReport, PushRequest, StripePush};

/// Push usage to Stripe
///
/// Answers when the push has ended. A call that is cut leaves a push that the next goes on with; one that is sent again under
/// its key gets its answer and pushes nothing.
#[utoipa::path(post, path = "/v1/billing/push/stripe", tag = "billing", request_body = PushRequest, responses(
    (status = 201, description = "What was done, and what is left", body = PushReport),
    (status = 404, description = "There is no such tenant", body = ErrorBody),
))]
pub(super) async fn push(State(state): State<AdminState>, call: Call<PushRequest>) -> Result<Response, Refusal> {
    let push = configured(&state)?;
    if let Some(once) = &call.once
        && let Some(answer) = idempotency::replayed(&state, once)?
    {
        return Ok(answer);
    }
    let report = push.run(&call.actor, &call.body).await?;
    let kept = state.store.keep_answer(json!(report));
    idempotency::create(&state, call.once, kept, Value::clone).await
}

/// How far a push to Stripe is, and how the last one ended
#[utoipa::path(get, path = "/v1/billing/push/stripe", tag = "billing", responses(
    (status = 200, description = "Its progress", body = PushProgress),
    (status = 409, description = "No account at Stripe is configured", body = ErrorBody),
))]
pub(super) async fn progress(State(state): State<AdminState>) -> Result<Json<PushProgress>, Refusal> {
    Ok(Json(configured(&state)?.progress()))
}

fn configured(state: &AdminState) -> Result<&Arc<StripePush>, Refusal> {
    state.stripe.as_ref().ok_or_else(|| {
        Refusal::new(StatusCode::CONFLICT, "no_stripe", "no account at Stripe is configured")
            .hint("set stripe.api_key and at least one [[stripe.meter]], and start the gateway again")
    })
}

impl From<PushError> for Refusal {
    fn from(err: PushError) -> Self {
        match err {
            PushError::Busy => Self::new(StatusCode::CONFLICT, "push_running", "a push to Stripe is running already")
                .hint("GET /v1/billing/push/stripe says how far it is")
                .retry_after(5),
            PushError::Store(err) => err.into(),
        }
    }
}
