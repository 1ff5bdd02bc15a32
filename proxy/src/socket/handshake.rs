//! The opening of a WebSocket (RFC 6455, section 4.2): what a request must say before anything is switched.
//!
//! It never asks who the caller is: that is known before.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, Method, Version};
use openclawmu_store::RequestId;
use pingora::http::RequestHeader;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::answer::Head;
use crate::refusal::Refusal;

/// The subprotocol that `OpenAI`'s clients in browsers name beside the one that holds their key.
const REALTIME: &str = "realtime";
/// The subprotocol by which those clients ask for the API's beta.
const BETA: &str = "openai-beta.realtime-v1";
/// Bytes of a key, decoded.
const KEY_BYTES: usize = 16;

/// A request that may become a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    accept: String,
    /// The subprotocol that is answered.
    protocol: Option<&'static str>,
    /// The client asks for the beta by a subprotocol, since it can set no header.
    pub(crate) beta: bool,
}

/// Reads the head of a request for a WebSocket.
///
/// # Errors
/// 426 where it asks for none, or for another version; 400 where it is none that this RFC allows.
pub(crate) fn check(head: &RequestHeader) -> Result<Offer, Refusal> {
    let headers = &head.headers;
    if head.method != Method::GET || head.version != Version::HTTP_11 || !names(headers, &UPGRADE, "websocket") {
        return Err(upgrade_required("This route is a WebSocket: ask with `Upgrade: websocket`, over HTTP/1.1."));
    }
    if only(headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(upgrade_required("The only version of the WebSocket protocol is 13 (RFC 6455)."));
    }
    if !names(headers, &CONNECTION, "upgrade") {
        return Err(bad("connection", "`Connection` must name `upgrade`."));
    }
    let bodiless = headers.get_all(CONTENT_LENGTH).iter().all(|length| length == "0");
    if !bodiless || headers.contains_key(TRANSFER_ENCODING) {
        return Err(bad("content-length", "A request for a WebSocket has no body."));
    }
    let key = only(headers, &SEC_WEBSOCKET_KEY)
        .filter(|key| STANDARD.decode(key).is_ok_and(|key| key.len() == KEY_BYTES))
        .ok_or_else(|| bad("sec-websocket-key", "`Sec-WebSocket-Key` must be 16 bytes in base64."))?;
    Ok(Offer {
        accept: derive_accept_key(key.as_bytes()),
        protocol: names(headers, &SEC_WEBSOCKET_PROTOCOL, REALTIME).then_some(REALTIME),
        beta: names(headers, &SEC_WEBSOCKET_PROTOCOL, BETA),
    })
}

impl Offer {
    /// The same, answered with this subprotocol, which the request names.
    pub(crate) fn speaking(self, protocol: &'static str) -> Self {
        Self { protocol: Some(protocol), ..self }
    }

    /// The head of the answer that switches. Of the subprotocols only a known one comes back, never one that holds a key.
    pub(crate) fn switching(&self, request_id: RequestId) -> pingora::Result<Head> {
        let mut head = Head::new(101, request_id)?;
        head.set(UPGRADE, "websocket");
        head.set(CONNECTION, "Upgrade");
        head.set(SEC_WEBSOCKET_ACCEPT, &self.accept);
        if let Some(protocol) = self.protocol {
            head.set(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        Ok(head)
    }
}

/// The value of a header that is there exactly once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok().map(str::trim) }
}

/// Whether a header's list holds this token.
fn names(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let mut lists = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lists.any(|list| list.split(',').any(|one| one.trim().eq_ignore_ascii_case(token)))
}

fn upgrade_required(message: &str) -> Refusal {
    Refusal::Bad { status: 426, param: None, code: Some("upgrade_required"), message: message.to_owned() }
}

fn bad(header: &'static str, message: &str) -> Refusal {
    Refusal::bad(header, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455, section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn read(version: Version, changed: &[(&'static str, Option<&str>)]) -> Result<Offer, u16> {
        let mut head = RequestHeader::build("GET", b"/v1/realtime", None).unwrap();
        head.set_version(version);
        let good = [
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ];
        for (name, value) in good {
            head.insert_header(name, value).unwrap();
        }
        for (name, value) in changed {
            match value {
                Some(value) => drop(head.insert_header(*name, *value)),
                None => drop(head.remove_header(*name)),
            }
        }
        check(&head).map_err(|refusal| refusal.told().status)
    }

    #[test]
    fn a_request_by_the_rfc_is_accepted_with_the_rfcs_answer() {
        let offer = read(Version::HTTP_11, &[]).unwrap();
        assert_eq!(offer.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let head = offer.switching(RequestId(1)).unwrap();
        assert_eq!(head.status(), 101);
        assert!(head.get(&SEC_WEBSOCKET_PROTOCOL).is_none());
    }

    #[test]
    fn a_key_among_the_subprotocols_never_comes_back() {
        let protocols = "realtime, openai-insecure-api-key.tk_a, openai-beta.realtime-v1";
        let offer = read(Version::HTTP_11, &[("sec-websocket-protocol", Some(protocols))]).unwrap();
        assert!(offer.beta);
        let head = offer.switching(RequestId(1)).unwrap();
        assert_eq!(head.get(&SEC_WEBSOCKET_PROTOCOL), Some(b"realtime".as_slice()));
    }

    #[test]
    fn e_04_whatever_else_asks_for_an_upgrade_is_refused() {
        assert_eq!(read(Version::HTTP_2, &[]), Err(426));
        assert_eq!(read(Version::HTTP_10, &[]), Err(426));
        for (name, value, status) in [
            ("upgrade", None, 426),
            ("upgrade", Some("h2c"), 426),
            ("sec-websocket-version", None, 426),
            ("sec-websocket-version", Some("8"), 426),
            ("connection", Some("keep-alive"), 400),
            ("sec-websocket-key", None, 400),
            ("sec-websocket-key", Some("c2hvcnQ="), 400),
            ("sec-websocket-key", Some("not base64"), 400),
            ("content-length", Some("3"), 400),
            ("transfer-encoding", Some("chunked"), 400),
        ] {
            assert_eq!(read(Version::HTTP_11, &[(name, value)]), Err(status), "{name}: {value:?}");
        }
    }
}
