//! Opening a data directory: one owner, one writer, the newest schema.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Result, StoreError};
use crate::sqlite::checkpoint::Checkpointer;
use crate::sqlite::lock::FileLock;
use crate::sqlite::reader::Reader;
use crate::sqlite::writer::Writer;
use crate::sqlite::{migrate, open};

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The data directory; created (0700) when it does not exist.
    pub dir: PathBuf,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// How long to wait for the owner before this one to hand over; zero refuses at once.
    pub takeover: Duration,
}

/// An open store. Cheap to clone; the last clone closes it after writing what is queued.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) writer: Writer,
    pub(crate) reader: Reader,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dir: PathBuf,
    _checkpointer: Checkpointer,
    _lock: FileLock,
}

impl Store {
    /// Opens the store and becomes the owner of its ledger.
    ///
    /// # Errors
    /// An operator's mistake, with a hint: see [`StoreError`].
    pub fn open(options: &StoreOptions) -> Result<Self> {
        let dir = &options.dir;
        create_dir(dir)?;
        let lock = FileLock::take(&dir.join("lock"), options.takeover)?.ok_or_else(|| StoreError::Locked(dir.clone()))?;
        let database = dir.join("openclawmu.db");
        migrate::run(&mut open::writable(&database)?)?;
        let writer = Writer::start(&database, Box::new(|_| {}))?;
        let inner = Inner {
            writer,
            reader: Reader::new(database.clone()),
            clock: Arc::clone(&options.clock),
            dir: dir.clone(),
            _checkpointer: Checkpointer::start(database)?,
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether the store takes writes. While it does not, nothing new may be admitted or changed.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.inner.writer.healthy()
    }

    /// The clock that the store was opened with.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Waits until everything queued so far is durable and visible to readers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it can't be written.
    pub async fn flush(&self) -> Result<()> {
        self.inner.writer.run(|_| Ok(())).await
    }
}

fn create_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|err| StoreError::DataDir {
        path: dir.to_owned(),
        reason: format!("can't be created: {err}; choose another with `--data DIR` or `[data] dir`"),
    })
}
