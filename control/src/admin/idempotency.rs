//! `Idempotency-Key`: a POST that is sent again gets the answer that it got, and nothing happens twice.
//!
//! The answer may hold a new secret. It is kept sealed under the master key, bound to its idempotency key, so that the
//! database alone can't give it away.

use std::sync::Arc;

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use openclawmu_store::{Answered, Change, Idempotency, StoreError, StoredAnswer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Tells a repeated answer from the first one.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A key, and the request that it came with.
pub(super) struct OnceKey {
    key: String,
    request_hash: [u8; 32],
}

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

impl OnceKey {
    /// The key of the request of this method, path and body. The caller is no part of it: all admins are one authority.
    pub(super) fn new(key: String, method: &Method, uri: &Uri, body: &[u8]) -> Self {
        let path = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
        let mut hash = Sha256::new();
        // Neither a method nor a path can hold a line feed.
        for part in [method.as_str().as_bytes(), b"\n", path.as_bytes(), b"\n", body] {
            hash.update(part);
        }
        Self { key, request_hash: hash.finalize().into() }
    }
}

/// Makes `change`, once where the call has a key, and answers 201 with what `render` says of it.
pub(super) async fn create<T: Send + 'static>(
    state: &AdminState,
    once: Option<OnceKey>,
    change: Change<T>,
    render: fn(&T) -> Value,
) -> Result<Response, Refusal> {
    let key = once.as_ref().map(|once| once.key.clone());
    let idempotency = once.map(|once| sealing(state, once, render)).transpose()?;
    match change.once(idempotency).await? {
        Answered::Now(done) => Ok((StatusCode::CREATED, axum::Json(render(&done))).into_response()),
        Answered::Before(stored) => replay(state, &key.unwrap_or_default(), &stored),
    }
}

/// The answer that a call with this key got before, if any; for a call that does more than one change.
pub(super) fn replayed(state: &AdminState, once: &OnceKey) -> Result<Option<Response>, Refusal> {
    let stored = state.store.idempotent_answer(&once.key, &once.request_hash)?;
    stored.map(|stored| replay(state, &once.key, &stored)).transpose()
}

fn sealing<T: Send + 'static>(
    state: &AdminState,
    once: OnceKey,
    render: fn(&T) -> Value,
) -> Result<Idempotency<T>, StoreError> {
    let (master, aad) = (Arc::clone(&state.master), aad(&once.key));
    Idempotency::new(&once.key, once.request_hash, move |done| {
        let sealed = master.seal(&aad, render(done).to_string().as_bytes()).map_err(StoreError::Unavailable)?;
        Ok(StoredAnswer { status: StatusCode::CREATED.as_u16(), sealed })
    })
}

fn replay(state: &AdminState, key: &str, stored: &StoredAnswer) -> Result<Response, Refusal> {
    let Ok(body) = state.master.open(&aad(key), &stored.sealed) else {
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            "answer_lost",
            "this call was made before, but its answer can't be opened any more",
        )
        .hint("master.key is not the one that sealed it; look at what exists, and use a new Idempotency-Key"));
    };
    let status = StatusCode::from_u16(stored.status).map_err(|err| Refusal::internal(&err))?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (IDEMPOTENT_REPLAYED, HeaderValue::from_static("true")),
    ];
    Ok((status, headers, Bytes::from(body)).into_response())
}

/// Binds a sealed answer to its key: copied to another row it does not open.
fn aad(key: &str) -> Vec<u8> {
    format!("idempotency|{key}").into_bytes()
}
