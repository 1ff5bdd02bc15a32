//! [`Ring`]: the last of the output, by sequence number. Memory grows with what was written, up to its size and no further.

use std::collections::VecDeque;

/// The last bytes of a stream.
#[derive(Debug)]
pub(crate) struct Ring {
    bytes: VecDeque<u8>,
    most: usize,
    start: u64,
}

impl Ring {
    pub(crate) fn new(most: usize) -> Self {
        Self { bytes: VecDeque::new(), most, start: 0 }
    }

    /// The sequence number of the first byte that is there.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The sequence number of the byte that comes next.
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(wide(self.bytes.len()))
    }

    /// Takes what comes next.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let kept = bytes.get(bytes.len().saturating_sub(self.most)..).unwrap_or_default();
        let over = (self.bytes.len() + kept.len()).saturating_sub(self.most);
        // First, so that it never has room for more than its size.
        self.bytes.drain(..over);
        let needed = self.bytes.len() + kept.len();
        if needed > self.bytes.capacity() {
            // Twice as much each time, and never more than it may have.
            self.bytes.reserve_exact(needed.next_power_of_two().min(self.most) - self.bytes.len());
        }
        self.bytes.extend(kept);
        self.start = self.start.saturating_add(wide(over + bytes.len() - kept.len()));
    }

    /// At most `most` bytes from `seq` on; none if it does not have that one.
    pub(crate) fn copy(&self, seq: u64, most: usize) -> Vec<u8> {
        let Some(from) = self.index(seq) else { return Vec::new() };
        let to = from.saturating_add(most).min(self.bytes.len());
        let (first, second) = self.bytes.as_slices();
        let part = |slice: &[u8], offset: usize| {
            let from = from.saturating_sub(offset).min(slice.len());
            let to = to.saturating_sub(offset).min(slice.len());
            slice.get(from..to).unwrap_or_default().to_vec()
        };
        let mut copied = part(first, 0);
        copied.extend_from_slice(&part(second, first.len()));
        copied
    }

    /// Where a terminal that was reset can begin, among the last `most` bytes: after the end of a line, else where a control
    /// sequence begins, else where a character does.
    pub(crate) fn safe_start(&self, most: usize) -> u64 {
        let from = self.bytes.len().saturating_sub(most);
        if from == 0 && self.start == 0 {
            return 0;
        }
        let tail = || self.bytes.iter().skip(from);
        let line = tail().position(|byte| *byte == b'\n').map(|at| at + 1);
        let control = || tail().position(|byte| *byte == 0x1b);
        let character = || tail().position(|byte| byte & 0xc0 != 0x80);
        let at = line.or_else(control).or_else(character).unwrap_or_default();
        self.start.saturating_add(wide(from + at))
    }

    fn index(&self, seq: u64) -> Option<usize> {
        usize::try_from(seq.checked_sub(self.start)?).ok().filter(|index| *index <= self.bytes.len())
    }

    #[cfg(test)]
    fn room(&self) -> usize {
        self.bytes.capacity()
    }
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_holds_the_end_of_what_was_written_however_it_was_cut(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20),
            most in 1_usize..64, at in 0_usize..400, take in 0_usize..100
        ) {
            let mut ring = Ring::new(most);
            for piece in &pieces {
                ring.push(piece);
            }
            let all = pieces.concat();
            prop_assert_eq!(ring.end(), all.len() as u64);
            prop_assert_eq!(ring.start(), all.len().saturating_sub(most) as u64);
            let from = at as u64;
            let inside = ring.start() <= from && from <= ring.end();
            let wanted = if inside { &all[at..all.len().min(at + take)] } else { &[] };
            prop_assert_eq!(ring.copy(from, take), wanted);
            let safe = ring.safe_start(take);
            prop_assert!(ring.start() <= safe && safe <= ring.end());
        }
    }

    /// T-04.
    #[test]
    fn its_memory_never_exceeds_its_size() {
        let mut ring = Ring::new(1 << 16);
        assert_eq!(ring.room(), 0, "none for a session that wrote nothing");
        for _ in 0..100 {
            ring.push(&[b'y'; 4095]);
            assert!(ring.room() <= 1 << 16, "{}", ring.room());
        }
    }

    #[test]
    fn a_repaint_begins_where_nothing_is_cut_in_two() {
        let at = |text: &str, most: usize| {
            let mut ring = Ring::new(8);
            ring.push(text.as_bytes());
            let start = ring.safe_start(most);
            String::from_utf8(ring.copy(start, 100)).unwrap()
        };
        assert_eq!(at("short", 8), "short", "all of it is there");
        assert_eq!(at("first\nsecond", 8), "second");
        assert_eq!(at("12345678\x1b[1mx", 8), "\x1b[1mx");
        assert_eq!(at("0äöüä", 8), "äöüä");
        assert_eq!(at("äöüä0", 8), "öüä0", "half of the first is gone");
    }
}
