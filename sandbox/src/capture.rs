//! [`Capture`]: the beginning and the end of a stream, in memory that does not grow with it.

use std::collections::VecDeque;

use crate::Captured;

/// Takes a stream piece by piece and keeps its beginning and its end.
#[derive(Debug)]
pub(crate) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    head_limit: usize,
    tail_limit: usize,
    total: u64,
}

impl Capture {
    /// Keeps at most `kept_bytes`.
    pub(crate) fn new(kept_bytes: usize) -> Self {
        let head_limit = kept_bytes.div_ceil(2);
        let tail_limit = kept_bytes - head_limit;
        Self { head: Vec::new(), tail: VecDeque::new(), head_limit, tail_limit, total: 0 }
    }

    /// Takes what comes next.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total = self.total.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_limit - self.head.len()));
        self.head.extend_from_slice(head);
        let rest = rest.get(rest.len().saturating_sub(self.tail_limit)..).unwrap_or_default();
        let over = (self.tail.len() + rest.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    /// What was kept.
    pub(crate) fn finish(self) -> Captured {
        Captured { head: self.head, tail: self.tail.into(), total_bytes: self.total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn x11_what_is_kept_is_the_beginning_and_the_end_whatever_the_pieces(
            kept in 0usize..64, pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..12)
        ) {
            let all: Vec<u8> = pieces.concat();
            let mut capture = Capture::new(kept);
            for piece in &pieces {
                capture.push(piece);
            }
            let captured = capture.finish();
            let head = kept.div_ceil(2).min(all.len());
            let tail = (kept / 2).min(all.len() - head);
            prop_assert_eq!(&captured.head, &all[..head]);
            prop_assert_eq!(&captured.tail, &all[all.len() - tail..]);
            prop_assert_eq!(captured.total_bytes, all.len() as u64);
            prop_assert_eq!(captured.dropped_bytes(), (all.len() - head - tail) as u64);
        }
    }
}
