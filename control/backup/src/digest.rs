//! Hashes, as hex.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::error::{BackupError, Result};

/// Bytes read at once.
const BUFFER_BYTES: usize = 1 << 16;

/// The hash and the size of what is written through it.
pub(crate) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// The writer, the hash in hex and the count of bytes.
    pub(crate) fn finish(self) -> (W, String, u64) {
        (self.inner, hex(&self.hash.finalize()), self.bytes)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// The hash and the size of a file.
pub(crate) fn of_file(path: &Path) -> Result<([u8; 32], u64)> {
    let fail = |source| BackupError::File { path: path.to_owned(), source };
    let (mut file, mut hash, mut bytes) = (File::open(path).map_err(fail)?, Sha256::new(), 0);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = file.read(&mut buffer).map_err(fail)?;
        if length == 0 {
            return Ok((hash.finalize().into(), bytes));
        }
        hash.update(buffer.get(..length).unwrap_or_default());
        bytes += length as u64;
    }
}

/// The hash of `bytes`, in hex.
pub(crate) fn of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A keyed hash.
pub(crate) fn keyed(key: &[u8], bytes: &[u8]) -> Result<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| BackupError::Key("a key has no bytes".to_owned()))?;
    mac.update(bytes);
    Ok(mac.finalize().into_bytes().into())
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of hex; `None` where it is none.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok().filter(|_| pair.len() == 2)).collect()
}
