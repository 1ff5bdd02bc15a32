//! The file that is appended to. It is told apart from a file that somebody put in its place, and from its own former self.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use openclawmu_store::UnixMs;
use serde_json::{Value, json};

use crate::audit::folder::{self, CURRENT};
use crate::audit::tail;

/// The open file.
#[derive(Debug)]
pub(super) struct Current {
    file: File,
    /// Bytes up to the end of the last line that is relied on.
    len: u64,
    /// The number and the day of its first line.
    pub(super) first: Option<(u64, String)>,
}

/// Something about the file that is to be told: an action and its detail.
pub(super) type Finding = (&'static str, Value);

impl Current {
    /// Opens the file of that name, or makes it, for this user alone.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(CURRENT);
        let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
        folder::sync(folder)?;
        let len = tail::tail(&file, file.metadata()?.len())?.end;
        let first = if len == 0 { None } else { tail::first(&file)? };
        let first = first.and_then(|line| {
            let line: Value = serde_json::from_slice(&line).ok()?;
            Some((line.get("seq")?.as_u64()?, folder::day(line.get("at")?.as_str()?)))
        });
        Ok(Self { file, len, first })
    }

    /// Whether it is still the file of that name.
    pub(super) fn is_in_place(&self, folder: &Path) -> Result<bool> {
        let own = self.file.metadata()?;
        match fs::metadata(folder.join(CURRENT)) {
            Ok(there) => Ok((there.dev(), there.ino()) == (own.dev(), own.ino())),
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Bytes up to the end of the last line.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Makes sure that the file ends with the last line that is relied on: moves aside what a write left there that failed or
    /// that a crash cut. What was done goes into `findings`.
    pub(super) fn heal(&mut self, folder: &Path, now: UnixMs, findings: &mut Vec<Finding>) -> Result<()> {
        let found = self.file.metadata()?.len();
        if found < self.len {
            // By nobody of ours: whoever copies and truncates instead of renaming loses lines.
            findings.push(("audit.shortened", json!({"expected_bytes": self.len, "found_bytes": found})));
            self.len = tail::tail(&self.file, found)?.end;
        }
        if found > self.len {
            let name = self.move_aside(folder, now)?;
            findings.push(("audit.torn", json!({"file": name, "bytes": found.saturating_sub(self.len)})));
        }
        Ok(())
    }

    fn move_aside(&mut self, folder: &Path, now: UnixMs) -> Result<String> {
        let name = folder::torn(now);
        let path = folder.join(&name);
        let mut copy = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        let copied = io::copy(&mut Read::by_ref(&mut self.file), &mut copy).and_then(|_| copy.sync_all());
        if let Err(err) = copied {
            drop(fs::remove_file(&path)); // a piece of it says nothing; the whole is still in its place
            return Err(err);
        }
        folder::sync(folder)?;
        self.file.set_len(self.len)?;
        self.file.sync_all()?;
        Ok(name)
    }

    /// Appends lines and returns when they are on the disk. After an error nothing is known of what is behind the last line:
    /// [`Current::heal`] must come first.
    pub(super) fn append(&mut self, text: &[u8]) -> Result<()> {
        self.file.write_all(text)?;
        self.file.sync_data()?;
        self.len = self.len.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        Ok(())
    }
}
