//! Stage 1. From a request's head to who is asking.
//!
//! Exactly one credential counts: two that differ are none. The client learns only that it was not let in.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, header};
use openclawmu_store::{AuthError, Policy, Store};

use crate::refusal::Refusal;

/// What a subprotocol starts with that holds a key.
const KEY_PROTOCOL: &str = "openai-insecure-api-key.";

/// Who is asking.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// What it is and may do.
    pub(crate) policy: Arc<Policy>,
}

/// Lets in who presents one valid token.
pub(crate) fn authenticate(store: &Store, headers: &HeaderMap, peer: IpAddr) -> Result<Caller, Refusal> {
    check(store, credential(headers).ok_or(Refusal::Unauthenticated)?, peer)
}

/// The one credential of a request.
pub(crate) fn credential(headers: &HeaderMap) -> Option<&str> {
    credential_beside(headers, None)
}

/// Lets in who presents this token.
pub(crate) fn check(store: &Store, presented: &str, peer: IpAddr) -> Result<Caller, Refusal> {
    match store.authenticate(presented, peer) {
        Ok(policy) => Ok(Caller { policy }),
        Err(AuthError::Rejected { reason, token }) => {
            tracing::debug!(?reason, token = token.as_ref().map(tracing::field::display), %peer, "a credential was rejected");
            Err(Refusal::Unauthenticated)
        }
        Err(AuthError::IpNotAllowed { token }) => {
            tracing::info!(%token, %peer, "a token was used from an address that it is not allowed from");
            Err(Refusal::Forbidden {
                code: "ip_not_allowed",
                message: "This token may not be used from this address.".to_owned(),
            })
        }
        Err(AuthError::TenantSuspended { token }) => {
            tracing::info!(%token, "a token of a suspended tenant was used");
            Err(Refusal::Forbidden {
                code: "tenant_suspended",
                message: "This account is suspended. Ask its operator.".to_owned(),
            })
        }
        Err(AuthError::Unavailable(err)) => {
            tracing::error!(err, "tokens can't be checked");
            Err(Refusal::Store)
        }
    }
}

/// The one credential of a request for a WebSocket: a browser can set no header there, and so `OpenAI`'s clients put it
/// among the subprotocols.
pub(crate) fn socket_credential(headers: &HeaderMap) -> Option<&str> {
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut keys = lists.flat_map(|list| list.split(',')).filter_map(|one| one.trim().strip_prefix(KEY_PROTOCOL));
    let key = keys.next();
    if keys.next().is_some() { None } else { credential_beside(headers, key) }
}

/// The one credential of a request, from `Authorization: Bearer`, `x-api-key`, `api-key` or `x-goog-api-key`, which must be
/// the one that was `found` elsewhere.
fn credential_beside<'h>(headers: &'h HeaderMap, mut found: Option<&'h str>) -> Option<&'h str> {
    for name in [header::AUTHORIZATION.as_str(), "x-api-key", "api-key", "x-goog-api-key"] {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return None;
        }
        let value = value.to_str().ok()?;
        let token = if name == header::AUTHORIZATION.as_str() { bearer(value)? } else { value.trim() };
        if token.is_empty() || found.is_some_and(|other| other != token) {
            return None;
        }
        found = Some(token);
    }
    found
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn of(pairs: &[(&str, &str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        credential(&headers).map(str::to_owned)
    }

    #[test]
    fn a_01_exactly_one_credential_counts() {
        assert_eq!(of(&[("authorization", "Bearer tk_a")]).as_deref(), Some("tk_a"));
        assert_eq!(of(&[("authorization", "bearer  tk_a ")]).as_deref(), Some("tk_a"));
        assert_eq!(of(&[("x-api-key", "tk_a")]).as_deref(), Some("tk_a"));
        assert_eq!(of(&[("api-key", "tk_a")]).as_deref(), Some("tk_a"));
        assert_eq!(of(&[("authorization", "Bearer tk_a"), ("x-api-key", "tk_a")]).as_deref(), Some("tk_a"));
        for none in [
            &[][..],
            &[("authorization", "")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Basic dXNlcjp0a19h")],
            &[("authorization", "Bearer tk_a"), ("authorization", "Bearer tk_a")],
            &[("authorization", "Bearer tk_a"), ("x-api-key", "tk_b")],
            &[("authorization", "Basic x"), ("x-api-key", "tk_b")],
            &[("x-api-key", "")],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_browsers_key_is_one_of_its_subprotocols() {
        let of = |pairs: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            socket_credential(&headers).map(str::to_owned)
        };
        let key = ("sec-websocket-protocol", "realtime, openai-insecure-api-key.tk_a");
        assert_eq!(of(&[key]).as_deref(), Some("tk_a"));
        assert_eq!(of(&[key, ("authorization", "Bearer tk_a")]).as_deref(), Some("tk_a"));
        assert_eq!(of(&[("authorization", "Bearer tk_a")]).as_deref(), Some("tk_a"));
        assert_eq!(of(&[key, ("authorization", "Bearer tk_b")]), None);
        assert_eq!(of(&[key, key]), None);
        assert_eq!(of(&[("sec-websocket-protocol", "realtime")]), None);
    }
}
