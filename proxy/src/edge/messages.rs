//! HTTP/1.1 messages, as they pass by: where a head ends, how its body is framed, and whether that framing can be read in one
//! way only (RFC 9112, sections 6 and 7.1).
//!
//! The parser behind takes a chunk without a size for the last one, lets a bare LF stand in a chunk's first line, and repairs a
//! request's first line: each may hide a request from one reader and not from the other. What is malformed goes no further
//! than the line before it. Heads are judged behind, where they can be answered; here they only tell what follows.

use memchr::memchr;

/// The longest line within a chunked body, in bytes.
const MAX_LINE_BYTES: usize = 4 << 10;
/// All trailers of a body, in bytes.
const MAX_TRAILER_BYTES: usize = 8 << 10;
/// What is kept of a line of a head: enough for the names and values that matter.
const KEPT_BYTES: usize = 256;

/// The messages of a connection so far.
#[derive(Debug, Default)]
pub(super) struct Messages {
    state: State,
    /// The beginning of the line that is coming.
    line: Vec<u8>,
    /// How long it is.
    length: usize,
    framing: Framing,
    trailers: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// A request's first line is next.
    #[default]
    First,
    /// A line of its head.
    Head,
    /// This much of a body.
    Sized(u64),
    /// A chunk's first line.
    Chunk,
    /// This much of a chunk.
    Data(u64),
    /// The end of a chunk's line.
    DataEnd,
    /// A line of the trailers.
    Trailer,
    /// What comes can't be told, or is no HTTP: the connection ends with this request, whatever the answer is.
    Opaque,
}

/// How a head frames its body.
#[derive(Debug, Default, PartialEq, Eq)]
enum Framing {
    #[default]
    Nothing,
    Length(u64),
    Chunked,
    /// In a way that is refused.
    Refused,
}

impl Messages {
    /// Looks at the next bytes.
    ///
    /// # Errors
    /// How many of them may go on, where not all may.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match &mut self.state {
                State::Opaque => return Ok(()),
                State::Sized(left) => {
                    at += skip(left, rest.len());
                    if *left == 0 {
                        self.state = State::First;
                    }
                }
                State::Data(left) => {
                    at += skip(left, rest.len());
                    if *left == 0 {
                        self.state = State::DataEnd;
                    }
                }
                State::First | State::Head | State::Chunk | State::DataEnd | State::Trailer => {
                    let end = memchr(b'\n', rest).map(|end| end + 1);
                    let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
                    if !self.piece(piece, end.is_some()) {
                        return Err(at);
                    }
                    at += piece.len();
                }
            }
        }
        Ok(())
    }

    /// Takes more of a line, perhaps its end; false when it may not go on.
    fn piece(&mut self, piece: &[u8], is_end: bool) -> bool {
        let kept = if self.in_body() { MAX_LINE_BYTES } else { KEPT_BYTES };
        if is_end && self.length == 0 && piece.len() <= kept {
            // Most lines come whole, and are looked at where they are.
            return self.line(piece, piece.len());
        }
        if !self.gather(piece) {
            return false;
        }
        if !is_end {
            return true;
        }
        let (line, length) = (std::mem::take(&mut self.line), std::mem::take(&mut self.length));
        let goes_on = self.line(&line, length);
        self.line = line;
        self.line.clear();
        goes_on
    }

    fn in_body(&self) -> bool {
        matches!(self.state, State::Chunk | State::DataEnd | State::Trailer)
    }

    /// Takes more of a line; false when it is too long.
    fn gather(&mut self, piece: &[u8]) -> bool {
        self.length = self.length.saturating_add(piece.len());
        let in_body = self.in_body();
        let kept = if in_body { MAX_LINE_BYTES } else { KEPT_BYTES };
        let room = kept.saturating_sub(self.line.len()).min(piece.len());
        self.line.extend_from_slice(piece.get(..room).unwrap_or_default());
        !in_body || self.length <= MAX_LINE_BYTES
    }

    /// A line is whole, of which this much was kept; false when it may not go on.
    fn line(&mut self, line: &[u8], length: usize) -> bool {
        let content = line.strip_suffix(b"\r\n").unwrap_or(line);
        let kept_whole = line.len() == length;
        let is_plain = || kept_whole && content.len() + 2 == length && !content.iter().any(|byte| is_control(*byte));
        let next = match self.state {
            State::First => self.first(content),
            State::Head => Some(self.head(content, kept_whole)),
            State::Chunk if is_plain() => self.chunk(content),
            State::DataEnd if is_plain() && content.is_empty() => Some(State::Chunk),
            State::Trailer if is_plain() => self.trailer(content),
            State::Chunk | State::DataEnd | State::Trailer => None,
            State::Sized(_) | State::Data(_) | State::Opaque => Some(State::Opaque),
        };
        match next {
            Some(next) => self.state = next,
            None => return false,
        }
        true
    }

    fn first(&mut self, content: &[u8]) -> Option<State> {
        self.framing = Framing::Nothing;
        self.trailers = 0;
        if content.is_empty() || content == b"\n" {
            // Empty lines before a request are skipped (section 2.2).
            return Some(State::First);
        }
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        (!content.iter().any(|byte| is_control(*byte))).then_some(State::Head)
    }

    fn head(&mut self, content: &[u8], kept_whole: bool) -> State {
        if content.is_empty() || content == b"\n" {
            return match self.framing {
                Framing::Nothing | Framing::Length(0) => State::First,
                Framing::Length(length) => State::Sized(length),
                Framing::Chunked => State::Chunk,
                Framing::Refused => State::Opaque,
            };
        }
        let colon = memchr(b':', content).unwrap_or(content.len());
        let (name, value) = content.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let framing = if name.eq_ignore_ascii_case(b"content-length") {
            digits(value).map_or(Framing::Refused, Framing::Length)
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if value.eq_ignore_ascii_case(b"chunked") { Framing::Chunked } else { Framing::Refused }
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            Framing::Refused
        } else {
            return State::Head;
        };
        self.framing = if self.framing == Framing::Nothing && kept_whole { framing } else { Framing::Refused };
        State::Head
    }

    /// `chunk-size [ chunk-ext ]`
    fn chunk(&mut self, content: &[u8]) -> Option<State> {
        let size = content.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, rest) = content.split_at(size);
        let rest = rest.trim_ascii_start();
        if size.is_empty() || size.len() > 16 || !(rest.is_empty() || rest.starts_with(b";")) {
            return None;
        }
        let size = u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        Some(if size == 0 { State::Trailer } else { State::Data(size) })
    }

    fn trailer(&mut self, content: &[u8]) -> Option<State> {
        if content.is_empty() {
            return Some(State::First);
        }
        self.trailers += content.len();
        let name = content.get(..memchr(b':', content)?).unwrap_or_default();
        let frames = [b"content-length".as_slice(), b"transfer-encoding", b"host", b"authorization"];
        let forbidden = name.is_empty()
            || name.iter().any(u8::is_ascii_whitespace)
            || frames.iter().any(|frame| name.eq_ignore_ascii_case(frame))
            || self.trailers > MAX_TRAILER_BYTES;
        (!forbidden).then_some(State::Trailer)
    }
}

/// Takes up to `most` of what is left.
fn skip(left: &mut u64, most: usize) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(most);
    *left -= u64::try_from(taken).unwrap_or(*left);
    taken
}

/// What may stand in no line of text.
fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

fn digits(value: &[u8]) -> Option<u64> {
    let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| plain)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "POST /v1/x HTTP/1.1\r\nhost: h\r\n";

    /// What may go on of these bytes.
    fn passed(text: &str) -> Result<(), usize> {
        Messages::default().pass(text.as_bytes())
    }

    #[test]
    fn e_02_chunks_that_can_be_read_two_ways_go_no_further() {
        let head = format!("{HEAD}transfer-encoding: chunked\r\n\r\n");
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
            assert!(passed(&format!("{head}{bad}")).is_err_and(|good| good >= head.len()), "{bad:?}");
        }
        let long = format!("{head}2;{}\r\n", "e".repeat(MAX_LINE_BYTES));
        assert!(passed(&long).is_err());
        let many = format!("{head}0\r\n{}", format!("x-a: {}\r\n", "b".repeat(1_000)).repeat(9));
        assert!(passed(&many).is_err());
    }

    #[test]
    fn e_01_well_framed_messages_follow_one_another() {
        let good = [
            format!("\r\n{HEAD}content-length: 5\r\n\r\nab\ncd"),
            format!(
                "{HEAD}Transfer-Encoding: Chunked\r\n\r\n2;name=\"value\" \r\n\n\r\r\nA  \r\n0123456789\r\n000\r\nx-checksum: 1\r\n\r\n"
            ),
            "GET /v1/y HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(),
            format!("{HEAD}Content-Length:0\r\n\r\n"),
        ];
        let mut messages = Messages::default();
        for message in good.iter().chain(&good) {
            assert_eq!(messages.pass(message.as_bytes()), Ok(()), "{message:?}");
            assert_eq!(messages.state, State::First, "{message:?}");
        }
    }

    #[test]
    fn what_is_refused_behind_or_is_no_http_is_let_through() {
        for head in [
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
            "content-length: 1\r\ncontent-length: 1\r\n",
            "content-length: x\r\n",
            "transfer-encoding: gzip\r\n",
            "connection: upgrade\r\nupgrade: websocket\r\n",
        ] {
            assert_eq!(passed(&format!("{HEAD}{head}\r\n\0\u{1}\r\n\r\n\n")), Ok(()), "{head}");
        }
    }

    #[test]
    fn a_first_line_with_a_control_character_goes_nowhere() {
        assert_eq!(passed("POST /v1/x\0 HTTP/1.1\r\n"), Err(0));
        assert_eq!(passed("POST /v1/x\r HTTP/1.1\r\n"), Err(0));
    }

    proptest! {
        #[test]
        fn messages_are_the_same_wherever_they_are_cut(
            bodies in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..50), any::<bool>()), 1..6),
            cuts in prop::collection::vec(1_usize..40, 1..20),
        ) {
            let mut bytes = Vec::new();
            for (body, chunked) in &bodies {
                let head = if *chunked { "transfer-encoding: chunked".to_owned() } else { format!("content-length: {}", body.len()) };
                bytes.extend(format!("{HEAD}{head}\r\n\r\n").into_bytes());
                if *chunked {
                    for chunk in body.chunks(7) {
                        bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                        bytes.extend_from_slice(chunk);
                        bytes.extend_from_slice(b"\r\n");
                    }
                    bytes.extend_from_slice(b"0\r\n\r\n");
                } else {
                    bytes.extend_from_slice(body);
                }
            }
            let mut messages = Messages::default();
            let (mut rest, mut cuts) = (bytes.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                prop_assert_eq!(messages.pass(piece), Ok(()));
                rest = later;
            }
            prop_assert_eq!(messages.state, State::First);
        }

        #[test]
        fn any_bytes_are_judged_without_fault(bytes: Vec<u8>, chunked: bool) {
            let mut messages = Messages::default();
            if chunked {
                messages.pass(format!("{HEAD}transfer-encoding: chunked\r\n\r\n").as_bytes()).unwrap();
            }
            if let Err(good) = messages.pass(&bytes) {
                prop_assert!(good < bytes.len());
            }
        }
    }
}
