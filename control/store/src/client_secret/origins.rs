//! The origins that live client secrets are bound to.
//!
//! A browser asks before it sends a secret, and its question carries none. So what is known here is only that a page of this
//! origin may have one; the secret itself is looked at when it comes. Kept in memory, and on the disk for the next start.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction, params};

use crate::clock::UnixMs;
use crate::error::Result;

/// The most origins that are kept. Past it, a page of another one is refused until some have ended.
const MOST: usize = 10_000;

/// Origins with the end of the last secret that each is in.
#[derive(Debug, Default)]
pub(crate) struct Origins(Mutex<HashMap<Box<str>, UnixMs>>);

impl Origins {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, UnixMs>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A secret that ends at `expires_at` is bound to `origin`.
    pub(crate) fn note(&self, origin: &str, expires_at: UnixMs, now: UnixMs) {
        let mut known = self.lock();
        if let Some(end) = known.get_mut(origin) {
            *end = (*end).max(expires_at);
            return;
        }
        if known.len() >= MOST {
            known.retain(|_, end| *end > now);
        }
        if known.len() < MOST {
            known.insert(origin.into(), expires_at);
        } else {
            tracing::warn!(
                origin,
                most = MOST,
                "pages of this origin can't ask yet: too many others have client secrets"
            );
        }
    }

    pub(crate) fn is_live(&self, origin: &str, now: UnixMs) -> bool {
        self.lock().get(origin).is_some_and(|end| *end > now)
    }
}

/// What is known from before this start.
pub(crate) fn load(conn: &Connection, now: UnixMs) -> Result<Origins> {
    let origins = Origins::default();
    let mut statement =
        conn.prepare("SELECT origin, expires_at_ms FROM client_secret_origins WHERE expires_at_ms > ?1")?;
    let mut rows = statement.query([now.0])?;
    while let Some(row) = rows.next()? {
        origins.note(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?, UnixMs(row.get(1)?), now);
    }
    drop(rows);
    Ok(origins)
}

/// Keeps an origin for the next start, and forgets those whose secrets have ended.
pub(super) fn store(tx: &Transaction<'_>, now: UnixMs, (origin, expires_at): (&str, UnixMs)) -> Result<()> {
    tx.prepare_cached("DELETE FROM client_secret_origins WHERE expires_at_ms <= ?1")?.execute([now.0])?;
    tx.prepare_cached(
        "INSERT INTO client_secret_origins (origin, expires_at_ms) VALUES (?1, ?2)
         ON CONFLICT (origin) DO UPDATE SET expires_at_ms = max(expires_at_ms, excluded.expires_at_ms)",
    )?
    .execute(params![origin, expires_at.0])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_live_until_the_last_of_its_secrets_ends() {
        let origins = Origins::default();
        origins.note("https://a", UnixMs(100), UnixMs(0));
        origins.note("https://a", UnixMs(50), UnixMs(0));
        assert!(origins.is_live("https://a", UnixMs(99)));
        assert!(!origins.is_live("https://a", UnixMs(100)) && !origins.is_live("https://b", UnixMs(0)));
    }

    #[test]
    fn there_are_never_more_than_fit_and_those_that_ended_make_room() {
        let origins = Origins::default();
        (0..MOST).for_each(|n| origins.note(&format!("https://{n}"), UnixMs(100), UnixMs(0)));
        origins.note("https://late", UnixMs(300), UnixMs(0));
        assert!(!origins.is_live("https://late", UnixMs(0)));
        origins.note("https://late", UnixMs(300), UnixMs(200));
        assert!(origins.is_live("https://late", UnixMs(200)));
        assert_eq!(origins.lock().len(), 1);
    }
}
