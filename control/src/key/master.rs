//! The master keys: they seal what the database must keep but not be able to read. XChaCha20-Poly1305, a random nonce each.
//!
//! `<data>/master.key` holds one key a line, 64 hexadecimal digits. The first one seals; the others still open what they
//! sealed. A sealed text names its key, and opens only with it and with the same associated data, so that one moved to
//! another place is refused.
//!
//! A rotation: the new key is written in front of the old ones; then nobody seals while it takes their place in memory, so
//! that whatever the old ones sealed has been committed; then everything is sealed anew; at last the old ones leave the file.
//! They stay in memory, since a request in progress may hold what they sealed; so what a client carries that was sealed before
//! opens until the next start, and not after it. A crash at any step leaves a file with which
//! everything opens, and the next rotation goes on where it ended.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use openclawmu_store::{SealedKey, TenantId};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, RwLock as AsyncLock, RwLockReadGuard};
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::key::file;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const KID_BYTES: usize = 8;
/// What a sealed text begins with: this, the key's id, the nonce.
const MARK: &[u8] = b"ocm1";
const FORM: &str = "64 hexadecimal digits a line";

/// One key.
#[derive(Clone)]
struct Key {
    kid: Kid,
    cipher: XChaCha20Poly1305,
}

/// A key's id: the beginning of a hash of it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kid([u8; KID_BYTES]);

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Key {
    fn of(bytes: &[u8; KEY_BYTES]) -> Self {
        let hash = Sha256::new().chain_update(b"openclawmu master key id").chain_update(bytes).finalize();
        let mut kid = [0; KID_BYTES];
        kid.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        Self { kid: Kid(kid), cipher: XChaCha20Poly1305::new(bytes.into()) }
    }

    /// Reads a line of the file.
    fn parse(line: &str) -> Option<Self> {
        let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
        if line.len() != 2 * KEY_BYTES || !line.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (place, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(line.get(2 * place..2 * place + 2)?, 16).ok()?;
        }
        Some(Self::of(&key))
    }
}

/// The keys, ready for use. Its `Debug` shows nothing of them.
pub struct MasterKey {
    path: PathBuf,
    /// Those of the file, then those that left it since the start.
    keys: RwLock<Arc<Vec<Key>>>,
    /// Held while something is sealed and stored; alone while the first key changes.
    sealing: AsyncLock<()>,
    /// One rotation at a time.
    rotating: AsyncMutex<()>,
}

/// A text that was not sealed for this place with a key that is here, or was altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotSealedHere;

/// While it lives, the key that seals stays the same: held until what was sealed is committed.
#[must_use = "it ends with this value"]
#[derive(Debug)]
pub(crate) struct Sealing<'a> {
    _held: RwLockReadGuard<'a, ()>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    /// The keys in `<data_dir>/master.key`; the first start makes one.
    ///
    /// # Errors
    /// [`KeyError`] when the file can't be used: others may read it, or it holds something else.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, KeyError> {
        let path = data_dir.join("master.key");
        let text = match file::read(&path)? {
            Some(text) => text,
            None => {
                file::create(&path, &generate()?)?;
                // Where another process was quicker, its key is the one that counts.
                file::read(&path)?.ok_or_else(|| malformed(&path))?
            }
        };
        let keys = parse(&path, &text)?;
        Ok(Self { path, keys: RwLock::new(Arc::new(keys)), sealing: AsyncLock::new(()), rotating: AsyncMutex::new(()) })
    }

    /// The keys in `<data_dir>/master.key`, which must be there.
    ///
    /// # Errors
    /// [`KeyError`] when the file is missing or can't be used.
    pub fn load(data_dir: &Path) -> Result<Self, KeyError> {
        let path = data_dir.join("master.key");
        if file::read(&path)?.is_none() {
            return Err(KeyError::File { path, source: std::io::ErrorKind::NotFound.into() });
        }
        Self::load_or_create(data_dir)
    }

    /// What is sealed for one tenant, sealed for another under an id of its own.
    ///
    /// # Errors
    /// Why it can't be done.
    pub fn reseal_provider_key(&self, from: &TenantId, to: &TenantId, key: &SealedKey) -> Result<SealedKey, String> {
        let plain = self.open_provider_key(from, key).ok_or("a provider key was not sealed with this master key")?;
        self.seal_provider_key(to, &key.upstream, &plain)
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

    /// To be held from before something is sealed until it is committed.
    pub(crate) async fn sealing(&self) -> Sealing<'_> {
        Sealing { _held: self.sealing.read().await }
    }

    /// Encrypts `plain` for the place that `aad` names.
    pub(crate) fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
        let keys = self.keys();
        let key = keys.first().ok_or_else(|| "there is no key".to_owned())?;
        let mut nonce = [0_u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|err| format!("no random bytes: {err}"))?;
        let aad = bound(aad, key.kid);
        let sealed = key
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &aad })
            .map_err(|_| "can't encrypt".to_owned())?;
        Ok([MARK, &key.kid.0, nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts what [`MasterKey::seal`] made for the same place.
    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, NotSealedHere> {
        let kid = kid_of(sealed).ok_or(NotSealedHere)?;
        let keys = self.keys();
        let key = keys.iter().find(|key| key.kid == kid).ok_or(NotSealedHere)?;
        let (nonce, text) = sealed
            .get(MARK.len() + KID_BYTES..)
            .and_then(|rest| rest.split_at_checked(NONCE_BYTES))
            .ok_or(NotSealedHere)?;
        let nonce = <[u8; NONCE_BYTES]>::try_from(nonce).map_err(|_| NotSealedHere)?;
        let aad = bound(aad, kid);
        key.cipher.decrypt(&XNonce::from(nonce), Payload { msg: text, aad: &aad }).map_err(|_| NotSealedHere)
    }

    /// What every text that the present key sealed begins with.
    pub(crate) fn mark(&self) -> Vec<u8> {
        let kid = self.keys().first().map_or([0; KID_BYTES], |key| key.kid.0);
        [MARK, &kid].concat()
    }

    /// The ids of the keys in the file, the one that seals first.
    ///
    /// # Errors
    /// [`KeyError`] when the file can't be read.
    pub fn kids(&self) -> Result<Vec<String>, KeyError> {
        Ok(self.in_file()?.iter().map(|key| key.kid.to_string()).collect())
    }

    /// To be held from the beginning of a rotation to its end.
    pub(crate) async fn rotation(&self) -> Rotation<'_> {
        Rotation { master: self, _one: self.rotating.lock().await }
    }

    /// Seals with the first key of the file from now on.
    async fn take_first(&self) -> Result<(), KeyError> {
        let mut keys = self.in_file()?;
        let _alone = self.sealing.write().await;
        let known = self.keys();
        let gone: Vec<Key> = known.iter().filter(|old| !keys.iter().any(|key| key.kid == old.kid)).cloned().collect();
        keys.extend(gone);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }

    fn in_file(&self) -> Result<Vec<Key>, KeyError> {
        let text = file::read(&self.path)?.ok_or_else(|| malformed(&self.path))?;
        parse(&self.path, &text)
    }

    fn keys(&self) -> Arc<Vec<Key>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A key that was made and is in no file yet.
pub(crate) struct Fresh {
    text: Zeroizing<String>,
    kid: Kid,
}

impl Fresh {
    /// Its id.
    pub(crate) fn kid(&self) -> String {
        self.kid.to_string()
    }
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

/// The one rotation that runs.
#[derive(Debug)]
pub(crate) struct Rotation<'a> {
    master: &'a MasterKey,
    _one: MutexGuard<'a, ()>,
}

impl Rotation<'_> {
    /// Makes a new key, in memory alone; none where the last rotation has not ended, which is to be ended first.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(crate) fn prepare(&self) -> Result<Option<Fresh>, KeyError> {
        if self.master.in_file()?.len() > 1 {
            return Ok(None);
        }
        let text = generate()?;
        let key = Key::parse(&text).ok_or_else(|| malformed(&self.master.path))?;
        Ok(Some(Fresh { text, kid: key.kid }))
    }

    /// Writes the new key, if there is one, in front of the others, and seals with the first of the file from now on. On
    /// return all that the old keys sealed is committed.
    ///
    /// # Errors
    /// [`KeyError`]; then the keys are as they were.
    pub(crate) async fn begin(&self, fresh: Option<Fresh>) -> Result<(), KeyError> {
        let path = &self.master.path;
        if let Some(fresh) = fresh {
            let old = file::read(path)?.ok_or_else(|| malformed(path))?;
            file::replace(path, &Zeroizing::new(format!("{}\n{}", *fresh.text, *old)))?;
        }
        self.master.take_first().await
    }

    /// Takes all keys but the first out of the file; they still open until this process ends. Gives their ids.
    ///
    /// # Errors
    /// [`KeyError`]; then the file is as it was.
    pub(crate) fn end(&self) -> Result<Vec<String>, KeyError> {
        let path = &self.master.path;
        let text = file::read(path)?.ok_or_else(|| malformed(path))?;
        let retired: Vec<String> = parse(path, &text)?.iter().skip(1).map(|key| key.kid.to_string()).collect();
        if !retired.is_empty() {
            file::replace(path, text.lines().next().unwrap_or_default())?;
        }
        Ok(retired)
    }
}

/// The id of the key that sealed a text, if it is one.
fn kid_of(sealed: &[u8]) -> Option<Kid> {
    let kid = sealed.strip_prefix(MARK)?.get(..KID_BYTES)?;
    kid.try_into().ok().map(Kid)
}

/// A place, and the key that seals for it.
fn bound(aad: &[u8], kid: Kid) -> Vec<u8> {
    [aad, b"|", &kid.0].concat()
}

/// Where a provider key belongs: moved to another tenant or upstream, it does not open.
pub(crate) fn place(tenant: &TenantId, upstream: &str, id: &str) -> String {
    format!("provider_key|{tenant}|{upstream}|{id}")
}

/// Where a channel's credentials belong.
pub(crate) fn channel_place(tenant: &TenantId, channel: &str) -> String {
    format!("channel|{tenant}|{channel}")
}

fn generate() -> Result<Zeroizing<String>, KeyError> {
    use std::fmt::Write;
    let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
    getrandom::fill(key.as_mut_slice()).map_err(KeyError::NoRandom)?;
    let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES));
    for byte in key.iter() {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Key>, KeyError> {
    let keys: Vec<Key> = text.lines().map(|line| Key::parse(line.trim())).collect::<Option<_>>().unwrap_or_default();
    if keys.is_empty() { Err(malformed(path)) } else { Ok(keys) }
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
        for length in [0, 3, 4, 11, 12, 20, 36, 40] {
            assert_eq!(key.open(b"place", &sealed[..length]), Err(NotSealedHere));
        }
        let other = MasterKey::load_or_create(tempfile::tempdir().unwrap().path()).unwrap();
        assert_eq!(other.open(b"place", &sealed), Err(NotSealedHere));
        assert_eq!(format!("{key:?}"), "MasterKey");
    }

    #[test]
    fn a_file_that_holds_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let good = "0".repeat(64);
        for bad in ["", "00", "zz", &"0".repeat(63), &"g".repeat(64), &format!("{good}\nx"), &format!("x\n{good}")] {
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

    /// Each start stands for a crash at that step.
    #[tokio::test]
    async fn whatever_was_sealed_opens_after_a_crash_at_any_step_of_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let start = || MasterKey::load_or_create(dir.path()).unwrap();
        let before = start();
        let old = before.seal(b"place", b"old").unwrap();
        let rotation = before.rotation().await;
        rotation.begin(rotation.prepare().unwrap()).await.unwrap();
        let new = before.seal(b"place", b"new").unwrap();
        assert!(new.starts_with(&before.mark()) && !old.starts_with(&before.mark()));
        let between = start();
        assert_eq!(between.kids().unwrap().len(), 2);
        for (sealed, plain) in [(&old, b"old"), (&new, b"new")] {
            assert_eq!(between.open(b"place", sealed).unwrap(), plain);
        }
        assert!(
            between.seal(b"place", b"x").unwrap().starts_with(&before.mark()),
            "the new key seals after a start, too"
        );
        let rotation = between.rotation().await;
        assert!(rotation.prepare().unwrap().is_none(), "one that has not ended is to be ended first");
        rotation.begin(None).await.unwrap();
        assert_eq!(between.kids().unwrap().len(), 2);
        assert_eq!((rotation.end().unwrap().len(), between.kids().unwrap().len()), (1, 1));
        assert_eq!(between.open(b"place", &old).unwrap(), b"old", "a request in progress may still hold it");
        let after = start();
        assert_eq!(after.open(b"place", &old), Err(NotSealedHere));
        assert_eq!(after.open(b"place", &new).unwrap(), b"new");
        assert_eq!(after.rotation().await.end().unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn the_key_does_not_change_between_a_seal_and_its_commit() {
        let dir = tempfile::tempdir().unwrap();
        let master = MasterKey::load_or_create(dir.path()).unwrap();
        let mark = master.mark();
        let held = master.sealing().await;
        let rotation = master.rotation().await;
        let mut begun = Box::pin(rotation.begin(rotation.prepare().unwrap()));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(begun.as_mut().poll(&mut context).is_pending());
        assert_eq!(master.mark(), mark);
        drop(held);
        begun.await.unwrap();
        assert_ne!(master.mark(), mark);
    }
}
