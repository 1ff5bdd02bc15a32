//! Request heads: what is refused before anything is believed, in whatever version of HTTP it comes (RFC 9110).
//!
//! How HTTP/1.1 frames one is judged where it is read, in `http1`.

use http::{HeaderMap, header};
use memchr::memchr;
use pingora::http::RequestHeader;

use crate::refusal::{MALFORMED, Refusal};

/// Largest head, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 32 << 10;
/// Longest request target, in bytes.
const MAX_TARGET_BYTES: usize = 8 << 10;

/// What the head of a request over HTTP/2 must satisfy, beyond what the library behind refuses.
pub(crate) fn check_http2(head: &RequestHeader) -> Result<(), Refusal> {
    let target = head.raw_path();
    if target.len() > MAX_TARGET_BYTES {
        return Err(target_too_long());
    }
    let headers = &head.headers;
    if headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() > MAX_HEAD_BYTES {
        return Err(too_long());
    }
    if headers.contains_key(header::UPGRADE) {
        return Err(no_upgrade());
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(other_coding());
    }
    let bad_length = |value: &http::HeaderValue| value.is_empty() || !value.as_bytes().iter().all(u8::is_ascii_digit);
    if headers.get_all(header::CONTENT_LENGTH).iter().any(bad_length) {
        return Err(no_length());
    }
    let encoded = |value: &http::HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().any(encoded) {
        return Err(is_coded());
    }
    Ok(())
}

/// What a target must satisfy: it is a path, and no longer than one may be.
pub(crate) fn check_target(target: &[u8]) -> Result<(), Refusal> {
    if target.len() > MAX_TARGET_BYTES {
        return Err(target_too_long());
    }
    if target.first() != Some(&b'/') {
        return Err(malformed("the target is not a path that starts with `/`"));
    }
    Ok(())
}

/// Whether this is the name of a host, perhaps with a port (RFC 9112, section 3.2).
pub(crate) fn names_host(host: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let (name, port) = host.split_at(memchr(b':', host).unwrap_or(host.len()));
    // Nearly every one; the rest is parsed.
    if !name.is_empty() && name.iter().all(plain) && port.iter().skip(1).all(u8::is_ascii_digit) && port.len() <= 6 {
        return true;
    }
    let authority = http::uri::Authority::try_from(host);
    authority.is_ok_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty())
}

/// Whether a client waits for leave to send its body.
pub(crate) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Its headers take too much room.
pub(crate) fn too_long() -> Refusal {
    too_large(431, format!("The request's headers are larger than {MAX_HEAD_BYTES} bytes."))
}

/// It has more headers than `most`.
pub(crate) fn too_many(most: usize) -> Refusal {
    too_large(431, format!("The request has more than {most} headers."))
}

fn target_too_long() -> Refusal {
    too_large(414, format!("The request's target is longer than {MAX_TARGET_BYTES} bytes."))
}

/// Its length is none.
pub(crate) fn no_length() -> Refusal {
    malformed("the Content-Length is not a number")
}

/// Its body is framed in two ways.
pub(crate) fn framed_twice() -> Refusal {
    malformed("the length of the body is stated twice")
}

/// Its body is framed in a way that is not served.
pub(crate) fn other_coding() -> Refusal {
    malformed("the only transfer coding is chunked, of HTTP/1.1")
}

/// It asks of no host, or of several.
pub(crate) fn not_one_host() -> Refusal {
    malformed("there is not exactly one Host header")
}

/// It asks of something that is no host.
pub(crate) fn no_host() -> Refusal {
    malformed("the Host header names no host")
}

/// It asks for another protocol where there is none.
pub(crate) fn no_upgrade() -> Refusal {
    malformed("this route does not upgrade to another protocol")
}

/// Its body is compressed.
pub(crate) fn is_coded() -> Refusal {
    let message = "A compressed body is not accepted. Send it without Content-Encoding.".to_owned();
    Refusal::Bad { status: 415, param: None, code: Some("unsupported_content_encoding"), message }
}

fn too_large(status: u16, message: String) -> Refusal {
    Refusal::Bad { status, param: None, code: None, message }
}

/// It is no HTTP, or could be read in two ways.
pub(crate) fn malformed(what: &str) -> Refusal {
    Refusal::Bad {
        status: 400,
        param: None,
        code: Some(MALFORMED),
        message: format!("This is not well-formed HTTP: {what}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_10_and_e_12_what_is_not_for_this_edge_is_refused() {
        let with = |target: &str, headers: &[(&str, &str)]| {
            let mut head = RequestHeader::build("POST", target.as_bytes(), None).unwrap();
            for (name, value) in headers {
                head.append_header((*name).to_owned(), (*value).to_owned()).unwrap();
            }
            check_http2(&head).map_err(|refusal| refusal.told().status)
        };
        assert_eq!(with("/v1/models", &[("content-length", "3")]), Ok(()));
        assert_eq!(with("/v1/models", &[("upgrade", "websocket")]), Err(400));
        assert_eq!(with("/v1/models", &[("transfer-encoding", "gzip, chunked")]), Err(400));
        assert_eq!(with("/v1/models", &[("content-length", "+3")]), Err(400));
        assert_eq!(with("/v1/models", &[("content-encoding", "gzip")]), Err(415));
        assert_eq!(with(&format!("/{}", "x".repeat(MAX_TARGET_BYTES)), &[]), Err(414));
        assert_eq!(with("/", &[("a", &"x".repeat(MAX_HEAD_BYTES))]), Err(431));
    }

    #[test]
    fn e_12_a_host_is_named_or_it_is_none() {
        for host in ["", "a b", "user@a", "a/b", "a, b", "http://a"] {
            assert!(!names_host(host.as_bytes()), "{host}");
        }
        for host in ["gateway.example:8080", "[::1]:8080", "a.", "A"] {
            assert!(names_host(host.as_bytes()), "{host}");
        }
        assert_eq!(check_target(b"http://other/v1/models").map_err(|refusal| refusal.told().status), Err(400));
    }
}
