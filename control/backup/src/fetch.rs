//! Objects on their way back: fetched whole, held against their hash, opened, and only then looked into.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openclawmu_sandbox::Root;
use openclawmu_store::Snapshot;

use crate::digest::{self, hex};
use crate::error::{BackupError, Result};
use crate::layout::{self, Scope};
use crate::manifest::{Files, MAX_BYTES, Manifest, Object};
use crate::place::Place;
use crate::progress::Progress;
use crate::seal::{Key, Passphrase};
use crate::unpack::Unpacking;
use crate::upload::{Spool, blocking, create};

/// The longest line of rows, in bytes.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// A set in a place, with what opens it.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) place: Place,
    pub(crate) manifest: Manifest,
    pub(crate) key: Option<Arc<Key>>,
    pub(crate) progress: Progress,
}

impl Fetcher {
    /// Reads the manifest of a set: of `number`, or of the newest one.
    pub(crate) async fn open(
        place: &Place,
        scope: &Scope,
        number: Option<&str>,
        passphrase: Option<&Passphrase>,
        progress: Progress,
    ) -> Result<(Self, String)> {
        let number = match number {
            Some(number) => number.to_owned(),
            None => newest(place, scope).await?,
        };
        let missing = || BackupError::NotFound(format!("{}/{}{number}", place.name(), scope.sets()));
        let bytes = place.get(&scope.manifest(&number), MAX_BYTES).await?.ok_or_else(missing)?;
        let manifest = Manifest::parse(&bytes, scope)?;
        let key = match (&manifest.sealing, passphrase) {
            (None, _) => None,
            (Some(_), None) => {
                let message = "this backup is sealed with a passphrase; hint: set `backup.passphrase`".to_owned();
                return Err(BackupError::Key(message));
            }
            (Some(sealing), Some(passphrase)) => {
                let (sealing, passphrase, checked) = (sealing.clone(), passphrase.clone(), manifest.clone());
                let key = blocking(move || {
                    let key = sealing.open(&passphrase)?;
                    checked.authenticate(&key)?;
                    Ok(key)
                });
                Some(Arc::new(key.await?))
            }
        };
        Ok((Self { place: place.clone(), manifest, key, progress }, number))
    }

    /// Fetches an object into the spool, as it was before it was sealed.
    pub(crate) async fn fetch(&self, object: &Object, spool: &Spool) -> Result<PathBuf> {
        let raw = spool.path(&format!("{}.raw", object.sha256));
        if !self.place.get_file(&object.key, &raw, object.bytes, &self.progress).await? {
            return Err(BackupError::Damaged(format!("{} is missing", object.key)));
        }
        let (object, key) = (object.clone(), self.key.clone());
        let plain = spool.path(&object.sha256);
        blocking(move || {
            vouched(&raw, &object)?;
            let Some(key) = key else {
                fs::rename(&raw, &plain).map_err(BackupError::file(&raw))?;
                return Ok(plain);
            };
            let from = File::open(&raw).map_err(BackupError::file(&raw))?;
            let mut to = BufWriter::new(create(&plain)?);
            key.open(BufReader::new(from), &mut to)
                .map_err(|err| BackupError::Damaged(format!("{}: {err}", object.key)))?;
            to.flush().map_err(BackupError::file(&plain))?;
            fs::remove_file(&raw).map_err(BackupError::file(&raw))?;
            Ok(plain)
        })
        .await
    }
}

/// Whether a file is the object that the manifest names: nothing of it is used before.
fn vouched(raw: &Path, object: &Object) -> Result<()> {
    let (sha256, bytes) = digest::of_file(raw)?;
    if hex(&sha256) == object.sha256 && bytes == object.bytes {
        return Ok(());
    }
    Err(BackupError::Damaged(format!("{} is not what was written there", object.key)))
}

/// The database of a set into the new file `to`, sound and as its manifest describes it.
pub(crate) async fn database(set: &Fetcher, spool: &Spool, to: PathBuf) -> Result<()> {
    let object = set.manifest.database.as_ref();
    let object = object.ok_or_else(|| BackupError::Damaged("the set has no database".to_owned()))?.clone();
    let (path, facts) = (set.fetch(&object, spool).await?, set.manifest.store.clone());
    blocking(move || {
        let mut file = create(&to)?;
        std::io::copy(&mut content(&path, object.plain_bytes)?, &mut file).map_err(BackupError::file(&to))?;
        file.sync_all().map_err(BackupError::file(&to))?;
        let copy = Snapshot::open(&to)?;
        copy.check()?;
        if copy.facts()? == facts {
            return fs::remove_file(&path).map_err(BackupError::file(&path));
        }
        Err(BackupError::Damaged("the database is not the one that the manifest describes".to_owned()))
    })
    .await
}

/// The archives of a tenant's directory into `root`, which is empty.
pub(crate) async fn files(set: &Fetcher, spool: &Spool, files: &Files, root: Root) -> Result<()> {
    let mut fetched = Vec::new();
    for part in &files.parts {
        fetched.push((set.fetch(&part.object, spool).await?, part.clone()));
    }
    let dir = spool.path("");
    blocking(move || {
        let mut unpacking = Unpacking::new(&root, room(&dir)?);
        for (path, part) in &fetched {
            unpacking.part(path, part)?;
            fs::remove_file(path).map_err(BackupError::file(path))?;
        }
        Ok(())
    })
    .await
}

/// Bytes that the disk of `dir` has room for.
fn room(dir: &Path) -> Result<u64> {
    let stat =
        rustix::fs::statvfs(dir).map_err(|err| BackupError::File { path: dir.to_owned(), source: err.into() })?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The number of the newest set of `scope`.
pub(crate) async fn newest(place: &Place, scope: &Scope) -> Result<String> {
    let items = place.list(&scope.sets()).await?;
    let numbers = items.iter().filter_map(|item| layout::parse_manifest(&item.key)).map(|(_, number)| number);
    numbers
        .max_by_key(|number| (number.len(), number.clone()))
        .ok_or_else(|| BackupError::NotFound(format!("{} holds no backup of {}", place.name(), scope.name())))
}

/// The content of a compressed object: as many bytes as its manifest says, or an error.
pub(crate) fn content(path: &Path, plain_bytes: u64) -> Result<impl Read> {
    let file = File::open(path).map_err(BackupError::file(path))?;
    let decoder = zstd::Decoder::new(file).map_err(BackupError::file(path))?;
    Ok(Exact { inner: decoder, left: plain_bytes })
}

/// Gives each line of a compressed object to `each`.
pub(crate) fn lines(path: &Path, plain_bytes: u64, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut reader = BufReader::new(content(path, plain_bytes)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let fail = |err: std::io::Error| BackupError::Damaged(format!("rows: {err}"));
        let length = (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(fail)?;
        if length == 0 {
            return Ok(());
        }
        if line.pop() != Some(b'\n') {
            return Err(BackupError::Damaged("a row is cut off".to_owned()));
        }
        each(&line)?;
    }
}

/// A reader that gives exactly so many bytes: more is an error before it is read, and fewer is one too.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let wrong = |what: &str| {
            std::io::Error::new(std::io::ErrorKind::InvalidData, format!("it is {what} than its manifest says"))
        };
        if buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.inner.read(buffer.get_mut(..most).unwrap_or_default())?;
        if length as u64 > self.left {
            return Err(wrong("longer"));
        }
        if length == 0 && self.left > 0 {
            return Err(wrong("shorter"));
        }
        self.left -= length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_or_shorter_than_its_manifest_says_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        crate::upload::compress(&path, |to| to.write_all(b"one\ntwo\n").map_err(BackupError::file("x"))).unwrap();
        let read = |bytes: u64| {
            let mut found = Vec::new();
            lines(&path, bytes, &mut |line| {
                found.push(line.to_vec());
                Ok(())
            })
            .map(|()| found)
        };
        assert_eq!(read(8).unwrap(), [b"one", b"two"]);
        assert!(read(7).is_err());
        assert!(read(9).is_err());
    }

    /// What decompresses, opens and is as long may still be another: only its hash tells.
    #[test]
    fn b_02_an_object_of_the_same_length_and_other_content_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, b"what was written").unwrap();
        let (sha256, bytes) = digest::of_file(&path).unwrap();
        let object = Object { key: "x.tar".to_owned(), sha256: hex(&sha256), bytes, plain_bytes: bytes };
        vouched(&path, &object).unwrap();
        fs::write(&path, b"what was altered").unwrap();
        assert!(matches!(vouched(&path, &object), Err(BackupError::Damaged(said)) if said.contains("x.tar")));
    }
}
