//! Objects on their way to a place: made in a folder of this machine first, so that their hash is known before they are sent,
//! and sent only if the place lacks them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::digest::{self, Hashing, hex};
use crate::error::{BackupError, Result};
use crate::layout::Scope;
use crate::manifest::Object;
use crate::place::Place;
use crate::progress::Progress;
use crate::seal::Key;

/// zstd's own default: fast, and a tenth of the size of text.
const LEVEL: i32 = 3;

/// A folder of this machine's own for what is on its way; gone with everything in it when it is dropped.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
}

impl Spool {
    /// A new folder in `<data>/spool`.
    pub(crate) fn new(data: &Path) -> Result<Self> {
        let mut bytes = [0_u8; 8];
        getrandom::fill(&mut bytes)
            .map_err(|err| BackupError::Key(format!("the system gives no random bytes: {err}")))?;
        let dir = data.join("spool").join(format!("{:016x}", u64::from_be_bytes(bytes)));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(BackupError::file(&dir))?;
        Ok(Self { dir })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Removes what processes that died have left in a data directory. Only before anything is on its way.
///
/// # Errors
/// [`BackupError::File`].
pub fn clear_spool(data: &Path) -> Result<()> {
    let dir = data.join("spool");
    match fs::remove_dir_all(&dir) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(BackupError::File { path: dir, source: err }),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // What is left is removed by the next start.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A new file of the spool.
pub(crate) fn create(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(BackupError::file(path))
}

/// Writes `content` compressed into `path`; gives how many bytes went in.
pub(crate) fn compress(path: &Path, content: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<u64> {
    let fail = |source| BackupError::File { path: path.to_owned(), source };
    let mut encoder = zstd::Encoder::new(BufWriter::new(create(path)?), LEVEL).map_err(fail)?;
    encoder.include_checksum(true).map_err(fail)?;
    let mut hashing = Hashing::new(encoder);
    content(&mut hashing)?;
    let (encoder, _, bytes) = hashing.finish();
    let mut file = encoder.finish().map_err(fail)?;
    file.flush().map_err(fail)?;
    Ok(bytes)
}

/// Sends the objects of one run.
#[derive(Debug)]
pub(crate) struct Uploader {
    pub(crate) place: Place,
    pub(crate) key: Option<std::sync::Arc<Key>>,
    pub(crate) spool: Spool,
    pub(crate) progress: Progress,
    /// What whole sets of this place hold already; it is not sent again.
    pub(crate) known: HashSet<String>,
    /// What this run has sent, by key.
    pub(crate) sent: HashMap<String, u64>,
}

impl Uploader {
    /// Sends a file of the spool that is `form` (`tar.zst`, ...) of `plain_bytes`, and removes it there.
    pub(crate) async fn send(&mut self, scope: &Scope, path: PathBuf, form: &str, plain_bytes: u64) -> Result<Object> {
        let key = self.key.clone();
        let sealed = {
            let path = path.clone();
            blocking(move || sealed(&path, key.as_deref())).await?
        };
        let (file, sha256, bytes) = sealed;
        let form = if self.key.is_some() { format!("{form}.sealed") } else { form.to_owned() };
        let object = Object { key: scope.object(&sha256, &form), sha256, bytes, plain_bytes };
        if !self.known.contains(&object.key) && !self.sent.contains_key(&object.key) {
            self.place.put_file(&object.key, &file).await?;
            self.progress.moved(bytes);
            self.sent.insert(object.key.clone(), bytes);
        }
        for path in [path, file] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(BackupError::File { path, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(object)
    }
}

/// The file as it is sent, with its hash and size.
fn sealed(path: &Path, key: Option<&Key>) -> Result<(PathBuf, String, u64)> {
    let (content, bytes) = digest::of_file(path)?;
    let Some(key) = key else { return Ok((path.to_owned(), hex(&content), bytes)) };
    let to = path.with_extension("sealed");
    let fail = |source| BackupError::File { path: to.clone(), source };
    let mut out = Hashing::new(BufWriter::new(create(&to)?));
    let from = File::open(path).map_err(BackupError::file(path))?;
    key.seal(&content, BufReader::new(from), &mut out).map_err(fail)?;
    out.flush().map_err(fail)?;
    let (_, sha256, bytes) = out.finish();
    Ok((to, sha256, bytes))
}

/// Runs `work` off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(err) => Err(BackupError::File { path: PathBuf::from("spool"), source: std::io::Error::other(err) }),
    }
}
