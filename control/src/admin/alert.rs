//! `/v1/alerts`: the webhooks that tell of budgets, how their delivery goes, and one that is only a test.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use openclawmu_store::Webhook;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::admin::call::{Call, Params, WebhookPath};
use crate::admin::idempotency;
use crate::admin::page::{Page, PageParams, page};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// Nothing can be said of it
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoFields {}

/// Queue a webhook that says nothing
///
/// Ask for its id to see how it went.
#[utoipa::path(post, path = "/v1/alerts/test", tag = "alerts", request_body = NoFields, responses(
    (status = 201, description = "The webhook", body = Webhook),
))]
pub(super) async fn test(State(state): State<AdminState>, call: Call<NoFields>) -> Result<Response, Refusal> {
    if !state.has_webhook {
        return Err(Refusal::new(StatusCode::CONFLICT, "no_webhook", "no webhook is configured")
            .hint("set alerts.webhook_url and alerts.webhook_secret, and start the gateway again"));
    }
    let change = state.store.test_webhook(&call.actor);
    idempotency::create(&state, call.once, change, |webhook| json!(webhook)).await
}

/// List the webhooks, newest first
#[utoipa::path(get, path = "/v1/alerts", tag = "alerts", params(PageParams), responses(
    (status = 200, description = "A page of webhooks", body = Page<Webhook>),
))]
pub(super) async fn list(
    State(state): State<AdminState>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Webhook>>, Refusal> {
    let (limit, before) = (params.limit()?, params.after::<i64>()?);
    let webhooks = state.store.webhooks(before, limit.saturating_add(1))?;
    Ok(page(webhooks, limit, |webhook| webhook.cursor.to_string()))
}

/// How the delivery of a webhook goes
#[utoipa::path(get, path = "/v1/alerts/{webhook}", tag = "alerts", params(WebhookPath), responses(
    (status = 200, description = "The webhook", body = Webhook),
))]
pub(super) async fn get(
    State(state): State<AdminState>,
    WebhookPath(id): WebhookPath,
) -> Result<Json<Webhook>, Refusal> {
    Ok(Json(state.store.webhook(&id)?))
}
