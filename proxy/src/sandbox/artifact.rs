//! Files that a run leaves and that are answered with it: found by patterns, read through the workspace's own handle.

use std::collections::BTreeSet;

use openclawmu_sandbox::{Kind, PathError, RelPath, Root, TreePath};

use crate::refusal::Refusal;

/// How many patterns a request may name.
const MAX_GLOBS: usize = 32;
/// How many files are answered.
const MAX_FILES: usize = 200;
/// How many bytes of files are answered.
const MAX_BYTES: u64 = 8 << 20;

/// Patterns: `*` is any text within a name, `**` any text at all, `?` one byte of a name.
#[derive(Debug, Default)]
pub(super) struct Globs(Vec<Vec<u8>>);

/// A file that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Artifact {
    pub(super) path: String,
    /// Absent where all together are too much to be answered.
    pub(super) content: Option<Vec<u8>>,
    pub(super) size_bytes: u64,
}

impl Globs {
    pub(super) fn parse(written: &[String]) -> Result<Self, Refusal> {
        if written.len() > MAX_GLOBS {
            return Err(Refusal::bad("artifacts", format!("`artifacts` names more than {MAX_GLOBS} patterns.")));
        }
        if written.iter().any(|glob| glob.is_empty() || glob.starts_with('/') || glob.len() > 1000) {
            return Err(Refusal::bad(
                "artifacts",
                "A pattern is relative to the workspace and at most 1000 bytes long.",
            ));
        }
        Ok(Self(written.iter().map(|glob| glob.clone().into_bytes()).collect()))
    }

    /// Reads what is found in `root`. It blocks on the disk.
    ///
    /// # Errors
    /// What the disk refuses.
    pub(super) fn collect(&self, root: &Root) -> Result<Vec<Artifact>, PathError> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        let mut found: Vec<(TreePath, u64)> = Vec::new();
        root.walk(&mut |walked| {
            let is_meant = self.0.iter().any(|glob| fits(glob, walked.path.as_bytes()));
            if walked.metadata.kind == Kind::File && is_meant && found.len() < MAX_FILES {
                found.push((walked.path, walked.metadata.size_bytes));
            }
            Ok(())
        })?;
        let mut left = MAX_BYTES;
        found.into_iter().filter_map(|(path, size)| artifact(root, &path, size, &mut left).transpose()).collect()
    }
}

/// One file; `None` where it went meanwhile, or has a name that no answer can hold.
fn artifact(root: &Root, path: &TreePath, size_bytes: u64, left: &mut u64) -> Result<Option<Artifact>, PathError> {
    use std::io::Read;
    let Ok(path) = RelPath::parse(path.as_bytes()) else { return Ok(None) };
    let name = path.to_string();
    if size_bytes > *left {
        return Ok(Some(Artifact { path: name, content: None, size_bytes }));
    }
    let file = match root.read(&path) {
        Err(PathError::NotFound | PathError::Refused) => return Ok(None),
        opened => opened?,
    };
    let mut content = Vec::new();
    // It may have grown since it was found.
    file.take(size_bytes).read_to_end(&mut content).map_err(PathError::Io)?;
    *left = left.saturating_sub(size_bytes);
    Ok(Some(Artifact { path: name, content: Some(content), size_bytes }))
}

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Name,
    /// `**`
    All,
    /// `**/`, which is nothing or ends in a separator; its own bytes are `Within`.
    Deep,
    Within,
}

fn pieces(glob: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = glob;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'?' => pieces.push(Piece::One),
            b'*' => match rest.strip_prefix(b"*") {
                None => pieces.push(Piece::Name),
                Some(after) => match after.strip_prefix(b"/") {
                    None => {
                        rest = after;
                        pieces.push(Piece::All);
                    }
                    Some(after) => {
                        rest = after;
                        pieces.extend([Piece::Deep, Piece::Within]);
                    }
                },
            },
            byte => pieces.push(Piece::Byte(*byte)),
        }
    }
    pieces
}

/// Whether a path fits a pattern: every way through the pattern at once, so that no pattern takes long.
fn fits(glob: &[u8], path: &[u8]) -> bool {
    let pieces = pieces(glob);
    let mut at = BTreeSet::new();
    enter(&pieces, 0, &mut at);
    for byte in path {
        let mut next = BTreeSet::new();
        for place in at {
            match pieces.get(place) {
                Some(Piece::Byte(wanted)) if wanted == byte => enter(&pieces, place + 1, &mut next),
                Some(Piece::One) if *byte != b'/' => enter(&pieces, place + 1, &mut next),
                Some(Piece::Name) if *byte != b'/' => enter(&pieces, place, &mut next),
                Some(Piece::All) => enter(&pieces, place, &mut next),
                Some(Piece::Within) => {
                    next.insert(place);
                    if *byte == b'/' {
                        enter(&pieces, place + 1, &mut next);
                    }
                }
                Some(Piece::Byte(_) | Piece::One | Piece::Name | Piece::Deep) | None => {}
            }
        }
        at = next;
    }
    at.contains(&pieces.len())
}

/// Adds a place in the pattern, and those that are reached from it without a byte.
fn enter(pieces: &[Piece], place: usize, at: &mut BTreeSet<usize>) {
    if !at.insert(place) {
        return;
    }
    match pieces.get(place) {
        Some(Piece::Name | Piece::All) => enter(pieces, place + 1, at),
        Some(Piece::Deep) => {
            at.insert(place + 1);
            enter(pieces, place + 2, at);
        }
        Some(Piece::Byte(_) | Piece::One | Piece::Within) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_shells_mean_by_them() {
        for (glob, path, wanted) in [
            ("*.png", "a.png", true),
            ("*.png", "dir/a.png", false),
            ("dir/*", "dir/a", true),
            ("dir/*", "dir/a/b", false),
            ("**/*.txt", "a.txt", true),
            ("**/*.txt", "x/y/a.txt", true),
            ("**", "x/y", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(glob.as_bytes(), path.as_bytes()), wanted, "{glob} {path}");
        }
    }
}
