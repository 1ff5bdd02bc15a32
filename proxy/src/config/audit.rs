//! `[audit]`: where the audit log is, what signs it, and when a new file is begun.

use std::path::PathBuf;

use openclawmu_control::audit::Rotation;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::load::{ConfigError, value};
use super::secret::SecretRef;

/// The smallest file that is worth one, in bytes.
const MIN_FILE_BYTES: u64 = 4096;

/// `[audit]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAudit {
    /// The folder; absent: `audit` in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// What signs the lines; absent: `audit.key` in the data directory, which the first start makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretRef>,
    /// Bytes after which a new file is begun.
    pub max_file_bytes: u64,
    /// Whether each day in UTC begins a new file.
    pub daily: bool,
}

impl Default for RawAudit {
    fn default() -> Self {
        Self { dir: None, key: None, max_file_bytes: 64 << 20, daily: true }
    }
}

/// The audit log.
#[derive(Debug)]
pub struct AuditConfig {
    /// The folder, where it is not the data directory's.
    pub dir: Option<PathBuf>,
    /// The key, where it is not the data directory's.
    pub key: Option<SecretString>,
    /// When a new file is begun.
    pub rotation: Rotation,
}

pub(super) fn check(raw: RawAudit) -> Result<AuditConfig, ConfigError> {
    if raw.max_file_bytes < MIN_FILE_BYTES {
        return Err(value("audit.max_file_bytes", format!("must be at least {MIN_FILE_BYTES}")));
    }
    let key = raw.key.map(|key| key.read().map_err(|message| value("audit.key", message))).transpose()?;
    Ok(AuditConfig { dir: raw.dir, key, rotation: Rotation { bytes: raw.max_file_bytes, daily: raw.daily } })
}
