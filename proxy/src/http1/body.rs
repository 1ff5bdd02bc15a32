//! A body as it comes: how it is framed, and where it ends (RFC 9112, sections 6 and 7.1).
//!
//! Pieces are cut out of the buffer that the system filled: nothing is copied. Framing that two readers could take in two ways is broken:
//! it may hide a request from one of them and not from the other.

use std::io::{Error, ErrorKind, Result};

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

/// The longest line within a chunked body, in bytes.
pub(crate) const MAX_LINE_BYTES: usize = 4 << 10;
/// All trailers of a body, in bytes.
const MAX_TRAILER_BYTES: usize = 8 << 10;
/// Digits of a chunk's size that are read without a look at the line around them.
const BARE_DIGITS: usize = 8;
/// What no trailer may name: it would frame, route or authorise what is over already (RFC 9110, section 6.5.1).
const FORBIDDEN: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"host", b"authorization"];

/// What is still to come of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Ended,
    /// This many bytes.
    Sized(u64),
    Chunked(Chunk),
    /// Whatever comes before the connection ends.
    UntilClose,
}

/// What is next of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    Size,
    Data(u64),
    DataEnd,
    /// A line of the trailers, of which this many bytes came.
    Trailer(usize),
}

/// What a buffer holds of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Piece(Bytes),
    End,
    /// Nothing yet.
    More,
}

impl Body {
    /// A body of this length.
    pub(crate) fn sized(length: u64) -> Self {
        if length == 0 { Self::Ended } else { Self::Sized(length) }
    }

    /// A body in chunks, none of which has come.
    pub(crate) fn chunked() -> Self {
        Self::Chunked(Chunk::Size)
    }

    /// Takes the next piece out of what was read.
    ///
    /// # Errors
    /// When it is not well framed.
    pub(crate) fn take(&mut self, buffer: &mut BytesMut) -> Result<Taken> {
        match *self {
            Self::Ended => Ok(Taken::End),
            Self::UntilClose => Ok(cut(buffer, u64::MAX).map_or(Taken::More, |(piece, _)| Taken::Piece(piece))),
            Self::Sized(left) => {
                let Some((piece, left)) = cut(buffer, left) else { return Ok(Taken::More) };
                *self = Self::sized(left);
                Ok(Taken::Piece(piece))
            }
            Self::Chunked(chunk) => self.take_chunk(buffer, chunk),
        }
    }

    fn take_chunk(&mut self, buffer: &mut BytesMut, mut chunk: Chunk) -> Result<Taken> {
        loop {
            chunk = match chunk {
                Chunk::Size if buffer.is_empty() => break,
                Chunk::Size => {
                    let (size, length) = match bare_size(buffer) {
                        Some(sized) => sized,
                        None => {
                            let Some((line, length)) = line(buffer, MAX_LINE_BYTES)? else { break };
                            (chunk_size(line).ok_or_else(|| broken("a chunk has no size"))?, length)
                        }
                    };
                    buffer.advance(length);
                    if size == 0 { Chunk::Trailer(0) } else { Chunk::Data(size) }
                }
                Chunk::Data(left) => {
                    let Some((piece, left)) = cut(buffer, left) else { break };
                    *self = Self::Chunked(match left {
                        0 if buffer.starts_with(b"\r\n") => {
                            buffer.advance(2);
                            Chunk::Size
                        }
                        0 => Chunk::DataEnd,
                        left => Chunk::Data(left),
                    });
                    return Ok(Taken::Piece(piece));
                }
                Chunk::DataEnd => match buffer.get(..2) {
                    None if buffer.first().is_none_or(|byte| *byte == b'\r') => break,
                    Some(b"\r\n") => {
                        buffer.advance(2);
                        Chunk::Size
                    }
                    None | Some(_) => return Err(broken("a chunk is longer than its size")),
                },
                Chunk::Trailer(so_far) => {
                    let most = MAX_LINE_BYTES.min(MAX_TRAILER_BYTES.saturating_sub(so_far));
                    let Some((line, length)) = line(buffer, most)? else { break };
                    let (is_last, is_good) = (line.is_empty(), is_trailer(line));
                    buffer.advance(length);
                    if is_last {
                        *self = Self::Ended;
                        return Ok(Taken::End);
                    }
                    if !is_good {
                        return Err(broken("a trailer may not be where it is"));
                    }
                    Chunk::Trailer(so_far.saturating_add(length))
                }
            };
            *self = Self::Chunked(chunk);
        }
        Ok(Taken::More)
    }
}

/// Cuts off what the buffer holds of `left` bytes, and says how many are still to come; `None` where it holds nothing.
fn cut(buffer: &mut BytesMut, left: u64) -> Option<(Bytes, u64)> {
    let held = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    let piece = (held > 0).then(|| buffer.split_to(held).freeze())?;
    Some((piece, left.saturating_sub(u64::try_from(held).unwrap_or(u64::MAX))))
}

/// The first line of `bytes` without its end, and its length with it; `None` while it is not whole.
fn line(bytes: &[u8], most: usize) -> Result<Option<(&[u8], usize)>> {
    let end = memchr(b'\n', bytes);
    let so_far = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    let is_long = so_far.len() > most;
    let content = match so_far.get(..most).filter(|_| is_long) {
        Some(beginning) => beginning,
        None => so_far.strip_suffix(b"\r").unwrap_or(so_far),
    };
    if content.iter().any(|byte| is_control(*byte)) {
        return Err(broken("a line of its body holds what no line may hold"));
    }
    if is_long {
        return Err(broken("a line of its body is too long"));
    }
    match end {
        None => Ok(None),
        Some(_) if content.len() == so_far.len() => Err(broken("a line of its body has no proper end")),
        Some(end) => Ok(Some((content, end + 1))),
    }
}

/// What may stand in no line of text.
fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// A chunk's size and the length of its line, where that is nothing but a few digits, as it mostly is.
fn bare_size(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut size = 0;
    for (at, byte) in bytes.iter().take(BARE_DIGITS + 1).enumerate() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if at > 0 && bytes.get(at + 1) == Some(&b'\n') => return Some((size, at + 2)),
            _ => return None,
        };
        size = (size << 4) | u64::from(digit);
    }
    None
}

/// `chunk-size [ chunk-ext ]`
fn chunk_size(line: &[u8]) -> Option<u64> {
    let (size, rest) = line.split_at(line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count());
    let rest = rest.trim_ascii_start();
    let is_size = (1..=16).contains(&size.len()) && (rest.is_empty() || rest.starts_with(b";"));
    u64::from_str_radix(std::str::from_utf8(size).ok().filter(|_| is_size)?, 16).ok()
}

fn is_trailer(line: &[u8]) -> bool {
    let Some(name) = memchr(b':', line).and_then(|colon| line.get(..colon)) else { return false };
    let is_name = !name.is_empty() && !name.iter().any(u8::is_ascii_whitespace);
    is_name && !FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}

/// A length as it is stated: digits, and nothing else.
pub(crate) fn digits(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}

pub(crate) fn broken(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is read of a chunked body that comes in these pieces, and what is left behind its end; `None` while it has none.
    fn read<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let (mut body, mut buffer, mut whole, mut ended) = (Body::chunked(), BytesMut::new(), Vec::new(), false);
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while !ended {
                match body.take(&mut buffer)? {
                    Taken::Piece(piece) => whole.extend_from_slice(&piece),
                    Taken::End => ended = true,
                    Taken::More => break,
                }
            }
        }
        Ok(ended.then(|| (whole, buffer.to_vec())))
    }

    #[test]
    fn e_02_chunks_that_can_be_read_two_ways_are_broken() {
        for bad in [
            "\r\n",
            "-2\r\n",
            "0x2\r\n",
            " 2\r\n",
            "2\n{}\r\n",
            "2\r{}\r\n",
            "2;a=b\nc\r\n",
            "2;a\rb\r\n",
            "2;a\0\r\n",
            "2 0\r\n",
            "two\r\n",
            "10000000000000002\r\n",
            "+2\r\n",
            "2\r\n{}0\r\n",
            "2\r\n{}\n0\r\n",
            "2\r\n{}XX0\r\n",
            "0\r\ncontent-length: 2\r\n",
            "0\r\nTransfer-Encoding: chunked\r\n",
            "0\r\nx-a: b\r\n folded\r\n",
            "0\r\nno colon\r\n",
            "0\r\nx-a: b\n\r\n",
            "0\n\n",
        ] {
            assert!(read([bad.as_bytes()]).is_err(), "{bad:?}");
            assert!(read(bad.as_bytes().chunks(1)).is_err(), "{bad:?}, byte by byte");
        }
        assert!(read([format!("2;{}\r\n", "e".repeat(MAX_LINE_BYTES)).as_bytes()]).is_err());
        let many = format!("0\r\n{}", format!("x-a: {}\r\n", "b".repeat(1_000)).repeat(9));
        assert!(read([many.as_bytes()]).is_err());
    }

    #[test]
    fn e_01_a_well_framed_body_ends_where_it_says() {
        let good = "2;name=\"value\" \r\n\n\r\r\nA  \r\n0123456789\r\n000\r\nx-checksum: 1\r\n\r\nGET";
        let expected = Some((b"\n\r0123456789".to_vec(), b"GET".to_vec()));
        assert_eq!(read([good.as_bytes()]).unwrap(), expected);
        assert_eq!(read(good.as_bytes().chunks(1)).unwrap(), expected);
        assert_eq!(Body::sized(0), Body::Ended);
    }

    proptest! {
        #[test]
        fn a_bare_size_is_what_its_line_says(text in r"[0-9a-fA-F]{0,10}(\r|\n|\r\n)?[0-9a-f;\r\n]{0,4}") {
            if let Some((size, length)) = bare_size(text.as_bytes()) {
                let (content, with_end) = line(text.as_bytes(), MAX_LINE_BYTES).unwrap().unwrap();
                prop_assert_eq!((chunk_size(content), with_end), (Some(size), length));
            }
        }

        #[test]
        fn a_body_is_the_same_wherever_it_is_cut(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..8),
            cuts in prop::collection::vec(1_usize..40, 1..20),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            }
            bytes.extend(b"0\r\n\r\nbehind");
            let (mut pieces, mut rest, mut cuts) = (Vec::new(), bytes.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                pieces.push(piece);
                rest = later;
            }
            prop_assert_eq!(read(pieces).unwrap(), Some((chunks.concat(), b"behind".to_vec())));
        }

        #[test]
        fn any_bytes_are_judged_the_same_wherever_they_are_cut(bytes: Vec<u8>) {
            let (whole, cut) = (read([bytes.as_slice()]), read(bytes.chunks(1)));
            prop_assert_eq!(whole.ok(), cut.ok());
        }
    }
}
