//! Pages: from which origin a request comes, whether its credential may be used there, and what lets the page read the answer
//! (WHATWG Fetch, "CORS protocol"; W-01, W-02).
//!
//! A browser asks first, without any credential. So its question is answered for origins that the configuration lists and for
//! those that a live client secret is bound to; the request itself is then held to the origin of its own secret. No answer is
//! ever for `*`, and none for an origin that its credential does not belong to.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};
use openclawmu_store::Policy;
use pingora::http::RequestHeader;

use crate::answer::Head;
use crate::authenticate::By;
use crate::context::Shared;
use crate::refusal::Refusal;
use crate::routes::{self, Access, Found};

/// How long a browser may go on without asking again, in seconds: less than a client secret usually lives.
const MAX_AGE_SECONDS: u32 = 300;
/// Headers that a page may send: what the official clients send from browsers, and the gateway's own.
const ALLOWED_HEADERS: [&str; 18] = [
    "accept",
    "anthropic-*",
    "api-key",
    "authorization",
    "cache-control",
    "content-type",
    "idempotency-key",
    "last-event-id",
    "openai-*",
    "pragma",
    "user-agent",
    "x-api-key",
    "x-goog-api-client",
    "x-goog-api-key",
    "x-openclawmu-tags",
    "x-request-id",
    "x-requested-with",
    "x-stainless-*",
];
/// What a page may read of an answer's head, beside what every page may.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, \
     x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
     x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, \
     anthropic-ratelimit-requests-limit, anthropic-ratelimit-requests-remaining, anthropic-ratelimit-requests-reset, \
     anthropic-ratelimit-tokens-limit, anthropic-ratelimit-tokens-remaining, anthropic-ratelimit-tokens-reset, \
     x-openclawmu-model, x-openclawmu-cost-usd, x-openclawmu-budget-remaining-usd, x-openclawmu-output-clamped",
);

/// The origin whose pages may read the answer; kept with the request that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Readable(HeaderValue);

/// What the tenant has left is not for whoever asks; kept with the request that it belongs to.
#[derive(Clone, Debug)]
struct Reticent;

/// The one origin that a request states; `None` where there is none, and where there are two.
fn stated(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut origins = headers.get_all(ORIGIN).iter();
    origins.next().filter(|_| origins.next().is_none())
}

/// Before anybody is known: a page of an origin that may have a credential may read why it is refused.
pub(crate) fn presume(shared: &Shared, head: &mut RequestHeader) {
    let Some(origin) = stated(&head.headers) else { return };
    if is_known(shared, origin) {
        let readable = Readable(origin.clone());
        head.extensions_mut().insert(readable);
    }
}

/// Once the credential is known: its own origin alone may use it, and read the answer.
///
/// # Errors
/// 403 where a page of another origin asks, or where a cookie comes along with a request that no page of its own site made.
pub(crate) fn admit(shared: &Shared, head: &mut RequestHeader, (policy, by): (&Policy, By)) -> Result<(), Refusal> {
    if policy.secret.is_some() && policy.cap().is_none_or(|cap| cap.max_cost.is_none()) {
        head.extensions_mut().insert(Reticent);
    }
    let Some(origin) = stated(&head.headers) else {
        return check(head, (policy, by));
    };
    let bound = policy.secret.as_ref().and_then(|secret| secret.origin.as_deref());
    let readable = bound.map_or_else(|| is_listed(shared, origin), |bound| origin == bound);
    if !readable {
        head.extensions_mut().remove::<Readable>();
    }
    check(head, (policy, by))
}

fn check(head: &RequestHeader, (policy, by): (&Policy, By)) -> Result<(), Refusal> {
    let Some(secret) = &policy.secret else { return Ok(()) };
    let allowed = match (secret.origin.as_deref(), by) {
        (Some(bound), _) => stated(&head.headers).is_some_and(|origin| origin == bound),
        (None, By::Header) => true,
        (None, By::Cookie) => is_same_site(head),
    };
    if allowed {
        return Ok(());
    }
    tracing::info!(secret = %secret.id, "a client secret was used from an origin that it is not bound to");
    let message = "This client secret may not be used from this origin.".to_owned();
    Err(Refusal::Forbidden { code: "origin_not_allowed", message })
}

/// Whether the browser says that a page of this very site asked, or its user did. What says nothing is no browser's.
fn is_same_site(head: &RequestHeader) -> bool {
    let headers = &head.headers;
    let mut sites = headers.get_all("sec-fetch-site").iter();
    match (sites.next(), sites.next()) {
        (Some(site), None) => site == "same-origin" || site == "none",
        (Some(_), Some(_)) => false,
        (None, _) => {
            let authority = stated(headers)
                .and_then(|origin| origin.to_str().ok())
                .and_then(|origin| origin.split_once("://"))
                .map(|(_, authority)| authority);
            // HTTP/2 has it in the target.
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            let host = host.or_else(|| head.uri.authority().map(http::uri::Authority::as_str));
            authority.is_some_and(|authority| host.is_some_and(|host| host.eq_ignore_ascii_case(authority)))
        }
    }
}

fn is_known(shared: &Shared, origin: &HeaderValue) -> bool {
    is_listed(shared, origin) || origin.to_str().is_ok_and(|origin| shared.store.is_client_origin(origin))
}

fn is_listed(shared: &Shared, origin: &HeaderValue) -> bool {
    shared.config.cors_origins.iter().any(|listed| origin == listed.as_str())
}

/// Sets what lets a page read the answer, where one may, and leaves out what is not its reader's.
pub(crate) fn open(request: &RequestHeader, answer: &mut Head) {
    if request.extensions.get::<Reticent>().is_some() {
        answer.hide_budget();
    }
    let Some(Readable(origin)) = request.extensions.get::<Readable>() else { return };
    let headers = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
        (ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")),
        (ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS),
        (VARY, HeaderValue::from_static("origin")),
    ];
    answer.extend(headers);
}

/// Whether a request is a browser's question before the request itself.
pub(crate) fn is_preflight(head: &RequestHeader) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(ORIGIN)
        && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The headers that answer a browser's question.
///
/// # Errors
/// 404 and 405 where there is no such route; 403 for an origin that no live client secret is bound to and the configuration
/// does not list.
pub(crate) fn preflight(
    shared: &Shared,
    head: &RequestHeader,
) -> Result<Vec<(http::HeaderName, HeaderValue)>, Refusal> {
    let asked =
        head.headers.get(ACCESS_CONTROL_REQUEST_METHOD).and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let method = asked.ok_or_else(|| Refusal::bad("access-control-request-method", "This is no HTTP method."))?;
    match routes::find(&method, head.uri.path()) {
        Found::Entry(entry, _) if entry.access != Access::Open => {}
        Found::OtherMethod(allow) => return Err(Refusal::method_not_allowed(allow.as_str())),
        Found::Entry(..) | Found::Nothing => return Err(Refusal::unknown_url(&method, head.uri.path())),
    }
    if !stated(&head.headers).is_some_and(|origin| is_known(shared, origin)) {
        let message = "No client secret is bound to this origin, and `edge.cors_origins` does not list it.".to_owned();
        return Err(Refusal::Forbidden { code: "origin_not_allowed", message });
    }
    let vary = "origin, access-control-request-method, access-control-request-headers";
    let mut headers = vec![
        (ACCESS_CONTROL_ALLOW_METHODS, header_value(method.as_str())),
        (ACCESS_CONTROL_MAX_AGE, HeaderValue::from(MAX_AGE_SECONDS)),
        (VARY, HeaderValue::from_static(vary)),
    ];
    let allowed = allowed_headers(&head.headers);
    if !allowed.is_empty() {
        headers.push((ACCESS_CONTROL_ALLOW_HEADERS, header_value(&allowed)));
    }
    Ok(headers)
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// Of the headers that a page would send, those that it may.
fn allowed_headers(headers: &HeaderMap) -> String {
    let lists = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|list| list.to_str().ok());
    let names = lists.flat_map(|list| list.split(',')).map(|name| name.trim().to_ascii_lowercase());
    let allowed: Vec<String> = names.filter(|name| is_allowed_header(name)).collect();
    allowed.join(", ")
}

fn is_allowed_header(name: &str) -> bool {
    ALLOWED_HEADERS.iter().any(|known| match known.strip_suffix('*') {
        Some(stem) => name.len() > stem.len() && name.starts_with(stem),
        None => name == *known,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn head(pairs: &[(&str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build("POST", b"/v1/messages", None).unwrap();
        for (name, value) in pairs {
            head.append_header((*name).to_owned(), (*value).to_owned()).unwrap();
        }
        head
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn w_02_only_its_own_site_may_send_a_cookie_that_is_bound_to_none() {
        for own in [
            &[("sec-fetch-site", "same-origin")][..],
            &[("sec-fetch-site", "none")],
            &[("origin", "https://gate.example"), ("host", "gate.example")],
            &[("origin", "http://127.0.0.1:8080"), ("host", "127.0.0.1:8080")],
        ] {
            assert!(is_same_site(&head(own)), "{own:?}");
        }
        for foreign in [
            &[][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://gate.example"), ("host", "gate.example")],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
            &[("host", "gate.example")],
            &[("origin", "null"), ("host", "gate.example")],
            &[("origin", "https://gate.example.evil"), ("host", "gate.example")],
            &[("origin", "https://gate.example:444"), ("host", "gate.example")],
            &[("origin", "https://gate.example"), ("origin", "https://evil"), ("host", "gate.example")],
        ] {
            assert!(!is_same_site(&head(foreign)), "{foreign:?}");
        }
    }

    #[test]
    fn a_page_may_send_what_the_clients_send_and_nothing_that_is_the_gateways() {
        let asked = "Authorization,content-type, X-Stainless-Retry-Count ,x-stainless-os,anthropic-version,x-openclawmu-tenant,\
                     x-forwarded-for,cookie,x-stainless-,connection";
        let sent = headers(&[("access-control-request-headers", asked)]);
        let allowed = "authorization, content-type, x-stainless-retry-count, x-stainless-os, anthropic-version";
        assert_eq!(allowed_headers(&sent), allowed);
        assert_eq!(allowed_headers(&HeaderMap::new()), "");
    }

    #[test]
    fn two_origins_are_none() {
        assert!(stated(&headers(&[("origin", "https://a")])).is_some());
        assert!(stated(&headers(&[("origin", "https://a"), ("origin", "https://a")])).is_none());
    }
}
