//! The pepper: keys outside the database, without which its token hashes are worth nothing.
//!
//! `<data>/pepper.key` holds one `kid hex(32 bytes)` a line. The first line hashes new tokens; the others still verify
//! old ones. The file is made once, for a store that has no tokens; it is never made anew for one that has.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::error::{Result, StoreError};

/// What the keys that sign client secrets are made of, beside the pepper. No token's id and secret look like it.
const SIGNING: &[u8] = b"openclawmu/client-secret/v1";
/// Bytes of one key.
const KEY_BYTES: usize = 32;
/// No pepper file is larger, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// The keys, ready for use. Their order is that of the file.
pub(crate) struct Pepper {
    keys: Vec<(String, Hmac<Sha256>)>,
    /// The keys that sign client secrets, one for each of `keys`.
    signing: Vec<Hmac<Sha256>>,
    current: Hmac<Sha256>,
    current_kid: String,
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper")
    }
}

/// What the database keeps of a token's secret.
pub(crate) struct HashedToken {
    pub(crate) kid: String,
    pub(crate) hash: [u8; 32],
}

impl Pepper {
    /// Reads the file; makes it when there is none and `has_tokens` is false.
    pub(crate) fn open(path: &Path, has_tokens: bool) -> Result<Self> {
        match OpenOptions::new().read(true).open(path) {
            Ok(file) => Self::parse(&read(path, file)?).map_err(|reason| refused(path, &reason)),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound && !has_tokens => {
                let text = generate()?;
                create(path, &text).map_err(|err| refused(path, &format!("can't be written: {err}")))?;
                Self::parse(&text).map_err(|reason| refused(path, &reason))
            }
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Err(refused(
                path,
                "is missing, and the tokens in the database can't be verified without it; put it back from a backup, \
                 or remove the tokens by starting with an empty data directory",
            )),
            Err(err) => Err(refused(path, &format!("can't be read: {err}"))),
        }
    }

    /// The ids of the keys, the one that hashes new tokens first.
    pub(crate) fn kids(&self) -> Vec<String> {
        self.keys.iter().map(|(kid, _)| kid.clone()).collect()
    }

    /// Writes a new key in front of the others and takes those out that no token of `live` needs; the present one stays for
    /// tokens that are being made. Gives the new pepper and the ids that are gone. Fails with the file as it was.
    pub(crate) fn rotate(path: &Path, live: &[String]) -> Result<(Self, Vec<String>)> {
        let failed = |err: std::io::Error| refused(path, &format!("can't be written: {err}"));
        let file = OpenOptions::new().read(true).open(path).map_err(failed)?;
        let old = read(path, file)?;
        let kid = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
        let lines: Vec<&str> = old.lines().filter(|line| !line.trim().is_empty()).collect();
        let is_kept = |(place, line): &(usize, &&str)| *place == 0 || live.contains(&kid(line));
        let (kept, gone): (Vec<_>, Vec<_>) = lines.iter().enumerate().partition(is_kept);
        let mut text = generate()?;
        for (_, line) in kept {
            text.push_str(line.trim());
            text.push('\n');
        }
        let pepper = Self::parse(&text).map_err(|reason| refused(path, &reason))?;
        create(path, &text).map_err(failed)?;
        Ok((pepper, gone.into_iter().map(|(_, line)| kid(line)).collect()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let key = key_of_line(line).ok_or_else(|| {
                format!("line {} is not `kid` and 64 hex digits; put the file back from a backup", at + 1)
            })?;
            keys.push(key);
        }
        let (current_kid, current) = keys.first().cloned().ok_or("is empty; put it back from a backup")?;
        let signing = keys.iter().map(|(_, key)| signing_key(key)).collect::<Option<_>>().ok_or("can't be used")?;
        Ok(Self { keys, signing, current, current_kid })
    }

    /// What tells each key from others, in the file's order, and gives nothing of it away.
    pub(crate) fn fingerprints(&self) -> Vec<String> {
        let print = |key: &Hmac<Sha256>| {
            let mut mac = key.clone();
            mac.update(b"openclawmu pepper fingerprint");
            mac.finalize().into_bytes().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
        };
        self.keys.iter().map(|(_, key)| print(key)).collect()
    }

    /// Hashes a new token with the current key.
    pub(crate) fn hash(&self, id: &str, secret: &str) -> HashedToken {
        HashedToken { kid: self.current_kid.clone(), hash: keyed(&self.current, id, secret) }
    }

    /// Where the key `kid` stands, if it is here.
    pub(crate) fn position(&self, kid: &str) -> Option<usize> {
        self.keys.iter().position(|(known, _)| known == kid)
    }

    /// Whether the key at `position` gives `hash`. Takes as long when it doesn't, and when there is no such key.
    pub(crate) fn verify(&self, position: Option<usize>, hash: &[u8; 32], id: &str, secret: &str) -> bool {
        let key = position.and_then(|at| self.keys.get(at)).map(|(_, key)| key);
        let equal = keyed(key.unwrap_or(&self.current), id, secret).ct_eq(hash);
        key.is_some() && bool::from(equal)
    }

    /// Signs the parts of a client secret with the current key.
    pub(crate) fn sign(&self, parts: [&[u8]; 2]) -> Result<[u8; 32]> {
        let key = self.signing.first().ok_or_else(|| StoreError::Corrupt("the pepper has no key".to_owned()))?;
        Ok(signature(key, parts))
    }

    /// Whether one of the keys gave `signature` to these parts. Takes as long whichever it was, and when none did.
    pub(crate) fn signed(&self, parts: [&[u8]; 2], given: &[u8; 32]) -> bool {
        let mut right = Choice::from(0);
        for key in &self.signing {
            right |= signature(key, parts).ct_eq(given);
        }
        right.into()
    }
}

/// A key for another purpose: what it signs says nothing of the hashes.
fn signing_key(key: &Hmac<Sha256>) -> Option<Hmac<Sha256>> {
    let mut mac = key.clone();
    mac.update(SIGNING);
    Hmac::new_from_slice(&mac.finalize().into_bytes()).ok()
}

fn signature(key: &Hmac<Sha256>, parts: [&[u8]; 2]) -> [u8; 32] {
    let mut mac = key.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn keyed(key: &Hmac<Sha256>, id: &str, secret: &str) -> [u8; 32] {
    let mut mac = key.clone();
    mac.update(id.as_bytes());
    mac.update(secret.as_bytes());
    mac.finalize().into_bytes().into()
}

fn key_of_line(line: &str) -> Option<(String, Hmac<Sha256>)> {
    let (kid, hex) = line.trim().split_once(' ')?;
    let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
    let hex = hex.trim().as_bytes();
    if kid.is_empty() || hex.len() != 2 * KEY_BYTES {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(hex.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some((kid.to_owned(), Hmac::new_from_slice(key.as_slice()).ok()?))
}

fn read(path: &Path, file: File) -> Result<Zeroizing<String>> {
    let failed = |err: std::io::Error| refused(path, &format!("can't be read: {err}"));
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(refused(path, "must be a file that belongs to the user who runs this program; `chown` it"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(refused(path, "can be read by other users; run `chmod 600` on it"));
    }
    let mut text = Zeroizing::new(String::with_capacity(4096));
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn generate() -> Result<Zeroizing<String>> {
    use std::fmt::Write;
    let mut random = Zeroizing::new([0_u8; KEY_BYTES + 4]);
    getrandom::fill(random.as_mut_slice()).map_err(|err| StoreError::Unavailable(format!("no random bytes: {err}")))?;
    let mut text = Zeroizing::new(String::with_capacity(128));
    for (at, byte) in random.iter().enumerate() {
        // A random name, so that another store's pepper is told apart by name and not only by its failing.
        let space = if at == 4 { " " } else { "" };
        write!(text, "{space}{byte:02x}").map_err(|err| StoreError::Unavailable(err.to_string()))?;
    }
    text.push('\n');
    Ok(text)
}

/// Writes the whole file or none of it: a half one would lock the operator out.
fn create(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

fn refused(path: &Path, reason: &str) -> StoreError {
    StoreError::KeyFile { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_start_makes_a_private_file_and_the_next_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pepper.key");
        let first = Pepper::open(&path, false).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let again = Pepper::open(&path, true).unwrap();
        let hashed = first.hash("id", "secret");
        assert!(again.verify(again.position(&hashed.kid), &hashed.hash, "id", "secret"));
        assert!(!again.verify(again.position(&hashed.kid), &hashed.hash, "id", "secreT"));
        assert!(!again.verify(None, &hashed.hash, "id", "secret"));
    }

    #[test]
    fn a_11_a_missing_loose_or_broken_file_is_refused_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pepper.key");
        let reason = |has_tokens| match Pepper::open(&path, has_tokens) {
            Err(StoreError::KeyFile { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        assert!(reason(true).contains("is missing"));
        assert!(!path.exists());
        drop(Pepper::open(&path, false).unwrap());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(reason(true).contains("chmod 600"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        for broken in ["", "\n", "abc", "k 00", &format!("k {}", "+1".repeat(32)), &format!("k {}", "é".repeat(32))] {
            std::fs::write(&path, broken).unwrap();
            assert!(reason(true).contains("backup"), "{broken}");
        }
    }

    #[test]
    fn a_signature_holds_for_its_parts_under_any_key_of_the_file_and_is_no_hash() {
        let (old, new) = ("1".repeat(64), "2".repeat(64));
        let before = Pepper::parse(&format!("old {old}\n")).unwrap();
        let after = Pepper::parse(&format!("new {new}\nold {old}\n")).unwrap();
        let gone = Pepper::parse(&format!("new {new}\n")).unwrap();
        let given = before.sign([b"a", b"b"]).unwrap();
        assert!(before.signed([b"a", b"b"], &given) && after.signed([b"a", b"b"], &given));
        assert!(!gone.signed([b"a", b"b"], &given) && !before.signed([b"a", b"c"], &given));
        assert_ne!(before.hash("a", "b").hash, given);
    }

    #[test]
    fn a_rotation_keeps_what_live_tokens_need_and_the_key_that_was_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pepper.key");
        let first = Pepper::open(&path, false).unwrap();
        let hashed = first.hash("id", "secret");
        let (second, gone) = Pepper::rotate(&path, &[]).unwrap();
        assert!(gone.is_empty() && second.kids().len() == 2 && second.kids()[1] == hashed.kid);
        assert!(second.verify(second.position(&hashed.kid), &hashed.hash, "id", "secret"));
        let (third, gone) = Pepper::rotate(&path, std::slice::from_ref(&hashed.kid)).unwrap();
        assert!(gone.is_empty() && third.kids().len() == 3);
        let (fourth, gone) = Pepper::rotate(&path, &[]).unwrap();
        assert_eq!((fourth.kids().len(), gone.len(), fourth.position(&hashed.kid)), (2, 2, None));
        assert_eq!(Pepper::open(&path, true).unwrap().kids(), fourth.kids());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_first_line_hashes_and_the_others_still_verify() {
        let (old, new) = ("1".repeat(64), "2".repeat(64));
        let before = Pepper::parse(&format!("old {old}\n")).unwrap();
        let after = Pepper::parse(&format!("new {new}\nold {old}\n")).unwrap();
        let hashed = before.hash("id", "secret");
        assert!(after.verify(after.position(&hashed.kid), &hashed.hash, "id", "secret"));
        assert_eq!(after.hash("id", "secret").kid, "new");
    }
}
