//! Whether the audit log is as it was written: every line in its place, none changed, none missing. Names the first that is not.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Result};
use std::path::{Path, PathBuf};

use openclawmu_store::AuditHead;
use serde::Serialize;

use crate::audit::folder;
use crate::audit::line::{self, START, Seen};
use crate::key::AuditKey;

/// Looks at the names of the files, until none was renamed meanwhile.
const LOOKS: usize = 5;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Verdict {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// The first thing that is.
    pub problem: Option<Problem>,
    /// Lines that are as they were written, up to the problem.
    pub lines: u64,
    /// The number of the first of them.
    pub first_seq: Option<u64>,
    /// The number of the last of them.
    pub last_seq: Option<u64>,
    /// The newest line that the database knows of; without one, lines that are missing at the end don't show.
    pub anchor_seq: Option<u64>,
    /// The files, in their order.
    pub files: Vec<String>,
}

/// The first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// The number of the first line that is not there as it was written.
    pub seq: u64,
    /// What happened to it.
    pub kind: ProblemKind,
    /// The file in which it shows.
    pub file: Option<String>,
    /// The line of that file, from 1.
    pub line: Option<u64>,
    /// The same in words.
    pub message: String,
}

/// What happened to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProblemKind {
    /// It is not as it was written.
    Edited,
    /// It is gone from between others.
    Deleted,
    /// It stands in another place.
    Reordered,
    /// It is gone from the end.
    Truncated,
}

/// Verifies the log in `folder` from the line `from` on. `anchor` is the newest line that the database knows of, taken before.
///
/// # Errors
/// When the files can't be read.
pub fn verify(folder: &Path, key: &AuditKey, anchor: Option<&AuditHead>, from: u64) -> Result<Verdict> {
    let (files, packed) = opened(folder, key)?;
    let mut walk = Walk::new(key, anchor, from);
    let mut problem = None;
    let last = files.len().saturating_sub(1);
    for (place, (path, file)) in files.iter().enumerate() {
        problem = walk.file((path, file), place == last)?;
        if problem.is_some() {
            break;
        }
    }
    if let Some(found) = &mut problem {
        found.look_elsewhere(&files, key)?;
    }
    let mut problem = problem.or_else(|| walk.end());
    if let Some(problem) = problem.as_mut().filter(|_| packed > 0) {
        problem.message.push_str(&format!("; {packed} compressed files were not read: unpack them first"));
    }
    Ok(Verdict {
        ok: problem.is_none(),
        problem,
        lines: walk.lines,
        first_seq: walk.first,
        last_seq: walk.lines.checked_sub(1).and(walk.expected.checked_sub(1)),
        anchor_seq: anchor.map(|anchor| anchor.seq),
        files: files.iter().map(|(path, _)| name(path)).collect(),
    })
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The files that hold lines, opened, oldest first. While they are being renamed they are looked at again.
fn opened(folder: &Path, key: &AuditKey) -> Result<(Vec<(PathBuf, File)>, usize)> {
    for _ in 0..LOOKS {
        let (paths, packed) = folder::files(folder)?;
        let files: Result<Vec<_>> = paths.iter().map(|path| Ok((path.clone(), File::open(path)?))).collect();
        match files {
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            Err(err) => return Err(err),
            Ok(files) if folder::files(folder)?.0 == paths => return Ok((sorted(files, key)?, packed)),
            Ok(_) => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "the files of the audit log are being renamed all the time"))
}

/// By the number of the first line that can be read; a file in which none can comes last.
fn sorted(files: Vec<(PathBuf, File)>, key: &AuditKey) -> Result<Vec<(PathBuf, File)>> {
    let mut ordered = Vec::new();
    for (path, file) in files {
        let mut first = u64::MAX;
        for text in BufReader::new(&file).split(b'\n') {
            if let Some(seen) = line::read(key, &text?) {
                first = seen.seq;
                break;
            }
        }
        ordered.push((first, path, file));
    }
    ordered.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    Ok(ordered.into_iter().map(|(_, path, file)| (path, file)).collect())
}

/// How far the chain has been followed.
struct Walk<'a> {
    key: &'a AuditKey,
    anchor: Option<&'a AuditHead>,
    expected: u64,
    /// The `mac` of the line before; `None` where that is not looked at.
    prev: Option<String>,
    lines: u64,
    first: Option<u64>,
}

impl<'a> Walk<'a> {
    fn new(key: &'a AuditKey, anchor: Option<&'a AuditHead>, from: u64) -> Self {
        let prev = (from <= 1).then(|| START.to_owned());
        Self { key, anchor, expected: from.max(1), prev, lines: 0, first: None }
    }

    /// Follows the chain through one file.
    fn file(&mut self, (path, mut file): (&Path, &File), is_last: bool) -> Result<Option<Problem>> {
        io::Seek::seek(&mut file, io::SeekFrom::Start(0))?;
        let mut reader = BufReader::new(file);
        let mut number = 0;
        loop {
            let mut text = Vec::new();
            if reader.read_until(b'\n', &mut text)? == 0 {
                return Ok(None);
            }
            number += 1;
            let at = |mut problem: Problem| {
                problem.file = Some(name(path));
                problem.line = Some(number);
                Some(problem)
            };
            if text.pop() != Some(b'\n') {
                // What is being written, or was cut in being written, is no line yet. If it was one, the anchor knows.
                let cut = Problem::new(self.expected, ProblemKind::Edited, "the file breaks off within a line");
                return Ok(if is_last { None } else { at(cut) });
            }
            if let Some(problem) = self.line(&text) {
                return Ok(at(problem));
            }
        }
    }

    fn line(&mut self, text: &[u8]) -> Option<Problem> {
        let expected = self.expected;
        let edited = |seq, message: &str| Some(Problem::new(seq, ProblemKind::Edited, message));
        let Some(seen) = line::read(self.key, text) else {
            return edited(expected, "the line can't be read");
        };
        if self.prev.is_none() && seen.seq < expected {
            return None; // before the line that was asked for
        }
        if !seen.is_whole {
            return edited(expected, "the line is not as it was written: its mac does not fit");
        }
        if seen.seq > expected {
            let truncated = seen.action == "audit.missing";
            let kind = if truncated { ProblemKind::Truncated } else { ProblemKind::Deleted };
            let last = seen.seq.saturating_sub(1);
            return Some(Problem::new(expected, kind, &format!("lines {expected} to {last} are missing")));
        }
        if seen.seq < expected {
            let message = format!("line {} stands behind line {}", seen.seq, expected.saturating_sub(1));
            return Some(Problem::new(seen.seq, ProblemKind::Reordered, &message));
        }
        if self.prev.as_ref().is_some_and(|prev| *prev != seen.prev) {
            let message = "the line before is not the one that this one was written after";
            return edited(expected.saturating_sub(1).max(1), message);
        }
        if self.anchor.is_some_and(|anchor| anchor.seq == seen.seq && anchor.mac != seen.mac) {
            return edited(expected, "the database knows another line of this number");
        }
        self.followed(seen)
    }

    fn followed(&mut self, seen: Seen) -> Option<Problem> {
        self.first = self.first.or(Some(seen.seq));
        self.lines += 1;
        self.expected = seen.seq.saturating_add(1);
        self.prev = Some(seen.mac);
        None
    }

    /// Whether lines are missing at the end.
    fn end(&self) -> Option<Problem> {
        let known = self.anchor?.seq;
        (known >= self.expected).then(|| {
            let message = format!("lines {} to {known} are missing at the end", self.expected);
            Problem::new(self.expected, ProblemKind::Truncated, &message)
        })
    }
}

impl Problem {
    fn new(seq: u64, kind: ProblemKind, message: &str) -> Self {
        Self { seq, kind, file: None, line: None, message: message.to_owned() }
    }

    /// A line that is missing where it should be and stands somewhere else was moved.
    fn look_elsewhere(&mut self, files: &[(PathBuf, File)], key: &AuditKey) -> Result<()> {
        if self.kind != ProblemKind::Deleted {
            return Ok(());
        }
        for (path, mut file) in files.iter().map(|(path, file)| (path, file)) {
            io::Seek::seek(&mut file, io::SeekFrom::Start(0))?;
            for text in BufReader::new(file).split(b'\n') {
                if line::read(key, &text?).is_some_and(|seen| seen.is_whole && seen.seq == self.seq) {
                    self.kind = ProblemKind::Reordered;
                    self.message = format!("line {} stands in another place, in {}", self.seq, name(path));
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
