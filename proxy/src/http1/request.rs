//! The head of a request: where it ends, and what it says (RFC 9112, sections 2 to 6).
//!
//! A request that two servers could read differently never passes.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use httparse::Status;
use memchr::memchr_iter;
use pingora::http::RequestHeader;

use super::body::{Body, digits};
use crate::head::{self, MAX_HEAD_BYTES, malformed};
use crate::refusal::Refusal;
use crate::routes;

/// Most headers of a request.
const MAX_HEADERS: usize = 128;

/// Looks for the end of a head in what came so far, each byte once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Where the head begins: empty lines before it are skipped (section 2.2).
    start: usize,
    /// Where the line begins that is coming.
    line: usize,
    /// What was looked at.
    seen: usize,
}

impl Scan {
    /// Where the head lies in `bytes`, which are what the last call had and more; `None` while it is not whole.
    ///
    /// # Errors
    /// When it is too long, or a line has no proper end.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Result<Option<Range<usize>>, Refusal> {
        for end in memchr_iter(b'\n', bytes.get(self.seen..).unwrap_or_default()) {
            let end = self.seen + end;
            if end >= MAX_HEAD_BYTES {
                return Err(head::too_long());
            }
            let Some(line) = bytes.get(self.line..end).and_then(|line| line.strip_suffix(b"\r")) else {
                return Err(malformed("a line ends without CR LF"));
            };
            let is_empty = line.is_empty();
            if is_empty && self.line > self.start {
                return Ok(Some(self.start..end + 1));
            }
            self.line = end + 1;
            if is_empty {
                self.start = self.line;
            }
        }
        self.seen = bytes.len();
        if bytes.len() > MAX_HEAD_BYTES { Err(head::too_long()) } else { Ok(None) }
    }
}

/// What a request's head says.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) head: RequestHeader,
    pub(super) body: Body,
    /// Another request may follow on its connection.
    pub(super) persists: bool,
    /// Why it is refused all the same, though it is well-formed.
    pub(super) fault: Option<Refusal>,
}

/// Reads a whole head. Its values are cut out of it.
///
/// # Errors
/// When it is malformed: then nothing tells where its body ends.
pub(super) fn read(raw: &Bytes) -> Result<Asked, Refusal> {
    let mut space = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(raw, &mut space) {
        Ok(Status::Complete(length)) if length == raw.len() => {}
        Ok(_) => return Err(malformed("the head does not end where it should")),
        Err(httparse::Error::TooManyHeaders) => return Err(head::too_many(MAX_HEADERS)),
        Err(err) => return Err(malformed(&err.to_string())),
    }
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
        .map_err(|_| malformed("the method is none"))?;
    let uri = target(raw, parsed.path.unwrap_or_default())?;
    let (mut headers, mut said) = (HeaderMap::with_capacity(parsed.headers.len()), Said::default());
    for httparse::Header { name, value } in parsed.headers.iter() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed("a header's name is none"))?;
        said.hear(&name, value)?;
        let value = HeaderValue::from_maybe_shared(raw.slice_ref(value))
            .map_err(|_| malformed("a header's value holds what none may hold"))?;
        headers.append(name, value);
    }
    let (body, persists) = said.framing(version)?;
    if said.upgrades && !routes::is_socket(&method, uri.path()) {
        return Err(head::no_upgrade());
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, headers);
    Ok(Asked { head: parts.into(), body, persists, fault: said.is_coded.then(head::is_coded) })
}

/// A request's target, which must be a path (section 3.2.1).
fn target(raw: &Bytes, target: &str) -> Result<Uri, Refusal> {
    head::check_target(target.as_bytes())?;
    // A URL's fragment is the client's own (RFC 9110, section 4.1): servers differ in what they take it for.
    if target.contains('#') {
        return Err(malformed("the target holds a fragment"));
    }
    let target = PathAndQuery::from_maybe_shared(raw.slice_ref(target.as_bytes()));
    target.map(Uri::from).map_err(|_| malformed("the target is no path"))
}

/// What the headers say that matters before anything else of them does.
#[derive(Debug, Default)]
struct Said {
    length: Option<u64>,
    is_chunked: bool,
    has_host: bool,
    upgrades: bool,
    closes: bool,
    keeps: bool,
    is_coded: bool,
}

impl Said {
    fn hear(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Refusal> {
        if name == header::CONTENT_LENGTH {
            let length = digits(value).ok_or_else(head::no_length)?;
            if self.length.replace(length).is_some() {
                return Err(head::framed_twice());
            }
        } else if name == header::TRANSFER_ENCODING {
            if std::mem::replace(&mut self.is_chunked, true) {
                return Err(head::framed_twice());
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(head::other_coding());
            }
        } else if name == header::HOST {
            if std::mem::replace(&mut self.has_host, true) {
                return Err(head::not_one_host());
            }
            if !head::names_host(value) {
                return Err(head::no_host());
            }
        } else if name == header::CONNECTION {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                self.closes |= option.eq_ignore_ascii_case(b"close");
                self.keeps |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if name == header::UPGRADE {
            self.upgrades = true;
        } else if name == header::CONTENT_ENCODING {
            self.is_coded |= !value.eq_ignore_ascii_case(b"identity");
        }
        Ok(())
    }

    /// The body, and whether the connection goes on behind it.
    fn framing(&self, version: Version) -> Result<(Body, bool), Refusal> {
        let is_newer = version == Version::HTTP_11;
        if !self.has_host && is_newer {
            return Err(head::not_one_host());
        }
        let body = match (self.is_chunked, self.length) {
            (true, Some(_)) => return Err(head::framed_twice()),
            (true, None) if !is_newer => return Err(head::other_coding()),
            (true, None) => Body::chunked(),
            (false, length) => Body::sized(length.unwrap_or(0)),
        };
        Ok((body, !self.closes && (is_newer || self.keeps)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is said of these bytes, and how many of them are behind the head.
    fn said(bytes: &[u8]) -> Result<Option<(Asked, usize)>, Refusal> {
        let Some(range) = Scan::default().find(bytes)? else { return Ok(None) };
        let left = bytes.len() - range.end;
        read(&Bytes::copy_from_slice(&bytes[range])).map(|asked| Some((asked, left)))
    }

    fn status(bytes: &str) -> Result<(), u16> {
        match said(bytes.as_bytes()) {
            Ok(Some((Asked { fault: None, .. }, 0))) => Ok(()),
            Ok(Some((Asked { fault: Some(fault), .. }, 0))) | Err(fault) => Err(fault.told().status),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn e_02_a_head_that_can_be_read_two_ways_is_refused() {
        assert_eq!(status("POST /v1/models?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"), Ok(()));
        assert_eq!(status("\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(()), "empty lines before it are skipped");
        for bad in [
            "POST /#a HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\n\r\n",
            "\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nA\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
            "POST /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.2\r\nHost: a\r\n\r\n",
            "POST / HTTP/2.0\r\nHost: a\r\n\r\n",
            "POST /\r\nHost: a\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: user@a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
        ] {
            assert_eq!(status(bad), Err(400), "{bad:?}");
        }
        assert_eq!(status("POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n\r\n"), Err(415));
    }

    #[test]
    fn e_09_heads_and_targets_are_bounded() {
        let long = "x".repeat(MAX_HEAD_BYTES);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}\r\n\r\n")), Err(431));
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}")), Err(431), "before its end has come");
        assert_eq!(status(&"\r\n".repeat(MAX_HEAD_BYTES)), Err(431), "nothing but empty lines");
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS))), Err(431));
        assert_eq!(status(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9_000))), Err(414));
    }

    #[test]
    fn what_frames_the_body_and_what_ends_the_connection_is_heard() {
        let heard = |first: &str, headers: &str| {
            let (asked, _) = said(format!("{first}\r\nhost: a:80\r\n{headers}\r\n").as_bytes()).unwrap().unwrap();
            (asked.body, asked.persists)
        };
        assert_eq!(heard("GET / HTTP/1.1", ""), (Body::Ended, true));
        assert_eq!(heard("POST / HTTP/1.1", "Content-Length: 7\r\n"), (Body::Sized(7), true));
        assert_eq!(heard("POST / HTTP/1.1", "Transfer-Encoding: Chunked\r\n"), (Body::chunked(), true));
        assert_eq!(heard("GET / HTTP/1.1", "Connection: x, Close\r\n"), (Body::Ended, false));
        assert_eq!(heard("GET / HTTP/1.0", ""), (Body::Ended, false));
        assert_eq!(heard("GET / HTTP/1.0", "Connection: Keep-Alive\r\n"), (Body::Ended, true));
        let (asked, left) =
            said(b"GET /a?b HTTP/1.1\r\nhost: [::1]:8080\r\nX-A:  b \r\nx-a:\r\n\r\nrest").unwrap().unwrap();
        let values: Vec<&[u8]> = asked.head.headers.get_all("x-a").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!((values, left, asked.head.raw_path()), (vec![b"b".as_slice(), b""], 4, b"/a?b".as_slice()));
    }

    proptest! {
        #[test]
        fn a_head_is_found_wherever_it_is_cut(bytes in "(\r\n|\n|\r|[a-z: /]|GET / HTTP/1.1\r\nhost: a\r\n){0,12}", cut in 1_usize..9) {
            let whole = Scan::default().find(bytes.as_bytes()).ok();
            let (mut scan, mut found) = (Scan::default(), Some(None));
            for end in (cut..bytes.len() + cut).step_by(cut) {
                found = scan.find(&bytes.as_bytes()[..end.min(bytes.len())]).ok();
                if !matches!(found, Some(None)) {
                    break;
                }
            }
            prop_assert_eq!(found, whole);
        }

        #[test]
        fn any_bytes_are_judged_without_fault(bytes: Vec<u8>) {
            let _either = said(&[b"GET / HTTP/1.1\r\n".as_slice(), &bytes, b"\r\n\r\n"].concat());
        }
    }
}
