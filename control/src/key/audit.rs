//! The audit key: what makes a line of the audit log one that nobody else can have written.

use std::fmt;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::key::{MIN_ADMIN_KEY_CHARS, file};

/// What the first start makes: 32 random bytes in hexadecimal digits.
const MADE_BYTES: usize = 32;
const FORM: &str = "a key of 32 characters or more";

/// The key, ready for use: HMAC-SHA256 under the bytes of its text. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct AuditKey(Hmac<Sha256>);

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditKey")
    }
}

impl AuditKey {
    /// The configured key; without one that in `<data_dir>/audit.key`, which is made where nothing `is_signed` yet.
    ///
    /// # Errors
    /// [`KeyError`] when the key is too short, or its file can't be used or is gone.
    pub fn load_or_create(
        data_dir: &Path,
        configured: Option<&SecretString>,
        is_signed: bool,
    ) -> Result<Self, KeyError> {
        let path = data_dir.join("audit.key");
        if configured.is_none() && !is_signed && file::read(&path)?.is_none() {
            let mut key = Zeroizing::new([0_u8; MADE_BYTES]);
            getrandom::fill(key.as_mut_slice()).map_err(KeyError::NoRandom)?;
            let mut text = Zeroizing::new(String::with_capacity(2 * MADE_BYTES));
            for byte in key.iter() {
                text.push_str(&format!("{byte:02x}"));
            }
            // Where another process was quicker, its key is the one that is read below.
            file::create(&path, &text)?;
        }
        Self::load(data_dir, configured)
    }

    /// The configured key; without one that in `<data_dir>/audit.key`.
    ///
    /// # Errors
    /// [`KeyError`] when there is none, it is too short, or its file can't be used.
    pub fn load(data_dir: &Path, configured: Option<&SecretString>) -> Result<Self, KeyError> {
        if let Some(key) = configured {
            let short = || KeyError::TooShort { name: "audit.key".to_owned() };
            return Self::of(key.expose_secret()).ok_or_else(short);
        }
        let path = data_dir.join("audit.key");
        let Some(text) = file::read(&path)? else { return Err(missing(path)) };
        Self::of(&text).ok_or(KeyError::Malformed { path, expected: FORM })
    }

    fn of(text: &str) -> Option<Self> {
        let long = text.chars().count() >= MIN_ADMIN_KEY_CHARS;
        Hmac::new_from_slice(text.as_bytes()).ok().filter(|_| long).map(Self)
    }

    /// The `mac` of a line that follows the one with `prev`, in hexadecimal digits.
    pub(crate) fn mac(&self, prev: &str, line: &[u8]) -> String {
        self.begun(prev, line).finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether `mac` is that of the line; in constant time.
    pub(crate) fn is_mac(&self, mac: &str, prev: &str, line: &[u8]) -> bool {
        let bytes: Option<Vec<u8>> =
            mac.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
        // Upper case would be another text of the same number.
        let plain = !mac.bytes().any(|digit| digit.is_ascii_uppercase());
        plain && bytes.is_some_and(|bytes| self.begun(prev, line).verify_slice(&bytes).is_ok())
    }

    fn begun(&self, prev: &str, line: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(prev.as_bytes());
        mac.update(line);
        mac
    }
}

fn missing(path: PathBuf) -> KeyError {
    KeyError::Missing { path, why: "the audit log was signed with it, and can't be verified or continued without it" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_makes_a_key_that_is_never_made_anew_for_a_log_that_has_lines() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(AuditKey::load_or_create(dir.path(), None, true), Err(KeyError::Missing { .. })));
        let made = AuditKey::load_or_create(dir.path(), None, false).unwrap();
        let again = AuditKey::load_or_create(dir.path(), None, true).unwrap();
        let mac = made.mac("p", b"line");
        assert!(again.is_mac(&mac, "p", b"line") && mac.len() == 64);
        assert!(!again.is_mac(&mac, "q", b"line") && !again.is_mac(&mac, "p", b"Line"));
        assert!(!again.is_mac(&mac.to_uppercase(), "p", b"line") && !again.is_mac("", "p", b"line"));
        assert_eq!(format!("{made:?}"), "AuditKey");
        let text = std::fs::read_to_string(dir.path().join("audit.key")).unwrap();
        assert_eq!(text.trim().len(), 64);
    }

    #[test]
    fn a_configured_key_is_used_and_a_weak_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let key = SecretString::from("k".repeat(32));
        let one = AuditKey::load_or_create(dir.path(), Some(&key), true).unwrap();
        assert!(!dir.path().join("audit.key").exists());
        let other = AuditKey::load(dir.path(), Some(&SecretString::from("l".repeat(32)))).unwrap();
        assert_ne!(one.mac("", b""), other.mac("", b""));
        let weak = AuditKey::load(dir.path(), Some(&SecretString::from("k".repeat(31))));
        assert!(weak.unwrap_err().to_string().contains("audit.key"));
    }
}
