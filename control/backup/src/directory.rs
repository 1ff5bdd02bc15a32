//! A directory as a place. A file appears under its key whole and synced, or not at all; all are for their owner alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use openclawmu_store::UnixMs;

use crate::error::{BackupError, Result};
use crate::place::{Item, Written};
use crate::progress::Progress;

/// What an unfinished file's name begins with.
const UNFINISHED: &str = ".part-";
/// What to do when a directory can't be used.
const HINT: &str = "is it mounted, is there space, and may this user write there?";

#[derive(Clone, Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) async fn put_file(&self, key: &str, file: &Path) -> Result<()> {
        let file = file.to_owned();
        self.blocking(key, move |path| {
            stage(&path, |mut to| std::io::copy(&mut File::open(&file)?, &mut to).map(drop))?.replace(&path)
        })
        .await
    }

    pub(crate) async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        self.blocking(key, move |path| stage(&path, |to| to.write_all(&bytes))?.replace(&path)).await
    }

    pub(crate) async fn put_new(&self, key: &str, bytes: Vec<u8>) -> Result<Written> {
        self.blocking(key, move |path| stage(&path, |to| to.write_all(&bytes))?.create(&path)).await
    }

    pub(crate) async fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.blocking(key, move |path| {
            let Some(file) = open(&path)? else { return Ok(None) };
            let mut bytes = Vec::new();
            limited(file, limit, &mut bytes).map(|()| Some(bytes))
        })
        .await
    }

    pub(crate) async fn get_file(&self, key: &str, to: &Path, limit: u64, progress: &Progress) -> Result<bool> {
        let (to, progress) = (to.to_owned(), progress.clone());
        self.blocking(key, move |path| {
            let Some(file) = open(&path)? else { return Ok(false) };
            let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to)?;
            limited(file, limit, &mut Counted { to, progress }).map(|()| true)
        })
        .await
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Item>> {
        let prefix = prefix.to_owned();
        self.blocking("", move |root| {
            let mut items = Vec::new();
            let mut pending = vec![prefix];
            while let Some(folder) = pending.pop() {
                let entries = match fs::read_dir(root.join(&folder)) {
                    Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
                    read => read?,
                };
                for entry in entries {
                    let entry = entry?;
                    let (Some(name), metadata) = (entry.file_name().to_str().map(str::to_owned), entry.metadata()?)
                    else {
                        continue;
                    };
                    if metadata.is_dir() {
                        pending.push(format!("{folder}{name}/"));
                    } else if metadata.is_file() {
                        let age = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                        let modified_at = UnixMs(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
                        items.push(Item { key: format!("{folder}{name}"), bytes: metadata.len(), modified_at });
                    }
                }
            }
            Ok(items)
        })
        .await
    }

    pub(crate) async fn remove(&self, key: &str) -> Result<()> {
        let root = self.0.clone();
        self.blocking(key, move |path| {
            match fs::remove_file(&path) {
                Err(err) if err.kind() != ErrorKind::NotFound => return Err(err),
                Ok(()) | Err(_) => {}
            }
            // Folders that are empty now go as well; one that is not refuses.
            let above = path.ancestors().skip(1).take_while(|above| *above != root);
            above.map(fs::remove_dir).find(std::io::Result::is_err);
            Ok(())
        })
        .await
    }

    /// Runs `work` on the path of `key`, off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        key: &str,
        work: impl FnOnce(PathBuf) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (path, place) = (self.0.join(key), self.0.display().to_string());
        let done = tokio::task::spawn_blocking(move || work(path)).await;
        done.map_err(std::io::Error::other).flatten().map_err(|err| BackupError::Place {
            place,
            action: "can't be used",
            cause: err.to_string(),
            hint: HINT,
        })
    }
}

/// A file that is complete and synced, under a name of its own.
struct Staged(PathBuf);

fn stage(path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> std::io::Result<Staged> {
    let folder = path.parent().ok_or_else(|| std::io::Error::from(ErrorKind::InvalidInput))?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    let staged = Staged(folder.join(format!("{UNFINISHED}{:016x}", u64::from_be_bytes(bytes))));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged.0)?;
    write(&mut file)?;
    file.sync_all()?;
    Ok(staged)
}

impl Staged {
    fn replace(self, path: &Path) -> std::io::Result<()> {
        fs::rename(&self.0, path)?;
        sync_folder(path)
    }

    fn create(self, path: &Path) -> std::io::Result<Written> {
        // A link never replaces.
        match fs::hard_link(&self.0, path) {
            Ok(()) => sync_folder(path).map(|()| Written::New),
            Err(err) if err.kind() == ErrorKind::AlreadyExists => Ok(Written::Taken),
            Err(err) => Err(err),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone already where it was renamed; what can't be removed is collected later.
        let _ = fs::remove_file(&self.0);
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn open(path: &Path) -> std::io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(err) => Err(err),
    }
}

/// A file that is being fetched.
struct Counted {
    to: File,
    progress: Progress,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.progress.fetched(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

fn limited(from: File, limit: u64, to: &mut impl Write) -> std::io::Result<()> {
    if std::io::copy(&mut from.take(limit.saturating_add(1)), to)? > limit {
        return Err(std::io::Error::new(ErrorKind::InvalidData, "a file is larger than it may be"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_appears_whole_and_a_new_one_never_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let place = Directory::new(&dir.path().join("to"));
        assert_eq!(place.list("").await.unwrap(), []);
        assert_eq!(place.get("a/b", 9).await.unwrap(), None);
        assert_eq!(place.put_new("a/b", b"one".to_vec()).await.unwrap(), Written::New);
        assert_eq!(place.put_new("a/b", b"two".to_vec()).await.unwrap(), Written::Taken);
        assert_eq!(place.get("a/b", 3).await.unwrap().unwrap(), b"one");
        assert!(place.get("a/b", 2).await.is_err(), "never more than was asked for");
        let progress = Progress::default();
        assert!(place.get_file("a/b", &dir.path().join("got"), 3, &progress).await.unwrap());
        assert_eq!((progress.shown().done_bytes, progress.shown().moved_bytes), (3, 3), "counted as it comes");
        place.put("a/b", b"three".to_vec()).await.unwrap();
        let listed = place.list("").await.unwrap();
        assert_eq!((listed[0].key.as_str(), listed[0].bytes, listed.len()), ("a/b", 5, 1), "no draft is left");
        place.remove("a/b").await.unwrap();
        place.remove("a/b").await.unwrap();
        assert!(!dir.path().join("to/a").exists());
    }
}
