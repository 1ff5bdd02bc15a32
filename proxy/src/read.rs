//! Stage 2. From a session to what it asks for: the body within its limits, and the fields that decide what it may cost.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use openclawmu_store::{Label, RequestId};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::config::EdgeConfig;
use crate::dialect::ask::{self, Ask, Fields};
use crate::dialect::openai::{media, request};
use crate::dialect::responses::Asked;
use crate::head;
use crate::label::label;
use crate::pieces::{Pieces, TooLong};
use crate::refusal::{MALFORMED, Refusal};
use crate::routes::AiRoute;
use crate::session::Session;

/// The slowest that a body may come in after its first pause, in bytes a second.
const SLOWEST_BODY: u64 = 1024;

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Its id, in every answer and row.
    pub(crate) request_id: RequestId,
    /// The route that it came by.
    pub(crate) route: AiRoute,
    /// The fields that matter.
    pub(crate) ask: Ask,
    /// Whom and what it is for.
    pub(crate) label: Label,
    /// The body as it came; of a response, with what it continues.
    pub(crate) body: Bytes,
    /// What the body is, where it is a form.
    pub(crate) form: Option<HeaderValue>,
    /// The request, where it asks for a response.
    pub(crate) asked: Option<Box<Asked>>,
}

/// Reads and understands the body.
pub(crate) async fn read(
    session: &mut Session<'_>,
    (edge, default_model): (&EdgeConfig, Option<&str>),
    (route, rest): (AiRoute, &str),
    request_id: RequestId,
) -> Result<Call, Refusal> {
    let body = body(session, edge).await?;
    // A default is one for conversations.
    let body = if route.is_media() { body } else { with_default_model(body, default_model) };
    let head = session.req_header();
    let content_type = head.headers.get(http::header::CONTENT_TYPE);
    let ask = if route.is_media() {
        media::read(route, content_type, &body)?
    } else {
        let text = simdutf8::basic::from_utf8(&body).map_err(|_| request::not_utf8())?;
        ask::read(route, (rest, head.uri.query()), text)?
    };
    let label = label(&head.headers, &body, &ask.fields)?;
    let form = content_type.filter(|_| matches!(ask.fields, Fields::Form { .. })).cloned();
    Ok(Call { request_id, route, ask, label, body, form, asked: None })
}

/// The body with the tenant's default model where it is an object that names none. What else is wrong with it is told later.
pub(crate) fn with_default_model(body: Bytes, default_model: Option<&str>) -> Bytes {
    let Some(model) = default_model else { return body };
    let names_one = |members: HashMap<&str, IgnoredAny>| members.contains_key("model");
    // A name with an escape in it is no plain text to borrow; whoever writes `model` so keeps its own words.
    let nameless = serde_json::from_slice(&body).is_ok_and(|members| !names_one(members));
    let object = body.iter().position(|byte| *byte == b'{');
    let Some((head, members)) = object.filter(|_| nameless).and_then(|at| body.split_at_checked(at + 1)) else {
        return body;
    };
    let comma = if members.trim_ascii_start().starts_with(b"}") { "" } else { "," };
    let member = format!("\"model\":{}{comma}", serde_json::Value::from(model));
    Bytes::from([head, member.as_bytes(), members].concat())
}

/// Reads the body within its limits.
pub(crate) async fn body(session: &mut Session<'_>, edge: &EdgeConfig) -> Result<Bytes, Refusal> {
    body_within(session, edge, edge.max_body_bytes).await
}

/// Reads a body that is no larger than this, or than any may be.
pub(crate) async fn body_within(session: &mut Session<'_>, edge: &EdgeConfig, most: usize) -> Result<Bytes, Refusal> {
    let limit = most.min(edge.max_body_bytes);
    let stated = session
        .get_header(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    if stated.is_some_and(|stated| usize::try_from(stated).map_or(true, |stated| stated > limit)) {
        return Err(too_large(limit));
    }
    if head::expects_continue(&session.req_header().headers) {
        session.write_continue().await.map_err(|_| broken())?;
    }
    session.set_read_timeout(Some(edge.body_timeout));
    let started = Instant::now();
    let mut pieces = Pieces::within(limit);
    loop {
        // Over HTTP/2 the session has no timeout of its own.
        let read = pingora_timeout::timeout(edge.body_timeout, session.gather(&mut pieces));
        let length = match read.await {
            Ok(Ok(Ok((true, length)))) => u64::try_from(length).unwrap_or(u64::MAX),
            Ok(Ok(Ok((false, _)))) => return Ok(pieces.join()),
            Ok(Ok(Err(TooLong))) => return Err(too_large(limit)),
            Ok(Err(err)) if !matches!(err.etype(), pingora::ErrorType::ReadTimedout) => return Err(broken()),
            Ok(Err(_)) | Err(_) => return Err(too_slow()),
        };
        if started.elapsed() > edge.body_timeout + Duration::from_secs(length / SLOWEST_BODY) {
            return Err(too_slow());
        }
    }
}

fn too_large(limit: usize) -> Refusal {
    Refusal::Bad {
        status: 413,
        param: None,
        code: Some("request_too_large"),
        message: format!("The request's body is larger than {limit} bytes."),
    }
}

fn too_slow() -> Refusal {
    Refusal::Bad {
        status: 408,
        param: None,
        code: Some("request_timeout"),
        message: "The request's body came in too slowly.".to_owned(),
    }
}

fn broken() -> Refusal {
    Refusal::Bad {
        status: 400,
        param: None,
        code: Some(MALFORMED),
        message: "The request's body broke off or is not well framed.".to_owned(),
    }
}

/// The body of a route of the gateway's own: an object of known fields, or nothing at all, which names none of them.
///
/// # Errors
/// 400, naming the field.
pub(crate) fn fields<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, Refusal> {
    if body.is_empty() {
        return Ok(T::default());
    }
    let not_json = |message: String| Refusal::Bad {
        status: 400,
        param: None,
        code: Some("invalid_json"),
        message: format!("We could not parse the JSON body of your request: {message}."),
    };
    // Derived readers would take an array for an object, field by field in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(not_json("it is no JSON object".to_owned()));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let new = serde_path_to_error::deserialize(&mut json).map_err(|err| {
        let (path, inner) = (err.path().to_string(), err.inner());
        match inner.classify() {
            serde_json::error::Category::Data => Refusal::bad(path, format!("{inner}.")),
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => not_json(inner.to_string()),
        }
    })?;
    json.end().map_err(|err| not_json(err.to_string()))?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_model_is_named_only_where_the_body_names_none() {
        let with = |body: &str| with_default_model(Bytes::copy_from_slice(body.as_bytes()), Some("a\"b"));
        assert_eq!(with(r#" {"x":{"model":"m"}}"#), r#" {"model":"a\"b","x":{"model":"m"}}"#);
        assert_eq!(with("{ }"), r#"{"model":"a\"b" }"#);
        for same in [
            r#"{"model":"m"}"#,
            r#"{"model":null}"#,
            r#"{"model":5,"x":1}"#,
            r#"{"m\u006fdel":"m"}"#,
            "[]",
            "",
            "{",
            "nonsense{",
        ] {
            assert_eq!(with(same), same, "{same}");
        }
        assert_eq!(with_default_model(Bytes::from_static(b"{}"), None), "{}");
    }
}
