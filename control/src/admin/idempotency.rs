//! `Idempotency-Key` of an admin's call: the header, and the answer that is given again.

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use openclawmu_store::Change;
use serde_json::Value;

use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::once::{Given, NotGiven, once, opened};

pub(super) use crate::once::OnceKey;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Tells a repeated answer from the first one.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The key that a request carries, if any.
pub(super) fn header(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let key = value
        .to_str()
        .ok()
        .filter(|key| (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()));
    match (key, values.next()) {
        (Some(key), None) => Ok(Some(key.to_owned())),
        _ => Err(Refusal::invalid(
            "Idempotency-Key",
            "Idempotency-Key must be one key of 1 to 255 visible ASCII characters",
        )),
    }
}

/// The key of the request of this method, path and body. The caller is no part of it: all admins are one authority.
pub(super) fn once_key(key: String, method: &Method, uri: &Uri, body: &[u8]) -> OnceKey {
    let path = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    // Neither a method nor a path can hold a line feed.
    OnceKey::of_admin(key, &[method.as_str().as_bytes(), b"\n", path.as_bytes(), b"\n", body])
}

/// Makes `change`, once where the call has a key, and answers 201 with what `render` says of it.
pub(super) async fn create<T: Send + 'static>(
    state: &AdminState,
    key: Option<OnceKey>,
    change: Change<T>,
    render: fn(&T) -> Value,
) -> Result<Response, Refusal> {
    answer(once(&state.master, key, change, render).await?)
}

/// Whether an answer is one that was given before.
pub(super) fn is_replayed(response: &Response) -> bool {
    response.headers().contains_key(IDEMPOTENT_REPLAYED)
}

/// The answer that a call with this key got before, if any; for a call that does more than one change.
pub(super) fn replayed(state: &AdminState, once: &OnceKey) -> Result<Option<Response>, Refusal> {
    let stored = state.store.idempotent_answer(&once.key, &once.request_hash)?;
    stored.map(|stored| answer(opened(&state.master, &once.key, &stored)?)).transpose()
}

fn answer(given: Given) -> Result<Response, Refusal> {
    let (status, body) = match given {
        Given::Made(body) => return Ok((StatusCode::CREATED, axum::Json(body)).into_response()),
        Given::Before { status, body } => (status, body),
    };
    let status = StatusCode::from_u16(status).map_err(|err| Refusal::internal(&err))?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (IDEMPOTENT_REPLAYED, HeaderValue::from_static("true")),
    ];
    Ok((status, headers, Bytes::from(body)).into_response())
}

impl From<NotGiven> for Refusal {
    fn from(err: NotGiven) -> Self {
        match err {
            NotGiven::Store(err) => err.into(),
            NotGiven::AnswerLost => Self::new(StatusCode::CONFLICT, "answer_lost", err.to_string())
                .hint("master.key is not the one that sealed it; look at what exists, and use a new Idempotency-Key"),
        }
    }
}
