//! Stage 1. From a request's head to who is asking.
//!
//! Exactly one credential counts: two that differ are none, and a cookie beside any other is one too many. The client learns
//! only that it was not let in.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, header};
use openclawmu_control::client_secret::COOKIE;
use openclawmu_store::{AuthError, Policy, Seldom, Store};

use crate::refusal::Refusal;

/// What a subprotocol starts with that holds a key.
const KEY_PROTOCOL: &str = "openai-insecure-api-key.";

/// What a client secret begins with: a cookie holds nothing else.
const CLIENT_SECRET: &str = "ek_";
/// The headers that hold a credential.
static CREDENTIALS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// How a credential came: a browser sends a cookie along whoever made it ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// By a header that whoever asks has set, or a subprotocol.
    Header,
    /// By a cookie.
    Cookie,
}

/// Who is asking.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// What it is and may do.
    pub(crate) policy: Arc<Policy>,
}

/// The one credential of a request, and how it came.
///
/// # Errors
/// 401 where there is none, or more than one.
pub(crate) fn presented(headers: &HeaderMap, is_socket: bool) -> Result<(&str, By), Refusal> {
    let by_header = || if is_socket { socket_credential(headers) } else { credential(headers, None) };
    let found = match cookie(headers) {
        Cookie::Absent => by_header().map(|token| (token, By::Header)),
        Cookie::One(secret) if !has_other(headers, is_socket) => Some((secret, By::Cookie)),
        Cookie::One(_) | Cookie::Unusable => None,
    };
    found.ok_or(Refusal::Unauthenticated)
}

/// What the cookies say.
enum Cookie<'h> {
    Absent,
    One(&'h str),
    /// It is there twice, or holds what is no client secret.
    Unusable,
}

fn cookie(headers: &HeaderMap) -> Cookie<'_> {
    let mut found = Cookie::Absent;
    for value in headers.get_all(header::COOKIE) {
        // What is not ASCII can't be told apart, and so may hold another.
        let Ok(text) = value.to_str() else { return Cookie::Unusable };
        for pair in text.split(';') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            if name.trim() != COOKIE {
                continue;
            }
            found = match found {
                Cookie::Absent if value.trim().starts_with(CLIENT_SECRET) => Cookie::One(value.trim()),
                Cookie::Absent | Cookie::One(_) | Cookie::Unusable => return Cookie::Unusable,
            };
        }
    }
    found
}

/// Whether anything but a cookie claims to hold a credential.
fn has_other(headers: &HeaderMap, is_socket: bool) -> bool {
    let keyed = || headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().any(|list| has_key(list.as_bytes()));
    CREDENTIALS.iter().any(|name| headers.contains_key(name)) || (is_socket && keyed())
}

fn has_key(list: &[u8]) -> bool {
    list.windows(KEY_PROTOCOL.len()).any(|part| part == KEY_PROTOCOL.as_bytes())
}

/// The token that a header of its own holds, where there is such a header.
///
/// # Errors
/// 401 where those headers hold no token, or more than one.
pub(crate) fn by_header(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    if CREDENTIALS.iter().any(|name| headers.contains_key(name)) {
        return credential(headers, None).map(Some).ok_or(Refusal::Unauthenticated);
    }
    Ok(None)
}

/// Whether who was let in by these headers still would be. What can't be told changes nothing.
///
/// # Errors
/// Why not.
pub(crate) fn still(store: &Store, headers: &HeaderMap, peer: IpAddr) -> Result<(), Refusal> {
    match presented(headers, false).and_then(|(presented, _)| check(store, presented, peer)) {
        Ok(_) | Err(Refusal::Store) => Ok(()),
        Err(refusal) => Err(refusal),
    }
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
            static FAILED: Seldom = Seldom::new();
            if let Some(unheard) = FAILED.tell() {
                tracing::error!(err, unheard, "tokens can't be checked");
            }
            Err(Refusal::Store)
        }
    }
}

/// The one credential of a request for a WebSocket: a browser can set no header there, and so `OpenAI`'s clients put it
/// among the subprotocols.
fn socket_credential(headers: &HeaderMap) -> Option<&str> {
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut keys = lists.flat_map(|list| list.split(',')).filter_map(|one| one.trim().strip_prefix(KEY_PROTOCOL));
    let key = keys.next();
    if keys.next().is_some() { None } else { credential(headers, key) }
}

/// The one credential of a request, from `Authorization: Bearer`, `x-api-key`, `api-key` or `x-goog-api-key`, which must be
/// the one that was `found` elsewhere.
fn credential<'h>(headers: &'h HeaderMap, mut found: Option<&'h str>) -> Option<&'h str> {
    for name in &CREDENTIALS {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return None;
        }
        let value = value.to_str().ok()?;
        let token = if *name == header::AUTHORIZATION { bearer(value)? } else { value.trim() };
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

    fn of(pairs: &[(&str, &str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        credential(&headers, None).map(str::to_owned)
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

    fn presented_by(pairs: &[(&str, &str)], is_socket: bool) -> Option<(String, By)> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        presented(&headers, is_socket).ok().map(|(text, by)| (text.to_owned(), by))
    }

    /// A-01, W-01
    #[test]
    fn a_cookie_holds_one_client_secret_and_stands_alone() {
        let cookie = ("cookie", "theme=dark; __Host-openclawmu=ek_a; x=1");
        let secret = Some(("ek_a".to_owned(), By::Cookie));
        assert_eq!(presented_by(&[cookie], false), secret);
        assert_eq!(presented_by(&[("cookie", "a=b"), ("cookie", "__Host-openclawmu=ek_a")], false), secret);
        assert_eq!(presented_by(&[cookie], true), secret);
        let other = [("cookie", "theme=dark; openclawmu=ek_b; __Host-openclawmu2=ek_c"), ("x-api-key", "tk_a")];
        assert_eq!(presented_by(&other, false), Some(("tk_a".to_owned(), By::Header)));
        let key = ("sec-websocket-protocol", "realtime, openai-insecure-api-key.ek_a");
        assert_eq!(presented_by(&[key], true), Some(("ek_a".to_owned(), By::Header)));
        for none in [
            &[cookie, ("authorization", "Bearer ek_a")][..],
            &[cookie, ("authorization", "")],
            &[cookie, ("x-goog-api-key", "ek_a")],
            &[cookie, cookie],
            &[("cookie", "__Host-openclawmu=ek_a; __Host-openclawmu=ek_a")],
            &[("cookie", "__Host-openclawmu=tk_a")],
            &[("cookie", "__Host-openclawmu=")],
            &[("cookie", "__Host-openclawmu=tk_a"), ("authorization", "Bearer tk_a")],
        ] {
            assert_eq!(presented_by(none, false), None, "{none:?}");
        }
        assert_eq!(presented_by(&[cookie, key], true), None);
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
