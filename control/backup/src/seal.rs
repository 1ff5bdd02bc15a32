//! The passphrase: Argon2id makes a key of it, XChaCha20-Poly1305 seals each object in chunks (the STREAM construction).
//!
//! An object's nonces come of its content, under the key, so that the same content is the same object and is not sent twice;
//! who has no key can't tell what it is. A chunk that was moved, cut, repeated or altered does not open.

use std::fmt;
use std::io::{ErrorKind, Read, Write};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::digest::{self, hex, unhex};
use crate::error::{BackupError, Result};

/// What a sealed object begins with.
const MAGIC: &[u8; 8] = b"OMUSEAL1";
/// Bytes of a chunk before it is sealed.
const CHUNK_BYTES: usize = 64 << 10;
/// Bytes of a chunk's tag.
const TAG_BYTES: usize = 16;
/// Bytes of a nonce that are the object's own; a counter and a mark of the end follow.
const PREFIX_BYTES: usize = 19;
/// The shortest passphrase, in characters.
const MIN_CHARS: usize = 12;
/// Argon2id as RFC 9106 recommends for machines with little memory: 64 MiB, three passes.
const COST: Cost = Cost { memory_kib: 64 << 10, passes: 3, lanes: 1 };
/// What a place may ask of this machine at most.
const MAX_COST: Cost = Cost { memory_kib: 1 << 20, passes: 16, lanes: 16 };

/// A passphrase, as the operator configured it.
#[derive(Clone)]
pub struct Passphrase(SecretString);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

impl Passphrase {
    /// A passphrase of at least twelve characters.
    ///
    /// # Errors
    /// The sentence to show when it is shorter.
    pub fn new(text: SecretString) -> Result<Self, String> {
        if text.expose_secret().chars().count() < MIN_CHARS {
            return Err(format!("must have at least {MIN_CHARS} characters: make one with `openssl rand -base64 24`"));
        }
        Ok(Self(text))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// How the key of a place is made of its passphrase, and whether it is the right one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealing {
    kdf: String,
    cost: Cost,
    salt: String,
    check: String,
}

/// The key of a place.
pub(crate) struct Key {
    cipher: XChaCha20Poly1305,
    secret: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Sealing {
    /// A new one with a salt of its own.
    pub(crate) fn new(passphrase: &Passphrase) -> Result<(Self, Key)> {
        let mut salt = [0_u8; 16];
        getrandom::fill(&mut salt)
            .map_err(|err| BackupError::Key(format!("the system gives no random bytes: {err}")))?;
        let draft = Self { kdf: "argon2id".to_owned(), cost: COST, salt: hex(&salt), check: String::new() };
        let key = draft.derive(passphrase)?;
        let check = key.check()?;
        Ok((Self { check, ..draft }, key))
    }

    /// The key, where the passphrase is the one that this was made with. Takes a tenth of a second and 64 MiB.
    pub(crate) fn open(&self, passphrase: &Passphrase) -> Result<Key> {
        let key = self.derive(passphrase)?;
        if key.check()? == self.check {
            return Ok(key);
        }
        Err(BackupError::Key(
            "the passphrase is not the one that this place's backups are sealed with; hint: set the old one as `backup.passphrase`, or use another place"
                .to_owned(),
        ))
    }

    fn derive(&self, passphrase: &Passphrase) -> Result<Key> {
        let Cost { memory_kib, passes, lanes } = self.cost;
        let bounded = memory_kib <= MAX_COST.memory_kib && passes <= MAX_COST.passes && lanes <= MAX_COST.lanes;
        let salt = unhex(&self.salt).filter(|salt| salt.len() >= 16 && bounded && self.kdf == "argon2id");
        let salt = salt.ok_or_else(|| BackupError::Damaged("its key can't be derived as it says".to_owned()))?;
        let fail = |err: argon2::Error| BackupError::Key(format!("the passphrase makes no key: {err}"));
        let params = Params::new(memory_kib, passes, lanes, Some(64)).map_err(fail)?;
        let mut made = Zeroizing::new([0_u8; 64]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.0.expose_secret().as_bytes(), &salt, made.as_mut_slice())
            .map_err(fail)?;
        let (seal, other) = made.split_at(32);
        let mut secret = Zeroizing::new([0_u8; 32]);
        secret.copy_from_slice(other);
        let cipher =
            XChaCha20Poly1305::new_from_slice(seal).map_err(|_| BackupError::Key("a key is too short".to_owned()))?;
        Ok(Key { cipher, secret })
    }
}

impl Key {
    fn check(&self) -> Result<String> {
        Ok(hex(&self.mac(b"openclawmu backup check")?))
    }

    /// Binds `bytes` to this key.
    pub(crate) fn mac(&self, bytes: &[u8]) -> Result<[u8; 32]> {
        digest::keyed(self.secret.as_slice(), bytes)
    }

    /// Seals `from`, whose SHA-256 is `content`, into `to`.
    pub(crate) fn seal(
        &self,
        content: &[u8; 32],
        mut from: impl Read,
        mut to: impl Write,
    ) -> Result<(), std::io::Error> {
        let prefix = self.mac(content).map_err(std::io::Error::other)?;
        let prefix: [u8; PREFIX_BYTES] = prefix.first_chunk().copied().unwrap_or_default();
        to.write_all(MAGIC)?;
        to.write_all(&prefix)?;
        let mut chunk = Chunk::read(&mut from, CHUNK_BYTES)?;
        for count in 0_u32.. {
            let next = if chunk.full { Chunk::read(&mut from, CHUNK_BYTES)? } else { Chunk::default() };
            let last = next.bytes.is_empty();
            let sealed = self.cipher.encrypt(&nonce(&prefix, count, last), chunk.bytes.as_slice());
            to.write_all(&sealed.map_err(|_| std::io::Error::other("a chunk can't be sealed"))?)?;
            if last {
                return Ok(());
            }
            chunk = next;
        }
        Err(std::io::Error::other("an object is too large to be sealed"))
    }

    /// Opens what [`Key::seal`] made, all of it or with an error.
    pub(crate) fn open(&self, mut from: impl Read, mut to: impl Write) -> Result<(), std::io::Error> {
        let broken = || std::io::Error::new(ErrorKind::InvalidData, "a sealed object was altered");
        let mut head = [0_u8; MAGIC.len() + PREFIX_BYTES];
        from.read_exact(&mut head).map_err(|_| broken())?;
        let (magic, prefix) = head.split_at(MAGIC.len());
        let prefix: [u8; PREFIX_BYTES] = prefix.try_into().map_err(|_| broken())?;
        if magic != MAGIC {
            return Err(broken());
        }
        let mut chunk = Chunk::read(&mut from, CHUNK_BYTES + TAG_BYTES)?;
        for count in 0_u32.. {
            let next = if chunk.full { Chunk::read(&mut from, CHUNK_BYTES + TAG_BYTES)? } else { Chunk::default() };
            let last = next.bytes.is_empty();
            let opened = self.cipher.decrypt(&nonce(&prefix, count, last), chunk.bytes.as_slice());
            to.write_all(&opened.map_err(|_| broken())?)?;
            if last {
                return Ok(());
            }
            chunk = next;
        }
        Err(broken())
    }
}

fn nonce(prefix: &[u8; PREFIX_BYTES], count: u32, last: bool) -> XNonce {
    let mut nonce = [0_u8; 24];
    for (place, byte) in nonce.iter_mut().zip(prefix.iter().copied().chain(count.to_be_bytes()).chain([u8::from(last)]))
    {
        *place = byte;
    }
    XNonce::from(nonce)
}

/// Bytes that are as many as asked for, or the last ones.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    full: bool,
}

impl Chunk {
    fn read(from: &mut impl Read, size: usize) -> std::io::Result<Self> {
        let mut bytes = Vec::with_capacity(size);
        from.take(size as u64).read_to_end(&mut bytes)?;
        let full = bytes.len() == size;
        Ok(Self { bytes, full })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    fn key() -> Key {
        let secret = Zeroizing::new([7; 32]);
        Key { cipher: XChaCha20Poly1305::new(&[9; 32].into()), secret }
    }

    fn sealed(plain: &[u8]) -> Vec<u8> {
        let mut to = Vec::new();
        key().seal(&Sha256::digest(plain).into(), plain, &mut to).unwrap();
        to
    }

    fn opened(sealed: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut to = Vec::new();
        key().open(sealed, &mut to).map(|()| to)
    }

    #[test]
    fn every_size_comes_back_and_the_same_content_is_the_same_object() {
        for size in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let plain = vec![5; size];
            let once = sealed(&plain);
            assert_eq!(once, sealed(&plain));
            assert_eq!(opened(&once).unwrap(), plain, "{size}");
            assert!(
                size == 0 || !once.windows(16.min(size)).any(|window| window == &plain[..16.min(size)]) || size < 16
            );
        }
    }

    /// B-02: what was cut, moved or altered does not open.
    #[test]
    fn b_02_a_sealed_object_that_was_cut_moved_or_altered_does_not_open() {
        let plain: Vec<u8> = (0..3 * CHUNK_BYTES).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let whole = sealed(&plain);
        let (head, chunk) = (MAGIC.len() + PREFIX_BYTES, CHUNK_BYTES + TAG_BYTES);
        for cut in [0, head, head + chunk, head + 2 * chunk, whole.len() - 1] {
            assert!(opened(&whole[..cut]).is_err(), "{cut}");
        }
        let mut swapped = whole[..head].to_vec();
        swapped.extend(&whole[head + chunk..head + 2 * chunk]);
        swapped.extend(&whole[head..head + chunk]);
        swapped.extend(&whole[head + 2 * chunk..]);
        assert!(opened(&swapped).is_err());
        assert!(opened(&[whole.clone(), vec![0; 20]].concat()).is_err());
        assert!(opened(&whole).is_ok());
    }

    proptest! {
        #[test]
        fn b_02_no_byte_of_a_sealed_object_can_be_changed(at in 0_usize..200, flip in 1_u8..) {
            let mut whole = sealed(&[3; 157]);
            let at = at % whole.len();
            whole[at] ^= flip;
            prop_assert!(opened(&whole).is_err());
        }
    }

    #[test]
    fn another_passphrase_is_told_at_once() {
        let phrase = |text: &str| Passphrase::new(SecretString::from(text)).unwrap();
        let (sealing, _) = Sealing::new(&phrase("correct horse battery")).unwrap();
        assert!(sealing.open(&phrase("correct horse battery")).is_ok());
        assert!(matches!(sealing.open(&phrase("correct horse batterY")), Err(BackupError::Key(_))));
        assert!(Passphrase::new(SecretString::from("short")).is_err());
    }
}
