//! `/v1/alerts`: the webhooks that tell of budgets, how their delivery goes, and one that is only a test.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use openclawmu_store::Webhook;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::call::{Call, Params, WebhookPath};
use crate::admin::idempotency;
use crate::admin::page::{PageParams, page};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// A test has no parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoFields {}

/// `POST /v1/alerts/test`: queues a webhook that says nothing; 201 with its id, to be asked for how it went.
pub(super) async fn test(State(state): State<AdminState>, call: Call<NoFields>) -> Result<Response, Refusal> {
    if !state.has_webhook {
        return Err(Refusal::new(StatusCode::CONFLICT, "no_webhook", "no webhook is configured")
            .hint("set alerts.webhook_url and alerts.webhook_secret, and start the gateway again"));
    }
    let change = state.store.test_webhook(&call.actor);
    idempotency::create(&state, call.once, change, |webhook| json!(webhook)).await
}

/// `GET /v1/alerts`: webhooks, newest first.
pub(super) async fn list(
    State(state): State<AdminState>,
    Params(params): Params<PageParams>,
) -> Result<Json<Value>, Refusal> {
    let (limit, before) = (params.limit()?, params.after::<i64>()?);
    let webhooks = state.store.webhooks(before, limit.saturating_add(1))?;
    Ok(Json(page(webhooks, limit, |webhook| webhook.cursor.to_string())))
}

/// `GET /v1/alerts/{webhook}`: one webhook.
pub(super) async fn get(
    State(state): State<AdminState>,
    WebhookPath(id): WebhookPath,
) -> Result<Json<Webhook>, Refusal> {
    Ok(Json(state.store.webhook(&id)?))
}
