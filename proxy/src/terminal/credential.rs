//! What a request for a terminal's WebSocket says of itself: its one credential, and the origin of its page.
//!
//! A page can set no header on a WebSocket, and a URL is in every log: so the credential is one of the subprotocols. The answer
//! names `openclawmu.terminal.v1` alone, never the one with the credential.

use http::header::{HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};
use pingora::http::RequestHeader;
use secrecy::SecretString;

use crate::authenticate;
use crate::refusal::Refusal;

/// The subprotocol.
pub(crate) const PROTOCOL: &str = "openclawmu.terminal.v1";
/// What the subprotocols begin with that hold a ticket, and a token.
const TICKET: &str = "ticket.";
const TOKEN: &str = "token.";

/// The one credential of a request.
#[derive(Debug)]
pub(super) enum Credential {
    Ticket(SecretString),
    Token(SecretString),
}

/// Reads it: exactly one counts, and a ticket beside a token is none.
///
/// # Errors
/// 401 where there is none, or more than one.
pub(super) fn credential(headers: &HeaderMap) -> Result<Credential, Refusal> {
    let by_header = authenticate::by_header(headers)?;
    let mut found = by_header.map(|token| Credential::Token(token.to_owned().into()));
    for protocol in protocols(headers)? {
        let one = if let Some(ticket) = protocol.strip_prefix(TICKET) {
            Credential::Ticket(ticket.to_owned().into())
        } else if let Some(token) = protocol.strip_prefix(TOKEN) {
            Credential::Token(token.to_owned().into())
        } else {
            continue;
        };
        if found.replace(one).is_some() {
            return Err(Refusal::Unauthenticated);
        }
    }
    found.ok_or(Refusal::Unauthenticated)
}

/// Whether this protocol is asked for, once.
///
/// # Errors
/// 400 where it is not.
pub(super) fn speaks(headers: &HeaderMap) -> Result<(), Refusal> {
    if protocols(headers)?.filter(|protocol| *protocol == PROTOCOL).count() == 1 {
        return Ok(());
    }
    let message = format!("Ask with `Sec-WebSocket-Protocol: {PROTOCOL}, ticket.<ticket>`.");
    Err(Refusal::bad("sec-websocket-protocol", message))
}

fn protocols(headers: &HeaderMap) -> Result<impl Iterator<Item = &str>, Refusal> {
    let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL);
    // What is not ASCII can't be told apart, and so may hold another credential.
    if lists.iter().any(|list| list.to_str().is_err()) {
        return Err(Refusal::Unauthenticated);
    }
    let lists = lists.into_iter().filter_map(|list| list.to_str().ok());
    Ok(lists.flat_map(|list| list.split(',')).map(str::trim))
}

/// Holds a page to its origin: the gateway's own, which is its scheme and the `Host` of this very request, or one that the
/// operator lists; letter by letter. Who states no origin is no page.
///
/// # Errors
/// 403 for every other, and for two.
pub(super) fn check_origin(head: &RequestHeader, is_tls: bool, listed: &[String]) -> Result<(), Refusal> {
    let mut origins = head.headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let is_known = |origin: &HeaderValue| {
        let own = own_origin(head, is_tls);
        own.is_some_and(|own| *origin == own) || listed.iter().any(|listed| origin == listed.as_str())
    };
    if origins.next().is_none() && is_known(origin) {
        return Ok(());
    }
    tracing::info!(?origin, "a page of a foreign origin asked for a terminal");
    let message = "A terminal may not be opened from this origin: `terminal.origins` does not list it.".to_owned();
    Err(Refusal::Forbidden { code: "origin_not_allowed", message })
}

/// The origin of pages that this gateway serves, as this client reaches it.
fn own_origin(head: &RequestHeader, is_tls: bool) -> Option<String> {
    Some(format!("{}://{}", if is_tls { "https" } else { "http" }, host(head)?))
}

/// Where this client reaches the gateway.
pub(super) fn host(head: &RequestHeader) -> Option<&str> {
    let stated = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    // HTTP/2 has it in the target.
    stated.or_else(|| head.uri.authority().map(http::uri::Authority::as_str))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn head(pairs: &[(&str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/v1/terminal", None).unwrap();
        for (name, value) in pairs {
            head.append_header((*name).to_owned(), (*value).to_owned()).unwrap();
        }
        head
    }

    fn of(pairs: &[(&str, &str)]) -> Option<String> {
        credential(&head(pairs).headers).ok().map(|found| match found {
            Credential::Ticket(ticket) => format!("ticket {}", ticket.expose_secret()),
            Credential::Token(token) => format!("token {}", token.expose_secret()),
        })
    }

    /// A-01, T-01
    #[test]
    fn exactly_one_credential_counts() {
        const LIST: &str = "sec-websocket-protocol";
        assert_eq!(of(&[(LIST, "openclawmu.terminal.v1, ticket.a.b")]).as_deref(), Some("ticket a.b"));
        assert_eq!(of(&[(LIST, "openclawmu.terminal.v1"), (LIST, "token.tk_a")]).as_deref(), Some("token tk_a"));
        assert_eq!(of(&[("authorization", "Bearer tk_a")]).as_deref(), Some("token tk_a"));
        for none in [
            &[][..],
            &[(LIST, "openclawmu.terminal.v1")],
            &[(LIST, "ticket.a, ticket.b")],
            &[(LIST, "ticket.a, token.b")],
            &[(LIST, "token.a, token.a")],
            &[(LIST, "ticket.a"), ("authorization", "Bearer tk_a")],
            &[("authorization", "Basic tk_a")],
            &[(LIST, "ticket.a"), ("authorization", "Basic tk_a")],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    #[test]
    fn the_protocol_is_named_once() {
        let list = |list| speaks(&head(&[("sec-websocket-protocol", list)]).headers).is_ok();
        assert!(list("ticket.a, openclawmu.terminal.v1"));
        for other in ["", "ticket.a", "openclawmu.terminal.v2", "openclawmu.terminal.v1, openclawmu.terminal.v1"] {
            assert!(!list(other), "{other}");
        }
    }

    /// T-02
    #[test]
    fn an_origin_matches_letter_by_letter_or_not_at_all() {
        let listed = ["https://console.example".to_owned()];
        let allowed = |origins: &[&str], is_tls| {
            let mut pairs = vec![("host", "gate.example:8080")];
            pairs.extend(origins.iter().map(|origin| ("origin", *origin)));
            check_origin(&head(&pairs), is_tls, &listed).is_ok()
        };
        assert!(allowed(&[], false), "who states none is no page");
        assert!(allowed(&["http://gate.example:8080"], false));
        assert!(allowed(&["https://gate.example:8080"], true));
        assert!(allowed(&["https://console.example"], false));
        for foreign in [
            "null",
            "",
            "https://gate.example:8080",
            "http://gate.example",
            "http://gate.example:8081",
            "http://gate.example:8080.evil.example",
            "http://evil.example/gate.example:8080",
            "http://gate.example:8080/",
            "http://a.gate.example:8080",
            "http://GATE.example:8080",
            "https://console.example.evil",
            "http://console.example",
            "https://console.example:443",
        ] {
            assert!(!allowed(&[foreign], false), "{foreign}");
        }
        assert!(!allowed(&["http://gate.example:8080"], true), "another scheme");
        assert!(!allowed(&["http://gate.example:8080", "http://gate.example:8080"], false), "two are none");
    }
}
