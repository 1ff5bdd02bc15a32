//! Server-sent events, cut out of a stream of bytes wherever its pieces end.
//!
//! An event goes on with its blank line, unchanged. Lines may end in LF, CR LF or CR (WHATWG HTML, section 9.2.6).

use bytes::{Bytes, BytesMut};

/// The longest event, in bytes.
pub(crate) const MAX_EVENT_BYTES: usize = 10 << 20;

/// Cuts events out of pieces.
#[derive(Debug)]
pub(crate) struct Splitter {
    buffer: BytesMut,
    /// Everything before this has been searched.
    searched: usize,
    /// The longest event, in bytes.
    longest: usize,
}

/// An event without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {0} bytes")]
pub(crate) struct TooLong(usize);

impl Default for Splitter {
    fn default() -> Self {
        Self::within(MAX_EVENT_BYTES)
    }
}

impl Splitter {
    /// Nothing yet, and events of at most `longest` bytes.
    pub(crate) fn within(longest: usize) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, longest }
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        if self.buffer.len() + piece.len() > self.longest + piece.len().min(1 << 20) {
            return Err(TooLong(self.longest));
        }
        self.buffer.extend_from_slice(piece);
        Ok(())
    }

    /// Whether nothing is held of an event that is not whole.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Whether a piece is one whole event as it stands, which it mostly is; then it need not be pushed.
    pub(crate) fn is_event(&self, piece: &[u8]) -> bool {
        let Some(body) = piece.strip_suffix(b"\n\n").filter(|_| self.buffer.is_empty()) else { return false };
        !body.is_empty() && memchr::memchr2(b'\n', b'\r', body).is_none()
    }

    /// The next whole event, its blank line included.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        let end = self.find_end()?;
        self.searched = 0;
        Some(self.buffer.split_to(end).freeze())
    }

    /// What is left when the stream has ended: an event that lacks its blank line, or nothing.
    pub(crate) fn rest(&mut self) -> Option<Bytes> {
        self.searched = 0;
        let rest = self.buffer.split().freeze();
        (!rest.is_empty()).then_some(rest)
    }

    /// The end of the first blank line that follows something.
    fn find_end(&mut self) -> Option<usize> {
        let bytes = self.buffer.as_ref();
        let mut at = self.searched;
        loop {
            let Some(found) = memchr::memchr2(b'\n', b'\r', bytes.get(at..)?) else {
                self.searched = bytes.len();
                return None;
            };
            let found = found + at;
            let Some(next) = line_end(bytes, found) else {
                self.searched = found;
                return None;
            };
            match bytes.get(next) {
                None => {
                    // The line's end may be the event's: look at it again with the next piece.
                    self.searched = found;
                    return None;
                }
                Some(b'\n') => return Some(next + 1),
                Some(b'\r') => match bytes.get(next + 1) {
                    Some(b'\n') => return Some(next + 2),
                    Some(_) => return Some(next + 1),
                    None if found + 1 == next => return Some(next + 1),
                    None => {
                        self.searched = found;
                        return None;
                    }
                },
                Some(_) => at = next,
            }
        }
    }
}

/// Where the line that ends at `at` is over; `None` when a CR may still be followed by its LF.
fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    match (bytes.get(at)?, bytes.get(at + 1)) {
        (b'\n', _) => Some(at + 1),
        (_, Some(b'\n')) => Some(at + 2),
        (_, Some(_)) => Some(at + 1),
        (_, None) => None,
    }
}

/// The name of an event, where it has one.
pub(crate) fn name(event: &[u8]) -> Option<std::borrow::Cow<'_, str>> {
    let mut lines = event.split(|&byte| byte == b'\n' || byte == b'\r');
    let name = lines.find_map(|line| line.strip_prefix(b"event:"))?;
    Some(String::from_utf8_lossy(name.strip_prefix(b" ").unwrap_or(name)))
}

/// The data of an event: of its only `data` line without a copy, of several joined by line feeds.
pub(crate) fn data(event: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    // Nearly every event is one data line and its blank line.
    if let Some(rest) = event.strip_prefix(b"data: ")
        && let Some(end) = memchr::memchr2(b'\n', b'\r', rest)
        && rest.get(end..) == Some(b"\n\n")
    {
        return rest.get(..end).map(std::borrow::Cow::Borrowed);
    }
    let mut found: Option<std::borrow::Cow<'_, [u8]>> = None;
    for line in event.split(|&byte| byte == b'\n' || byte == b'\r') {
        let Some(value) = line.strip_prefix(b"data:") else {
            continue;
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &mut found {
            None => found = Some(value.into()),
            Some(data) => {
                let data = data.to_mut();
                data.push(b'\n');
                data.extend_from_slice(value);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<Vec<u8>>) {
        let mut splitter = Splitter::default();
        let mut events = Vec::new();
        for piece in pieces {
            splitter.push(piece).unwrap();
            while let Some(event) = splitter.next() {
                events.push(event.to_vec());
            }
        }
        (events, splitter.rest().map(|rest| rest.to_vec()))
    }

    const STREAM: &[u8] =
        "event: a\ndata: {\"x\":\"é\"}\n\n: ping\n\ndata: 1\r\ndata: 2\r\n\r\ndata:3\r\rdata: [DONE]\n\n".as_bytes();

    #[test]
    fn s8_01_a_split_at_every_offset_gives_the_same_events() {
        let (whole, rest) = split(&[STREAM]);
        assert_eq!(whole.len(), 5);
        assert_eq!(rest, None);
        assert_eq!(whole.concat(), STREAM);
        for at in 0..=STREAM.len() {
            let (a, b) = STREAM.split_at(at);
            assert_eq!(split(&[a, b]).0, whole, "split at {at}");
        }
        let bytes: Vec<&[u8]> = STREAM.chunks(1).collect();
        assert_eq!(split(&bytes).0, whole);
    }

    #[test]
    fn only_a_lone_whole_line_is_an_event_as_it_stands() {
        let mut splitter = Splitter::default();
        assert!(splitter.is_event(b"data: 1\n\n"));
        for other in ["", "\n\n", "data: 1\n", "data: 1\n\ndata: 2\n\n", "event: a\ndata: 1\n\n", "data: 1\r\n\n\n"] {
            assert!(!splitter.is_event(other.as_bytes()), "{other:?}");
        }
        splitter.push(b"da").unwrap();
        assert!(!splitter.is_event(b"ta: 1\n\n"));
    }

    #[test]
    fn the_data_of_an_event_is_joined() {
        let (events, _) = split(&[STREAM]);
        let texts: Vec<_> =
            events.iter().map(|event| data(event).map(|data| String::from_utf8(data.into_owned()).unwrap())).collect();
        let expected = [Some("{\"x\":\"é\"}"), None, Some("1\n2"), Some("3"), Some("[DONE]")];
        assert_eq!(texts, expected.map(|text| text.map(str::to_owned)));
    }

    #[test]
    fn s8_08_an_event_without_end_is_a_bounded_error() {
        let mut splitter = Splitter::default();
        let piece = vec![b'x'; 1 << 20];
        let mut taken = 0;
        while splitter.push(&piece).is_ok() {
            taken += piece.len();
            assert!(splitter.next().is_none());
            assert!(taken <= MAX_EVENT_BYTES + piece.len());
        }
        assert!(taken >= MAX_EVENT_BYTES - piece.len());
    }

    #[test]
    fn s8_08_a_long_event_in_many_pieces_is_searched_once() {
        let mut splitter = Splitter::default();
        for length in (0..100).map(|piece| piece * 7) {
            assert_eq!(splitter.searched, length);
            splitter.push(b"data: x").unwrap();
            assert_eq!(splitter.next(), None);
        }
        splitter.push(b"\r\n\r\n").unwrap();
        assert_eq!(splitter.next().unwrap().len(), 704);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_bytes_and_events(text in "[a: \n\r]{0,60}", cuts in proptest::collection::vec(0..60_usize, 0..6)) {
            let bytes = text.as_bytes();
            let (whole, rest) = split(&[bytes]);
            prop_assert_eq!([whole.concat(), rest.clone().unwrap_or_default()].concat(), bytes);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut at = 0;
            for cut in cuts {
                pieces.push(&bytes[at..cut]);
                at = cut;
            }
            pieces.push(&bytes[at..]);
            let (cut, cut_rest) = split(&pieces);
            prop_assert_eq!([cut.concat(), cut_rest.unwrap_or_default()].concat(), bytes);
        }
    }
}
