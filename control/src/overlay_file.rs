//! `<data>/tenants/<id>/config.toml`: a copy of a tenant's overlay for people and their tools. Written after each change and
//! at each start, never read: the store has the overlay itself.

use std::path::Path;

use openclawmu_sandbox::{PathError, RelPath, Root};
use openclawmu_store::{Overlay, Store, StoreError, TenantId};

use crate::removal;

/// Overlays that are read at once.
const PAGE: u32 = 1_000;
/// What the file says of itself.
const HEAD: &str = "# What this tenant prefers, as the gateway has it. A copy: a change here changes nothing;\n\
                    # use `openclawmu tenants config set` or PUT /v1/tenants/{id}/config.\n\n";

/// Why a copy can't be written.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file.
    #[error("tenants/{tenant}/config.toml: {source}")]
    File {
        /// Whose.
        tenant: TenantId,
        /// Why.
        source: PathError,
    },
    /// Its text.
    #[error("an overlay can't be written as TOML: {0}")]
    Toml(#[from] toml::ser::Error),
    /// The store can't tell.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes the copy of one overlay into the data directory `data`; removes it where the overlay says nothing.
///
/// # Errors
/// [`CopyError`].
fn write(data: &Path, tenant: &TenantId, overlay: &Overlay) -> Result<(), CopyError> {
    let failed = |source| CopyError::File { tenant: tenant.clone(), source };
    let dir = data.join("tenants");
    let root = match Root::open(&dir) {
        Err(PathError::NotFound) => Root::create(&dir),
        opened => opened,
    }
    .map_err(failed)?;
    let of_tenant = RelPath::parse(tenant.as_str().as_bytes()).map_err(failed)?;
    let file = RelPath::parse(format!("{tenant}/config.toml").as_bytes()).map_err(failed)?;
    if *overlay == Overlay::default() {
        return match root.remove_file(&file) {
            Ok(()) | Err(PathError::NotFound) => Ok(()),
            Err(err) => Err(failed(err)),
        };
    }
    let text = format!("{HEAD}{}", toml::to_string(overlay)?);
    root.create_dir_all(&of_tenant).and_then(|()| root.replace(&file, text.as_bytes())).map_err(failed)
}

/// Writes the copy of an overlay that was just changed; of a tenant that was deleted meanwhile nothing is left.
///
/// # Errors
/// [`CopyError`].
pub(crate) fn write_one(store: &Store, tenant: &TenantId, overlay: &Overlay) -> Result<(), CopyError> {
    write(store.dir(), tenant, overlay)?;
    if removal::is_deleted(store, tenant) {
        removal::remove(store.dir(), tenant).map_err(|source| CopyError::File { tenant: tenant.clone(), source })?;
    }
    Ok(())
}

/// Writes the copies of all overlays: what a crash or a full disk kept from being written.
///
/// # Errors
/// [`CopyError`] for the first that can't be written.
pub fn write_all(store: &Store) -> Result<(), CopyError> {
    let mut after = None;
    loop {
        let overlays = store.overlays(after.as_ref(), PAGE)?;
        for (tenant, overlay) in &overlays {
            write(store.dir(), tenant, overlay)?;
        }
        match overlays.into_iter().next_back() {
            Some((last, _)) => after = Some(last),
            None => return Ok(()),
        }
    }
}
