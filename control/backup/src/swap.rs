//! Two directories that take each other's place: the tenant's old one and the one that a restore has made. Whatever happens in
//! between, the rows and the directory are of one moment after the next start.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openclawmu_sandbox::{PathError, RelPath, Root};
use openclawmu_store::{Store, StoreError, TenantId};

use crate::error::{BackupError, Result};
use crate::upload::blocking;

/// What the name of a directory of a restore begins with. What follows is random, then the tenant's id.
const STAGED: &str = ".restore-";
/// A file in the directory that is to become the tenant's, until it has: tells it from the old one after a crash.
const MARK: &str = ".restored";

/// A directory beside those of the tenants; no tenant has its name. It goes when it is dropped, unless it may be the old one of
/// a change whose fate nobody waited for: then the next start looks at it.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) tenants: Root,
    pub(crate) name: RelPath,
    keep: AtomicBool,
}

impl Staged {
    pub(crate) fn new(data: &Path, id: &TenantId) -> Result<Self> {
        let dir = data.join("tenants");
        let tenants = match Root::open(&dir) {
            Err(PathError::NotFound) => Root::create(&dir)?,
            opened => opened?,
        };
        let mut bytes = [0_u8; 8];
        getrandom::fill(&mut bytes)
            .map_err(|err| BackupError::Key(format!("the system gives no random bytes: {err}")))?;
        let name = RelPath::parse(format!("{STAGED}{:016x}-{id}", u64::from_be_bytes(bytes)).as_bytes())?;
        tenants.create_dir_all(&name)?;
        let staged = Self { tenants, name, keep: AtomicBool::new(false) };
        // First of all: what has no mark is taken for the old directory.
        staged.mark()?;
        Ok(staged)
    }

    fn mark(&self) -> Result<(), PathError> {
        self.tenants.create_new(&self.name.join(OsStr::new(MARK))?, b"")
    }
}

/// Cleans up after restores that a crash cut off, before anything is served: what was not committed is as it was before, what
/// was committed is finished.
///
/// # Errors
/// [`BackupError::Path`]; then a tenant's directory may not be the one that its rows are of.
pub async fn recover(store: &Store, data: &Path) -> Result<()> {
    let committed = store.restores_to_settle()?;
    let (data, any) = (data.to_owned(), !committed.is_empty());
    let known = committed;
    blocking(move || {
        let tenants = match Root::open(&data.join("tenants")) {
            Err(PathError::NotFound) => return Ok(()),
            opened => opened?,
        };
        let mut after = None;
        loop {
            let page = tenants.list(None, after.as_deref(), 1_000)?;
            for entry in &page.entries {
                let Some(name) = entry.name.to_str().filter(|name| name.starts_with(STAGED)) else { continue };
                let Some((_, id)) = name.strip_prefix(STAGED).and_then(|rest| rest.split_once('-')) else { continue };
                let is_committed = known.iter().any(|known| known == name);
                let (name, id) = (RelPath::parse(name.as_bytes())?, RelPath::parse(id.as_bytes())?);
                let mark = id.join(OsStr::new(MARK))?;
                // The new directory has the tenant's name, and the old one this one.
                if tenants.metadata(&mark).is_ok() {
                    if is_committed {
                        tenants.remove_file(&mark)?;
                    } else {
                        tracing::warn!(%id, "a restore was cut off after the directories had changed places: they change back");
                        tenants.exchange(&name, &id)?;
                    }
                }
                let keep = AtomicBool::new(false);
                drop(Staged { tenants: Root::open(&data.join("tenants"))?, name, keep });
            }
            let Some(next) = page.next else { return Ok(()) };
            after = Some(next);
        }
    })
    .await?;
    // A disk that is full must not keep the gateway from starting.
    if any {
        store.restores_settled().await?;
    }
    Ok(())
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.keep.load(Ordering::Acquire) {
            tracing::warn!(name = %self.name, "a restore was left alone; the next start finishes or undoes it");
            return;
        }
        loop {
            match self.tenants.remove_tree(&self.name) {
                Err(PathError::TooMany) => {}
                Ok(()) | Err(PathError::NotFound) => return,
                Err(err) => return tracing::error!(%err, name = %self.name, "a directory is left beside the tenants'"),
            }
        }
    }
}

/// The two directories, and whether they have taken each other's place.
#[derive(Clone, Debug)]
pub struct Swap {
    pub(crate) staged: Arc<Staged>,
    pub(crate) id: RelPath,
}

impl Swap {
    /// Puts the new directory in the tenant's place. Inside the transaction, as its last step.
    pub(crate) fn exchange(&self) -> Result<(), StoreError> {
        self.turn()
            .map_err(|err| StoreError::Unavailable(format!("the tenant's directory can't be replaced: {err}")))?;
        self.staged.keep.store(true, Ordering::Release);
        Ok(())
    }

    fn turn(&self) -> Result<(), PathError> {
        let Staged { tenants, name, .. } = &*self.staged;
        match tenants.exchange(name, &self.id) {
            // There was none before: the new one is just there, and an empty one takes its place beside.
            Err(PathError::NotFound) => {
                tenants.rename(name, &self.id)?;
                tenants.create_dir_all(name)
            }
            exchanged => exchanged,
        }
    }

    /// The change is durable: the old directory goes.
    pub async fn settle(self, store: &Store) {
        let mark = self.id.join(OsStr::new(MARK)).and_then(|mark| self.staged.tenants.remove_file(&mark));
        if let Err(err) = mark {
            tracing::error!(%err, "a file of a restore is left in the tenant's directory");
        }
        self.staged.keep.store(false, Ordering::Release);
        self.drop_off().await;
        if let Err(err) = store.restores_settled().await {
            tracing::warn!(%err, "a restore is looked at again by the next start");
        }
    }

    /// The change was not made: the old directory is the tenant's again.
    pub async fn undo(self) {
        if self.staged.keep.load(Ordering::Acquire) {
            // Better a name that nobody expects than files that are gone: on an error the next start tries again.
            match self.turn() {
                Ok(()) => self.staged.keep.store(false, Ordering::Release),
                Err(err) => tracing::error!(%err, "a restore failed, and the tenant's old directory has another name"),
            }
        }
        self.drop_off().await;
    }

    async fn drop_off(self) {
        if let Err(err) = blocking(move || {
            drop(self);
            Ok(())
        })
        .await
        {
            tracing::error!(%err, "an old directory is left beside the tenants'");
        }
    }
}

#[cfg(test)]
#[path = "swap_tests.rs"]
mod tests;
