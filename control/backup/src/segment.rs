//! What has happened since the last set of the whole gateway, shipped every few seconds: ledger rows and audit lines. Their
//! interval is how much can be lost.
//!
//! A segment is an object like any other, sealed where a passphrase is set. Shipped twice it changes nothing: a replay takes
//! each row once.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openclawmu_store::{RowObject, UnixMs};
use serde_json::Value;

use crate::create::{Maker, sealing};
use crate::digest;
use crate::error::{BackupError, Result};
use crate::layout::{AUDIT_SEGMENTS, LEDGER_SEGMENTS};
use crate::manifest::AuditHead;
use crate::seal::Key;
use crate::upload::{Spool, blocking, compress};

/// Ledger rows of one segment.
const ROWS: u32 = 20_000;
/// Bytes of audit lines of one segment.
const AUDIT_BYTES: usize = 8 << 20;
/// How much of a log's end is read to find its last line.
const TAIL_BYTES: u64 = 1 << 20;

/// Ships segments of one gateway to one place.
#[derive(Debug)]
pub struct Shipper {
    maker: Maker,
    key: Option<Option<Arc<Key>>>,
    audit: AuditCursor,
}

/// How far the audit log has been shipped.
#[derive(Debug, Default)]
struct AuditCursor {
    /// The number of the last line; `None` before the place was asked.
    seq: Option<i64>,
    /// The file that was read last, and up to where.
    file: Option<(u64, u64)>,
}

impl Shipper {
    /// Of `maker`'s gateway, to its place.
    #[must_use]
    pub fn new(maker: Maker) -> Self {
        Self { maker, key: None, audit: AuditCursor::default() }
    }

    /// Ships everything that there is; gives how many ledger rows and audit lines went out.
    ///
    /// # Errors
    /// [`BackupError`]: what was not shipped is shipped by the next call.
    pub async fn ship(&mut self) -> Result<(usize, usize)> {
        let key = match &self.key {
            Some(key) => key.clone(),
            None => {
                let key = match &self.maker.passphrase {
                    None => None,
                    Some(passphrase) => Some(Arc::new(sealing(&self.maker.place, passphrase).await?.1)),
                };
                self.key = Some(key.clone());
                key
            }
        };
        let mut rows = 0;
        loop {
            let store = self.maker.origin.store.clone();
            let fed = blocking(move || Ok(store.fed_ledger(ROWS)?)).await?;
            if fed.is_empty() {
                break;
            }
            let lines: Result<Vec<_>, _> = fed.iter().map(serde_json::to_vec).collect();
            let lines = lines.map_err(|err| BackupError::File { path: "segment".into(), source: err.into() })?;
            self.send(LEDGER_SEGMENTS, lines, key.clone()).await?;
            self.maker.origin.store.ledger_shipped(&fed).await?;
            rows += fed.len();
        }
        let lines = self.ship_audit(key).await?;
        Ok((rows, lines))
    }

    async fn ship_audit(&mut self, key: Option<Arc<Key>>) -> Result<usize> {
        let mut shipped = 0;
        loop {
            let after = match self.audit.seq {
                Some(seq) => seq,
                None => {
                    let items = self.maker.place.list(AUDIT_SEGMENTS).await?;
                    items.iter().filter_map(|item| last_seq(&item.key)).max().unwrap_or(0)
                }
            };
            let (folder, file) = (self.maker.origin.audit.clone(), self.audit.file);
            let (lines, file) = blocking(move || audit_after(&folder, after, file)).await?;
            self.audit.seq = Some(after);
            let Some(last) = lines.last().map(|(seq, _)| *seq) else {
                self.audit.file = file;
                return Ok(shipped);
            };
            shipped += lines.len();
            let folder = format!("{AUDIT_SEGMENTS}{last:012}-");
            self.send(&folder, lines.into_iter().map(|(_, line)| line).collect(), key.clone()).await?;
            self.audit = AuditCursor { seq: Some(last), file };
        }
    }

    /// One segment. Its name begins with the moment it was made, so that names sort.
    async fn send(&self, folder: &str, lines: Vec<Vec<u8>>, key: Option<Arc<Key>>) -> Result<()> {
        let (data, at) = (self.maker.origin.data.clone(), self.maker.origin.store.clock().now());
        let bytes = blocking(move || {
            let spool = Spool::new(&data)?;
            let path = spool.path("segment");
            compress(&path, |to| {
                let fail = |source| BackupError::File { path: PathBuf::from("segment"), source };
                lines.iter().try_for_each(|line| to.write_all(line).and_then(|()| to.write_all(b"\n"))).map_err(fail)
            })?;
            let plain = fs::read(&path).map_err(BackupError::file(&path))?;
            let Some(key) = key else { return Ok(plain) };
            let (content, _) = digest::of_file(&path)?;
            let mut sealed = Vec::new();
            key.seal(&content, plain.as_slice(), &mut sealed).map_err(BackupError::file(&path))?;
            Ok(sealed)
        })
        .await?;
        let name = format!("{folder}{:014}-{}.jsonl.zst", at.0, digest::of(&bytes));
        self.maker.place.put(&name, bytes).await
    }
}

/// When a ledger segment was made, and the hash of its bytes.
pub(crate) fn parse_ledger(key: &str) -> Option<(UnixMs, &str)> {
    let name = key.strip_prefix(LEDGER_SEGMENTS)?.strip_suffix(".jsonl.zst")?;
    let (at, hash) = name.split_once('-')?;
    Some((UnixMs(at.parse().ok()?), hash))
}

/// The last line of an audit segment, when it was made, and the hash of its bytes.
pub(crate) fn parse_audit(key: &str) -> Option<(i64, UnixMs, &str)> {
    let name = key.strip_prefix(AUDIT_SEGMENTS)?.strip_suffix(".jsonl.zst")?;
    let mut parts = name.splitn(3, '-');
    let (seq, at, hash) = (parts.next()?, parts.next()?, parts.next()?);
    Some((seq.parse().ok()?, UnixMs(at.parse().ok()?), hash))
}

fn last_seq(key: &str) -> Option<i64> {
    parse_audit(key).map(|(seq, ..)| seq)
}

/// Gives each row of a compressed file of JSON lines to `each`.
pub(crate) fn each_line(path: &Path, each: &mut dyn FnMut(RowObject) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(BackupError::file(path))?;
    each_row(zstd::Decoder::new(file).map_err(BackupError::file(path))?, each)
}

/// Gives each row of JSON lines to `each`.
fn each_row(from: impl Read, each: &mut dyn FnMut(RowObject) -> Result<()>) -> Result<()> {
    for line in BufReader::new(from).split(b'\n') {
        each(row_of(&line.map_err(|err| BackupError::Damaged(format!("rows: {err}")))?)?)?;
    }
    Ok(())
}

/// The row of one line.
pub(crate) fn row_of(line: &[u8]) -> Result<RowObject> {
    serde_json::from_slice(line).map_err(|err| BackupError::Damaged(format!("rows: {err}")))
}

/// The files of the audit log by their first line's number, whoever renamed them; compressed ones have been shipped long since.
fn audit_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(BackupError::file(folder))?,
    };
    let current = folder.join("audit.jsonl");
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(BackupError::file(folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        let (name, is_file) = (name.to_string_lossy(), entry.file_type().is_ok_and(|kind| kind.is_file()));
        let is_packed = [".gz", ".zst", ".xz", ".bz2"].iter().any(|end| name.ends_with(end));
        if is_file && name.starts_with("audit") && name.contains(".jsonl") && !name.contains(".torn-") && !is_packed {
            // One without a line is the newest, if it is the one that is written.
            let none = if path == current { i64::MAX } else { i64::MIN };
            files.push((first_seq(&path)?.unwrap_or(none), path == current, path));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(.., path)| path).collect())
}

fn first_seq(path: &Path) -> Result<Option<i64>> {
    let file = File::open(path).map_err(BackupError::file(path))?;
    let mut line = Vec::new();
    BufReader::new(file.take(TAIL_BYTES)).read_until(b'\n', &mut line).map_err(BackupError::file(path))?;
    let line = serde_json::from_slice::<Value>(&line).ok();
    Ok(line.and_then(|line| line.get("seq").and_then(Value::as_i64)))
}

/// Lines with a number, and the file they end in and where.
type Lines = (Vec<(i64, Vec<u8>)>, Option<(u64, u64)>);

/// The lines after number `after`, some at a time. Where the file that was read last is still written, it goes on there.
fn audit_after(folder: &Path, after: i64, seen: Option<(u64, u64)>) -> Result<Lines> {
    let files = audit_files(folder)?;
    let Some(current) = files.last() else { return Ok((Vec::new(), None)) };
    let metadata = fs::metadata(current).map_err(BackupError::file(current))?;
    let mut lines = Vec::new();
    if let Some((inode, offset)) = seen.filter(|(inode, offset)| *inode == metadata.ino() && *offset <= metadata.len())
    {
        let end = read_lines(current, offset, after, &mut lines)?;
        return Ok((lines, Some((inode, end))));
    }
    for path in &files {
        let inode = fs::metadata(path).map_err(BackupError::file(path))?.ino();
        let end = read_lines(path, 0, after, &mut lines)?;
        if !lines.is_empty() || path == current {
            return Ok((lines, Some((inode, end))));
        }
    }
    Ok((lines, None))
}

/// Reads whole lines from `offset` on; gives where the last one ends.
fn read_lines(path: &Path, offset: u64, after: i64, lines: &mut Vec<(i64, Vec<u8>)>) -> Result<u64> {
    let fail = |source| BackupError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(fail)?;
    file.seek(SeekFrom::Start(offset)).map_err(fail)?;
    let (mut reader, mut end, mut taken) = (BufReader::new(file), offset, 0);
    while taken < AUDIT_BYTES {
        let mut line = Vec::new();
        let length = reader.read_until(b'\n', &mut line).map_err(fail)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        end += length as u64;
        // A line that is none is the log's own affair: `audit verify` names it.
        let Ok(value) = serde_json::from_slice::<Value>(&line) else { continue };
        let Some(seq) = value.get("seq").and_then(Value::as_i64).filter(|seq| *seq > after) else { continue };
        line.pop();
        lines.push((seq, line));
        taken += length;
    }
    Ok(end)
}

/// The newest line of the audit log.
pub(crate) fn audit_head(folder: &Path) -> Result<Option<AuditHead>> {
    for path in audit_files(folder)?.iter().rev() {
        let fail = |source| BackupError::File { path: path.clone(), source };
        let mut file = File::open(path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).map_err(fail)?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail).map_err(fail)?;
        let lines = tail.split(|byte| *byte == b'\n').rev();
        let head = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok()).find_map(|line| {
            let text = |name: &str| line.get(name).and_then(Value::as_str).map(str::to_owned);
            Some(AuditHead { seq: line.get("seq")?.as_i64()?, mac: text("mac")? })
        });
        if head.is_some() {
            return Ok(head);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn log(path: &Path, from: i64, to: i64) {
        let text: String = (from..=to).map(|seq| format!("{{\"seq\":{seq},\"mac\":\"m{seq}\"}}\n")).collect();
        fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_audit_log_is_followed_over_a_rotation_and_no_line_is_lost_or_sent_twice() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("audit");
        assert_eq!(audit_head(&folder).unwrap(), None);
        fs::create_dir(&folder).unwrap();
        let current = folder.join("audit.jsonl");
        log(&current, 1, 3);
        let seqs = |lines: &[(i64, Vec<u8>)]| lines.iter().map(|(seq, _)| *seq).collect::<Vec<_>>();
        let (lines, file) = audit_after(&folder, 0, None).unwrap();
        assert_eq!(seqs(&lines), [1, 2, 3]);
        log(&current, 4, 4);
        fs::OpenOptions::new().append(true).open(&current).unwrap().write_all(b"{\"seq\":5,").unwrap();
        let (lines, file) = audit_after(&folder, 3, file).unwrap();
        assert_eq!(seqs(&lines), [4], "a line that is being written is for later");
        fs::OpenOptions::new().append(true).open(&current).unwrap().write_all(b"\"mac\":\"m5\"}\n").unwrap();
        fs::rename(&current, folder.join("audit-20261126-000001.jsonl")).unwrap();
        log(&current, 6, 7);
        let (lines, file) = audit_after(&folder, 4, file).unwrap();
        assert_eq!(seqs(&lines), [5]);
        let (lines, _) = audit_after(&folder, 5, file).unwrap();
        assert_eq!(seqs(&lines), [6, 7]);
        assert_eq!(audit_head(&folder).unwrap(), Some(AuditHead { seq: 7, mac: "m7".to_owned() }));
    }

    #[test]
    fn segments_are_known_by_their_names() {
        let key = format!("{LEDGER_SEGMENTS}01792065600000-ab.jsonl.zst");
        assert_eq!(parse_ledger(&key), Some((UnixMs(1_792_065_600_000), "ab")));
        let key = format!("{AUDIT_SEGMENTS}000000000007-01792065600000-ab.jsonl.zst");
        assert_eq!(parse_audit(&key), Some((7, UnixMs(1_792_065_600_000), "ab")));
    }
}
