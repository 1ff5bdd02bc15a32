//! The end of an answer's head, and the frames of its body, as they are written.

use http::Version;
use pingora::protocols::http::date::get_cached_date;

/// What the end of a head takes, in bytes.
pub(super) const MORE_BYTES: usize = 128;
/// What ends a chunk.
pub(super) const CHUNK_END: &[u8] = b"\r\n";
/// What ends a body in chunks.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Both.
pub(super) const CHUNK_END_AND_LAST: &[u8] = b"\r\n0\r\n\r\n";

/// How a head says that its body follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Chunked,
    /// As so many bytes; or not at all, or until the connection ends.
    Length(Option<usize>),
}

/// Ends a head. `connection` is what it says of the connection, where it must say anything.
pub(super) fn end_head(out: &mut Vec<u8>, connection: Option<&'static str>, framing: Framing) {
    out.extend_from_slice(b"date: ");
    out.extend_from_slice(get_cached_date().as_bytes());
    match framing {
        Framing::Chunked => out.extend_from_slice(b"\r\ntransfer-encoding: chunked"),
        Framing::Length(Some(length)) => {
            out.extend_from_slice(b"\r\ncontent-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        }
        Framing::Length(None) => {}
    }
    if let Some(connection) = connection {
        out.extend_from_slice(b"\r\nconnection: ");
        out.extend_from_slice(connection.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Writes a chunk's first line.
pub(super) fn chunk(out: &mut Vec<u8>, length: usize) {
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let digit = (length >> (digit * 4)) & 15;
        out.push(b"0123456789abcdef".get(digit).copied().unwrap_or(b'0'));
    }
    out.extend_from_slice(CHUNK_END);
}

/// What an answer in this version must say of the connection: only what is not understood without a word (RFC 9112, section 9.3).
pub(super) fn connection(version: Version, persists: bool) -> Option<&'static str> {
    match (version, persists) {
        (Version::HTTP_11, true) => None,
        (_, true) => Some("keep-alive"),
        (_, false) => Some("close"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(connection: Option<&'static str>, framing: Framing) -> String {
        let mut out = b"x-a: b\r\n".to_vec();
        end_head(&mut out, connection, framing);
        assert!(out.len() < MORE_BYTES);
        let text = String::from_utf8(out).unwrap();
        let (first, rest) = text.split_once("date: ").unwrap();
        assert_eq!(first, "x-a: b\r\n");
        rest.split_once(" GMT").unwrap().1.to_owned()
    }

    #[test]
    fn a_head_ends_with_what_frames_its_body_and_what_ends_its_connection() {
        let closes = connection(Version::HTTP_11, false);
        assert_eq!(ended(closes, Framing::Chunked), "\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
        let keeps = connection(Version::HTTP_10, true);
        assert_eq!(ended(keeps, Framing::Length(Some(12))), "\r\ncontent-length: 12\r\nconnection: keep-alive\r\n\r\n");
        assert_eq!(ended(connection(Version::HTTP_11, true), Framing::Length(None)), "\r\n\r\n");
    }

    #[test]
    fn a_chunk_begins_with_its_length_in_hex() {
        for length in [0, 1, 15, 16, 0x1a2b, 0x10000, usize::MAX] {
            let mut out = Vec::new();
            chunk(&mut out, length);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{length:x}\r\n"));
        }
    }
}
