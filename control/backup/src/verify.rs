//! Whether a set is whole: every object is fetched and held against its hash, archives are unpacked into nowhere that stays,
//! and the database is checked.

use std::fs;
use std::path::Path;

use openclawmu_sandbox::Root;
use openclawmu_store::TenantRows;
use serde::Serialize;

use crate::error::{BackupError, Result};
use crate::fetch::{Fetcher, database, files, lines};
use crate::manifest::TenantParts;
use crate::progress::Progress;
use crate::restore::Source;
use crate::upload::{Spool, blocking};

/// A set that is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Its number.
    pub id: String,
    /// When its snapshot was taken.
    pub created_at: String,
    /// Objects in it.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Tenants in it.
    pub tenants: usize,
}

/// Reads a set from end to end; `scratch` is a directory of this machine that has room for the database and the largest tenant.
///
/// # Errors
/// [`BackupError::Damaged`] with what is wrong.
pub async fn verify(source: &Source, scratch: &Path, progress: Progress) -> Result<Verified> {
    progress.phase("looking at the backup", 0);
    let (number, phrase) = (source.number.as_deref(), source.passphrase.as_ref());
    let (set, number) = Fetcher::open(&source.place, &source.scope, number, phrase, progress.clone()).await?;
    progress.phase("reading", set.manifest.bytes());
    let spool = Spool::new(scratch)?;
    if set.manifest.database.is_some() {
        let to = spool.path("verify.db");
        database(&set, &spool, to.clone()).await?;
        fs::remove_file(&to).map_err(BackupError::file(&to))?;
    }
    for archive in &set.manifest.archives {
        let path = set.fetch(&archive.object, &spool).await?;
        fs::remove_file(&path).map_err(BackupError::file(&path))?;
    }
    for parts in &set.manifest.tenants {
        tenant(&set, &spool, parts).await?;
    }
    Ok(Verified {
        id: number,
        created_at: set.manifest.created_at.clone(),
        objects: set.manifest.objects().count(),
        bytes: set.manifest.bytes(),
        tenants: set.manifest.tenants.len(),
    })
}

async fn tenant(set: &Fetcher, spool: &Spool, parts: &TenantParts) -> Result<()> {
    let path = set.fetch(&parts.rows, spool).await?;
    let (bytes, id) = (parts.rows.plain_bytes, parts.id.clone());
    blocking(move || {
        let mut rows = TenantRows::default();
        lines(&path, bytes, &mut |line| Ok(rows.add_line(line)?))?;
        fs::remove_file(&path).map_err(BackupError::file(&path))?;
        if rows.id()? == id { Ok(()) } else { Err(BackupError::Damaged(format!("{id}'s rows are another's"))) }
    })
    .await?;
    for part in &parts.ledger {
        let (path, bytes) = (set.fetch(&part.object, spool).await?, part.object.plain_bytes);
        blocking(move || {
            lines(&path, bytes, &mut |line| {
                let row: Result<serde_json::Value, _> = serde_json::from_slice(line);
                row.map(drop).map_err(|err| BackupError::Damaged(format!("a ledger row: {err}")))
            })?;
            fs::remove_file(&path).map_err(BackupError::file(&path))
        })
        .await?;
    }
    let to = spool.path("files");
    files(set, spool, &parts.files, Root::create(&to)?).await?;
    blocking(move || fs::remove_dir_all(&to).map_err(BackupError::file(&to))).await
}
