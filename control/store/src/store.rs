//! Opening a data directory: one owner, one writer, the newest schema, nothing left in flight by the dead.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use crate::client_secret;
use crate::clock::Clock;
use crate::error::{Result, StoreError};
use crate::label::Labels;
use crate::ledger::{Ledger, Reservation, recovery};
use crate::name::{self, Names};
use crate::price::ModelPrice;
use crate::rate::{self, Rates};
use crate::sqlite::checkpoint::Checkpointer;
use crate::sqlite::lock::FileLock;
use crate::sqlite::pace::PaceTaken;
use crate::sqlite::reader::Reader;
use crate::sqlite::wal;
use crate::sqlite::writer::Writer;
use crate::sqlite::{migrate, open};
use crate::token::{Auth, PEPPER_FILE, Pepper};

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The data directory; created (0700) when it does not exist.
    pub dir: PathBuf,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// How long to wait for the owner before this one to hand over; zero refuses at once.
    pub takeover: Duration,
    /// What an admission survives.
    pub durability: Durability,
}

/// What an admission survives before its attempt is sent. Settled rows are always synced to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The death of the process; costs nothing.
    #[default]
    Process,
    /// The loss of power; costs a disk sync, shared by those who wait for it.
    Power,
}

/// An open store. Cheap to clone; the last clone closes it after writing what is queued.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) reader: Reader,
    pub(crate) names: Names,
    pub(crate) labels: Labels,
    pub(crate) auth: Auth,
    pub(crate) rates: Rates,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dir: PathBuf,
    checkpointer: Checkpointer,
    lock: Mutex<Option<FileLock>>,
}

impl Store {
    /// Opens the store and becomes the owner of its ledger. What dead owners left in flight has its rows when this returns.
    ///
    /// # Errors
    /// An operator's mistake, with a hint: see [`StoreError`].
    pub fn open(options: &StoreOptions) -> Result<Self> {
        let dir = &options.dir;
        create_dir(dir)?;
        let lock =
            FileLock::take(&dir.join("lock"), options.takeover)?.ok_or_else(|| StoreError::Locked(dir.clone()))?;
        let database = dir.join("openclawmu.db");
        let mut conn = open::writable(&database)?;
        wal::empty_at_start(&conn)?;
        migrate::run(&mut conn)?;
        let has_tokens = conn.query_row("SELECT EXISTS (SELECT 1 FROM tokens)", [], |row| row.get(0))?;
        let pepper = Pepper::open(&dir.join(PEPPER_FILE), has_tokens)?;
        let auth = Auth::new(pepper, client_secret::load_origins(&conn, options.clock.now())?);
        let epoch = new_epoch(&conn, options.clock.as_ref())?;
        let living = recovery::resolve_dead(&mut conn, dir, epoch, pinned_price)?;
        drop(conn);
        let power = options.durability == Durability::Power;
        let ledger = Arc::new(Ledger::open(&database, dir, epoch, power, Arc::clone(&options.clock))?);
        living.watch(&ledger, &database, pinned_price)?;
        let (reader, writer) = (Reader::new(database.clone()), Arc::clone(ledger.writer()));
        let inner = Inner {
            ledger,
            names: Names::default(),
            labels: Labels::default(),
            auth,
            rates: Rates::open(&reader, options.clock.now())?,
            reader,
            clock: Arc::clone(&options.clock),
            dir: dir.clone(),
            checkpointer: Checkpointer::start(database, writer)?,
            lock: Mutex::new(Some(lock)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether the store takes writes. While it does not, nothing new may be admitted or changed.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.inner.ledger.healthy()
    }

    /// How fast the writer is, and what waits for it.
    #[must_use]
    pub fn pace(&self) -> PaceTaken {
        self.inner.writer().pace()
    }

    /// What the database's write-ahead log held when it was last copied, a second ago or so, in bytes.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.inner.checkpointer.log_bytes()
    }

    /// Whether this process owns the ledger; false for good once it has handed over.
    #[must_use]
    pub fn owns_ledger(&self) -> bool {
        !*self.inner.ledger.draining.read().unwrap_or_else(PoisonError::into_inner)
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

    /// Writes what is queued and stops writing; what is in flight after this is left for the next start to resolve.
    pub fn close(&self) {
        self.inner.ledger.close();
    }

    /// Waits until everything queued so far is durable and visible to readers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it can't be written.
    pub async fn flush(&self) -> Result<()> {
        self.inner.writer().run(|_| Ok(())).await
    }
}

impl Inner {
    /// The one writer.
    pub(crate) fn writer(&self) -> &Writer {
        self.ledger.writer()
    }

    /// Lets another process own the ledger.
    pub(crate) fn release_lock(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Registers this process as an owner; its number is the upper part of its reservations' ids.
fn new_epoch(conn: &Connection, clock: &dyn Clock) -> Result<u32> {
    conn.execute("INSERT INTO owners (started_at_ms) VALUES (?1)", [clock.now().0])?;
    u32::try_from(conn.last_insert_rowid()).map_err(|_| StoreError::Corrupt("owner epochs are exhausted".to_owned()))
}

/// The price that a reservation was pinned to.
fn pinned_price(conn: &Connection, reservation: &Reservation) -> Result<Option<ModelPrice>> {
    let model = name::find_name(conn, reservation.model)?;
    let upstream = name::find_name(conn, reservation.upstream)?.unwrap_or_default();
    let Some(model) = model else { return Ok(None) };
    rate::priced_row(conn, reservation.rate_card, (&upstream, &model))
}

fn create_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|err| StoreError::DataDir {
        path: dir.to_owned(),
        reason: format!("can't be created: {err}; choose another with `--data DIR` or `[data] dir`"),
    })
}
