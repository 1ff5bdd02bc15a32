//! What all answers have in common: an id to find it in the log, and headers that keep it out of caches and frames.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::{HeaderName, HeaderValue};
use openclawmu_store::RequestId;
use tracing::Instrument;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost layer. The id is always the gateway's own: a caller can't write into the log with it.
pub(super) async fn finish(mut request: Request, next: Next) -> Response {
    let id = request_id();
    request.extensions_mut().insert(id);
    let span = tracing::info_span!("admin", request_id = %id, method = %request.method(), path = request.uri().path());
    let mut response = async {
        let response = next.run(request).await;
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    }
    .instrument(span)
    .await;
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(X_REQUEST_ID, id);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // Only a page of the gateway's own says more.
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(nothing);
    response
}

/// A random id; zero where the system gives no random bytes, which no call depends on.
fn request_id() -> RequestId {
    let mut bytes = [0_u8; 16];
    if let Err(err) = getrandom::fill(&mut bytes) {
        tracing::warn!(%err, "no random bytes for a request id");
    }
    RequestId(u128::from_be_bytes(bytes))
}
