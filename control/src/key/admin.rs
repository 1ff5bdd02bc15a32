//! The admin keys: whoever presents one may do everything. Only their hashes are kept in memory.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::key::file;

/// The least that an admin key must have: 32 characters can't be guessed.
pub(crate) const MIN_ADMIN_KEY_CHARS: usize = 32;
/// 62^43 is just over 2^256.
const MADE_CHARS: usize = 43;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Where the admin keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The configuration.
    Configured,
    /// This file, which was there.
    File(PathBuf),
    /// This file, which was made now: the operator has not seen it yet.
    Created(PathBuf),
}

/// The admin keys. Its `Debug` shows nothing of them.
pub struct AdminKeys {
    keys: Vec<(String, [u8; 32])>,
    source: KeySource,
}

impl fmt::Debug for AdminKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminKeys").field("source", &self.source).finish_non_exhaustive()
    }
}

impl AdminKeys {
    /// The configured keys; without any, the one in `<data_dir>/admin.key`, which the first start makes.
    ///
    /// # Errors
    /// [`KeyError`] when a key is too short or can't be used, or its file can't.
    pub fn load_or_create(data_dir: &Path, configured: Vec<SecretString>) -> Result<Self, KeyError> {
        if !configured.is_empty() {
            let named =
                configured.iter().enumerate().map(|(place, key)| (format!("admin.keys[{place}]"), key.expose_secret()));
            let keys = named.map(|(name, key)| hashed(name, key)).collect::<Result<_, _>>()?;
            return Ok(Self { keys, source: KeySource::Configured });
        }
        let path = data_dir.join("admin.key");
        let made = match file::read(&path)? {
            Some(_) => false,
            None => file::create(&path, &generate()?)?,
        };
        let key =
            file::read(&path)?.ok_or_else(|| KeyError::Malformed { path: path.clone(), expected: "an admin key" })?;
        let keys = vec![hashed(path.display().to_string(), &key).map(|(_, hash)| ("admin.key".to_owned(), hash))?];
        Ok(Self { keys, source: if made { KeySource::Created(path) } else { KeySource::File(path) } })
    }

    /// Where they come from.
    #[must_use]
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// The name of the key that was presented, if it is one. Takes the same time whichever it is, and whether it is.
    pub(crate) fn name_of(&self, presented: &str) -> Option<&str> {
        let hash: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        let mut found = None;
        for (name, known) in &self.keys {
            // Hashes are compared in full, and each of them always.
            if bool::from(known.ct_eq(&hash)) {
                found = Some(name.as_str());
            }
        }
        found
    }
}

fn hashed(name: String, key: &str) -> Result<(String, [u8; 32]), KeyError> {
    if key.chars().count() < MIN_ADMIN_KEY_CHARS {
        return Err(KeyError::TooShort { name });
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(KeyError::Unusable { name, reason: "holds something else than visible ASCII characters" });
    }
    // A tenant's credential on this listener is a mistake and is answered as one.
    if key.starts_with("tk_") || key.starts_with("ek_") {
        return Err(KeyError::Unusable { name, reason: "begins like a tenant's credential" });
    }
    Ok((name, Sha256::digest(key.as_bytes()).into()))
}

/// `ak_` and 43 random characters.
fn generate() -> Result<Zeroizing<String>, KeyError> {
    let mut key = Zeroizing::new(String::from("ak_"));
    let mut random = Zeroizing::new([0_u8; 64]);
    while key.len() < 3 + MADE_CHARS {
        getrandom::fill(random.as_mut_slice()).map_err(KeyError::NoRandom)?;
        // 248 is the largest multiple of 62 in a byte: above it, some characters would be likelier than others.
        let even = random.iter().filter(|byte| **byte < 248);
        let letters = even.filter_map(|byte| BASE62.get(usize::from(byte % 62)));
        let missing = 3 + MADE_CHARS - key.len();
        key.extend(letters.take(missing).map(|&letter| char::from(letter)));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(keys: &[&str]) -> Vec<SecretString> {
        keys.iter().map(|key| SecretString::from(*key)).collect()
    }

    #[test]
    fn the_first_start_makes_a_key_and_the_next_uses_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.key");
        let made = AdminKeys::load_or_create(dir.path(), Vec::new()).unwrap();
        assert_eq!(made.source(), &KeySource::Created(path.clone()));
        let text = std::fs::read_to_string(&path).unwrap();
        let key = text.trim();
        assert_eq!(key.len(), 46);
        assert!(key.starts_with("ak_") && key[3..].bytes().all(|byte| byte.is_ascii_alphanumeric()), "{key}");
        let again = AdminKeys::load_or_create(dir.path(), Vec::new()).unwrap();
        assert_eq!(again.source(), &KeySource::File(path));
        assert_eq!(again.name_of(key), Some("admin.key"));
        assert_eq!(again.name_of(&key[..45]), None);
        assert!(!format!("{again:?}").contains(&key[3..]));
    }

    #[test]
    fn each_configured_key_opens_and_no_file_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = ("a".repeat(32), "b".repeat(40));
        let keys = AdminKeys::load_or_create(dir.path(), secrets(&[&one, &two])).unwrap();
        assert_eq!((keys.name_of(&one), keys.name_of(&two)), (Some("admin.keys[0]"), Some("admin.keys[1]")));
        assert_eq!((keys.name_of(""), keys.name_of(&"a".repeat(33))), (None, None));
        assert!(!dir.path().join("admin.key").exists());
    }

    #[test]
    fn a_weak_or_confusing_key_is_refused_without_being_shown() {
        let dir = tempfile::tempdir().unwrap();
        let tenant = format!("tk_acme_{}", "x".repeat(61));
        for bad in ["short", "", &"x".repeat(31), &format!("{} with spaces", "x".repeat(32)), &tenant] {
            let err = AdminKeys::load_or_create(dir.path(), secrets(&[bad])).unwrap_err().to_string();
            assert!(err.contains("admin.keys[0]") && err.contains("openssl"), "{err}");
            assert!(bad.is_empty() || !err.contains(bad), "{err}");
        }
        std::fs::remove_file(dir.path().join("admin.key")).ok();
        file::create(&dir.path().join("admin.key"), "weak").unwrap();
        assert!(matches!(AdminKeys::load_or_create(dir.path(), Vec::new()), Err(KeyError::TooShort { .. })));
    }
}
