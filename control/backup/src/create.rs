//! Making a set: snapshot, check, pack, send, and the manifest last, where no other is.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openclawmu_sandbox::{PathError, RelPath, Root};
use openclawmu_store::{Archive, Snapshot, Store, StoreError, TenantId, UnixMs};

use crate::digest;
use crate::error::{BackupError, Result};
use crate::layout::{self, Scope};
use crate::manifest::{
    AuditHead, FORM, FilePart, Files, KeyPrints, Listed, MAX_BYTES, Manifest, NamedObject, TenantParts,
};
use crate::pack;
use crate::place::{Place, Written};
use crate::progress::Progress;
use crate::readme;
use crate::seal::{Key, Passphrase, Sealing};
use crate::segment;
use crate::upload::{Spool, Uploader, blocking, compress};

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
                    last = last.max(number.parse().unwrap_or(0));
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

/// One run.
struct Run {
    up: Uploader,
    origin: Origin,
}

impl Run {
    /// Sends everything that is of `scope`; the manifest without its sealing.
    async fn content(&mut self, scope: &Scope) -> Result<Manifest> {
        self.up.progress.phase("reading the store", 0);
        // What has been settled by now is in it; a store that can't write can still be read.
        if let Err(err) = self.origin.store.flush().await {
            tracing::warn!(%err, "a backup may lack what was settled last");
        }
        let created = self.origin.store.clock().now();
        let mut manifest = Manifest {
            form: FORM,
            program: concat!("openclawmu ", env!("CARGO_PKG_VERSION")).to_owned(),
            run: run_id()?,
            created_at_ms: created.0,
            created_at: created.rfc3339(),
            tenant: None,
            store: openclawmu_store::SnapshotFacts {
                schema: 0,
                tenants: 0,
                ledger_rows: 0,
                ledger_cost_usd: openclawmu_store::NanoUsd::ZERO,
                audit_seq: 0,
            },
            keys: KeyPrints { pepper: self.origin.store.pepper_fingerprints(), master: self.origin.master.clone() },
            audit_head: self.audit_head().await?,
            sealing: None,
            database: None,
            archives: Vec::new(),
            tenants: Vec::new(),
            mac: None,
        };
        match scope {
            Scope::Gateway => self.gateway(&mut manifest).await?,
            Scope::Tenant(id) => {
                manifest.tenant = Some(id.clone());
                let (store, wanted) = (self.origin.store.clone(), id.clone());
                let snapshot = blocking(move || {
                    store.tenant(&wanted)?;
                    Ok(store.snapshot()?)
                })
                .await?;
                let (facts, snapshot) = blocking(move || Ok((snapshot.facts()?, snapshot))).await?;
                manifest.store = facts;
                let (mut parts, _) = self.tenant(id, snapshot).await?;
                let own = self.archived(id).await?;
                parts.ledger.splice(0..0, own);
                manifest.tenants.push(parts);
            }
        }
        Ok(manifest)
    }

    async fn gateway(&mut self, manifest: &mut Manifest) -> Result<()> {
        let (store, copy) = (self.origin.store.clone(), self.up.spool.path("copy.db"));
        let to = copy.clone();
        let mut snapshot = blocking(move || Ok(store.copy_database(&to)?)).await?;
        let (facts, ids, back) = blocking(move || Ok((snapshot.facts()?, snapshot.tenants()?, snapshot))).await?;
        snapshot = back;
        manifest.store = facts;
        for archive in self.archives().await? {
            let from = self.origin.data.join(&archive.file);
            let name = archive.file.rsplit('/').next().unwrap_or_default().to_owned();
            let path = self.up.spool.path(&name);
            let (to, bytes) = (path.clone(), from.clone());
            let bytes = blocking(move || std::fs::copy(&bytes, &to).map_err(BackupError::file(from))).await?;
            let object = self.up.send(&Scope::Gateway, path, "jsonl.zst", bytes).await?;
            manifest.archives.push(NamedObject { name, object });
        }
        for id in ids {
            let parts = self.tenant(&id, snapshot).await?;
            snapshot = parts.1;
            manifest.tenants.push(parts.0);
        }
        drop(snapshot);
        self.up.progress.phase("sending the database", 0);
        let path = self.up.spool.path("openclawmu.db.zst");
        let to = path.clone();
        let bytes = blocking(move || {
            let bytes = compress(&to, |to| {
                let mut from = std::fs::File::open(&copy).map_err(BackupError::file(&copy))?;
                std::io::copy(&mut from, to).map(drop).map_err(BackupError::file(&copy))
            })?;
            std::fs::remove_file(&copy).map_err(BackupError::file(&copy))?;
            Ok(bytes)
        })
        .await?;
        manifest.database = Some(self.up.send(&Scope::Gateway, path, "db.zst", bytes).await?);
        Ok(())
    }

    /// A tenant's rows, ledger and files.
    async fn tenant(&mut self, id: &TenantId, snapshot: Snapshot) -> Result<(TenantParts, Snapshot)> {
        let scope = Scope::Tenant(id.clone());
        let (wanted, path) = (id.clone(), self.up.spool.path("rows.jsonl.zst"));
        let to = path.clone();
        let (bytes, months, mut snapshot) = blocking(move || {
            let rows = snapshot.tenant_rows(&wanted)?;
            let bytes = pack::rows(&to, |each| rows.lines().try_for_each(|row| each(&row)))?;
            Ok((bytes, snapshot.ledger_months(&wanted)?, snapshot))
        })
        .await?;
        let rows = self.up.send(&scope, path, "jsonl.zst", bytes).await?;
        let mut ledger = Vec::new();
        for month in months {
            let (wanted, path) = (id.clone(), self.up.spool.path("ledger.jsonl.zst"));
            let to = path.clone();
            let (bytes, back) = blocking(move || {
                let bytes = pack::rows(&to, |each| {
                    let keep = &mut |row| each(&serde_json::Value::Object(row)).map_err(unwritten);
                    Ok(snapshot.ledger(&wanted, month, keep)?)
                })?;
                Ok((bytes, snapshot))
            })
            .await?;
            snapshot = back;
            let object = self.up.send(&scope, path, "jsonl.zst", bytes).await?;
            ledger.push(NamedObject { name: month.to_string(), object });
        }
        let files = self.files(id).await?;
        Ok((TenantParts { id: id.clone(), rows, ledger, files }, snapshot))
    }

    /// A tenant's directory; nothing where it has none yet.
    async fn files(&mut self, id: &TenantId) -> Result<Files> {
        let (data, wanted) = (self.origin.data.clone(), id.clone());
        let listed = blocking(move || {
            let Some(root) = tenant_root(&data, &wanted)? else { return Ok(None) };
            let listing = pack::list(&root)?;
            Ok(Some((Arc::new(root), Arc::new(listing))))
        })
        .await?;
        let Some((root, listing)) = listed else { return Ok(Files::default()) };
        self.up.progress.phase("sending files", listing.bytes);
        let mut files =
            Files { parts: Vec::new(), skipped: listing.skipped.clone(), skipped_count: listing.skipped_count };
        let count = listing.parts().len();
        for at in 0..count {
            let (root, listing, path) = (Arc::clone(&root), Arc::clone(&listing), self.up.spool.path("files.tar.zst"));
            let packed = blocking(move || {
                let parts = listing.parts();
                pack::pack(&root, parts.get(at).map_or(&[], Vec::as_slice), &path)
            })
            .await?;
            let object = self.up.send(&Scope::Tenant(id.clone()), packed.path, packed.form, packed.plain_bytes).await?;
            self.up.progress.done(packed.file_bytes);
            files.parts.push(FilePart {
                object,
                entries: packed.entries,
                file_bytes: packed.file_bytes,
                case_twins: packed.case_twins,
            });
        }
        Ok(files)
    }

    async fn archives(&self) -> Result<Vec<Archive>> {
        let store = self.origin.store.clone();
        blocking(move || Ok(store.archives()?)).await
    }

    /// A tenant's rows of months that have left the database.
    async fn archived(&mut self, id: &TenantId) -> Result<Vec<NamedObject>> {
        let mut found = Vec::new();
        for archive in self.archives().await? {
            let (from, wanted) = (self.origin.data.join(&archive.file), id.clone());
            let path = self.up.spool.path("archived.jsonl.zst");
            let to = path.clone();
            let bytes = blocking(move || {
                pack::rows(&to, |each| {
                    segment::each_line(&from, &mut |row| {
                        if row.get("tenant_id").and_then(serde_json::Value::as_str) == Some(wanted.as_str()) {
                            each(&serde_json::Value::Object(row))?;
                        }
                        Ok(())
                    })
                })
            })
            .await?;
            if bytes > 0 {
                let object = self.up.send(&Scope::Tenant(id.clone()), path, "jsonl.zst", bytes).await?;
                found.push(NamedObject { name: archive.month.to_string(), object });
            } else {
                std::fs::remove_file(&path).map_err(BackupError::file(&path))?;
            }
        }
        Ok(found)
    }

    async fn audit_head(&self) -> Result<Option<AuditHead>> {
        let folder = self.origin.audit.clone();
        blocking(move || segment::audit_head(&folder)).await
    }
}

/// The directory of a tenant, if it has one.
pub(crate) fn tenant_root(data: &Path, id: &TenantId) -> Result<Option<Root>> {
    let opened = Root::open(&data.join("tenants")).and_then(|tenants| {
        let name = RelPath::parse(id.as_str().as_bytes())?;
        tenants.descend(&name)
    });
    match opened {
        Err(PathError::NotFound) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

fn run_id() -> Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|err| BackupError::Key(format!("the system gives no random bytes: {err}")))?;
    Ok(digest::hex(&bytes))
}

fn unwritten(err: BackupError) -> StoreError {
    StoreError::Unavailable(format!("a backup can't be written: {err}"))
}
