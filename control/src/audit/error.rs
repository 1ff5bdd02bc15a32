//! Why the audit log can't be set up: the gateway must not start without it.

use std::io;
use std::path::{Path, PathBuf};

/// The audit log can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The folder or a file in it can't be used.
    #[error("the audit log can't be opened: {}: {source}; the folder must be one that this user can write to", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Another process writes the log.
    #[error(
        "audit.dir: another gateway writes the audit log in {}; give each gateway a folder of its own, or stop that one", .0.display()
    )]
    Locked(PathBuf),
    /// The log was signed with another key.
    #[error("the audit key is not the one that {} was signed with: put the right one back", .0.display())]
    WrongKey(PathBuf),
}

impl AuditError {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
