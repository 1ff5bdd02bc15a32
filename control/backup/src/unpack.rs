//! An archive into a fresh directory, trusting nothing in it.
//!
//! Taken are regular files, directories, and GNU's long names for them; everything else refuses the whole archive: links,
//! devices, PAX and sparse records, names that leave the directory or come twice, more or larger entries than the manifest
//! says. What there is is made new, below an open directory; nothing is ever opened that an archive made before.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use openclawmu_sandbox::{PathError, Root, TreePath, set_modified};
use tar::EntryType;

use crate::error::{BackupError, Result};
use crate::fetch::content;
use crate::manifest::FilePart;
use crate::pack::folded;

/// How many times smaller than its content an archive may be.
pub(crate) const BOMB_RATIO: u64 = 200;
/// Up to this size of its content, any ratio is harmless.
pub(crate) const BOMB_FLOOR_BYTES: u64 = 16 << 20;
/// Entries of all archives of one directory.
const MAX_ENTRIES: u64 = 20_000_000;
/// The longest name, in bytes.
const MAX_NAME_BYTES: u64 = 64 << 10;
/// Bytes of a block of an archive.
const BLOCK_BYTES: u64 = 512;

/// What one restore may make, over all archives of a directory.
#[derive(Debug)]
pub(crate) struct Unpacking<'a> {
    root: &'a Root,
    entries: u64,
    bytes_left: u64,
    seen: HashSet<Vec<u8>>,
}

impl<'a> Unpacking<'a> {
    /// Into `root`, which is empty; `max_bytes` in all.
    pub(crate) fn new(root: &'a Root, max_bytes: u64) -> Self {
        Self { root, entries: 0, bytes_left: max_bytes, seen: HashSet::new() }
    }

    /// Takes one archive in, as `part` describes it. After an error the directory is to be thrown away.
    pub(crate) fn part(&mut self, path: &Path, part: &FilePart) -> Result<()> {
        let size = fs::metadata(path).map_err(BackupError::file(path))?.len();
        let plain = part.object.plain_bytes;
        if plain > BOMB_FLOOR_BYTES && plain / size.max(1) > BOMB_RATIO {
            return Err(hostile("it grows more than two hundredfold"));
        }
        self.bytes_left = self
            .bytes_left
            .checked_sub(part.file_bytes)
            .ok_or_else(|| hostile("its files are larger than there is room for"))?;
        self.entries = self.entries.saturating_add(part.entries);
        // Each entry has a block of its own, and each file its content.
        let smallest = part.entries.saturating_mul(BLOCK_BYTES).saturating_add(part.file_bytes);
        if self.entries > MAX_ENTRIES || smallest > plain {
            return Err(hostile("it has more entries than it may"));
        }
        if is_plain_tar(&part.object.key) {
            if size != plain {
                return Err(BackupError::Damaged("an archive is not as long as its manifest says".to_owned()));
            }
            self.entries_of(File::open(path).map_err(BackupError::file(path))?, part)
        } else {
            self.entries_of(content(path, plain)?, part)
        }
    }

    fn entries_of(&mut self, reader: impl Read, part: &FilePart) -> Result<()> {
        let mut archive = tar::Archive::new(reader);
        let mut long_name: Option<Vec<u8>> = None;
        let (mut entries, mut file_bytes, mut twins) = (0_u64, 0_u64, 0_u64);
        let mut folded_names = HashSet::new();
        for entry in archive.entries().map_err(damaged)?.raw(true) {
            let mut entry = entry.map_err(damaged)?;
            let header = entry.header().clone();
            let size = header.entry_size().map_err(damaged)?;
            if header.entry_type() == EntryType::GNULongName {
                if long_name.is_some() || size > MAX_NAME_BYTES {
                    return Err(hostile("a name in it is too long"));
                }
                let mut name = Vec::new();
                entry.read_to_end(&mut name).map_err(damaged)?;
                if name.pop() != Some(0) {
                    return Err(hostile("a long name in it has no end"));
                }
                long_name = Some(name);
                continue;
            }
            let name = long_name.take().unwrap_or_else(|| header.path_bytes().into_owned());
            entries += 1;
            let file_size = if header.entry_type() == EntryType::Regular { size } else { 0 };
            file_bytes = file_bytes.saturating_add(file_size);
            if entries > part.entries || file_bytes > part.file_bytes {
                return Err(hostile("it holds more than its manifest says"));
            }
            let path = self.one(&header, &name, &mut entry)?;
            if !folded_names.insert(folded(&path)) {
                twins += 1;
                if twins > part.case_twins {
                    return Err(hostile("two names in it differ in their case alone"));
                }
            }
        }
        if long_name.is_some() || (entries, file_bytes) != (part.entries, part.file_bytes) {
            return Err(BackupError::Damaged("an archive holds less than its manifest says".to_owned()));
        }
        rest(archive.into_inner())
    }

    /// Makes what one entry says.
    fn one(&mut self, header: &tar::Header, name: &[u8], content: &mut impl Read) -> Result<TreePath> {
        let is_dir = header.entry_type() == EntryType::Directory;
        let name = if is_dir { name.strip_suffix(b"/").unwrap_or(name) } else { name };
        let path = TreePath::parse(name).map_err(|err| hostile(&format!("a name in it: {err}")))?;
        if !self.seen.insert(path.as_bytes().to_vec()) {
            return Err(hostile("a name in it comes twice"));
        }
        let size = header.entry_size().map_err(damaged)?;
        if is_dir && size == 0 {
            self.root.tree_make_dir(&path).map_err(taken)?;
        } else if header.entry_type() == EntryType::Regular {
            let executable = header.mode().map_err(damaged)? & 0o100 != 0;
            let mut file = self.root.tree_make_file(&path, executable).map_err(taken)?;
            let written = std::io::copy(content, &mut file).map_err(|err| match err.raw_os_error() {
                Some(_) => BackupError::File { path: "tenants".into(), source: err },
                None => damaged(err),
            })?;
            if written != size {
                return Err(BackupError::Damaged("a file in an archive is cut off".to_owned()));
            }
            file.flush().map_err(|source| BackupError::File { path: "tenants".into(), source })?;
            let seconds = i64::try_from(header.mtime().map_err(damaged)?).unwrap_or(0);
            set_modified(&file, seconds.saturating_mul(1_000))?;
        } else {
            return Err(hostile("it holds something that is neither a file nor a directory"));
        }
        Ok(path)
    }
}

/// After its end an archive has zeros, and nothing else.
fn rest(mut reader: impl Read) -> Result<()> {
    let mut buffer = [0_u8; 4_096];
    loop {
        let length = reader.read(&mut buffer).map_err(damaged)?;
        if length == 0 {
            return Ok(());
        }
        if buffer.get(..length).is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0)) {
            return Err(hostile("something follows its end"));
        }
    }
}

fn is_plain_tar(key: &str) -> bool {
    key.ends_with(".tar") || key.ends_with(".tar.sealed")
}

fn hostile(what: &str) -> BackupError {
    BackupError::Hostile(what.to_owned())
}

fn damaged(err: std::io::Error) -> BackupError {
    BackupError::Damaged(format!("an archive: {err}"))
}

/// A name that can't be made is one that the archive made before, or one that leads through a file.
fn taken(err: PathError) -> BackupError {
    if matches!(err, PathError::Conflict | PathError::NotFound | PathError::Refused) {
        return hostile("a name in it is in the way of another, or its directory is missing");
    }
    BackupError::Path(err)
}
