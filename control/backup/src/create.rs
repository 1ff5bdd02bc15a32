//! Making a set: what is in it, sent object by object, and the manifest last, where no other is.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use openclawmu_store::{Store, UnixMs};

use crate::content::Run;
use crate::error::{BackupError, Result};
use crate::layout::{self, Scope};
use crate::manifest::{Listed, MAX_BYTES, Manifest};
use crate::place::{Place, Written};
use crate::progress::Progress;
use crate::readme;
use crate::seal::{Key, Passphrase, Sealing};
use crate::upload::{Spool, Uploader, blocking};

/// No description of a passphrase is larger, in bytes.
const MAX_SEALING_BYTES: u64 = 4_096;

/// The gateway that is backed up.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its store.
    pub store: Store,
    /// Its data directory.
    pub data: PathBuf,
    /// The folder of its audit log.
    pub audit: PathBuf,
    /// The ids of its master keys.
    pub master: Vec<String>,
}

/// Makes sets in one place, one at a time.
#[derive(Clone, Debug)]
pub struct Maker {
    /// What is backed up.
    pub origin: Origin,
    /// Where to.
    pub place: Place,
    /// What it is sealed with.
    pub passphrase: Option<Passphrase>,
}

/// A set that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// As a list shows it.
    pub listed: Listed,
    /// Bytes that were sent: what the place did not have.
    pub sent_bytes: u64,
    /// Objects that were sent.
    pub sent_objects: usize,
    /// Names that were left out: links, pipes, devices, files with more than one name.
    pub skipped: u64,
}

impl Maker {
    /// Makes a set of the whole gateway or of one tenant.
    ///
    /// # Errors
    /// [`BackupError`]; then there is no set, and what was sent is collected later.
    pub async fn make(&self, scope: &Scope, progress: &Progress) -> Result<Made> {
        if self.place.directory().is_some_and(|dir| dir.starts_with(&self.origin.data)) {
            let message = "must not be in the data directory: it would hold itself".to_owned();
            return Err(BackupError::Invalid { field: "to", message });
        }
        progress.phase("looking at what is there", 0);
        let (sealing, key) = match &self.passphrase {
            None => (None, None),
            Some(passphrase) => {
                let (sealing, key) = sealing(&self.place, passphrase).await?;
                (Some(sealing), Some(Arc::new(key)))
            }
        };
        let (next, known) = self.standing(scope).await?;
        let mut run = Run {
            up: Uploader {
                place: self.place.clone(),
                key,
                spool: Spool::new(&self.origin.data)?,
                progress: progress.clone(),
                known,
                sent: std::collections::HashMap::new(),
            },
            origin: self.origin.clone(),
        };
        let mut manifest = run.content(scope).await?;
        manifest.sealing = sealing;
        self.place
            .put(&layout::readme(&scope.folder()), readme::text(scope, run.up.key.is_some()).into_bytes())
            .await?;
        let bytes = manifest.to_bytes(run.up.key.as_deref())?;
        let number = layout::number(next);
        if self.place.put_new(&scope.manifest(&number), bytes).await? == Written::Taken {
            return Err(BackupError::Raced(number));
        }
        Ok(Made {
            listed: Listed::of(&number, self.place.name(), &manifest),
            sent_bytes: run.up.sent.values().sum(),
            sent_objects: run.up.sent.len(),
            skipped: manifest.tenants.iter().map(|tenant| tenant.files.skipped_count).sum(),
        })
    }

    /// The number of the next set, and the objects that whole sets hold already.
    async fn standing(&self, scope: &Scope) -> Result<(u64, HashSet<String>)> {
        let mut known = HashSet::new();
        let mut last = 0;
        let mut folders = vec![scope.sets()];
        // A set of the gateway and one of a tenant share the tenant's objects.
        match scope {
            Scope::Gateway => folders.push(layout::TENANTS.to_owned()),
            Scope::Tenant(_) => folders.push(Scope::Gateway.sets()),
        }
        let mut newest = std::collections::BTreeMap::new();
        for folder in folders {
            for item in self.place.list(&folder).await? {
                let Some((of, number)) = layout::parse_manifest(&item.key) else { continue };
                if of == *scope {
                    let number: u64 =
                        number.parse().map_err(|_| BackupError::Damaged(format!("{} is no set's number", item.key)))?;
                    last = last.max(number);
                }
                newest.insert(of, number);
            }
        }
        for (of, number) in newest {
            // One that can't be read is no reason to make none: its objects are sent again.
            let Some(bytes) = self.place.get(&of.manifest(&number), MAX_BYTES).await? else { continue };
            match Manifest::parse(&bytes, &of) {
                Ok(manifest) => known.extend(manifest.objects().map(|object| object.key.clone())),
                Err(err) => tracing::warn!(%err, scope = %of, number, "a manifest can't be used"),
            }
        }
        Ok((last + 1, known))
    }

    /// The sets of `scope` that are whole, newest first; those that can't be read are left out.
    ///
    /// # Errors
    /// [`BackupError::Place`].
    pub async fn list(place: &Place, scope: &Scope) -> Result<Vec<Listed>> {
        let mut sets = Vec::new();
        for item in place.list(&scope.sets()).await? {
            let Some((of, number)) = layout::parse_manifest(&item.key) else { continue };
            let Some(bytes) = place.get(&item.key, MAX_BYTES).await? else { continue };
            match Manifest::parse(&bytes, &of) {
                Ok(manifest) => sets.push(Listed::of(&number, place.name(), &manifest)),
                Err(err) => tracing::warn!(%err, key = item.key, "a manifest can't be used"),
            }
        }
        sets.reverse();
        Ok(sets)
    }

    /// When the newest set of `scope` was made; `None` without any.
    ///
    /// # Errors
    /// [`BackupError::Place`].
    pub async fn newest_at(place: &Place, scope: &Scope) -> Result<Option<UnixMs>> {
        let number = match crate::fetch::newest(place, scope).await {
            Err(BackupError::NotFound(_)) => return Ok(None),
            number => number?,
        };
        let Some(bytes) = place.get(&scope.manifest(&number), MAX_BYTES).await? else { return Ok(None) };
        Manifest::parse(&bytes, scope).map(|manifest| Some(manifest.created()))
    }
}

/// The key of a place. The first writer decides how it is made; a passphrase that is not the one is told.
pub(crate) async fn sealing(place: &Place, passphrase: &Passphrase) -> Result<(Sealing, Key)> {
    loop {
        let phrase = passphrase.clone();
        if let Some(bytes) = place.get(layout::ENCRYPTION, MAX_SEALING_BYTES).await? {
            let sealing: Sealing = serde_json::from_slice(&bytes)
                .map_err(|err| BackupError::Damaged(format!("{}: {err}", layout::ENCRYPTION)))?;
            return blocking(move || sealing.open(&phrase).map(|key| (sealing, key))).await;
        }
        let (sealing, key) = blocking(move || Sealing::new(&phrase)).await?;
        let text = serde_json::to_vec_pretty(&sealing)
            .map_err(|err| BackupError::Key(format!("a key can't be described: {err}")))?;
        if place.put_new(layout::ENCRYPTION, text).await? == Written::New {
            return Ok((sealing, key));
        }
    }
}
