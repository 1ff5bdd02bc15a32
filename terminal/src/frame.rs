//! What goes over the connection. Each binary message is one frame: a byte that says what it is, and the rest. Numbers are
//! big-endian.
//!
//! | byte | name | from | what follows |
//! | --- | --- | --- | --- |
//! | 0 | output | server | `u64` sequence number of the first byte, then the bytes: at least one |
//! | 1 | input | client | the bytes: at least one |
//! | 2 | resize | client | `u16` columns, `u16` rows; each is clamped to 1..=500 |
//! | 3 | ack | client | `u64` sequence number of the next byte that it wants: it has taken in all before |
//! | 4 | ping | both | `u64` of the client's choice, which the server sends back |
//! | 5 | exit | server | `i32` exit code; the last frame |
//! | 6 | viewers | server | `u16` drivers, `u16` observers, `u16` moderators |
//! | 7 | resume | client | `u64` sequence number of the next byte that it wants, then the session's id: 1 to 64 bytes; only as the first message |
//!
//! The sequence number of a byte is how many bytes of output came before it in the session. A client must acknowledge: no more
//! than [`Settings::window_bytes`](crate::Settings::window_bytes) are sent beyond what it acknowledged.
//!
//! Text messages are JSON: see [`Text`](crate::Text).
//!
//! A parser of what anybody may send: must never panic, and never take what it doesn't know.

/// The longest message, of either side.
pub const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// The most columns or rows.
pub const MAX_SIDE: u16 = 500;
/// The longest id of a session.
pub const MAX_SESSION_BYTES: usize = 64;

const OUTPUT: u8 = 0;
const INPUT: u8 = 1;
const RESIZE: u8 = 2;
const ACK: u8 = 3;
const PING: u8 = 4;
const EXIT: u8 = 5;
const VIEWERS: u8 = 6;
const RESUME: u8 = 7;

/// Columns and rows, each 1 to 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    cols: u16,
    rows: u16,
}

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFrame<'a> {
    /// What was typed.
    Input(&'a [u8]),
    /// The window's size.
    Resize(Size),
    /// The next byte that it wants.
    Ack(u64),
    /// Wants it sent back.
    Ping(u64),
    /// Comes back to a session.
    Resume {
        /// The next byte that it wants.
        seq: u64,
        /// The session's id: `a-z`, `0-9`, `-` and `_`.
        session: &'a str,
    },
}

/// What a server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerFrame<'a> {
    /// What the terminal shows.
    Output {
        /// Of the first byte.
        seq: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The number of a ping.
    Pong(u64),
    /// The session's end.
    Exit(i32),
    /// Who looks at it.
    Viewers(Viewers),
}

/// How many look at a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Viewers {
    /// Those who type: one or none.
    pub drivers: u16,
    /// Those who watch.
    pub observers: u16,
    /// Those who watch and may end it.
    pub moderators: u16,
}

/// Why a message is no frame; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not even a first byte.
    #[error("an empty message is no frame")]
    Empty,
    /// Longer than [`MAX_MESSAGE_BYTES`].
    #[error("a message has at most 65536 bytes")]
    TooLong,
    /// A first byte that this side does not take.
    #[error("a frame of kind {0} is not taken here")]
    Unknown(u8),
    /// Too much or too little for what it is.
    #[error("a frame of kind {0} has a wrong length")]
    Length(u8),
    /// A session's id of other characters.
    #[error("a session's id has 1 to 64 of a-z, 0-9, - and _")]
    Session,
    /// A resume that is not the first message.
    #[error("resume is the first message, or none")]
    LateResume,
}

impl FrameError {
    /// One word for it: the code of the JSON error.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "frame_empty",
            Self::TooLong => "frame_too_long",
            Self::Unknown(_) => "frame_unknown",
            Self::Length(_) => "frame_length",
            Self::Session => "frame_session",
            Self::LateResume => "frame_late_resume",
        }
    }
}

impl Size {
    /// Each side is clamped to 1..=500.
    #[must_use]
    pub fn new(cols: u16, rows: u16) -> Self {
        Self { cols: cols.clamp(1, MAX_SIDE), rows: rows.clamp(1, MAX_SIDE) }
    }

    /// Columns.
    #[must_use]
    pub fn cols(self) -> u16 {
        self.cols
    }

    /// Rows.
    #[must_use]
    pub fn rows(self) -> u16 {
        self.rows
    }
}

impl Default for Size {
    fn default() -> Self {
        Self { cols: 80, rows: 24 }
    }
}

impl<'a> ClientFrame<'a> {
    /// Reads a client's message.
    ///
    /// # Errors
    /// [`FrameError`], for everything that is not exactly a frame of the table above.
    pub fn decode(message: &'a [u8]) -> Result<Self, FrameError> {
        let (kind, rest) = kind_of(message)?;
        let wrong = FrameError::Length(kind);
        match kind {
            INPUT if rest.is_empty() => Err(wrong),
            INPUT => Ok(Self::Input(rest)),
            RESIZE => {
                let (cols, rest) = u16_of(rest).ok_or(wrong)?;
                let (rows, rest) = u16_of(rest).ok_or(wrong)?;
                ended(rest, Self::Resize(Size::new(cols, rows)), wrong)
            }
            ACK => u64_of(rest).ok_or(wrong).and_then(|(seq, rest)| ended(rest, Self::Ack(seq), wrong)),
            PING => u64_of(rest).ok_or(wrong).and_then(|(number, rest)| ended(rest, Self::Ping(number), wrong)),
            RESUME => {
                let (seq, id) = u64_of(rest).ok_or(wrong)?;
                if !(1..=MAX_SESSION_BYTES).contains(&id.len()) {
                    return Err(wrong);
                }
                let plain = id.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
                match std::str::from_utf8(id) {
                    Ok(session) if plain => Ok(Self::Resume { seq, session }),
                    Ok(_) | Err(_) => Err(FrameError::Session),
                }
            }
            other => Err(FrameError::Unknown(other)),
        }
    }

    /// Writes it, as a client does.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        match self {
            Self::Input(bytes) => framed(INPUT, &[bytes]),
            Self::Resize(size) => framed(RESIZE, &[&size.cols.to_be_bytes(), &size.rows.to_be_bytes()]),
            Self::Ack(seq) => framed(ACK, &[&seq.to_be_bytes()]),
            Self::Ping(number) => framed(PING, &[&number.to_be_bytes()]),
            Self::Resume { seq, session } => framed(RESUME, &[&seq.to_be_bytes(), session.as_bytes()]),
        }
    }
}

impl<'a> ServerFrame<'a> {
    /// Reads a server's message, as a client does.
    ///
    /// # Errors
    /// [`FrameError`], for everything that is not exactly a frame of the table above.
    pub fn decode(message: &'a [u8]) -> Result<Self, FrameError> {
        let (kind, rest) = kind_of(message)?;
        let wrong = FrameError::Length(kind);
        match kind {
            OUTPUT => match u64_of(rest) {
                Some((seq, bytes)) if !bytes.is_empty() => Ok(Self::Output { seq, bytes }),
                Some(_) | None => Err(wrong),
            },
            PING => u64_of(rest).ok_or(wrong).and_then(|(number, rest)| ended(rest, Self::Pong(number), wrong)),
            EXIT => match rest.split_first_chunk() {
                Some((code, [])) => Ok(Self::Exit(i32::from_be_bytes(*code))),
                Some(_) | None => Err(wrong),
            },
            VIEWERS => {
                let (drivers, rest) = u16_of(rest).ok_or(wrong)?;
                let (observers, rest) = u16_of(rest).ok_or(wrong)?;
                let (moderators, rest) = u16_of(rest).ok_or(wrong)?;
                ended(rest, Self::Viewers(Viewers { drivers, observers, moderators }), wrong)
            }
            other => Err(FrameError::Unknown(other)),
        }
    }

    /// Writes it.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        match self {
            Self::Output { seq, bytes } => framed(OUTPUT, &[&seq.to_be_bytes(), bytes]),
            Self::Pong(number) => framed(PING, &[&number.to_be_bytes()]),
            Self::Exit(code) => framed(EXIT, &[&code.to_be_bytes()]),
            Self::Viewers(Viewers { drivers, observers, moderators }) => {
                framed(VIEWERS, &[&drivers.to_be_bytes(), &observers.to_be_bytes(), &moderators.to_be_bytes()])
            }
        }
    }
}

fn kind_of(message: &[u8]) -> Result<(u8, &[u8]), FrameError> {
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(FrameError::TooLong);
    }
    message.split_first().map(|(kind, rest)| (*kind, rest)).ok_or(FrameError::Empty)
}

fn u16_of(bytes: &[u8]) -> Option<(u16, &[u8])> {
    bytes.split_first_chunk().map(|(number, rest)| (u16::from_be_bytes(*number), rest))
}

fn u64_of(bytes: &[u8]) -> Option<(u64, &[u8])> {
    bytes.split_first_chunk().map(|(number, rest)| (u64::from_be_bytes(*number), rest))
}

fn ended<T>(rest: &[u8], frame: T, wrong: FrameError) -> Result<T, FrameError> {
    if rest.is_empty() { Ok(frame) } else { Err(wrong) }
}

fn framed(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut message = Vec::with_capacity(length);
    message.push(kind);
    parts.iter().for_each(|part| message.extend_from_slice(part));
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Wire.
    #[test]
    fn frames_are_these_bytes() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        for (frame, wanted) in [
            (ClientFrame::Input(b"ls\n"), "016c730a"),
            (ClientFrame::Resize(Size::new(80, 24)), "0200500018"),
            (ClientFrame::Ack(258), "030000000000000102"),
            (ClientFrame::Ping(u64::MAX), "04ffffffffffffffff"),
            (ClientFrame::Resume { seq: 1, session: "a-1" }, "070000000000000001612d31"),
        ] {
            assert_eq!(hex(&frame.encode()), wanted);
            assert_eq!(ClientFrame::decode(&frame.encode()), Ok(frame));
        }
        let viewers = Viewers { drivers: 1, observers: 2, moderators: 3 };
        for (frame, wanted) in [
            (ServerFrame::Output { seq: 3, bytes: b"x" }, "00000000000000000378"),
            (ServerFrame::Pong(7), "040000000000000007"),
            (ServerFrame::Exit(-1), "05ffffffff"),
            (ServerFrame::Viewers(viewers), "06000100020003"),
        ] {
            assert_eq!(hex(&frame.encode()), wanted);
            assert_eq!(ServerFrame::decode(&frame.encode()), Ok(frame));
        }
    }

    /// Wire.
    #[test]
    fn what_is_not_exactly_a_frame_is_refused_by_its_name() {
        let long = [&[1_u8][..], &[b'x'; MAX_MESSAGE_BYTES]].concat();
        assert!(ClientFrame::decode(&long[..MAX_MESSAGE_BYTES]).is_ok(), "one less is fine");
        for (message, code) in [
            (&b""[..], "frame_empty"),
            (&long, "frame_too_long"),
            (b"\x00\0\0\0\0\0\0\0\0x", "frame_unknown"),
            (b"\x05\0\0\0\0", "frame_unknown"),
            (b"\x06\0\0\0\0\0\0", "frame_unknown"),
            (b"\x08", "frame_unknown"),
            (b"\x7b}", "frame_unknown"),
            (b"\x01", "frame_length"),
            (b"\x02\0\x50\0", "frame_length"),
            (b"\x02\0\x50\0\x18\0", "frame_length"),
            (b"\x03\0\0\0\0\0\0\0", "frame_length"),
            (b"\x04\0\0\0\0\0\0\0\0\0", "frame_length"),
            (b"\x07\0\0\0\0\0\0\0\0", "frame_length"),
            (b"\x07\0\0\0\0\0\0\0\0../x", "frame_session"),
            (b"\x07\0\0\0\0\0\0\0\0\xff", "frame_session"),
        ] {
            assert_eq!(ClientFrame::decode(message).unwrap_err().code(), code, "{:?}", message.get(..20));
        }
    }

    /// Wire.
    #[test]
    fn a_size_is_clamped() {
        assert_eq!(ClientFrame::decode(b"\x02\0\0\0\0"), Ok(ClientFrame::Resize(Size { cols: 1, rows: 1 })));
        assert_eq!(
            ClientFrame::decode(b"\x02\xff\xff\x01\xf5"),
            Ok(ClientFrame::Resize(Size { cols: 500, rows: 500 }))
        );
        assert_eq!(ClientFrame::decode(b"\x02\x01\xf4\0\x02"), Ok(ClientFrame::Resize(Size { cols: 500, rows: 2 })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic_and_what_it_takes_is_written_the_same(
            message in proptest::collection::vec(any::<u8>(), 0..40), kind in 0_u8..9
        ) {
            let mut known = message.clone();
            known.insert(0, kind);
            for message in [message, known] {
                match ClientFrame::decode(&message) {
                    // A size is written as it was clamped.
                    Ok(ClientFrame::Resize(size)) => {
                        prop_assert!((1..=500).contains(&size.cols()) && (1..=500).contains(&size.rows()));
                    }
                    Ok(frame) => prop_assert_eq!(frame.encode(), message.clone()),
                    Err(_) => {}
                }
                if let Ok(frame) = ServerFrame::decode(&message) {
                    prop_assert_eq!(frame.encode(), message);
                }
            }
        }
    }
}
