//! Errors: `{"error": {"code", "message", "status", "details"}}`, whole or as one event of a stream.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::dialect::form::{Trouble, TroubleKind};
use crate::dialect::json;

/// Each kind with its status, whole and in words.
const KINDS: [(TroubleKind, u16, &str); 9] = [
    (TroubleKind::InvalidRequest, 400, "INVALID_ARGUMENT"),
    (TroubleKind::Authentication, 401, "UNAUTHENTICATED"),
    (TroubleKind::Permission, 403, "PERMISSION_DENIED"),
    (TroubleKind::NotFound, 404, "NOT_FOUND"),
    (TroubleKind::TooLarge, 413, "INVALID_ARGUMENT"),
    (TroubleKind::RateLimit, 429, "RESOURCE_EXHAUSTED"),
    (TroubleKind::Internal, 500, "INTERNAL"),
    (TroubleKind::Overloaded, 503, "UNAVAILABLE"),
    (TroubleKind::Timeout, 504, "DEADLINE_EXCEEDED"),
];

/// Details are of several types, each named by an address.
const TYPES: &str = "type.googleapis.com/google.rpc.";

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    error: Option<Error>,
}

/// The inner object.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Error {
    code: Option<u16>,
    message: Option<String>,
    status: Option<String>,
    details: Option<Vec<Value>>,
}

impl Error {
    /// What it says; `http` is the status it came with.
    pub(super) fn trouble(self, http: Option<u16>) -> Trouble {
        let details = self.details.unwrap_or_default();
        let reason = detail(&details, "ErrorInfo").and_then(|info| info.get("reason")).and_then(Value::as_str);
        let param = detail(&details, "BadRequest").and_then(|bad| bad.pointer("/fieldViolations/0/field"));
        let status = self.code.or(http).unwrap_or(500);
        let mut kind = of_status(status);
        if let Some((named, ..)) = KINDS.iter().find(|(_, _, name)| Some(*name) == self.status.as_deref())
            && kind != TroubleKind::TooLarge
        {
            kind = *named;
        }
        // Google says 400 of a key that it does not know.
        if reason == Some("API_KEY_INVALID") {
            kind = TroubleKind::Authentication;
        }
        Trouble {
            kind,
            message: self.message.unwrap_or_default(),
            param: param.and_then(Value::as_str).map(str::to_owned),
            code: reason.map(str::to_owned).or(self.status),
        }
    }
}

fn detail<'a>(details: &'a [Value], kind: &str) -> Option<&'a Value> {
    let is = |detail: &&Value| {
        let name = detail.get("@type").and_then(Value::as_str).and_then(|name| name.strip_prefix(TYPES));
        name == Some(kind)
    };
    details.iter().find(is)
}

/// The kind that an HTTP status stands for.
pub(super) fn of_status(status: u16) -> TroubleKind {
    match status {
        401 => TroubleKind::Authentication,
        403 => TroubleKind::Permission,
        404 => TroubleKind::NotFound,
        413 => TroubleKind::TooLarge,
        429 => TroubleKind::RateLimit,
        408 | 504 => TroubleKind::Timeout,
        503 | 529 => TroubleKind::Overloaded,
        400..=499 => TroubleKind::InvalidRequest,
        _ => TroubleKind::Internal,
    }
}

/// Reads the body of an answer that is none. One to a stream without `alt=sse` stands in an array.
pub(crate) fn parse(status: u16, body: &[u8]) -> Trouble {
    let read = if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice::<Vec<Body>>(body).ok().and_then(|list| list.into_iter().next())
    } else {
        serde_json::from_slice::<Body>(body).ok()
    };
    read.and_then(|body| body.error).unwrap_or_default().trouble(Some(status))
}

/// A failure as a whole body.
pub(crate) fn write(trouble: &Trouble, request_id: &str) -> Vec<u8> {
    let (_, code, status) = KINDS.iter().find(|(kind, ..)| *kind == trouble.kind).unwrap_or(&KINDS[6]);
    let mut details = vec![json!({"@type": format!("{TYPES}RequestInfo"), "requestId": request_id})];
    if let Some(reason) = trouble.code.as_deref().filter(|reason| reason != status) {
        details.push(json!({"@type": format!("{TYPES}ErrorInfo"), "reason": reason}));
    }
    if let Some(field) = &trouble.param {
        let violation = json!({"field": field, "description": trouble.message});
        details.push(json!({"@type": format!("{TYPES}BadRequest"), "fieldViolations": [violation]}));
    }
    let error = json!({"code": code, "message": trouble.message, "status": status, "details": details});
    json::to_bytes(&json!({ "error": error }))
}

/// The same as an event of a stream that has begun.
pub(crate) fn event(trouble: &Trouble, request_id: &str) -> Vec<u8> {
    [b"data: ", write(trouble, request_id).as_slice(), b"\n\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn googles_errors_are_told_apart() {
        let quota = br#"{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}]}}"#;
        let trouble = parse(429, quota);
        assert_eq!((trouble.kind, trouble.code.as_deref()), (TroubleKind::RateLimit, Some("RESOURCE_EXHAUSTED")));
        let key = br#"[{"error":{"code":400,"message":"API key not valid","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}]"#;
        assert_eq!(parse(400, key).kind, TroubleKind::Authentication);
        let field = br#"{"error":{"code":400,"message":"Unknown name","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"contents[0]","description":"x"}]}]}}"#;
        assert_eq!(parse(400, field).param.as_deref(), Some("contents[0]"));
        assert_eq!(parse(502, b"<html>").kind, TroubleKind::Internal);
        assert_eq!(parse(503, b"").kind, TroubleKind::Overloaded);
    }

    #[test]
    fn every_kind_goes_out_and_comes_back() {
        for (kind, status, name) in KINDS {
            let trouble = Trouble {
                kind,
                message: "a\"b".to_owned(),
                param: Some("x.y".to_owned()),
                code: Some("why".to_owned()),
            };
            let body = write(&trouble, "req_1");
            assert_eq!(parse(status, &body), trouble);
            let value: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((&value["error"]["code"], &value["error"]["status"]), (&json!(status), &json!(name)));
            assert!(event(&trouble, "req_1").starts_with(b"data: {\"error\":"), "what Google's client looks for");
        }
    }
}
