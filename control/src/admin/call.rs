//! What a request says: its ids, its query and its JSON body, each checked before a handler runs.

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use openclawmu_store::{Actor, ReservationId, TenantId, TokenId};
use serde::de::DeserializeOwned;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{RefOr, Required, Schema};
use utoipa::{IntoParams, PartialSchema};

use crate::admin::idempotency::{self, OnceKey};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// The largest body, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;

/// The largest body of a route that takes a whole price list, in bytes.
pub(super) const MAX_PRICE_LIST_BYTES: usize = 16 << 20;
/// The route that does.
const PRICE_LIST_PATH: &str = "/v1/rates/import";

/// A call that changes something: who makes it, its JSON body, and the key that makes it happen once.
pub(super) struct Call<T> {
    pub(super) actor: Actor,
    pub(super) body: T,
    pub(super) once: Option<OnceKey>,
}

/// Who makes a call that has no body.
pub(super) struct Caller(pub(super) Actor);

/// The tenant that the path names.
pub(super) struct TenantPath(pub(super) TenantId);

/// The tenant and the token that the path names.
pub(super) struct TokenPath(pub(super) TenantId, pub(super) TokenId);

/// The tenant and the event of its ledger that the path names.
pub(super) struct EventPath(pub(super) TenantId, pub(super) ReservationId);

/// The webhook that the path names.
pub(super) struct WebhookPath(pub(super) String);

/// The tenant and the upstream that the path names.
pub(super) struct UpstreamPath(pub(super) TenantId, pub(super) String);

/// The file that the path names.
pub(super) struct FilePath(pub(super) String);

/// The terminal that the path names.
pub(super) struct TerminalPath(pub(super) String);

/// The tenant and the recording that the path names.
pub(super) struct RecordingPath(pub(super) TenantId, pub(super) String);

/// The tenant and the channel that the path names.
pub(super) struct ChannelPath(pub(super) TenantId, pub(super) String);

/// The tenant, the channel, and who speaks there.
pub(super) struct SenderPath(pub(super) TenantId, pub(super) String, pub(super) String);

/// The query, without any name that the route does not know.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<AdminState> for Call<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &AdminState) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let actor = actor(&parts)?;
        let key = idempotency::header(&parts.headers)?;
        let bytes =
            Bytes::from_request(Request::from_parts(parts.clone(), body), state).await.map_err(|err| {
                match err.status() {
                    StatusCode::PAYLOAD_TOO_LARGE => too_large(parts.uri.path()),
                    _ => Refusal::new(StatusCode::BAD_REQUEST, "unreadable_body", "the body broke off"),
                }
            })?;
        let once = key.map(|key| idempotency::once_key(key, &parts.method, &parts.uri, &bytes));
        let body = if bytes.is_empty() && !parts.headers.contains_key(CONTENT_TYPE) {
            if parts.method == Method::PUT {
                let message = "PUT puts its body in the place of what is there, and there is no body";
                let refusal = Refusal::new(StatusCode::BAD_REQUEST, "missing_body", message);
                return Err(refusal.hint("say `{}` where nothing is meant"));
            }
            // Every field of every other body may be absent, so no body at all says as much as `{}`.
            parse(b"{}")?
        } else {
            check_content_type(&parts.headers)?;
            parse(&bytes)?
        };
        Ok(Self { actor, body, once })
    }
}

impl FromRequestParts<AdminState> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &AdminState) -> Result<Self, Refusal> {
        actor(parts).map(Self)
    }
}

impl FromRequestParts<AdminState> for TenantPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Refusal> {
        Ok(Self(id(parts, state, "id", "tenant").await?))
    }
}

impl FromRequestParts<AdminState> for TokenPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Refusal> {
        let tenant = id(parts, state, "id", "tenant").await?;
        Ok(Self(tenant, id(parts, state, "token", "token").await?))
    }
}

impl FromRequestParts<AdminState> for EventPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Refusal> {
        let tenant = id(parts, state, "id", "tenant").await?;
        Ok(Self(tenant, id(parts, state, "event", "event").await?))
    }
}

impl FromRequestParts<AdminState> for WebhookPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Refusal> {
        Ok(Self(id(parts, state, "webhook", "webhook").await?))
    }
}

impl FromRequestParts<AdminState> for UpstreamPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Refusal> {
        let tenant = id(parts, state, "id", "tenant").await?;
        Ok(Self(tenant, id(parts, state, "upstream", "upstream").await?))
    }
}

impl FromRequestParts<AdminState> for FilePath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Refusal> {
        Ok(Self(id(parts, state, "file", "page").await?))
    }
}

impl FromRequestParts<AdminState> for TerminalPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Refusal> {
        Ok(Self(id(parts, state, "terminal", "terminal").await?))
    }
}

impl FromRequestParts<AdminState> for RecordingPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Refusal> {
        let tenant = id(parts, state, "id", "tenant").await?;
        Ok(Self(tenant, id(parts, state, "recording", "recording").await?))
    }
}

impl FromRequestParts<AdminState> for ChannelPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Refusal> {
        let tenant = id(parts, state, "id", "tenant").await?;
        Ok(Self(tenant, id(parts, state, "binding", "channel").await?))
    }
}

impl FromRequestParts<AdminState> for SenderPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Refusal> {
        let ChannelPath(tenant, channel) = ChannelPath::from_request_parts(parts, state).await?;
        Ok(Self(tenant, channel, id(parts, state, "sender", "sender").await?))
    }
}

/// The parameters of a path, for the document: their names, and what they are.
macro_rules! path_params {
    ($($extractor:ident: $(($name:literal, $kind:ty, $says:literal))+;)+) => {$(
        impl IntoParams for $extractor {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![$(path_param($name, <$kind>::schema(), $says)),+]
            }
        }
    )+};
}
path_params! {
    TenantPath: ("id", TenantId, "The tenant");
    TokenPath: ("id", TenantId, "The tenant") ("token", TokenId, "The token");
    EventPath: ("id", TenantId, "The tenant") ("event", ReservationId, "The event of its ledger");
    UpstreamPath: ("id", TenantId, "The tenant") ("upstream", String, "The upstream's name");
    WebhookPath: ("webhook", String, "The webhook's id");
    TerminalPath: ("terminal", String, "The terminal");
    RecordingPath: ("id", TenantId, "The tenant") ("recording", String, "The recording");
    ChannelPath: ("id", TenantId, "The tenant") ("binding", String, "The channel");
    SenderPath: ("id", TenantId, "The tenant") ("binding", String, "The channel") ("sender", String, "Who speaks there");
    FilePath: ("file", String, "The file's name");
}

fn path_param(name: &str, schema: RefOr<Schema>, says: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(says))
        .schema(Some(schema))
        .build()
}

impl<T: DeserializeOwned> FromRequestParts<AdminState> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &AdminState) -> Result<Self, Refusal> {
        let query = Query::try_from_uri(&parts.uri);
        query
            .map(|Query(params)| Self(params))
            .map_err(|err| Refusal::new(StatusCode::BAD_REQUEST, "invalid_query", innermost(&err)))
    }
}

/// The gate has put the actor there; without one nothing may happen.
fn actor(parts: &Parts) -> Result<Actor, Refusal> {
    parts.extensions.get::<Actor>().cloned().ok_or_else(|| Refusal::internal(&"a call came past the gate"))
}

/// An id in the path. One that can't exist does not exist.
async fn id<T: FromStr>(parts: &mut Parts, state: &AdminState, name: &str, what: &str) -> Result<T, Refusal> {
    let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| Refusal::not_found(what))?;
    let text = params.iter().find(|(param, _)| *param == name).map(|(_, text)| text);
    text.and_then(|text| text.parse().ok()).ok_or_else(|| Refusal::not_found(what))
}

/// A browser sends other types across origins without asking first.
fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let essence =
        headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).and_then(|value| value.split(';').next());
    if essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "json_needed", "the body must be JSON")
        .hint("send `Content-Type: application/json`"))
}

/// Reads a body; an error names the field at fault by its path.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    // Derived readers would take an array for an object, field by field in their order.
    if bytes.trim_ascii_start().first().is_some_and(|first| *first == b'[') {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "invalid_value", "the body must be a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let body: T = serde_path_to_error::deserialize(&mut json).map_err(|err| {
        let (path, message) = (err.path().to_string(), err.inner().to_string());
        match err.inner().classify() {
            serde_json::error::Category::Data if path != "." => {
                Refusal::invalid(path.clone(), format!("{path}: {message}"))
            }
            serde_json::error::Category::Data => Refusal::new(StatusCode::BAD_REQUEST, "invalid_value", message),
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => {
                Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body is not JSON: {message}"))
            }
        }
    })?;
    json.end().map_err(|err| {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body is not one JSON value: {err}"))
    })?;
    Ok(body)
}

fn too_large(path: &str) -> Refusal {
    let limit = if path == PRICE_LIST_PATH { MAX_PRICE_LIST_BYTES } else { MAX_BODY_BYTES };
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", format!("the body must be at most {limit} bytes"))
}

/// The words of the first cause: what is around it only says that there is one.
fn innermost(err: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = err;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
