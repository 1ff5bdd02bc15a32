//! A body that comes in pieces, within a limit. Nearly every one is a single piece, which is never copied.

use bytes::Bytes;

/// The pieces so far.
#[derive(Debug)]
pub(crate) struct Pieces {
    pieces: Vec<Bytes>,
    length: usize,
    limit: usize,
}

/// The body is longer than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Pieces {
    /// None yet, and at most `limit` bytes.
    pub(crate) fn within(limit: usize) -> Self {
        Self { pieces: Vec::new(), length: 0, limit }
    }

    /// Takes the next one.
    pub(crate) fn push(&mut self, piece: Bytes) -> Result<(), TooLong> {
        self.length = self.length.saturating_add(piece.len());
        if self.length > self.limit {
            return Err(TooLong);
        }
        self.pieces.push(piece);
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// The whole body.
    pub(crate) fn join(self) -> Bytes {
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
}
