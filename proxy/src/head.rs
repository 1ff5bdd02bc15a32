//! Request heads: what is refused before anything is believed, and what is stripped.
//!
//! The parser in front repairs some malformed HTTP/1.1 instead of rejecting it, so the raw head is looked at once more: a
//! request that two servers could read differently never passes (RFC 9112, sections 2.2, 5.2 and 6).

use http::{HeaderMap, Version, header};
use memchr::{memchr, memchr2};
use pingora::http::RequestHeader;

use crate::refusal::{MALFORMED, Refusal};
use crate::routes;

/// Largest head, in bytes.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// Longest request target, in bytes.
const MAX_TARGET_BYTES: usize = 8 << 10;

/// What the raw head of an HTTP/1.x request must satisfy. `raw` is the head as it came, request line included.
pub(crate) fn check_raw(raw: &[u8]) -> Result<(), Refusal> {
    if raw.len() > MAX_HEAD_BYTES {
        return Err(too_large(431, format!("The request's headers are larger than {MAX_HEAD_BYTES} bytes.")));
    }
    let mut lengths = 0;
    let mut encodings = 0;
    let mut rest = raw;
    for number in 0.. {
        // Only what follows the last line may lack its CR LF: nothing.
        let Some(end) = memchr(b'\n', rest) else {
            if rest.is_empty() {
                break;
            }
            return Err(malformed("a line ends without CR LF"));
        };
        let (line, later) = rest.split_at_checked(end + 1).unwrap_or((rest, &[]));
        rest = later;
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(malformed("a line ends without CR LF"));
        };
        if memchr2(b'\r', 0, line).is_some() {
            return Err(malformed("a line holds a bare CR or a NUL"));
        }
        // A URL's fragment is the client's own (RFC 9110, section 4.1): servers differ in what they take it for.
        if number == 0 && line.contains(&b'#') {
            return Err(malformed("the target holds a fragment"));
        }
        if number == 0 || line.is_empty() {
            continue;
        }
        if line.first().is_some_and(|&byte| byte == b' ' || byte == b'\t') {
            return Err(malformed("a header is folded over two lines"));
        }
        let name = memchr(b':', line).and_then(|colon| line.get(..colon)).unwrap_or(line);
        if name.last().is_some_and(|&byte| byte == b' ' || byte == b'\t') {
            return Err(malformed("a header's name is followed by white space"));
        }
        lengths += usize::from(name.eq_ignore_ascii_case(b"content-length"));
        encodings += usize::from(name.eq_ignore_ascii_case(b"transfer-encoding"));
    }
    if lengths > 1 || encodings > 1 || (lengths > 0 && encodings > 0) {
        return Err(malformed("the length of the body is stated twice"));
    }
    Ok(())
}

/// What a parsed head must satisfy, whatever the HTTP version.
pub(crate) fn check(head: &RequestHeader) -> Result<(), Refusal> {
    let target = head.raw_path();
    if target.len() > MAX_TARGET_BYTES {
        return Err(too_large(414, format!("The request's target is longer than {MAX_TARGET_BYTES} bytes.")));
    }
    let headers = &head.headers;
    if headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() > MAX_HEAD_BYTES {
        return Err(too_large(431, format!("The request's headers are larger than {MAX_HEAD_BYTES} bytes.")));
    }
    let http1 = head.version != Version::HTTP_2;
    if http1 && target.first() != Some(&b'/') {
        return Err(malformed("the target is not a path that starts with `/`"));
    }
    if http1 {
        check_host(head)?;
    }
    if headers.contains_key(header::UPGRADE) && !(http1 && routes::is_socket(&head.method, head.uri.path())) {
        return Err(malformed("this route does not upgrade to another protocol"));
    }
    check_framing(head)
}

/// What the `Host` header must satisfy: there is one, and it names a host, perhaps with a port (RFC 9112, section 3.2).
fn check_host(head: &RequestHeader) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() || (host.is_none() && head.version != Version::HTTP_10) {
        return Err(malformed("there is not exactly one Host header"));
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let names_host = |host: &http::HeaderValue| {
        let bytes = host.as_bytes();
        let (name, port) = bytes.split_at(memchr(b':', bytes).unwrap_or(bytes.len()));
        // Nearly every one; the rest is parsed.
        if !name.is_empty() && name.iter().all(plain) && port.iter().skip(1).all(u8::is_ascii_digit) && port.len() < 6 {
            return true;
        }
        let authority = http::uri::Authority::try_from(host.as_bytes());
        authority.is_ok_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty())
    };
    if host.is_some_and(|host| !names_host(host)) {
        return Err(malformed("the Host header names no host"));
    }
    Ok(())
}

/// What the headers that frame a body must satisfy.
fn check_framing(head: &RequestHeader) -> Result<(), Refusal> {
    let headers = &head.headers;
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if encodings
        .next()
        .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked") || head.version == Version::HTTP_10)
    {
        return Err(malformed("the only transfer coding is chunked, from HTTP/1.1 on"));
    }
    let bad_length = |value: &http::HeaderValue| value.is_empty() || !value.as_bytes().iter().all(u8::is_ascii_digit);
    if headers.get_all(header::CONTENT_LENGTH).iter().any(bad_length) {
        return Err(malformed("the Content-Length is not a number"));
    }
    let encoded = |value: &http::HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().any(encoded) {
        let message = "A compressed body is not accepted. Send it without Content-Encoding.".to_owned();
        return Err(Refusal::Bad { status: 415, param: None, code: Some("unsupported_content_encoding"), message });
    }
    Ok(())
}

/// Whether a client waits for leave to send its body.
pub(crate) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn too_large(status: u16, message: String) -> Refusal {
    Refusal::Bad { status, param: None, code: None, message }
}

fn malformed(what: &str) -> Refusal {
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
    fn e_02_a_raw_head_that_can_be_read_two_ways_is_refused() {
        let good = b"POST /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(check_raw(good), Ok(()));
        for bad in [
            "POST /#a HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
            "POST / HTTP/1.1\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\n\r\n",
            "POST / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length : 3\r\n\r\n",
            "POST / HTTP/1.1\r\nA: b\rc\r\n\r\n",
            "POST / HTTP/1.1\r\nA: b\0c\r\n\r\n",
        ] {
            assert!(check_raw(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn e_09_heads_and_targets_are_bounded() {
        let head = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(MAX_HEAD_BYTES));
        assert!(matches!(check_raw(head.as_bytes()), Err(Refusal::Bad { status: 431, .. })));
        let mut long =
            RequestHeader::build("GET", format!("/{}", "x".repeat(MAX_TARGET_BYTES)).as_bytes(), None).unwrap();
        long.insert_header("Host", "a").unwrap();
        assert!(matches!(check(&long), Err(Refusal::Bad { status: 414, .. })));
    }

    #[test]
    fn e_10_and_e_12_what_is_not_for_this_edge_is_refused() {
        let with = |target: &str, headers: &[(&str, &str)]| {
            let mut head = RequestHeader::build("POST", target.as_bytes(), None).unwrap();
            for (name, value) in headers {
                head.append_header((*name).to_owned(), (*value).to_owned()).unwrap();
            }
            check(&head).map_err(|refusal| refusal.told().status)
        };
        assert_eq!(with("/v1/models", &[("Host", "a")]), Ok(()));
        assert_eq!(with("/v1/models", &[]), Err(400));
        assert_eq!(with("/v1/models", &[("Host", "a"), ("Host", "b")]), Err(400));
        assert_eq!(with("http://other/v1/models", &[("Host", "a")]), Err(400));
        for host in ["", "a b", "user@a", "a/b", "a, b", "http://a"] {
            assert_eq!(with("/v1/models", &[("Host", host)]), Err(400), "{host}");
        }
        for host in ["gateway.example:8080", "[::1]:8080", "a.", "A"] {
            assert_eq!(with("/v1/models", &[("Host", host)]), Ok(()), "{host}");
        }
        assert_eq!(with("/v1/models", &[("Host", "a"), ("Upgrade", "websocket")]), Err(400));
        assert_eq!(with("/v1/models", &[("Host", "a"), ("Transfer-Encoding", "gzip, chunked")]), Err(400));
        assert_eq!(with("/v1/models", &[("Host", "a"), ("Content-Length", "+3")]), Err(400));
        assert_eq!(with("/v1/models", &[("Host", "a"), ("Content-Encoding", "gzip")]), Err(415));
    }
}
