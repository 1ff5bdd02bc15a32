//! Amazon's event streams.

use super::cut;
use crate::dialect::bedrock::frames::{Frame, FrameError, Splitter};

/// A message as the specification has it: lengths, headers, payload, checksums.
pub(crate) fn encoded(head: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut message = length(12 + head.len() + payload.len() + 4).to_vec();
    message.extend(length(head.len()));
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message.extend(head);
    message.extend(payload);
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message
}

/// A header whose value is text.
pub(crate) fn header(name: &str, value: &[u8]) -> Vec<u8> {
    let mut header = vec![u8::try_from(name.len()).unwrap_or(0)];
    header.extend(name.as_bytes());
    header.push(7);
    header.extend(u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
    header.extend(value);
    header
}

fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameError>) {
    let (mut splitter, mut frames) = (Splitter::default(), Vec::new());
    for piece in pieces {
        if let Err(err) = splitter.push(piece) {
            return (frames, Some(err));
        }
        loop {
            match splitter.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(err) => return (frames, Some(err)),
            }
        }
    }
    (frames, None)
}

/// Wherever a stream is cut, its messages are the same, and so is the fault that ends it. What is encoded is read back; what is
/// changed by one bit is not believed.
pub(super) fn target(data: &[u8]) {
    let whole = split([data]);
    assert_eq!(split(cut::pieces(data)), whole, "cut anywhere");
    let smallest = if data.len() < 1 << 9 { 1 } else { 1 << 6 };
    assert_eq!(split(data.chunks(smallest)), whole, "cut everywhere");
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    for line in data.split(|&byte| byte == b'\n') {
        let at = line.iter().position(|&byte| byte == b'\t').unwrap_or(line.len());
        let (name, payload) = line.split_at(at.min(1000));
        let head = [header(":event-type", name), header(":message-type", b"event")].concat();
        stream.extend(encoded(&head, payload));
        expected.push((String::from_utf8_lossy(name).into_owned(), payload.to_vec()));
        // Headers of any shape are read or refused, never believed beyond their end.
        let _ = split([encoded(name, payload).as_slice()]);
    }
    let (frames, err) = split(cut::pieces(&stream));
    let read: Vec<(String, Vec<u8>)> = frames.into_iter().map(|frame| (frame.name, frame.payload.to_vec())).collect();
    assert_eq!((read, err), (expected, None), "what is encoded is read back");
    let at = usize::try_from(crc32fast::hash(data)).unwrap_or(0) % stream.len();
    if let Some(byte) = stream.get_mut(at) {
        *byte ^= 1 << (data.len() % 8);
    }
    assert!(split([stream.as_slice()]).1.is_some(), "a flipped bit is found");
}
