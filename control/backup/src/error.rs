//! What can go wrong with a backup, in words for the operator, each with what to do.

use std::path::PathBuf;

use openclawmu_sandbox::PathError;
use openclawmu_store::StoreError;

/// A backup or a restore that did not come to be. Nothing that was there before has changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A place that can't be: its text is no directory and no bucket, or a setting is missing.
    #[error("{field}: {message}")]
    Invalid {
        /// The field or setting at fault.
        field: &'static str,
        /// What it must be.
        message: String,
    },
    /// The place can't be reached, or does not do what it is asked. Trying again later may help.
    #[error("{place} {action}: {cause}; hint: {hint}")]
    Place {
        /// Where.
        place: String,
        /// What it was asked.
        action: &'static str,
        /// Its words.
        cause: String,
        /// What to do.
        hint: &'static str,
    },
    /// Another writer was quicker: its set stands.
    #[error(
        "another gateway wrote set {0} to this place at the same moment; give each gateway a place of its own, or run it again"
    )]
    Raced(String),
    /// There is no such set.
    #[error("no such backup: {0}; hint: `openclawmu backups list` shows what there is")]
    NotFound(String),
    /// What is in the place is not what was written there.
    #[error("the backup is damaged or was altered: {0}; nothing was changed")]
    Damaged(String),
    /// The archive holds what no backup of this program holds.
    #[error("the archive is refused: {0}; nothing was changed")]
    Hostile(String),
    /// The passphrase or a key is missing or another.
    #[error("{0}")]
    Key(String),
    /// A file of this machine's own.
    #[error("{}: {source}; hint: is there space, and may this user write there?", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The tenant's files.
    #[error("the tenant's files: {0}")]
    Path(#[from] PathError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The result of a backup's or a restore's step.
pub type Result<T, E = BackupError> = std::result::Result<T, E>;

impl BackupError {
    /// An error of the file system, at `path`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
