//! Errors, whole and in a stream: `{"type":"error","error":{"type","message"},"request_id"}`.

use serde::Deserialize;
use serde_json::json;

use crate::dialect::form::{Trouble, TroubleKind};

#[derive(Deserialize)]
struct Body {
    error: Said,
}

#[derive(Deserialize)]
pub(super) struct Said {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// Reads an error's body.
pub(crate) fn parse(status: u16, body: &[u8]) -> Trouble {
    match serde_json::from_slice::<Body>(body) {
        Ok(body) => of(body.error, status),
        Err(_) => {
            let message = format!("The upstream answered with status {status}.");
            Trouble { kind: kind_of_status(status), message, param: None, code: None }
        }
    }
}

/// What an error says; its status counts where its type is not known.
pub(super) fn of(said: Said, status: u16) -> Trouble {
    let kind = said.kind.as_deref().and_then(kind).unwrap_or_else(|| kind_of_status(status));
    let message = said.message.unwrap_or_else(|| "The upstream gave no reason.".to_owned());
    Trouble { kind, param: field(&message).map(str::to_owned), message, code: said.kind }
}

/// The field that a message begins with: `messages.0.content: Input should be ...`
fn field(message: &str) -> Option<&str> {
    let (field, _) = message.split_once(": ")?;
    let named = field.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.".contains(&byte));
    (named && field.starts_with(|first: char| first.is_ascii_lowercase())).then_some(field)
}

fn kind(name: &str) -> Option<TroubleKind> {
    Some(match name {
        "invalid_request_error" | "conflict_error" => TroubleKind::InvalidRequest,
        "authentication_error" => TroubleKind::Authentication,
        "permission_error" | "billing_error" => TroubleKind::Permission,
        "not_found_error" => TroubleKind::NotFound,
        "request_too_large" => TroubleKind::TooLarge,
        "rate_limit_error" => TroubleKind::RateLimit,
        "api_error" => TroubleKind::Internal,
        "overloaded_error" => TroubleKind::Overloaded,
        "timeout_error" => TroubleKind::Timeout,
        _ => return None,
    })
}

fn kind_of_status(status: u16) -> TroubleKind {
    match status {
        401 => TroubleKind::Authentication,
        402 | 403 => TroubleKind::Permission,
        404 => TroubleKind::NotFound,
        413 => TroubleKind::TooLarge,
        429 => TroubleKind::RateLimit,
        503 | 529 => TroubleKind::Overloaded,
        408 | 504 => TroubleKind::Timeout,
        400..=499 => TroubleKind::InvalidRequest,
        _ => TroubleKind::Internal,
    }
}

fn name(trouble: &Trouble) -> &'static str {
    match trouble.kind {
        TroubleKind::InvalidRequest => "invalid_request_error",
        TroubleKind::Authentication => "authentication_error",
        TroubleKind::Permission if trouble.code.as_deref() == Some("billing_error") => "billing_error",
        TroubleKind::Permission => "permission_error",
        TroubleKind::NotFound => "not_found_error",
        TroubleKind::TooLarge => "request_too_large",
        TroubleKind::RateLimit => "rate_limit_error",
        TroubleKind::Internal => "api_error",
        TroubleKind::Overloaded => "overloaded_error",
        TroubleKind::Timeout => "timeout_error",
    }
}

fn body(name: &str, message: &str, request_id: &str) -> Vec<u8> {
    json!({"type": "error", "error": {"type": name, "message": message}, "request_id": request_id})
        .to_string()
        .into_bytes()
}

/// The whole body of an error.
pub(crate) fn write(trouble: &Trouble, request_id: &str) -> Vec<u8> {
    body(name(trouble), &trouble.message, request_id)
}

/// The same as an event of a stream that has begun.
pub(crate) fn event(trouble: &Trouble, request_id: &str) -> Vec<u8> {
    let mut event = b"event: error\ndata: ".to_vec();
    event.extend(write(trouble, request_id));
    event.extend(b"\n\n");
    event
}

/// The whole body of the gateway's own refusal.
#[cfg(test)]
pub(crate) fn refusal(status: u16, message: &str, request_id: &str) -> Vec<u8> {
    let trouble = Trouble { kind: kind_of_status(status), message: message.to_owned(), param: None, code: None };
    write(&trouble, request_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_error_is_known_and_comes_back_as_it_was() {
        for (name, kind) in [
            ("invalid_request_error", TroubleKind::InvalidRequest),
            ("authentication_error", TroubleKind::Authentication),
            ("billing_error", TroubleKind::Permission),
            ("permission_error", TroubleKind::Permission),
            ("not_found_error", TroubleKind::NotFound),
            ("request_too_large", TroubleKind::TooLarge),
            ("rate_limit_error", TroubleKind::RateLimit),
            ("api_error", TroubleKind::Internal),
            ("overloaded_error", TroubleKind::Overloaded),
            ("timeout_error", TroubleKind::Timeout),
        ] {
            let body = format!(r#"{{"type":"error","error":{{"type":"{name}","message":"m"}},"request_id":"req_1"}}"#);
            let trouble = parse(418, body.as_bytes());
            assert_eq!((trouble.kind, trouble.code.as_deref()), (kind, Some(name)));
            assert_eq!(String::from_utf8(write(&trouble, "req_1")).unwrap(), body);
        }
    }

    #[test]
    fn an_unknown_type_is_judged_by_its_status_and_a_page_is_not_passed_on() {
        assert_eq!(parse(529, br#"{"error":{"type":"new_error"}}"#).kind, TroubleKind::Overloaded);
        let page = parse(502, b"<html>secret</html>");
        assert_eq!(
            (page.kind, page.message.as_str()),
            (TroubleKind::Internal, "The upstream answered with status 502.")
        );
    }

    #[test]
    fn the_field_at_fault_is_the_one_that_the_message_begins_with() {
        assert_eq!(field("messages.0.content.1: Input should be a string"), Some("messages.0.content.1"));
        assert_eq!(field("max_tokens: Field required"), Some("max_tokens"));
        assert_eq!(field("prompt is too long: 2 tokens"), None);
        assert_eq!(field("Overloaded"), None);
    }

    #[test]
    fn the_gateways_own_refusal_has_the_same_shape() {
        let body: serde_json::Value = serde_json::from_slice(&refusal(429, "a\"b\n", "req_9")).unwrap();
        assert_eq!(body["error"]["type"], "rate_limit_error");
        assert_eq!((&body["error"]["message"], &body["request_id"]), (&"a\"b\n".into(), &"req_9".into()));
    }
}
