//! Where a file's last whole line ends, and the lines at its two ends; without reading what is between them.

use std::fs::File;
use std::io::{BufRead, BufReader, Result, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// Bytes that are read at once.
const PIECE: u64 = 64 << 10;

/// The end of a file.
pub(super) struct Tail {
    /// Bytes up to and with the last line feed: what comes after them is no whole line.
    pub(super) end: u64,
    /// The last whole line, without its line feed.
    pub(super) line: Option<Vec<u8>>,
}

/// The end of the first `len` bytes of `file`.
pub(super) fn tail(file: &File, len: u64) -> Result<Tail> {
    let Some(last) = feed_before(file, len)? else { return Ok(Tail { end: 0, line: None }) };
    let start = feed_before(file, last)?.map_or(0, |feed| feed.saturating_add(1));
    let mut line = vec![0; usize::try_from(last.saturating_sub(start)).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut line, start)?;
    Ok(Tail { end: last.saturating_add(1), line: Some(line) })
}

/// The place of the last line feed before `end`.
fn feed_before(file: &File, end: u64) -> Result<Option<u64>> {
    let mut end = end;
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        let mut piece = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut piece, start)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(Some(start.saturating_add(u64::try_from(at).unwrap_or(u64::MAX))));
        }
        end = start;
    }
    Ok(None)
}

/// The first line, if it is whole, without its line feed.
pub(super) fn first(mut file: &File) -> Result<Option<Vec<u8>>> {
    file.seek(SeekFrom::Start(0))?;
    let mut line = Vec::new();
    BufReader::new(file).read_until(b'\n', &mut line)?;
    Ok((line.pop() == Some(b'\n')).then_some(line))
}
