//! `/v1/tenants/{id}/sandbox/exec`: the operator runs something in a tenant's sandbox, on that tenant's quota.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::admin::call::{Call, TenantPath};
use crate::admin::idempotency;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::run::{OperatorRun, RunAnswer, RunRefused, RunRequest, Running};

/// Events that wait for their reader; a run whose reader is slow is slow as well.
const EVENTS: usize = 16;

/// Run something in a tenant's sandbox
///
/// As `POST /v1/sandbox/exec` of the edge does: on the tenant's files, within its quotas, on a row of its ledger that names no
/// token. It is put on record before it begins. How a command ends is no error. Who accepts `text/event-stream` gets what it writes
/// while it runs: `run`, then `stdout` and `stderr`, then `result` with what came of it, or `error`.
#[utoipa::path(post, path = "/v1/tenants/{id}/sandbox/exec", tag = "sandbox", params(TenantPath), request_body = RunRequest, responses(
    (status = 201, description = "What came of it", body = RunAnswer),
    (status = 200, description = "What it writes, as events", content_type = "text/event-stream", body = String),
    (status = 507, description = "The tenant's workspace is full", body = crate::admin::refusal::ErrorBody),
))]
pub(super) async fn exec(
    State(state): State<AdminState>,
    TenantPath(tenant): TenantPath,
    headers: HeaderMap,
    call: Call<RunRequest>,
) -> Result<Response, Refusal> {
    let Call { actor, body: request, once } = call;
    if wants_events(&headers) {
        if once.is_some() {
            return Err(Refusal::invalid("Idempotency-Key", "what is streamed is not kept to be answered again"));
        }
        let (events, inbox) = mpsc::channel(EVENTS);
        let asked = OperatorRun { tenant, actor, request, events: Some(events) };
        return streamed(state.hooks.runner.run(asked), inbox).await;
    }
    if let Some(once) = &once
        && let Some(answer) = idempotency::replayed(&state, once)?
    {
        return Ok(answer);
    }
    let asked = OperatorRun { tenant, actor, request, events: None };
    let answer = state.hooks.runner.run(asked).await?;
    let kept = state.store.keep_answer(json!(answer));
    idempotency::create(&state, once, kept, Value::clone).await
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accepted =
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|all| all.split(','));
    accepted.into_iter().any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/event-stream"))
}

/// Answers when it has begun, so that whoever is refused before gets a refusal as anywhere else.
async fn streamed(mut run: Running, mut inbox: mpsc::Receiver<Vec<u8>>) -> Result<Response, Refusal> {
    let mut pending = VecDeque::new();
    let run = tokio::select! {
        biased;
        Some(first) = inbox.recv() => {
            pending.push_back(first);
            Some(run)
        }
        done = &mut run => {
            pending.push_back(event("result", &json!(done?)));
            None
        }
    };
    let body = futures_util::stream::unfold(Streamed { pending, inbox, run }, next);
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    Ok((StatusCode::OK, headers, Body::from_stream(body)).into_response())
}

/// A run that is being told. Dropped with its reader, which ends it.
struct Streamed {
    pending: VecDeque<Vec<u8>>,
    inbox: mpsc::Receiver<Vec<u8>>,
    run: Option<Running>,
}

async fn next(mut streamed: Streamed) -> Option<(Result<Vec<u8>, Infallible>, Streamed)> {
    loop {
        if let Some(event) = streamed.pending.pop_front() {
            return Some((Ok(event), streamed));
        }
        let run = streamed.run.as_mut()?;
        tokio::select! {
            biased;
            Some(event) = streamed.inbox.recv() => streamed.pending.push_back(event),
            done = run => {
                while let Ok(event) = streamed.inbox.try_recv() {
                    streamed.pending.push_back(event);
                }
                streamed.pending.push_back(match done {
                    Ok(answer) => event("result", &json!(answer)),
                    Err(refused) => event("error", &json!({"error": {"code": refused.code, "message": refused.message}})),
                });
                streamed.run = None;
            }
        }
    }
}

fn event(name: &str, data: &Value) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
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
