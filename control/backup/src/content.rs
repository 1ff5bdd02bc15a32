//! What is in a set: snapshot, check, pack, send.

use std::path::Path;
use std::sync::Arc;

use openclawmu_sandbox::{PathError, RelPath, Root};
use openclawmu_store::{Archive, Snapshot, StoreError, TenantId};

use crate::create::Origin;
use crate::digest;
use crate::error::{BackupError, Result};
use crate::layout::Scope;
use crate::manifest::{AuditHead, FORM, FilePart, Files, KeyPrints, Manifest, NamedObject, TenantParts};
use crate::pack;
use crate::segment;
use crate::upload::{Uploader, blocking, compress};

/// One run.
pub(crate) struct Run {
    pub(crate) up: Uploader,
    pub(crate) origin: Origin,
}

impl Run {
    /// Sends everything that is of `scope`; the manifest without its sealing.
    pub(crate) async fn content(&mut self, scope: &Scope) -> Result<Manifest> {
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
            digest: None,
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
            let progress = self.up.progress.clone();
            let packed = blocking(move || {
                let parts = listing.parts();
                pack::pack(&root, parts.get(at).map_or(&[], Vec::as_slice), &path, &progress)
            })
            .await?;
            let object = self.up.send(&Scope::Tenant(id.clone()), packed.path, packed.form, packed.plain_bytes).await?;
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
fn tenant_root(data: &Path, id: &TenantId) -> Result<Option<Root>> {
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
