//! Everything that can go wrong in the store, by what the caller should do about it.

use std::path::PathBuf;

/// A store failure. Operator errors carry a hint; nothing here carries SQL.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store can't answer now (disk full, I/O error, descriptors exhausted); retry later. 503.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// What was asked can't be put on record now, so it was not done; retry later. 503.
    #[error("the audit log can't be written: {0}")]
    AuditUnavailable(String),
    /// No such thing, or not this tenant's. 404.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// It exists already, or has changed meanwhile. 409.
    #[error("{0}")]
    Conflict(String),
    /// A value that can't be stored. 400, naming the field.
    #[error("{field}: {message}")]
    Invalid {
        /// The JSON field at fault.
        field: String,
        /// What it must be.
        message: String,
    },
    /// The idempotency key was used for another request. 422.
    #[error("this Idempotency-Key came with another request before; use a new key for a new request")]
    KeyReused,
    /// Another process owns this data directory.
    #[error("{} is in use by another process; stop that one, or give this one its own `--data` directory", .0.display())]
    Locked(PathBuf),
    /// The database was written by a newer version.
    #[error(
        "the database has schema {found}, this version knows up to {known}; start the newer openclawmu, or restore a backup from before the upgrade"
    )]
    NewerSchema {
        /// Found in the file.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The linked SQLite has the WAL-reset bug.
    #[error("SQLite {0} can corrupt a WAL database; 3.51.3 or newer is needed: build with the bundled SQLite")]
    SqliteTooOld(String),
    /// A key file of a store that already holds data is missing or unreadable.
    #[error("{}: {reason}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The data directory or a file in it can't be used.
    #[error("{}: {reason}", path.display())]
    DataDir {
        /// The path at fault.
        path: PathBuf,
        /// The system's words and what to do.
        reason: String,
    },
    /// What was read is not what this program writes.
    #[error("the store holds something unreadable: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// An [`StoreError::Invalid`] for `field`.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(err: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match err.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch) => {
                Self::Corrupt(err.to_string())
            }
            Some(_) | None => Self::Unavailable(err.to_string()),
        }
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(err: serde_json::Error) -> Self {
        Self::Corrupt(err.to_string())
    }
}

/// The result of a store call.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
