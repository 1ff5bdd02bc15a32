//! HTTP/1.1 as far as a benchmark speaks it: heads, lengths, chunked bodies. Both ends use it, so it reads
//! requests and answers alike. Never lenient: what it does not know is an error, so that a proxy that
//! mangles an answer fails the run instead of looking fast.

use anyhow::{Context as _, Result, bail, ensure};

const HEAD_END: &[u8] = b"\r\n\r\n";

/// One message head, borrowed from the receive buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    /// Request line or status line, without its line end.
    pub(crate) start: &'a [u8],
    fields: &'a [u8],
}

/// How the length of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `content-length`, in bytes.
    Length(usize),
    /// `transfer-encoding: chunked`.
    Chunked,
    /// Neither field is there: a request ends with its head, an answer with its connection.
    Unsaid,
}

impl<'a> Head<'a> {
    /// The head at the start of `buffer` and the bytes it takes, once it is complete.
    pub(crate) fn parse(buffer: &'a [u8]) -> Option<(Self, usize)> {
        let end = find(buffer, HEAD_END)?;
        let block = buffer.get(..end)?;
        let (start, fields) = match find(block, b"\r\n") {
            Some(line_end) => (block.get(..line_end)?, block.get(line_end + 2..)?),
            None => (block, &[][..]),
        };
        Some((Self { start, fields }, end + HEAD_END.len()))
    }

    /// The value of the first field of that name, trimmed.
    pub(crate) fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.split(|byte| *byte == b'\n').find_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (found, value) = (line.get(..colon)?, line.get(colon + 1..)?);
            found.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
        })
    }

    /// How the body after this head ends.
    pub(crate) fn framing(&self) -> Result<Framing> {
        if let Some(coding) = self.field("transfer-encoding") {
            ensure!(coding.eq_ignore_ascii_case(b"chunked"), "a transfer coding other than chunked");
            return Ok(Framing::Chunked);
        }
        let Some(length) = self.field("content-length") else {
            return Ok(Framing::Unsaid);
        };
        let length = std::str::from_utf8(length)?.parse().context("content-length is not a number")?;
        Ok(Framing::Length(length))
    }

    /// The three digits of a status line.
    pub(crate) fn status(&self) -> Result<u16> {
        let digits = self.start.strip_prefix(b"HTTP/1.1 ").context("not an HTTP/1.1 status line")?;
        let digits = digits.get(..3).context("a status line without a status")?;
        Ok(std::str::from_utf8(digits)?.parse()?)
    }

    /// Whether the sender closes the connection after this message.
    pub(crate) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"))
    }
}

/// Where `needle` first starts in `haystack`.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// An incremental decoder of one chunked body.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    state: ChunkState,
    frames: u64,
}

#[derive(Debug, Clone, Copy)]
enum ChunkState {
    Size { bytes: usize, digits: usize },
    SizeEnd { bytes: usize },
    Data { left: usize },
    DataEnd,
    DataEndLf,
    LastEnd,
    LastEndLf,
    Done,
}

impl Default for ChunkState {
    fn default() -> Self {
        Self::Size { bytes: 0, digits: 0 }
    }
}

impl Chunked {
    /// Decodes from the start of `input` and says how much of it was taken; `sink` gets each piece of the
    /// body. Fails on a size that is no hex number, on trailers, and on whatever the sink refuses.
    pub(crate) fn feed(&mut self, input: &[u8], sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<usize> {
        let mut rest = input;
        while !self.is_done() {
            if let ChunkState::Data { left } = self.state {
                let (piece, after) = rest.split_at_checked(left).unwrap_or((rest, &[]));
                if piece.is_empty() {
                    break;
                }
                sink(piece)?;
                let left = left - piece.len();
                self.state = if left == 0 { ChunkState::DataEnd } else { ChunkState::Data { left } };
                rest = after;
            } else {
                let Some((byte, after)) = rest.split_first() else {
                    break;
                };
                self.step(*byte)?;
                rest = after;
            }
        }
        Ok(input.len() - rest.len())
    }

    /// Whether the last chunk and its end were read.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, ChunkState::Done)
    }

    /// Chunks with data so far: what the sender framed, however it was split on the way.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    fn step(&mut self, byte: u8) -> Result<()> {
        self.state = match (self.state, byte) {
            (ChunkState::Size { bytes, digits: 1.. }, b'\r') => ChunkState::SizeEnd { bytes },
            (ChunkState::Size { bytes, digits }, _) => {
                let digit = char::from(byte).to_digit(16).context("a chunk size that is not hex")?;
                ensure!(digits < 8, "a chunk size of more than 8 digits");
                ChunkState::Size { bytes: bytes * 16 + usize::try_from(digit)?, digits: digits + 1 }
            }
            (ChunkState::SizeEnd { bytes: 0 }, b'\n') => ChunkState::LastEnd,
            (ChunkState::SizeEnd { bytes }, b'\n') => {
                self.frames += 1;
                ChunkState::Data { left: bytes }
            }
            (ChunkState::DataEnd, b'\r') => ChunkState::DataEndLf,
            (ChunkState::DataEndLf, b'\n') => ChunkState::default(),
            (ChunkState::LastEnd, b'\r') => ChunkState::LastEndLf,
            (ChunkState::LastEndLf, b'\n') => ChunkState::Done,
            (state, byte) => bail!("byte {byte:#04x} where {state:?} was open"),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length:  12 \r\n\r\nrest";

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, Chunked)> {
        let (mut chunked, mut body) = (Chunked::default(), Vec::new());
        for piece in pieces {
            chunked.feed(piece, &mut |bytes| {
                body.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        Ok((body, chunked))
    }

    #[test]
    fn a_head_gives_status_fields_and_its_length() {
        let (head, taken) = Head::parse(ANSWER).unwrap();
        assert_eq!(head.status().unwrap(), 200);
        assert_eq!(head.field("content-type"), Some(&b"application/json"[..]));
        assert_eq!(head.field("x-absent"), None);
        assert_eq!(head.framing().unwrap(), Framing::Length(12));
        assert_eq!(&ANSWER[taken..], b"rest");
        assert!(!head.closes());
    }

    #[test]
    fn a_head_that_is_cut_anywhere_is_not_a_head() {
        let end = ANSWER.len() - b"rest".len();
        for cut in 0..end {
            assert!(Head::parse(&ANSWER[..cut]).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn a_head_without_a_length_says_so() {
        let (head, _) = Head::parse(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
        assert_eq!(head.framing().unwrap(), Framing::Unsaid);
        assert!(head.closes());
    }

    #[test]
    fn a_status_line_of_another_version_or_without_digits_is_refused() {
        for line in ["HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 2\r\n\r\n"] {
            assert!(Head::parse(line.as_bytes()).unwrap().0.status().is_err(), "{line}");
        }
    }

    #[test]
    fn a_length_that_is_no_number_and_an_unknown_coding_are_refused() {
        for field in ["content-length: -1", "content-length: 1, 1", "transfer-encoding: gzip"] {
            let text = format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n");
            assert!(Head::parse(text.as_bytes()).unwrap().0.framing().is_err(), "{field}");
        }
    }

    #[test]
    fn a_chunked_body_cut_at_every_byte_decodes_the_same() {
        let wire = b"5\r\nhello\r\n1A\r\n, this is twenty-six bytes\r\n0\r\n\r\n";
        for cut in 0..=wire.len() {
            let (body, chunked) = decode(&[&wire[..cut], &wire[cut..]]).unwrap();
            assert_eq!(body, b"hello, this is twenty-six bytes", "cut at {cut}");
            assert_eq!((chunked.is_done(), chunked.frames()), (true, 2), "cut at {cut}");
        }
    }

    #[test]
    fn what_follows_the_last_chunk_is_left_alone() {
        let mut chunked = Chunked::default();
        let taken = chunked.feed(b"0\r\n\r\nHTTP/1.1", &mut |_| Ok(())).unwrap();
        assert_eq!((taken, chunked.is_done()), (5, true));
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for wire in ["\r\n", "x\r\n", "5\n", "1\r\nab\r\n", "0\r\nx: y\r\n", "123456789\r\n"] {
            assert!(decode(&[wire.as_bytes()]).is_err(), "{wire:?}");
        }
    }
}
