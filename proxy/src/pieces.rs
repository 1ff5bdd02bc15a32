//! A body that comes in pieces, within a limit. Nearly every one is a single piece, which is never copied.

use bytes::{Bytes, BytesMut};

/// Pieces below this many bytes are gathered, so that a body in a million pieces takes no more room than one in a few.
const SMALL_BYTES: usize = 16 << 10;
/// Bytes that are gathered.
const GATHERED_BYTES: usize = 64 << 10;

/// The pieces so far.
#[derive(Debug)]
pub(crate) struct Pieces {
    pieces: Vec<Bytes>,
    gathered: BytesMut,
    length: usize,
    limit: usize,
}

/// The body is longer than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Pieces {
    /// None yet, and at most `limit` bytes.
    pub(crate) fn within(limit: usize) -> Self {
        Self { pieces: Vec::new(), gathered: BytesMut::new(), length: 0, limit }
    }

    /// Whether so many bytes more would be within the limit.
    ///
    /// # Errors
    /// They would not.
    pub(crate) fn room_for(&self, more: usize) -> Result<(), TooLong> {
        if self.length.saturating_add(more) > self.limit { Err(TooLong) } else { Ok(()) }
    }

    /// Takes the next one.
    pub(crate) fn push(&mut self, piece: Bytes) -> Result<(), TooLong> {
        self.room_for(piece.len())?;
        self.length = self.length.saturating_add(piece.len());
        if self.pieces.is_empty() {
            self.pieces.push(piece);
        } else if piece.len() < SMALL_BYTES {
            self.gathered.extend_from_slice(&piece);
            if self.gathered.len() >= GATHERED_BYTES {
                self.gather();
            }
        } else {
            self.gather();
            self.pieces.push(piece);
        }
        Ok(())
    }

    /// Makes one piece of those that were gathered.
    fn gather(&mut self) {
        if !self.gathered.is_empty() {
            self.pieces.push(std::mem::take(&mut self.gathered).freeze());
        }
    }

    /// Bytes so far.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// The whole body.
    pub(crate) fn join(mut self) -> Bytes {
        self.gather();
        match self.pieces.as_slice() {
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_kept_to_the_byte_and_one_piece_is_not_copied() {
        let mut pieces = Pieces::within(4);
        let first = Bytes::from_static(b"abc");
        assert_eq!(pieces.push(first.clone()), Ok(()));
        assert_eq!(pieces.push(Bytes::from_static(b"d")), Ok(()));
        assert_eq!(pieces.push(Bytes::from_static(b"e")), Err(TooLong));
        let mut one = Pieces::within(3);
        one.push(first.clone()).unwrap();
        assert_eq!(one.join().as_ptr(), first.as_ptr());
        let mut two = Pieces::within(9);
        two.push(first.clone()).unwrap();
        two.push(first).unwrap();
        assert_eq!(two.join(), "abcabc");
        assert_eq!(Pieces::within(0).join(), "");
    }

    #[test]
    fn e_09_a_body_byte_by_byte_takes_few_pieces_and_is_whole() {
        let mut pieces = Pieces::within(1 << 20);
        let sent: Vec<u8> = (0..=250_u8).cycle().take(200_000).collect();
        for (at, byte) in sent.iter().enumerate() {
            pieces.push(Bytes::copy_from_slice(&[*byte])).unwrap();
            assert!(pieces.pieces.len() < 8, "{at}");
        }
        pieces.push(Bytes::from(vec![7; SMALL_BYTES])).unwrap();
        pieces.push(Bytes::from_static(b"end")).unwrap();
        assert_eq!(pieces.join(), [&sent[..], &[7; SMALL_BYTES], b"end"].concat());
    }
}
