//! Messages of Amazon's event streams (`application/vnd.amazon.eventstream`), cut out of a stream of bytes wherever its pieces
//! end.
//!
//! A message is a prelude (its length, the length of its headers, a CRC-32 of both), headers, a payload, and a CRC-32 of
//! everything before. Numbers are big-endian. Its size is bounded before any of it is waited for.

use bytes::{Bytes, BytesMut};

/// The longest message, in bytes; as for server-sent events.
pub(crate) const MAX_FRAME_BYTES: usize = crate::sse::MAX_EVENT_BYTES;
/// The longest headers, in bytes (the protocol's own bound).
const MAX_HEADERS_BYTES: usize = 128 << 10;
/// How the names of exceptions end, and of no event.
pub(super) const EXCEPTION: &str = "Exception";
/// Two lengths and their checksum.
const PRELUDE_BYTES: usize = 12;
/// The checksum at the end.
const CRC_BYTES: usize = 4;

/// Why a stream can't be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// Too long a message.
    #[error("a message is longer than {MAX_FRAME_BYTES} bytes")]
    TooLong,
    /// Lengths that contradict each other, or headers that can't be read.
    #[error("a message is malformed")]
    Malformed,
    /// A checksum is wrong.
    #[error("a message's checksum is wrong")]
    Checksum,
}

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// `:event-type`, or `:exception-type`. Errors that are none of the API's own have a code instead: it is made to end like
    /// an exception's name.
    pub(crate) name: String,
    /// JSON. Of an error that has no payload, its message as JSON.
    pub(crate) payload: Bytes,
}

/// Cuts messages out of pieces.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    buffer: BytesMut,
}

impl Splitter {
    /// Takes the next piece.
    ///
    /// # Errors
    /// When what is not yet cut grows beyond a message's bound.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), FrameError> {
        if self.buffer.len() + piece.len() > MAX_FRAME_BYTES + piece.len().min(1 << 20) {
            return Err(FrameError::TooLong);
        }
        self.buffer.extend_from_slice(piece);
        Ok(())
    }

    /// The next whole message, or nothing yet.
    ///
    /// # Errors
    /// When the stream is broken; nothing in it can be found again then.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(prelude) = self.buffer.get(..PRELUDE_BYTES) else { return Ok(None) };
        let (total, headers) = lengths(prelude)?;
        if self.buffer.len() < total {
            return Ok(None);
        }
        let message = self.buffer.split_to(total).freeze();
        frame(&message, headers).map(Some)
    }

    /// Whether a message was cut short by the stream's end.
    #[cfg(test)]
    pub(crate) fn is_torn(&self) -> bool {
        !self.buffer.is_empty()
    }
}

fn number(bytes: Option<&[u8]>) -> Option<u32> {
    bytes?.try_into().ok().map(u32::from_be_bytes)
}

/// The message's length and its headers', once their checksum is known to be right.
fn lengths(prelude: &[u8]) -> Result<(usize, usize), FrameError> {
    let word = |at: usize| number(prelude.get(at..at + 4)).ok_or(FrameError::Malformed);
    if word(8)? != crc32fast::hash(prelude.get(..8).unwrap_or_default()) {
        return Err(FrameError::Checksum);
    }
    let size = |number: u32| usize::try_from(number).map_err(|_| FrameError::TooLong);
    let (total, headers) = (size(word(0)?)?, size(word(4)?)?);
    if total > MAX_FRAME_BYTES || headers > MAX_HEADERS_BYTES {
        return Err(FrameError::TooLong);
    }
    if total < PRELUDE_BYTES + headers + CRC_BYTES {
        return Err(FrameError::Malformed);
    }
    Ok((total, headers))
}

fn frame(message: &Bytes, headers: usize) -> Result<Frame, FrameError> {
    let end = message.len().saturating_sub(CRC_BYTES);
    let checksum = number(message.get(end..)).ok_or(FrameError::Malformed)?;
    if checksum != crc32fast::hash(message.get(..end).unwrap_or_default()) {
        return Err(FrameError::Checksum);
    }
    let head = message.get(PRELUDE_BYTES..PRELUDE_BYTES + headers).ok_or(FrameError::Malformed)?;
    let (mut kind, mut name, mut said) = (None, None, None);
    let mut rest = Headers(head);
    while let Some((key, value)) = rest.next()? {
        match key {
            b":message-type" => kind = value,
            b":event-type" | b":exception-type" | b":error-code" => name = value,
            b":error-message" => said = value,
            _ => {}
        }
    }
    let text = |value: Option<&[u8]>| value.map(|value| String::from_utf8_lossy(value).into_owned());
    let mut payload = message.slice(PRELUDE_BYTES + headers..end);
    if let Some(said) = text(said).filter(|_| payload.is_empty()) {
        payload = serde_json::json!({ "message": said }).to_string().into();
    }
    let is_failure = kind.is_some_and(|kind| kind != b"event");
    let mut name = text(name).unwrap_or_default();
    if is_failure && !name.ends_with(EXCEPTION) {
        name.push_str(EXCEPTION);
    }
    Ok(Frame { name, payload })
}

/// What is left of a message's headers.
struct Headers<'a>(&'a [u8]);

impl<'a> Headers<'a> {
    /// The next header's name, and its value where it is text.
    #[expect(clippy::type_complexity, reason = "a name and a value")]
    fn next(&mut self) -> Result<Option<(&'a [u8], Option<&'a [u8]>)>, FrameError> {
        let Some((&length, rest)) = self.0.split_first() else { return Ok(None) };
        self.0 = rest;
        let key = self.take(usize::from(length))?;
        let kind = self.take(1)?;
        let value = match kind {
            [0 | 1] => None,                        // true, false
            [2] => self.take(1).map(|_| None)?,     // byte
            [3] => self.take(2).map(|_| None)?,     // 16 bits
            [4] => self.take(4).map(|_| None)?,     // 32 bits
            [5 | 8] => self.take(8).map(|_| None)?, // 64 bits, timestamp
            [9] => self.take(16).map(|_| None)?,    // UUID
            [6] => self.sized().map(|_| None)?,     // bytes
            [7] => Some(self.sized()?),             // text
            _ => return Err(FrameError::Malformed),
        };
        Ok(Some((key, value)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(FrameError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn sized(&mut self) -> Result<&'a [u8], FrameError> {
        let length: [u8; 2] = self.take(2)?.try_into().map_err(|_| FrameError::Malformed)?;
        self.take(usize::from(u16::from_be_bytes(length)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A message as the specification has it.
    pub(in crate::dialect::bedrock) fn encoded(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut head = Vec::new();
        for (key, value) in headers {
            head.push(u8::try_from(key.len()).unwrap());
            head.extend(key.as_bytes());
            head.push(7);
            head.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            head.extend(value.as_bytes());
        }
        raw(&head, payload)
    }

    fn raw(head: &[u8], payload: &[u8]) -> Vec<u8> {
        let total = u32::try_from(12 + head.len() + payload.len() + 4).unwrap();
        let mut message = total.to_be_bytes().to_vec();
        message.extend(u32::try_from(head.len()).unwrap().to_be_bytes());
        message.extend(crc32fast::hash(&message).to_be_bytes());
        message.extend(head);
        message.extend(payload);
        message.extend(crc32fast::hash(&message).to_be_bytes());
        message
    }

    /// One event as Bedrock sends it.
    pub(in crate::dialect::bedrock) fn event(name: &str, payload: &str) -> Vec<u8> {
        let headers = [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")];
        encoded(&headers, payload.as_bytes())
    }

    fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Frame>, FrameError> {
        let (mut splitter, mut frames) = (Splitter::default(), Vec::new());
        for piece in pieces {
            splitter.push(piece)?;
            while let Some(frame) = splitter.next()? {
                frames.push(frame);
            }
        }
        assert!(!splitter.is_torn());
        Ok(frames)
    }

    #[test]
    fn the_specifications_own_messages_are_read() {
        // The first positive vector of the published suite: no headers, no payload.
        let empty = [0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(split([&empty[..]]).unwrap(), [Frame::default()]);
        assert_eq!(raw(b"", b""), empty, "what the tests encode is what the specification has");
        // The second: `{'foo':'bar'}` without headers.
        let mut payload = vec![0, 0, 0, 0x1d, 0, 0, 0, 0, 0xfd, 0x52, 0x8c, 0x5a];
        payload.extend(b"{'foo':'bar'}");
        payload.extend([0xc3, 0x65, 0x39, 0x36]);
        assert_eq!(split([&payload[..]]).unwrap()[0].payload, &b"{'foo':'bar'}"[..]);
    }

    #[test]
    fn headers_of_every_type_are_passed_over() {
        let mut head = Vec::new();
        for (kind, value) in [
            (0_u8, &b""[..]),
            (1, b""),
            (2, b"\x01"),
            (3, b"\x01\x02"),
            (4, b"1234"),
            (5, b"12345678"),
            (6, b"\x00\x02ab"),
            (8, b"12345678"),
            (9, b"0123456789abcdef"),
            (7, b"\x00\x03end"),
        ] {
            head.extend([1, b'x', kind]);
            head.extend(value);
        }
        head.extend(b"\x0b:event-type\x07\x00\x01n");
        assert_eq!(split([raw(&head, b"{}").as_slice()]).unwrap()[0].name, "n");
        for torn in 1..head.len() {
            let _ = split([raw(&head[..torn], b"").as_slice()]);
        }
        assert_eq!(split([raw(b"\x01x\x0a", b"").as_slice()]), Err(FrameError::Malformed));
    }

    #[test]
    fn exceptions_and_errors_are_failures() {
        let exception = [(":exception-type", "throttlingException"), (":message-type", "exception")];
        let frame = split([encoded(&exception, br#"{"message":"slow"}"#).as_slice()]).unwrap().remove(0);
        assert_eq!(frame.name, "throttlingException");
        let error = [(":error-code", "InternalError"), (":error-message", "oh \"no\""), (":message-type", "error")];
        let frame = split([encoded(&error, b"").as_slice()]).unwrap().remove(0);
        assert!(frame.name == "InternalErrorException" && frame.payload == br#"{"message":"oh \"no\""}"#[..]);
    }

    #[test]
    fn a_flipped_byte_anywhere_is_found() {
        let message = event("contentBlockDelta", r#"{"delta":{"text":"hi"}}"#);
        for at in 0..message.len() {
            let mut broken = message.clone();
            broken[at] ^= 1;
            let mut splitter = Splitter::default();
            splitter.push(&broken).unwrap();
            assert_eq!(splitter.next(), Err(FrameError::Checksum), "byte {at}");
        }
    }

    #[test]
    fn s8_08_a_message_without_end_is_a_bounded_error() {
        let mut prelude = u32::MAX.to_be_bytes().to_vec();
        prelude.extend([0; 4]);
        prelude.extend(crc32fast::hash(&prelude).to_be_bytes());
        let mut splitter = Splitter::default();
        splitter.push(&prelude).unwrap();
        assert_eq!(splitter.next(), Err(FrameError::TooLong));
        let mut splitter = Splitter::default();
        let piece = vec![0; 1 << 20];
        let mut taken = 0;
        while splitter.push(&piece).is_ok() {
            taken += piece.len();
            assert!(taken <= MAX_FRAME_BYTES + piece.len());
        }
        for (total, headers) in [(15_u32, 0_u32), (16, 1), (0, 0)] {
            let mut prelude = total.to_be_bytes().to_vec();
            prelude.extend(headers.to_be_bytes());
            prelude.extend(crc32fast::hash(&prelude).to_be_bytes());
            let mut splitter = Splitter::default();
            splitter.push(&prelude).unwrap();
            assert_eq!(splitter.next(), Err(FrameError::Malformed));
        }
    }

    proptest! {
        #[test]
        fn s8_01_any_split_gives_the_same_messages(payloads in proptest::collection::vec(".{0,30}", 0..5), step in 1..40_usize) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| event("x", payload)).collect();
            let frames = split(bytes.chunks(step)).unwrap();
            let said: Vec<String> = frames.iter().map(|frame| String::from_utf8(frame.payload.to_vec()).unwrap()).collect();
            prop_assert_eq!(said, payloads);
        }

        #[test]
        fn nothing_panics_on_arbitrary_bytes(bytes: Vec<u8>, head: Vec<u8>) {
            let mut splitter = Splitter::default();
            splitter.push(&bytes).unwrap();
            let _ = splitter.next();
            let _ = split([raw(&head, &bytes).as_slice()]);
        }
    }
}
