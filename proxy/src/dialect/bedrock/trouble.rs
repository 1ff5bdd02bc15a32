//! Errors: `{"message"}` with the exception's name in a header or in the stream's own frame.

use serde::Deserialize;

use crate::dialect::form::{Trouble, TroubleKind};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    #[serde(alias = "Message")]
    message: Option<String>,
    #[serde(rename = "__type")]
    kind: Option<String>,
}

/// Reads the body of an answer that is none.
pub(crate) fn parse(status: u16, body: &[u8]) -> Trouble {
    let kind = match status {
        401 => TroubleKind::Authentication,
        403 => TroubleKind::Permission,
        404 => TroubleKind::NotFound,
        408 | 504 => TroubleKind::Timeout,
        413 => TroubleKind::TooLarge,
        429 => TroubleKind::RateLimit,
        // A model's own failure, 424, is none of the request's.
        424 => TroubleKind::Internal,
        503 | 529 => TroubleKind::Overloaded,
        400..=499 => TroubleKind::InvalidRequest,
        _ => TroubleKind::Internal,
    };
    read(kind, None, body)
}

/// Reads an exception of a stream.
pub(super) fn exception(name: &str, payload: &[u8]) -> Trouble {
    let kind = match name {
        "throttlingException" => TroubleKind::RateLimit,
        "validationException" => TroubleKind::InvalidRequest,
        "serviceUnavailableException" | "modelNotReadyException" => TroubleKind::Overloaded,
        "modelTimeoutException" => TroubleKind::Timeout,
        "accessDeniedException" => TroubleKind::Permission,
        "resourceNotFoundException" => TroubleKind::NotFound,
        _ => TroubleKind::Internal,
    };
    read(kind, Some(name), payload)
}

fn read(kind: TroubleKind, name: Option<&str>, body: &[u8]) -> Trouble {
    let body: Body = serde_json::from_slice(body).unwrap_or_default();
    let own = body.kind.as_deref().and_then(|kind| kind.rsplit('#').next());
    Trouble { kind, message: body.message.unwrap_or_default(), param: None, code: name.or(own).map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amazons_errors_are_told_apart() {
        for (status, kind) in [
            (400, TroubleKind::InvalidRequest),
            (403, TroubleKind::Permission),
            (404, TroubleKind::NotFound),
            (408, TroubleKind::Timeout),
            (424, TroubleKind::Internal),
            (429, TroubleKind::RateLimit),
            (500, TroubleKind::Internal),
            (503, TroubleKind::Overloaded),
        ] {
            assert_eq!(parse(status, br#"{"message":"why"}"#).kind, kind, "{status}");
        }
        let trouble =
            parse(403, br#"{"__type":"com.amazon.coral.service#UnrecognizedClientException","Message":"no"}"#);
        assert_eq!((trouble.message.as_str(), trouble.code.as_deref()), ("no", Some("UnrecognizedClientException")));
        assert_eq!(exception("throttlingException", br#"{"message":"slow"}"#).kind, TroubleKind::RateLimit);
        assert_eq!(parse(500, b"<html>").message, "");
    }
}
