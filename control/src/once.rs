//! `Idempotency-Key`: a call that is sent again gets the answer that it got, and nothing happens twice.
//!
//! The answer may hold a new secret. It is kept sealed under the master key, bound to its idempotency key, so that the
//! database alone can't give it away.

use std::fmt::Write;
use std::sync::Arc;

use openclawmu_store::{Answered, Change, Idempotency, StoreError, StoredAnswer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::key::MasterKey;

/// The status of an answer that made something.
const CREATED: u16 = 201;

/// A key, and the request that it came with.
pub(crate) struct OnceKey {
    pub(crate) key: String,
    pub(crate) request_hash: [u8; 32],
}

impl OnceKey {
    /// The key of an admin's call. `parts` are all that makes two requests the same, each in its place.
    pub(crate) fn of_admin(key: String, parts: &[&[u8]]) -> Self {
        Self { key, request_hash: hash(parts) }
    }

    /// The key of a form of the console, by its mark: none of a program's call is like it.
    pub(crate) fn of_console(mark: &str, parts: &[&[u8]]) -> Self {
        // No admin's key holds a space.
        Self { key: format!("console {mark}"), request_hash: hash(parts) }
    }

    /// The key of a call by a token's holder: none of another token or an admin is like it.
    pub(crate) fn of_token(token: &str, key: &str, body: &[u8]) -> Self {
        let mut name = format!("{token}|");
        for byte in hash(&[token.as_bytes(), b"\n", key.as_bytes()]) {
            // Writing to a string can't fail.
            let _ = write!(name, "{byte:02x}");
        }
        // No admin's key holds a space.
        Self { key: format!("token {name}"), request_hash: hash(&[body]) }
    }
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// What a call came to.
#[derive(Debug)]
pub enum Given {
    /// It was made now: 201 with this.
    Made(Value),
    /// It was made before: this is what was answered then.
    Before {
        /// The status.
        status: u16,
        /// The body, JSON.
        body: Vec<u8>,
    },
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum NotGiven {
    /// The store's word.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was made before, and its answer can't be opened any more: the master key is another one.
    #[error("this call was made before, but its answer can't be opened any more")]
    AnswerLost,
}

/// Makes `change`, once where the call has a key; `render` says what is answered.
pub(crate) async fn once<T: Send + 'static>(
    master: &Arc<MasterKey>,
    once: Option<OnceKey>,
    change: Change<T>,
    render: fn(&T) -> Value,
) -> Result<Given, NotGiven> {
    // A rotation of the master key waits until what is sealed here is committed.
    let _sealing = master.sealing().await;
    let key = once.as_ref().map(|once| once.key.clone()).unwrap_or_default();
    let idempotency = once.map(|once| sealing(master, once, render)).transpose()?;
    match change.once(idempotency).await? {
        Answered::Now(done) => Ok(Given::Made(render(&done))),
        Answered::Before(stored) => opened(master, &key, &stored),
    }
}

/// The answer that was kept for `key`.
pub(crate) fn opened(master: &MasterKey, key: &str, stored: &StoredAnswer) -> Result<Given, NotGiven> {
    let body = master.open(&place(key), &stored.sealed).map_err(|_| NotGiven::AnswerLost)?;
    Ok(Given::Before { status: stored.status, body })
}

fn sealing<T: Send + 'static>(
    master: &Arc<MasterKey>,
    once: OnceKey,
    render: fn(&T) -> Value,
) -> Result<Idempotency<T>, StoreError> {
    let (master, aad) = (Arc::clone(master), place(&once.key));
    Idempotency::new(&once.key, once.request_hash, move |done| {
        let sealed = master.seal(&aad, render(done).to_string().as_bytes()).map_err(StoreError::Unavailable)?;
        Ok(StoredAnswer { status: CREATED, sealed })
    })
}

/// Binds a sealed answer to its key: copied to another row it does not open.
pub(crate) fn place(key: &str) -> Vec<u8> {
    format!("idempotency|{key}").into_bytes()
}
