//! What went wrong, in this dialect, both ways.

use serde_json::{Value, json};

use crate::dialect::form::{Trouble, TroubleKind};
use crate::dialect::json;

/// Each kind with the word that `type` has for it.
const TYPES: [(TroubleKind, &str); 9] = [
    (TroubleKind::InvalidRequest, "invalid_request_error"),
    (TroubleKind::Authentication, "authentication_error"),
    (TroubleKind::Permission, "permission_error"),
    (TroubleKind::NotFound, "not_found_error"),
    (TroubleKind::TooLarge, "request_too_large"),
    (TroubleKind::RateLimit, "rate_limit_error"),
    (TroubleKind::Internal, "server_error"),
    (TroubleKind::Overloaded, "overloaded_error"),
    (TroubleKind::Timeout, "timeout_error"),
];

/// Reads an error's body. Compatible servers put the message at the top (older vLLM), or make `error` a string (Ollama), or
/// call it `detail` (`FastAPI`). A status of 0 is that of an event in a stream: the words alone tell the kind.
pub(crate) fn parse(status: u16, body: &[u8]) -> Trouble {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = match body.get("error") {
        Some(error) if !error.is_null() => error,
        _ => &body,
    };
    let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
    let kind_word = text("type");
    let code = match error.get("code") {
        Some(Value::String(code)) => Some(code.clone()),
        Some(Value::Number(code)) => Some(code.to_string()),
        _ => None,
    };
    let message = error
        .as_str()
        .map(str::to_owned)
        .or_else(|| text("message"))
        .or_else(|| text("detail"))
        .unwrap_or_else(|| "The provider gave no reason.".to_owned());
    Trouble {
        kind: kind_of_status(status)
            .or_else(|| kind_of_status(code.as_deref()?.parse().ok()?))
            .unwrap_or_else(|| kind_of_words(kind_word.as_deref(), code.as_deref())),
        message,
        param: text("param"),
        code: code.or(kind_word),
    }
}

/// The kind that an HTTP status stands for; `None` for what is no error.
pub(crate) fn kind_of_status(status: u16) -> Option<TroubleKind> {
    Some(match status {
        401 => TroubleKind::Authentication,
        403 => TroubleKind::Permission,
        404 => TroubleKind::NotFound,
        408 | 504 => TroubleKind::Timeout,
        413 => TroubleKind::TooLarge,
        429 => TroubleKind::RateLimit,
        503 | 529 => TroubleKind::Overloaded,
        400..=499 => TroubleKind::InvalidRequest,
        500..=599 => TroubleKind::Internal,
        _ => return None,
    })
}

fn kind_of_words(kind: Option<&str>, code: Option<&str>) -> TroubleKind {
    if let Some((found, _)) = TYPES.iter().find(|(_, word)| Some(*word) == kind) {
        return *found;
    }
    match code.or(kind) {
        Some("rate_limit_exceeded" | "insufficient_quota" | "requests" | "tokens") => TroubleKind::RateLimit,
        Some("invalid_api_key") => TroubleKind::Authentication,
        Some("model_not_found") => TroubleKind::NotFound,
        Some("context_length_exceeded" | "invalid_prompt") => TroubleKind::InvalidRequest,
        _ => TroubleKind::Internal,
    }
}

/// The whole body. The request's id stands in a header alone in this dialect.
pub(crate) fn write(trouble: &Trouble, _request_id: &str) -> Vec<u8> {
    let kind = TYPES.iter().find(|(kind, _)| *kind == trouble.kind).map_or("server_error", |(_, word)| word);
    let error = json!({"message": trouble.message, "type": kind, "param": trouble.param, "code": trouble.code});
    json::to_bytes(&json!({"error": error}))
}

/// The same as an event of a stream that has begun.
pub(crate) fn event(trouble: &Trouble, request_id: &str) -> Vec<u8> {
    [b"data: ".as_slice(), &write(trouble, request_id), b"\n\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_servers_way_to_say_it_is_understood() {
        let cases: [(u16, &str, TroubleKind, &str); 6] = [
            (
                400,
                r#"{"error":{"message":"m","type":"invalid_request_error","param":"model","code":null}}"#,
                TroubleKind::InvalidRequest,
                "m",
            ),
            (
                404,
                r#"{"object":"error","message":"m","type":"NotFoundError","param":null,"code":404}"#,
                TroubleKind::NotFound,
                "m",
            ),
            (500, r#"{"error":"m"}"#, TroubleKind::Internal, "m"),
            (422, r#"{"detail":"m"}"#, TroubleKind::InvalidRequest, "m"),
            (
                0,
                r#"{"error":{"message":"m","type":"requests","code":"rate_limit_exceeded"}}"#,
                TroubleKind::RateLimit,
                "m",
            ),
            (503, "<html>", TroubleKind::Overloaded, "The provider gave no reason."),
        ];
        for (status, body, kind, message) in cases {
            let trouble = parse(status, body.as_bytes());
            assert_eq!((trouble.kind, trouble.message.as_str()), (kind, message), "{body}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for (kind, _) in TYPES {
            let trouble = Trouble { kind, message: "a\"b\n".into(), param: Some("p".into()), code: Some("c".into()) };
            assert_eq!(parse(0, &write(&trouble, "id")), trouble);
        }
    }
}
