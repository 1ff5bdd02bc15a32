//! The master key: seals what the database must keep but not be able to read. XChaCha20-Poly1305, a random nonce each.
//!
//! A sealed text opens only with the same key and the same associated data, so that one moved to another place is refused.

use std::fmt;
use std::path::Path;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use openclawmu_store::{SealedKey, TenantId};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::key::file;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const FORM: &str = "64 hexadecimal digits";

/// The key, ready for use. Its `Debug` shows nothing of it.
pub struct MasterKey(XChaCha20Poly1305);

/// A text that was not sealed with this key for this place, or was altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotSealedHere;

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    /// The key in `<data_dir>/master.key`; the first start makes it.
    ///
    /// # Errors
    /// [`KeyError`] when the file can't be used: others may read it, or it holds something else.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, KeyError> {
        let path = data_dir.join("master.key");
        if let Some(text) = file::read(&path)? {
            return Self::parse(&path, &text);
        }
        let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
        getrandom::fill(key.as_mut_slice()).map_err(KeyError::NoRandom)?;
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES));
        for byte in key.iter() {
            text.push_str(&format!("{byte:02x}"));
        }
        if file::create(&path, &text)? {
            return Ok(Self(XChaCha20Poly1305::new((&*key).into())));
        }
        // Another process was quicker: its key is the one that counts.
        let theirs = file::read(&path)?.ok_or_else(|| malformed(&path))?;
        Self::parse(&path, &theirs)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, KeyError> {
        let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
        if text.len() != 2 * KEY_BYTES || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(malformed(path));
        }
        for (place, byte) in key.iter_mut().enumerate() {
            let digits = text.get(2 * place..2 * place + 2).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).map_err(|_| malformed(path))?;
        }
        Ok(Self(XChaCha20Poly1305::new((&*key).into())))
    }

    /// Seals a tenant's key at an upstream under an id of its own.
    ///
    /// # Errors
    /// Why it can't be done.
    pub fn seal_provider_key(
        &self,
        tenant: &TenantId,
        upstream: &str,
        key: &SecretString,
    ) -> Result<SealedKey, String> {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).map_err(|err| format!("no random bytes: {err}"))?;
        let id = format!("pk_{:016x}", u64::from_be_bytes(random));
        let sealed = self.seal(place(tenant, upstream, &id).as_bytes(), key.expose_secret().as_bytes())?;
        Ok(SealedKey { id, upstream: upstream.to_owned(), sealed })
    }

    /// The tenant's key; `None` when it was sealed for another tenant or upstream, with another master key, or was altered.
    #[must_use]
    pub fn open_provider_key(&self, tenant: &TenantId, key: &SealedKey) -> Option<SecretString> {
        let plain = Zeroizing::new(self.open(place(tenant, &key.upstream, &key.id).as_bytes(), &key.sealed).ok()?);
        std::str::from_utf8(&plain).ok().map(SecretString::from)
    }

    /// Seals what is left of a conversation, for its tenant to carry.
    ///
    /// # Errors
    /// Why it can't be done.
    pub fn seal_compaction(&self, tenant: &TenantId, text: &str) -> Result<Vec<u8>, String> {
        self.seal(format!("compaction|{tenant}").as_bytes(), text.as_bytes())
    }

    /// What [`MasterKey::seal_compaction`] sealed for this tenant; `None` for anything else.
    #[must_use]
    pub fn open_compaction(&self, tenant: &TenantId, sealed: &[u8]) -> Option<String> {
        String::from_utf8(self.open(format!("compaction|{tenant}").as_bytes(), sealed).ok()?).ok()
    }

    /// Encrypts `plain` for the place that `aad` names.
    pub(crate) fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
        let mut nonce = [0_u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|err| format!("no random bytes: {err}"))?;
        let sealed = self
            .0
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad })
            .map_err(|_| "can't encrypt".to_owned())?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts what [`MasterKey::seal`] made for the same place.
    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, NotSealedHere> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or(NotSealedHere)?;
        let nonce = <[u8; NONCE_BYTES]>::try_from(nonce).map_err(|_| NotSealedHere)?;
        self.0.decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad }).map_err(|_| NotSealedHere)
    }
}

/// Where a provider key belongs: moved to another tenant or upstream, it does not open.
fn place(tenant: &TenantId, upstream: &str, id: &str) -> String {
    format!("provider_key|{tenant}|{upstream}|{id}")
}

fn malformed(path: &Path) -> KeyError {
    KeyError::Malformed { path: path.to_owned(), expected: FORM }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_in_its_place_and_unaltered() {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::load_or_create(dir.path()).unwrap();
        let again = MasterKey::load_or_create(dir.path()).unwrap();
        let sealed = key.seal(b"place", b"secret").unwrap();
        assert_eq!(again.open(b"place", &sealed).unwrap(), b"secret");
        assert_ne!(sealed, key.seal(b"place", b"secret").unwrap(), "a nonce is never used twice");
        assert_eq!(key.open(b"elsewhere", &sealed), Err(NotSealedHere));
        for place in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[place] ^= 1;
            assert_eq!(key.open(b"place", &altered), Err(NotSealedHere));
        }
        assert_eq!(key.open(b"place", &sealed[..10]), Err(NotSealedHere));
        let other = MasterKey::load_or_create(tempfile::tempdir().unwrap().path()).unwrap();
        assert_eq!(other.open(b"place", &sealed), Err(NotSealedHere));
        assert_eq!(format!("{key:?}"), "MasterKey");
    }

    #[test]
    fn a_file_that_holds_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["", "00", "zz", &"0".repeat(63), &"g".repeat(64)] {
            let path = dir.path().join("master.key");
            drop(std::fs::remove_file(&path));
            file::create(&path, bad).unwrap();
            assert!(matches!(MasterKey::load_or_create(dir.path()), Err(KeyError::Malformed { .. })), "{bad}");
        }
    }

    #[test]
    fn a_provider_key_opens_only_for_its_tenant_and_upstream() {
        let dir = tempfile::tempdir().unwrap();
        let master = MasterKey::load_or_create(dir.path()).unwrap();
        let (acme, other): (TenantId, TenantId) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let sealed = master.seal_provider_key(&acme, "openai", &SecretString::from("sk-secret")).unwrap();
        assert_eq!(master.open_provider_key(&acme, &sealed).unwrap().expose_secret(), "sk-secret");
        assert!(master.open_provider_key(&other, &sealed).is_none());
        let moved = SealedKey { upstream: "evil".to_owned(), ..sealed.clone() };
        assert!(master.open_provider_key(&acme, &moved).is_none());
        assert!(!String::from_utf8_lossy(&sealed.sealed).contains("secret"));
    }
}
