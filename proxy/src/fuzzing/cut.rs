//! Bytes in pieces, as a connection might bring them.

/// The bytes in pieces whose lengths depend on nothing but the bytes, so that a failure can be seen again.
pub(super) fn pieces(data: &[u8]) -> Vec<&[u8]> {
    let mut state = crc32fast::hash(data) | 1;
    let longest = [1, 3, 17, 200].get(data.len() % 4).copied().unwrap_or(1);
    let (mut pieces, mut rest) = (Vec::new(), data);
    while !rest.is_empty() {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let length = usize::try_from(state).unwrap_or(0) % longest + 1;
        let (piece, more) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        pieces.push(piece);
        rest = more;
    }
    pieces
}
