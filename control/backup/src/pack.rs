//! A tenant's directory into tar archives: regular files and directories, nothing else.
//!
//! Files are spread over archives by their paths, the same way each time, and nothing but the files' own content is in an
//! archive: what did not change makes the same bytes again, which are not sent again. What compresses all too well is stored
//! as it is, so that a restore may refuse bombs.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use openclawmu_sandbox::{Kind, PathError, Root, TreePath, Walked};
use sha2::{Digest, Sha256};

use crate::digest::Hashing;
use crate::error::{BackupError, Result};
use crate::manifest::Skipped;
use crate::progress::Progress;
use crate::unpack::{BOMB_FLOOR_BYTES, BOMB_RATIO};
use crate::upload::{compress, create};

/// Files from this size on have an archive of their own.
const LARGE_BYTES: u64 = 32 << 20;
/// Files up to this size are read before they are written, so that their length is that of their content.
const SMALL_BYTES: u64 = 8 << 20;
/// How often an archive is tried again whose files shrink while they are read.
const TRIES: u32 = 3;
/// How many of what was left out are named.
const MAX_SKIPPED: usize = 100;

/// What is in a directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    directories: Vec<Walked>,
    files: Vec<Walked>,
    /// What was left out, the first ones by name.
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) skipped_count: u64,
    /// Bytes of all files.
    pub(crate) bytes: u64,
}

/// One archive, made.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) path: PathBuf,
    /// `tar.zst`, or `tar` for what compresses all too well.
    pub(crate) form: &'static str,
    /// Bytes of the archive before it is compressed.
    pub(crate) plain_bytes: u64,
    pub(crate) entries: u64,
    pub(crate) file_bytes: u64,
    pub(crate) case_twins: u64,
}

/// What lies in `root`.
pub(crate) fn list(root: &Root) -> Result<Listing> {
    let mut listing = Listing::default();
    root.walk(&mut |walked| {
        match walked.metadata.kind {
            Kind::Directory => listing.directories.push(walked),
            Kind::File => {
                listing.bytes += walked.metadata.size_bytes;
                listing.files.push(walked);
            }
            Kind::Other => {
                listing.skipped_count += 1;
                if listing.skipped.len() < MAX_SKIPPED {
                    listing.skipped.push(Skipped { path: walked.path.to_string() });
                }
            }
        }
        Ok(())
    })?;
    Ok(listing)
}

impl Listing {
    /// The archives to make: all directories first, then the files by part. An empty directory has none.
    pub(crate) fn parts(&self) -> Vec<Vec<&Walked>> {
        let mut parts = Vec::new();
        if !self.directories.is_empty() {
            parts.push(self.directories.iter().collect());
        }
        let spread = match (self.bytes, self.files.len()) {
            (..=0x10_0000, ..=200) => 1,
            (..=0x4000_0000, ..=20_000) => 16,
            _ => 256,
        };
        let mut groups: BTreeMap<(u64, Option<&TreePath>), Vec<&Walked>> = BTreeMap::new();
        for file in &self.files {
            let large = file.metadata.size_bytes >= LARGE_BYTES;
            let hash = Sha256::digest(file.path.as_bytes()).first_chunk().map_or(0, |head| u64::from_be_bytes(*head));
            let group = if large { (spread, Some(&file.path)) } else { (hash % spread, None) };
            groups.entry(group).or_default().push(file);
        }
        parts.extend(groups.into_values());
        parts
    }
}

/// Makes one archive in the spool. Files that have vanished since they were listed are left out. `progress` counts their bytes
/// as they are read.
pub(crate) fn pack(root: &Root, part: &[&Walked], path: &Path, progress: &Progress) -> Result<Packed> {
    let (mut tries, before) = (0, progress.shown().done_bytes);
    let packed = loop {
        let mut facts = Facts { progress, entries: 0, file_bytes: 0, case_twins: 0, folded: HashSet::new() };
        let made = compress(path, |to| facts.write(root, part, to));
        match made {
            Ok(plain_bytes) => break facts.packed(path, plain_bytes),
            Err(BackupError::Path(PathError::Conflict)) if tries + 1 < TRIES => {
                tries += 1;
                progress.back_to(before);
                fs::remove_file(path).map_err(BackupError::file(path))?;
            }
            Err(err) => return Err(err),
        }
    };
    let size = fs::metadata(path).map_err(BackupError::file(path))?.len();
    if packed.plain_bytes <= BOMB_FLOOR_BYTES || packed.plain_bytes / size.max(1) < BOMB_RATIO {
        return Ok(packed);
    }
    plain(&packed)
}

/// The same archive as it is before it is compressed.
fn plain(packed: &Packed) -> Result<Packed> {
    let path = packed.path.with_extension("tar");
    let from = File::open(&packed.path).map_err(BackupError::file(&packed.path))?;
    let mut decoder = zstd::Decoder::new(from).map_err(BackupError::file(&packed.path))?;
    let mut to = BufWriter::new(create(&path)?);
    std::io::copy(&mut decoder, &mut to).map_err(BackupError::file(&path))?;
    to.flush().map_err(BackupError::file(&path))?;
    fs::remove_file(&packed.path).map_err(BackupError::file(&packed.path))?;
    Ok(Packed { path, form: "tar", ..*packed })
}

struct Facts<'a> {
    progress: &'a Progress,
    entries: u64,
    file_bytes: u64,
    case_twins: u64,
    folded: HashSet<Vec<u8>>,
}

impl Facts<'_> {
    fn packed(&self, path: &Path, plain_bytes: u64) -> Packed {
        Packed {
            path: path.to_owned(),
            form: "tar.zst",
            plain_bytes,
            entries: self.entries,
            file_bytes: self.file_bytes,
            case_twins: self.case_twins,
        }
    }

    fn write(&mut self, root: &Root, part: &[&Walked], to: &mut dyn Write) -> Result<()> {
        // A file that shrank while it was read makes the archive useless.
        let fail = |err: std::io::Error| {
            if err.kind() == std::io::ErrorKind::UnexpectedEof {
                return BackupError::Path(PathError::Conflict);
            }
            BackupError::File { path: PathBuf::from("spool"), source: err }
        };
        let mut builder = tar::Builder::new(to);
        for walked in part {
            let mut header = header(walked);
            let name = Path::new(OsStr::from_bytes(walked.path.as_bytes()));
            if walked.metadata.kind == Kind::Directory {
                builder.append_data(&mut header, name, std::io::empty()).map_err(fail)?;
                self.count(&walked.path, 0);
                continue;
            }
            let file = match root.tree_read(&walked.path) {
                Err(PathError::NotFound | PathError::Refused) => continue,
                opened => opened?,
            };
            let size = file.metadata().map_err(fail)?.len();
            if size <= SMALL_BYTES {
                let mut content = Vec::new();
                file.take(SMALL_BYTES).read_to_end(&mut content).map_err(fail)?;
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, name, content.as_slice()).map_err(fail)?;
                self.progress.done(content.len() as u64);
                self.count(&walked.path, content.len() as u64);
            } else {
                header.set_size(size);
                builder
                    .append_data(&mut header, name, Whole { inner: file, left: size, progress: self.progress })
                    .map_err(fail)?;
                self.count(&walked.path, size);
            }
        }
        builder.finish().map_err(fail)
    }

    fn count(&mut self, path: &TreePath, bytes: u64) {
        self.entries += 1;
        self.file_bytes += bytes;
        if !self.folded.insert(folded(path)) {
            self.case_twins += 1;
        }
    }
}

/// A path without regard to case, as systems that know none compare names.
pub(crate) fn folded(path: &TreePath) -> Vec<u8> {
    String::from_utf8_lossy(path.as_bytes()).to_lowercase().into_bytes()
}

fn header(walked: &Walked) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    let is_dir = walked.metadata.kind == Kind::Directory;
    header.set_entry_type(if is_dir { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_mode(if is_dir || walked.executable { 0o700 } else { 0o600 });
    // Whole seconds since 1970. A directory's time changes with what is in it: it would make new bytes of old ones.
    let modified = if is_dir { 0 } else { walked.metadata.modified_at_ms.div_euclid(1_000) };
    header.set_mtime(u64::try_from(modified).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// A reader of exactly so many bytes: a file that became longer is cut, one that became shorter is an error.
struct Whole<'a, R> {
    inner: R,
    left: u64,
    progress: &'a Progress,
}

impl<R: Read> Read for Whole<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.inner.read(buffer.get_mut(..most).unwrap_or_default())?;
        if length == 0 && most > 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= length as u64;
        self.progress.done(length as u64);
        Ok(length)
    }
}

/// Rows into a compressed file; gives the bytes that went in.
pub(crate) fn rows(
    path: &Path,
    write: impl FnOnce(&mut dyn FnMut(&serde_json::Value) -> Result<()>) -> Result<()>,
) -> Result<u64> {
    compress(path, |to| {
        let mut to = Hashing::new(to);
        write(&mut |row| {
            let fail = |source| BackupError::File { path: path.to_owned(), source };
            serde_json::to_writer(&mut to, row).map_err(|err| fail(err.into()))?;
            to.write_all(b"\n").map_err(fail)
        })
    })
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
