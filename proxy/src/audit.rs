//! The audit log of this process: opened before anything can be changed, and kept beside the listeners.

use anyhow::Context;
use openclawmu_control::AuditKey;
use openclawmu_control::audit::{AuditFile, AuditOptions, Reopen};
use openclawmu_store::{Store, StoreError};

use crate::config::Config;

/// Opens the log and lets the store write to it. A log that can't be set up refuses to start; one that can't be written right
/// now, on a full disk, refuses every change until it can.
pub(crate) fn open(config: &Config, store: &Store) -> anyhow::Result<(AuditOptions, Reopen)> {
    let known = store.audit_head()?;
    let key = AuditKey::load_or_create(&config.data_dir, config.audit.key.as_ref(), known.is_some())?;
    let folder = config.audit.dir.clone().unwrap_or_else(|| config.data_dir.join("audit"));
    let clock = std::sync::Arc::clone(store.clock());
    let options = AuditOptions { rotation: config.audit.rotation, clock, ..AuditOptions::new(folder, key) };
    let file = AuditFile::open(options.clone(), known.as_ref())?;
    let reopen = file.reopen();
    match store.attach_audit(Box::new(file)) {
        // It has been told, and is tried again.
        Ok(()) | Err(StoreError::AuditUnavailable(_)) => Ok((options, reopen)),
        Err(err) => Err(err).context("the audit log can't be begun"),
    }
}
