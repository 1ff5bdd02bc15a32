//! One tenant back: everything is fetched, held against its hash and unpacked beside the old directory before anything of the
//! tenant changes; then the directories take each other's place inside the transaction that changes the rows.

use std::path::PathBuf;
use std::sync::Arc;

use openclawmu_sandbox::RelPath;
use openclawmu_store::{Actor, Change, Restore, RestorePlan, Restored, RowObject, StoreError, TenantId, TenantRows};
use serde_json::Value;

use crate::create::Origin;
use crate::error::{BackupError, Result};
use crate::fetch::{Fetcher, files, lines};
use crate::layout::{self, Scope};
use crate::manifest::TenantParts;
use crate::place::Place;
use crate::progress::Progress;
use crate::seal::Passphrase;
use crate::segment::each_line;
use crate::swap::{Staged, Swap};
use crate::upload::{Spool, blocking};

/// Ledger rows that are given to the store at once.
const ROWS_AT_ONCE: usize = 500;

/// Which set to restore from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it lies.
    pub place: Place,
    /// What it is of: the tenant, or the whole gateway.
    pub scope: Scope,
    /// Its number; absent: the newest.
    pub number: Option<String>,
    /// What it is sealed with.
    pub passphrase: Option<Passphrase>,
}

impl Source {
    /// Splits the URL of a set, or of a tenant's folder, into its place and what it names there.
    ///
    /// # Errors
    /// [`BackupError::Invalid`] for `from`.
    pub fn split(url: &str) -> Result<(String, Option<Scope>, Option<String>)> {
        layout::split_url(url)
    }
}

/// Turns a sealed provider key (its upstream, its id, what is sealed) into another: its id, and what is sealed.
pub type TurnKey<'a> = dyn Fn(&str, &str, &[u8]) -> Result<(String, Vec<u8>), String> + Sync + 'a;

/// What is asked of a restore of a tenant.
pub struct Prepare<'a> {
    /// The gateway that it goes to.
    pub origin: &'a Origin,
    /// Who asks.
    pub actor: &'a Actor,
    /// Which tenant of the set.
    pub tenant: TenantId,
    /// As whom, where it is a copy.
    pub copy_as: Option<TenantId>,
    /// A tenant of that id is replaced.
    pub force: bool,
    /// Turns a sealed provider key of one tenant (its upstream and id) into one of another. Only for a copy.
    pub turn_key: &'a TurnKey<'a>,
    /// How far it is.
    pub progress: Progress,
}

impl std::fmt::Debug for Prepare<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepare").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// A restore of which all is ready but the change itself.
#[derive(Debug)]
pub struct Prepared {
    restore: Restore,
    swap: Swap,
}

impl Prepare<'_> {
    /// Fetches and checks everything, and unpacks it beside the old directory. Nothing of the tenant has changed after it.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn from(self, source: &Source) -> Result<Prepared> {
        self.progress.phase("looking at the backup", 0);
        let (set, number) = Fetcher::open(
            &source.place,
            &source.scope,
            source.number.as_deref(),
            source.passphrase.as_ref(),
            self.progress.clone(),
        )
        .await?;
        let missing = || BackupError::NotFound(format!("set {number} has no tenant {}", self.tenant));
        let parts = set.manifest.tenants.iter().find(|parts| parts.id == self.tenant).cloned().ok_or_else(missing)?;
        if set.manifest.store.schema > self.schema().await? {
            let message = "it was written by a newer openclawmu; restore it with that one".to_owned();
            return Err(BackupError::Damaged(message));
        }
        let spool = Spool::new(&self.origin.data)?;
        self.progress.phase("fetching", objects(&set, &parts, &source.scope));
        let mut rows = TenantRows::default();
        let path = set.fetch(&parts.rows, &spool).await?;
        let bytes = parts.rows.plain_bytes;
        rows = blocking(move || {
            lines(&path, bytes, &mut |line| Ok(rows.add_line(line)?))?;
            Ok(rows)
        })
        .await?;
        if rows.id()? != self.tenant {
            return Err(BackupError::Damaged("its rows are another tenant's".to_owned()));
        }
        self.check_keys(&set, &mut rows)?;
        let id = self.copy_as.clone().unwrap_or_else(|| self.tenant.clone());
        let staged = self.unpack(&set, &parts, (&spool, &id)).await?;
        let swap = Swap { staged: Arc::new(staged), id: name_of(&id)? };
        let plan = RestorePlan {
            id,
            copy: self.copy_as.is_some(),
            force: self.force,
            rows,
            tokens_work: set.manifest.keys.pepper.iter().all(|print| self.pepper().contains(print)),
            from: format!("{}/{}{number}", source.place.name(), source.scope.sets()),
        };
        let (store, actor) = (self.origin.store.clone(), self.actor.clone());
        let mut restore = blocking(move || Ok(store.begin_restore(&actor, plan)?)).await?;
        if restore.wants_ledger() {
            let mut usage = Vec::new();
            for part in parts.ledger.iter().map(|part| (&part.object, false)) {
                usage.push((set.fetch(part.0, &spool).await?, part.1));
            }
            if source.scope == Scope::Gateway {
                for archive in &set.manifest.archives {
                    usage.push((set.fetch(&archive.object, &spool).await?, true));
                }
            }
            self.progress.phase("adding usage", 0);
            let tenant = self.tenant.clone();
            restore = blocking(move || add_ledger(restore, &usage, &tenant)).await?;
        }
        Ok(Prepared { restore, swap })
    }

    fn pepper(&self) -> Vec<String> {
        self.origin.store.pepper_fingerprints()
    }

    async fn schema(&self) -> Result<i64> {
        let store = self.origin.store.clone();
        blocking(move || Ok(store.snapshot()?.facts()?.schema)).await
    }

    /// What is sealed needs the master key that sealed it; provider keys of a copy are sealed for it anew.
    fn check_keys(&self, set: &Fetcher, rows: &mut TenantRows) -> Result<()> {
        if !rows.has_sealed() {
            return Ok(());
        }
        let (theirs, ours) = (&set.manifest.keys.master, &self.origin.master);
        if let Some(missing) = theirs.iter().find(|kid| !ours.contains(kid)) {
            return Err(BackupError::Key(format!(
                "the tenant's secrets are sealed with master key {missing}, which this gateway lacks: nothing was changed; hint: add that line to its master.key and start it again"
            )));
        }
        if self.copy_as.is_some() {
            let turn = |upstream: &str, id: &str, sealed: &[u8]| {
                (self.turn_key)(upstream, id, sealed).map_err(StoreError::Corrupt)
            };
            rows.turn_provider_keys(turn)?;
        }
        Ok(())
    }

    /// The files into a fresh directory beside those of the tenants.
    async fn unpack(&self, set: &Fetcher, parts: &TenantParts, (spool, id): (&Spool, &TenantId)) -> Result<Staged> {
        let (data, id) = (self.origin.data.clone(), id.clone());
        let (staged, root) = blocking(move || {
            let staged = Staged::new(&data, &id)?;
            let root = staged.tenants.descend(&staged.name)?;
            Ok((staged, root))
        })
        .await?;
        files(set, spool, &parts.files, root).await?;
        Ok(staged)
    }
}

impl Prepared {
    /// The change itself: to be made, and then told to the second half.
    pub fn split(self) -> (Change<Restored>, Swap) {
        let Self { restore, swap } = self;
        let (swapping, name) = (swap.clone(), swap.staged.name.to_string());
        (restore.finish(name, move || swapping.exchange()), swap)
    }
}

/// Every line of `files` that is the tenant's; those that end a hold after all others.
fn add_ledger(mut restore: Restore, files: &[(PathBuf, bool)], tenant: &TenantId) -> Result<Restore> {
    let mut last = Vec::new();
    let mut batch: Vec<RowObject> = Vec::new();
    for (path, of_all) in files {
        each_line(path, &mut |row| {
            if *of_all && row.get("tenant_id").and_then(Value::as_str) != Some(tenant.as_str()) {
                return Ok(());
            }
            if row.contains_key("resolves") {
                last.push(row);
                return Ok(());
            }
            batch.push(row);
            if batch.len() >= ROWS_AT_ONCE {
                restore.ledger(std::mem::take(&mut batch))?;
            }
            Ok(())
        })?;
    }
    batch.extend(last);
    while !batch.is_empty() {
        let rest = batch.split_off(batch.len().min(ROWS_AT_ONCE));
        restore.ledger(std::mem::replace(&mut batch, rest))?;
    }
    Ok(restore)
}

fn objects(set: &Fetcher, parts: &TenantParts, scope: &Scope) -> u64 {
    let files: u64 = parts.files.parts.iter().map(|part| part.object.bytes).sum();
    let ledger: u64 = parts.ledger.iter().map(|part| part.object.bytes).sum();
    let archives: u64 = set.manifest.archives.iter().map(|part| part.object.bytes).sum();
    parts.rows.bytes + files + ledger + if *scope == Scope::Gateway { archives } else { 0 }
}

fn name_of(id: &TenantId) -> Result<RelPath> {
    Ok(RelPath::parse(id.as_str().as_bytes())?)
}
