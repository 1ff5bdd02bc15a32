//! What a client asks for: one `CONNECT` (RFC 9110, section 9.3.6), read to the letter. Whatever two readers could understand in
//! two ways is refused.

use super::event::Reason;
use super::rule::{parse_name, parse_port};

/// The longest host that is told to an observer.
const MAX_TOLD_BYTES: usize = 255;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The host: a name in small letters, or whatever stood there, which no rule names.
    pub(super) host: String,
    /// Whether it is a name. An address is none.
    pub(super) is_name: bool,
    pub(super) port: u16,
}

/// Reads a whole head, with the empty line at its end. What follows it is none of it.
pub(super) fn parse(head: &[u8]) -> Result<Target, Reason> {
    let text = std::str::from_utf8(head).map_err(|_| Reason::BadRequest)?;
    let text = text.strip_suffix("\r\n\r\n").ok_or(Reason::BadRequest)?;
    let mut lines = text.split("\r\n");
    let target = request_line(lines.next().unwrap_or_default())?;
    let mut hosts = 0;
    for line in lines {
        let (name, value) = field(line).ok_or(Reason::BadRequest)?;
        if name.eq_ignore_ascii_case("host") {
            hosts += 1;
            if hosts > 1 || !target.is_named_by(value) {
                return Err(Reason::BadRequest);
            }
        }
        // A body has no meaning here, and is where a second request would hide.
        let framed = name.eq_ignore_ascii_case("transfer-encoding") || name.eq_ignore_ascii_case("upgrade");
        if framed || (name.eq_ignore_ascii_case("content-length") && value != "0") {
            return Err(Reason::BadRequest);
        }
    }
    Ok(target)
}

fn request_line(line: &str) -> Result<Target, Reason> {
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Reason::BadRequest);
    };
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0")
        || !is_token(method)
        || !target.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(Reason::BadRequest);
    }
    if method != "CONNECT" {
        return Err(Reason::NotConnect);
    }
    Target::parse(target).ok_or(Reason::BadRequest)
}

impl Target {
    /// The authority form: a host and a port, both there.
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = parse_port(port)?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let plain = !host.is_empty() && host.len() <= MAX_TOLD_BYTES && !host.contains(['@', '/', '?', '#', '\\', '%']);
        if !plain || bracketed.unwrap_or(host).contains(['[', ']']) || (bracketed.is_none() && host.contains(':')) {
            return None;
        }
        let name = parse_name(host);
        Some(Self { is_name: name.is_some(), host: name.unwrap_or_else(|| host.to_owned()), port })
    }

    /// Whether a `Host` says the same; some clients leave the port out of it.
    fn is_named_by(&self, host: &str) -> bool {
        let same = |host: &str| parse_name(host).unwrap_or_else(|| host.to_owned()) == self.host;
        same(host)
            || host.rsplit_once(':').is_some_and(|(host, port)| same(host) && parse_port(port) == Some(self.port))
    }
}

/// A field of a head: no white space before the colon, no folding, nothing that doesn't print.
fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let prints = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
    (is_token(name) && value.bytes().all(prints)).then_some((name, value.trim_matches([' ', '\t'])))
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_real_clients_send_is_understood() {
        for head in [
            "CONNECT pypi.org:443 HTTP/1.1\r\n\r\n",
            "CONNECT PyPI.org.:443 HTTP/1.1\r\nHost: pypi.org:443\r\nUser-Agent: pip/23\r\nProxy-Connection: Keep-Alive\r\n\r\n",
            "CONNECT pypi.org:443 HTTP/1.0\r\n\r\n",
            "CONNECT pypi.org:443 HTTP/1.1\r\nhost:pypi.org\r\nContent-Length: 0\r\n\r\n",
        ] {
            let target = Target { host: "pypi.org".into(), is_name: true, port: 443 };
            assert_eq!(parse(head.as_bytes()), Ok(target), "{head:?}");
        }
    }

    /// decimal, octal, hexadecimal, mapped: each is read, and is no name.
    #[test]
    fn an_address_is_read_and_is_no_name() {
        for host in
            ["127.0.0.1", "2130706433", "0177.0.0.1", "0x7f000001", "0x7f.1", "127.1", "[::1]", "[::ffff:127.0.0.1]"]
        {
            let target = parse(format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n").as_bytes()).unwrap();
            assert_eq!((target.host.as_str(), target.is_name), (host, false));
        }
    }

    /// whatever could be two requests, or one with two meanings.
    #[test]
    fn a_smuggled_connect_is_a_bad_request() {
        for head in [
            "",
            "\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\n\n",
            "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\n\r\n\r\n",
            "CONNECT a.test:443  HTTP/1.1\r\n\r\n",
            "CONNECT\ta.test:443 HTTP/1.1\r\n\r\n",
            " CONNECT a.test:443 HTTP/1.1\r\n\r\n",
            "CONNECT a.test:443 HTTP/2.0\r\n\r\n",
            "CONNECT a.test:443\r\n\r\n",
            "CONNECT a.test HTTP/1.1\r\n\r\n",
            "CONNECT :443 HTTP/1.1\r\n\r\n",
            "CONNECT a.test:0 HTTP/1.1\r\n\r\n",
            "CONNECT a.test:443/ HTTP/1.1\r\n\r\n",
            "CONNECT user@a.test:443 HTTP/1.1\r\n\r\n",
            "CONNECT https://a.test:443 HTTP/1.1\r\n\r\n",
            "CONNECT a.test:443:443 HTTP/1.1\r\n\r\n",
            "CONNECT ::1:443 HTTP/1.1\r\n\r\n",
            "CONNECT a.test%00:443 HTTP/1.1\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\r\nHost: evil.test\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:80\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\r\nHost : a.test\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\r\nX: 1\r\n folded\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\r\nX: a\rb\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\r\nX: a\0b\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\r\nContent-Length: 41\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\r\n\r\nCONNECT evil.test:443 HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(parse(head.as_bytes()), Err(Reason::BadRequest), "{head:?}");
        }
        assert_eq!(parse(b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"), Err(Reason::NotConnect));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_told_prints(head: Vec<u8>, line in "CONNECT [!-~]{1,300} HTTP/1.1\r\n\r\n") {
            let _read = parse(&head);
            if let Ok(target) = parse(line.as_bytes()) {
                prop_assert!(target.host.len() <= MAX_TOLD_BYTES && target.host.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
