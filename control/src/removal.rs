//! The files of tenants that are deleted: gone with the answer to the deletion, and what could not be removed then, later.

use std::path::Path;
use std::time::Duration;

use openclawmu_sandbox::{PathError, RelPath, Root};
use openclawmu_store::{Store, StoreError, TenantId};

/// Pause between two looks for what is left.
const EVERY: Duration = Duration::from_secs(3_600);
/// Names of one page.
const PAGE: usize = 1_000;

/// Removes a tenant's directory with all that is in it. Blocks.
///
/// # Errors
/// [`PathError`]; what is left is removed by [`run`].
pub fn remove(data: &Path, id: &TenantId) -> Result<(), PathError> {
    let tenants = match Root::open(&data.join("tenants")) {
        Err(PathError::NotFound) => return Ok(()),
        opened => opened?,
    };
    remove_from(&tenants, id)
}

/// The same where the tenants' directory is open already.
///
/// # Errors
/// [`PathError`].
pub fn remove_from(tenants: &Root, id: &TenantId) -> Result<(), PathError> {
    let name = RelPath::parse(id.as_str().as_bytes())?;
    loop {
        match tenants.remove_tree(&name) {
            Ok(()) | Err(PathError::NotFound) => return Ok(()),
            // There is more than one call takes away.
            Err(PathError::TooMany) => {}
            Err(err) => return Err(err),
        }
    }
}

/// Removes what is left of deleted tenants, now and every hour, until `stop`.
pub async fn run(store: Store, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    loop {
        let swept = store.clone();
        match tokio::task::spawn_blocking(move || sweep(&swept)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(removed)) => tracing::info!(removed, "files of deleted tenants are gone"),
            Ok(Err(err)) => {
                tracing::error!(%err, "files of deleted tenants can't be removed now; trying again in an hour")
            }
            Err(err) => tracing::error!(%err, "removing files of deleted tenants broke off"),
        }
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// How many directories of deleted tenants went.
fn sweep(store: &Store) -> Result<usize, PathError> {
    let tenants = match Root::open(&store.dir().join("tenants")) {
        Err(PathError::NotFound) => return Ok(0),
        opened => opened?,
    };
    let (mut removed, mut after) = (0, None);
    loop {
        let page = tenants.list(None, after.as_deref(), PAGE)?;
        for entry in &page.entries {
            let Some(id) = entry.name.to_str().and_then(|name| name.parse::<TenantId>().ok()) else { continue };
            if is_deleted(store, &id) {
                remove(store.dir(), &id)?;
                removed += 1;
            }
        }
        let Some(next) = page.next else { return Ok(removed) };
        after = Some(next);
    }
}

/// Only what the store knows to be deleted: a directory of nobody may be an operator's own.
///
/// Whoever writes into a tenant's directory asks this once that is done, and removes it where the answer is yes: what was under
/// way when the tenant was deleted must not bring its directory back.
pub fn is_deleted(store: &Store, id: &TenantId) -> bool {
    match store.was_deleted(id) {
        Ok(deleted) => deleted,
        Err(StoreError::NotFound(_)) => false,
        Err(err) => {
            tracing::error!(%err, "whether a tenant is deleted can't be read");
            false
        }
    }
}
