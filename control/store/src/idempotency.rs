//! Idempotency keys: the same key and request give the same answer, and the change happens once.
//!
//! The key is looked up, the change made, its answer sealed and stored, all in the change's own transaction on the one
//! writer's thread. So of two concurrent calls with one key one makes the change and the other finds its answer, and a
//! crash leaves both or neither. A change that fails stores nothing: the same key may try again.
//!
//! The answer may hold a new secret, so this file never sees it: the caller's `seal` hands over encrypted bytes.

#[cfg(test)]
mod tests;

use std::fmt;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::change::Task;
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::store::Store;

/// How long an answer is kept, in milliseconds.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// Makes the answer to keep from what the change brought about; runs in the change's transaction, so it must be quick.
type Seal<T> = Box<dyn FnOnce(&T) -> Result<StoredAnswer> + Send>;

/// A caller's key, what it asked for, and how its answer is kept.
pub struct Idempotency<T> {
    key: String,
    request_hash: [u8; 32],
    seal: Seal<T>,
}

impl<T> fmt::Debug for Idempotency<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency").field("key", &self.key).finish_non_exhaustive()
    }
}

impl<T> Idempotency<T> {
    /// `request_hash` covers all that makes two requests the same: caller, method, path, body.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when the key is empty, longer than 255 bytes or not printable ASCII.
    pub fn new(
        key: &str,
        request_hash: [u8; 32],
        seal: impl FnOnce(&T) -> Result<StoredAnswer> + Send + 'static,
    ) -> Result<Self> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(StoreError::invalid("Idempotency-Key", "must be 1 to 255 printable ASCII characters"));
        }
        Ok(Self { key: key.to_owned(), request_hash, seal: Box::new(seal) })
    }
}

/// An answer as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body, encrypted by the caller.
    pub sealed: Vec<u8>,
}

/// How a call with a key ended.
#[derive(Debug)]
pub enum Answered<T> {
    /// The change was made now.
    Now(T),
    /// It was made before; this is what was answered then.
    Before(StoredAnswer),
}

impl Store {
    /// The answer that `key` got in the last 24 hours, if any. Only a look: [`crate::Change::once`] decides.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] when the key came with another request.
    pub fn idempotent_answer(&self, key: &str, request_hash: &[u8; 32]) -> Result<Option<StoredAnswer>> {
        let now = self.inner.clock.now();
        self.inner.reader.with(|conn| find(conn, now, key, request_hash))
    }
}

/// Makes the change unless its key has an answer.
pub(crate) fn once<T>(
    tx: &Transaction<'_>,
    now: UnixMs,
    key: Option<Idempotency<T>>,
    task: Task<T>,
) -> Result<Answered<T>> {
    let Some(Idempotency { key, request_hash, seal }) = key else { return task(tx, now).map(Answered::Now) };
    tx.prepare_cached("DELETE FROM idempotency WHERE created_at_ms <= ?1")?.execute([now.plus_ms(-KEPT_MS).0])?;
    if let Some(answer) = find(tx, now, &key, &request_hash)? {
        return Ok(Answered::Before(answer));
    }
    let done = task(tx, now)?;
    let answer = seal(&done)?;
    tx.prepare_cached(
        "INSERT INTO idempotency (key, request_hash, status, answer, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![key, request_hash, answer.status, answer.sealed, now.0])?;
    Ok(Answered::Now(done))
}

fn find(conn: &Connection, now: UnixMs, key: &str, request_hash: &[u8; 32]) -> Result<Option<StoredAnswer>> {
    let mut statement = conn
        .prepare_cached("SELECT request_hash, status, answer FROM idempotency WHERE key = ?1 AND created_at_ms > ?2")?;
    let found = statement
        .query_row(params![key, now.plus_ms(-KEPT_MS).0], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, StoredAnswer { status: row.get(1)?, sealed: row.get(2)? }))
        })
        .optional()?;
    match found {
        Some((hash, _)) if hash != request_hash => Err(StoreError::KeyReused),
        Some((_, answer)) => Ok(Some(answer)),
        None => Ok(None),
    }
}
