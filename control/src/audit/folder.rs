//! The files of the audit log: `audit.jsonl`, which is appended to, and those that it once was, whoever renamed them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Result;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use openclawmu_store::UnixMs;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The file that is appended to.
pub(super) const CURRENT: &str = "audit.jsonl";
/// What the process that writes the log has locked.
const LOCK: &str = "lock";
/// What can't be read as lines.
const COMPRESSED: [&str; 4] = [".gz", ".zst", ".xz", ".bz2"];

/// Makes the folder, for this user alone.
pub(super) fn make(folder: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    folder.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync)
}

/// Takes the folder for this process, as long as the file lives; `None` where another has it. Two writers would each go on
/// from a line that the other does not know.
pub(super) fn take(folder: &Path) -> Result<Option<File>> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// Makes new names in a folder durable.
pub(super) fn sync(folder: &Path) -> Result<()> {
    File::open(folder)?.sync_all()
}

/// Every file that holds lines, in the order of their names, and how many there are that would have to be unpacked.
pub(super) fn files(folder: &Path) -> Result<(Vec<PathBuf>, usize)> {
    let (mut files, mut packed) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if !text.starts_with("audit") || !text.contains(".jsonl") || text.contains(".torn-") {
            continue;
        }
        if COMPRESSED.iter().any(|suffix| text.ends_with(suffix)) {
            packed += 1;
        } else {
            files.push(folder.join(&name));
        }
    }
    files.sort();
    Ok((files, packed))
}

/// What the current file is called once it is full: the day, and its first line's number.
pub(super) fn rotated(day: &str, first: u64) -> String {
    format!("audit-{day}-{first:012}.jsonl")
}

/// Where bytes go that are no line.
pub(super) fn torn(now: UnixMs) -> String {
    format!("{CURRENT}.torn-{}", now.rfc3339().replace(':', ""))
}

/// The day of an instant in UTC, such as 2026-11-26.
pub(super) fn day(at: &str) -> String {
    at.chars().take(10).collect()
}
