//! What went wrong, in this dialect: a whole body is `OpenAI`'s, an event is its own.

use serde_json::{Value, json};

use crate::dialect::form::{Trouble, TroubleKind};
use crate::dialect::openai::trouble;

/// Reads an error's body, or the body of a response that failed.
pub(crate) fn parse(status: u16, body: &[u8]) -> Trouble {
    trouble::parse(status, body)
}

/// The whole body.
pub(crate) fn write(trouble: &Trouble, request_id: &str) -> Vec<u8> {
    trouble::write(trouble, request_id)
}

/// An event of a stream. `OpenAI`'s SDKs raise on a top-level `error`; others read the fields beside it.
pub(crate) fn event(trouble: &Trouble, sequence: u64) -> Vec<u8> {
    let body: Value = serde_json::from_slice(&trouble::write(trouble, "")).unwrap_or_default();
    let event = json!({
        "type": "error",
        "sequence_number": sequence,
        "code": code(trouble),
        "message": trouble.message,
        "param": trouble.param,
        "error": body.get("error"),
    });
    [b"event: error\ndata: ".as_slice(), event.to_string().as_bytes(), b"\n\n"].concat()
}

/// What stands in a response that failed.
pub(super) fn in_response(trouble: &Trouble) -> Value {
    json!({"code": code(trouble), "message": trouble.message})
}

/// One of the schema's codes.
fn code(trouble: &Trouble) -> &'static str {
    match trouble.kind {
        TroubleKind::RateLimit => "rate_limit_exceeded",
        TroubleKind::InvalidRequest | TroubleKind::TooLarge => "invalid_prompt",
        TroubleKind::Authentication
        | TroubleKind::Permission
        | TroubleKind::NotFound
        | TroubleKind::Internal
        | TroubleKind::Overloaded
        | TroubleKind::Timeout => "server_error",
    }
}
