//! Where a text holds what a JSON string can't hold as it is (RFC 8259, section 7): quotes, backslashes, control characters.

use wide::u8x32;

/// Bytes that are looked at at once.
const BLOCK: usize = 32;

/// The places of such bytes, in their order.
#[derive(Debug)]
pub(crate) struct Specials<'a> {
    /// What has not been looked at.
    rest: &'a [u8],
    /// Where the block begins that was looked at last.
    base: usize,
    /// Its places that were not told yet, a bit each.
    marks: u32,
}

impl<'a> Specials<'a> {
    /// Those of `bytes`.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        let (marks, rest) = first_block(bytes);
        Self { rest, base: 0, marks }
    }
}

impl Iterator for Specials<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.marks == 0 {
            if self.rest.is_empty() {
                return None;
            }
            self.base += BLOCK;
            (self.marks, self.rest) = first_block(self.rest);
        }
        let at = self.marks.trailing_zeros() as usize;
        self.marks &= self.marks - 1;
        Some(self.base + at)
    }
}

/// The places in the first block, and what follows it.
#[inline]
fn first_block(bytes: &[u8]) -> (u32, &[u8]) {
    match bytes.split_first_chunk::<BLOCK>() {
        Some((block, rest)) => (marks(*block), rest),
        None => (last_marks(bytes), &[]),
    }
}

/// The places in a block that is not full: letters stand for what it lacks. Not inlined, since the other blocks would be put
/// together byte by byte with it.
#[inline(never)]
fn last_marks(bytes: &[u8]) -> u32 {
    let mut block = [b'a'; BLOCK];
    block.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    marks(block)
}

#[inline]
fn marks(block: [u8; BLOCK]) -> u32 {
    let bytes = u8x32::new(block);
    let quote = bytes.simd_eq(u8x32::splat(b'"'));
    let backslash = bytes.simd_eq(u8x32::splat(b'\\'));
    let control = bytes.simd_le(u8x32::splat(0x1f));
    (quote | backslash | control).to_bitmask()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, a byte at a time.
    fn plainly(bytes: &[u8]) -> Vec<usize> {
        let special = |byte: u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        bytes.iter().enumerate().filter(|(_, byte)| special(**byte)).map(|(at, _)| at).collect()
    }

    #[test]
    fn each_byte_is_told_apart_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for before in [0, 1, 15, 16, 31, 32, 33, 63, 64] {
                let mut text = vec![b'x'; before];
                text.push(byte);
                for after in [0, 40] {
                    text.resize(text.len() + after, b'y');
                    assert_eq!(Specials::of(&text).collect::<Vec<_>>(), plainly(&text), "{byte} after {before}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn all_are_found_in_their_order(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), b'a'..=b'z'], 0..200)) {
            prop_assert_eq!(Specials::of(&bytes).collect::<Vec<_>>(), plainly(&bytes));
        }
    }
}
