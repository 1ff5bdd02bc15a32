//! What can go wrong with keys, in words for the operator, each with what to do.

use std::path::PathBuf;

/// A key that can't be used: the gateway must not start with it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read or written.
    #[error("{}: {source}; it must be a file that this user can read and write", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Others may read the file.
    #[error("{} can be read by others (mode {mode:03o}): run `chmod 600 {}`, and replace the key if somebody may have seen it", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{} does not hold {expected}: restore the file, or remove it to have a new one made", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The file is gone, and a new key would not do.
    #[error("{} is missing: {why}; put it back", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What it is needed for.
        why: &'static str,
    },
    /// A key that could be guessed.
    #[error(
        "{name} has fewer than {} characters: make one with `openssl rand -base64 36`",
        crate::key::MIN_ADMIN_KEY_CHARS
    )]
    TooShort {
        /// Which key; never the key.
        name: String,
    },
    /// An admin key that can't be sent in a header, or that looks like a tenant's credential.
    #[error("{name} {reason}: make one with `openssl rand -base64 36`")]
    Unusable {
        /// Which key; never the key.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    NoRandom(getrandom::Error),
}
