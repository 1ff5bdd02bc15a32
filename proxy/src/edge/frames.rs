//! HTTP/2 frames, as they pass by. Nothing is changed or held back: what is counted here is what no honest client does.
//!
//! The HTTP/2 library behind bounds heads, resets and small DATA frames, but answers PING and SETTINGS for as long as they
//! come, waits for ever for the rest of a head, and serves any number of requests on a connection. Those are bounded here.

use std::time::Instant;

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frames without content that a client may send at once.
const BURST: u64 = 4_000;
/// Frames without content that a client may send each second.
const PER_SECOND: u64 = 1_000;
/// Frames without content that belong to a request.
const PER_STREAM: u64 = 20;
/// What it costs to ask and take it back: more than asking gains, so that a client can't do it as fast as it likes.
const PER_RESET: u64 = 30;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
/// Bytes before a frame's payload.
const HEAD_BYTES: usize = 9;

/// The client floods the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frames without content flood the connection")]
pub(super) struct Flood;

/// What came of a connection's frames so far.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the preface that are still to come.
    preface: usize,
    /// The head of the frame that is coming, and how much of it is there.
    head: [u8; HEAD_BYTES],
    filled: usize,
    /// Bytes of its payload that are still to come.
    payload: usize,
    /// Its padding's length is the next byte.
    padding_next: bool,
    /// What it may still send without content.
    credit: u64,
    credited_at: Instant,
    /// Whether a head has begun that has not ended.
    head_open: bool,
    /// Whether a frame has come.
    begun: bool,
    last_stream: u32,
    streams: u32,
}

impl Frames {
    /// None yet; `preface` bytes of the preface have to come first.
    pub(super) fn after(preface: usize, now: Instant) -> Self {
        Self {
            preface,
            head: [0; HEAD_BYTES],
            filled: 0,
            payload: 0,
            padding_next: false,
            credit: BURST,
            credited_at: now,
            head_open: false,
            begun: false,
            last_stream: 0,
            streams: 0,
        }
    }

    /// Requests so far.
    pub(super) fn streams(&self) -> u32 {
        self.streams
    }

    /// Whether the client owes the rest of a head, or its first frame.
    pub(super) fn owes_head(&self) -> bool {
        self.head_open || !self.begun
    }

    /// Looks at the next bytes.
    pub(super) fn pass(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        let (preface, rest) = bytes.split_at(self.preface.min(bytes.len()));
        self.preface -= preface.len();
        bytes = rest;
        while let Some(&first) = bytes.first() {
            if self.filled < HEAD_BYTES {
                if let Some(slot) = self.head.get_mut(self.filled) {
                    *slot = first;
                }
                self.filled += 1;
                bytes = bytes.get(1..).unwrap_or_default();
                if self.filled == HEAD_BYTES {
                    self.frame(now)?;
                }
            } else {
                if std::mem::take(&mut self.padding_next) && usize::from(first) + 1 >= self.payload {
                    self.spend(1, now)?;
                }
                let taken = self.payload.min(bytes.len());
                self.payload -= taken;
                bytes = bytes.get(taken..).unwrap_or_default();
            }
            if self.filled == HEAD_BYTES && self.payload == 0 {
                self.filled = 0;
            }
        }
        Ok(())
    }

    /// A frame's head is there.
    fn frame(&mut self, now: Instant) -> Result<(), Flood> {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.payload = usize::try_from(length).unwrap_or(usize::MAX);
        self.begun = true;
        match kind {
            DATA if flags & END_STREAM != 0 => Ok(()),
            DATA if self.payload == 0 => self.spend(1, now),
            DATA => {
                self.padding_next = flags & PADDED != 0;
                Ok(())
            }
            HEADERS => {
                let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
                self.head_open = flags & END_HEADERS == 0;
                // Trailers come on a stream that is known.
                if stream <= self.last_stream {
                    return self.spend(1, now);
                }
                self.last_stream = stream;
                self.streams = self.streams.saturating_add(1);
                self.credit = self.credit.saturating_add(PER_STREAM).min(BURST);
                Ok(())
            }
            CONTINUATION => {
                self.head_open = flags & END_HEADERS == 0;
                self.spend(1, now)
            }
            RST_STREAM => self.spend(PER_RESET, now),
            _ => self.spend(1, now),
        }
    }

    fn spend(&mut self, cost: u64, now: Instant) -> Result<(), Flood> {
        if self.credit < cost {
            let ms = now.saturating_duration_since(self.credited_at).as_millis();
            let earned = u64::try_from(ms).unwrap_or(u64::MAX).saturating_mul(PER_SECOND) / 1_000;
            self.credit = self.credit.saturating_add(earned).min(BURST);
            self.credited_at = now;
        }
        self.credit = self.credit.checked_sub(cost).ok_or(Flood)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn client() -> (Frames, Instant) {
        let now = Instant::now();
        let mut frames = Frames::after(PREFACE.len(), now);
        frames.pass(PREFACE, now).unwrap();
        assert!(frames.owes_head(), "a preface alone asks for nothing");
        frames.pass(&frame(4, 0, 0, &[]), now).unwrap();
        assert!(!frames.owes_head());
        (frames, now)
    }

    #[test]
    fn e_08_frames_without_content_are_a_flood_and_requests_with_theirs_are_not() {
        let padding = [&[255_u8][..], &[0; 255]].concat();
        for (what, bytes) in [
            ("PING", frame(6, 0, 0, &[0; 8])),
            ("SETTINGS", frame(4, 0, 0, &[0, 3, 0, 0, 0, 9])),
            ("PRIORITY", frame(2, 0, 1, &[0; 5])),
            ("WINDOW_UPDATE", frame(8, 0, 1, &[0, 0, 0, 1])),
            ("RST_STREAM", frame(3, 0, 1, &[0; 4])),
            ("empty DATA", frame(0, 0, 1, &[])),
            ("padding alone", frame(0, PADDED, 1, &padding)),
            ("CONTINUATION", frame(9, 0, 1, &[1; 30])),
            ("unknown", frame(99, 0, 1, &[1; 30])),
        ] {
            let (mut frames, now) = client();
            let sent = (0..10_000).find(|_| frames.pass(&bytes, now).is_err());
            assert!(sent.is_some_and(|sent| sent >= 130), "{what}: {sent:?}");
            assert_eq!(frames.pass(&bytes, now + Duration::from_secs(1)), Ok(()), "{what}: who waits may go on");
        }
        let (mut frames, now) = client();
        for stream in (1..20_001).step_by(2) {
            let request = [
                frame(1, END_HEADERS, stream, &[1; 40]),
                frame(0, PADDED, stream, &[3, b'a', 0, 0, 0]),
                frame(8, 0, stream, &[0, 0, 0, 1]),
                frame(6, 0, 0, &[0; 8]),
                frame(0, END_STREAM, stream, &[]),
            ];
            assert_eq!(frames.pass(&request.concat(), now), Ok(()));
        }
        assert_eq!(frames.streams(), 10_000);
    }

    #[test]
    fn e_08_who_asks_and_takes_it_back_without_end_is_a_flood_and_who_does_it_now_and_then_is_not() {
        let pair = |stream| [frame(1, END_HEADERS, stream, &[1; 40]), frame(3, 0, stream, &[0; 4])].concat();
        let (mut frames, now) = client();
        let flood = (1..20_001).step_by(2).find(|stream| frames.pass(&pair(*stream), now).is_err());
        assert!(flood.is_some_and(|stream| (600..1_200).contains(&stream)), "{flood:?}");
        let (mut frames, mut now) = client();
        for stream in (1..20_001).step_by(2) {
            now += Duration::from_millis(20);
            assert_eq!(frames.pass(&pair(stream), now), Ok(()), "{stream}");
        }
    }

    #[test]
    fn e_08_a_head_is_owed_until_its_last_frame() {
        let (mut frames, now) = client();
        frames.pass(&frame(1, 0, 1, &[1; 10]), now).unwrap();
        assert!(frames.owes_head());
        frames.pass(&frame(9, 0, 1, &[1; 10]), now).unwrap();
        assert!(frames.owes_head());
        frames.pass(&frame(9, END_HEADERS, 1, &[1; 10]), now).unwrap();
        assert!(!frames.owes_head());
    }

    proptest! {
        #[test]
        fn e_08_frames_are_the_same_wherever_they_are_cut(
            kinds in prop::collection::vec((0_u8..12, any::<u8>(), 0_u32..9, prop::collection::vec(any::<u8>(), 0..40)), 0..40),
            cuts in prop::collection::vec(1_usize..30, 1..20),
        ) {
            let now = Instant::now();
            let bytes = kinds.iter().flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload));
            let bytes: Vec<u8> = PREFACE.iter().copied().chain(bytes).collect();
            let (mut whole, mut pieces) = (Frames::after(PREFACE.len(), now), Frames::after(PREFACE.len(), now));
            whole.pass(&bytes, now).unwrap();
            let (mut rest, mut cuts) = (bytes.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                pieces.pass(piece, now).unwrap();
                rest = later;
            }
            prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        }
    }
}
