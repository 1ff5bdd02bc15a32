//! Sealing anew what is kept sealed: every text of every table, some at a time, so that other changes come in between.
//!
//! This crate never sees what is sealed: the caller opens and seals.

use std::sync::Arc;

use rusqlite::{Transaction, params};

use crate::change::Change;
use crate::error::Result;
use crate::id::{TenantId, TenantKey};
use crate::store::Store;
use crate::tenant;

/// Where a sealed text is kept. It opens in no other place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealedPlace {
    /// A tenant's own key at a provider.
    ProviderKey {
        /// Whose.
        tenant: TenantId,
        /// Where it is used.
        upstream: String,
        /// The key's id.
        id: String,
    },
    /// The credentials of a channel.
    Channel {
        /// Whose.
        tenant: TenantId,
        /// The channel's id.
        id: String,
    },
    /// An answer to a call with this idempotency key.
    Answer {
        /// The key.
        key: String,
    },
}

/// Seals a text anew for its place; `None` where it can't be opened.
pub type Turn = Arc<dyn Fn(&SealedPlace, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// How far a sealing has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Texts that were sealed anew.
    pub sealed: u64,
    /// Texts that no key opens; they are as they were.
    pub unreadable: u64,
    /// Where to go on; `None` when all has been seen.
    pub next: Option<ResealCursor>,
}

/// A place between two texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResealCursor(Kind, String);

/// The tables that keep something sealed, in the order in which they are gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ProviderKeys,
    Channels,
    Answers,
}

impl Kind {
    fn next(self) -> Option<Self> {
        match self {
            Self::ProviderKeys => Some(Self::Channels),
            Self::Channels => Some(Self::Answers),
            Self::Answers => None,
        }
    }
}

/// A text that is to be sealed anew.
struct Found {
    place: SealedPlace,
    tenant: Option<TenantKey>,
    sealed: Vec<u8>,
}

impl Store {
    /// Seals anew what does not begin with `mark`, among the next `limit` texts after `after`, in one commit. The next request
    /// of a tenant uses what was sealed anew.
    pub fn reseal(&self, mark: Vec<u8>, turn: Turn, after: Option<ResealCursor>, limit: u32) -> Change<Resealed> {
        Change::new(self, move |tx, _| {
            let ResealCursor(kind, after) = after.unwrap_or(ResealCursor(Kind::ProviderKeys, String::new()));
            let (found, last) = texts(tx, kind, (&after, limit))?;
            let next = last.map(|last| ResealCursor(kind, last));
            let next = next.or_else(|| kind.next().map(|kind| ResealCursor(kind, String::new())));
            let mut resealed = Resealed { next, ..Resealed::default() };
            for text in found.iter().filter(|text| !text.sealed.starts_with(&mark)) {
                match turn(&text.place, &text.sealed) {
                    Some(sealed) => {
                        put(tx, text, &sealed)?;
                        resealed.sealed += 1;
                    }
                    None => resealed.unreadable += 1,
                }
            }
            Ok(resealed)
        })
    }
}

/// The texts of one table after `after`, and the last one's name where there may be more.
fn texts(tx: &Transaction<'_>, kind: Kind, (after, limit): (&str, u32)) -> Result<(Vec<Found>, Option<String>)> {
    let (mut found, mut last) = (Vec::new(), None);
    match kind {
        Kind::ProviderKeys => {
            let mut statement = tx.prepare_cached(
                "SELECT p.id, p.upstream, t.id, t.row_id, p.sealed FROM provider_keys p JOIN tenants t ON t.row_id = p.tenant
                 WHERE p.id > ?1 ORDER BY p.id LIMIT ?2",
            )?;
            let mut rows = statement.query(params![after, limit])?;
            while let Some(row) = rows.next()? {
                let (id, upstream, tenant): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let tenant = tenant.parse().map_err(|err| crate::StoreError::Corrupt(format!("{err}")))?;
                last = Some(id.clone());
                let place = SealedPlace::ProviderKey { tenant, upstream, id };
                found.push(Found { place, tenant: Some(TenantKey(row.get(3)?)), sealed: row.get(4)? });
            }
        }
        Kind::Channels => {
            let sql = "SELECT c.id, t.id, c.sealed FROM channels c JOIN tenants t ON t.row_id = c.tenant
                 WHERE c.id > ?1 ORDER BY c.id LIMIT ?2";
            let mut statement = tx.prepare_cached(sql)?;
            let mut rows = statement.query(params![after, limit])?;
            while let Some(row) = rows.next()? {
                let (id, tenant): (String, String) = (row.get(0)?, row.get(1)?);
                let tenant = tenant.parse().map_err(|err| crate::StoreError::Corrupt(format!("{err}")))?;
                last = Some(id.clone());
                found.push(Found { place: SealedPlace::Channel { tenant, id }, tenant: None, sealed: row.get(2)? });
            }
        }
        Kind::Answers => {
            let sql = "SELECT key, answer FROM idempotency WHERE key > ?1 ORDER BY key LIMIT ?2";
            let mut statement = tx.prepare_cached(sql)?;
            let mut rows = statement.query(params![after, limit])?;
            while let Some(row) = rows.next()? {
                let key: String = row.get(0)?;
                last = Some(key.clone());
                found.push(Found { place: SealedPlace::Answer { key }, tenant: None, sealed: row.get(1)? });
            }
        }
    }
    let is_full = u32::try_from(found.len()).is_ok_and(|count| count >= limit);
    Ok((found, last.filter(|_| is_full)))
}

fn put(tx: &Transaction<'_>, text: &Found, sealed: &[u8]) -> Result<()> {
    match &text.place {
        SealedPlace::ProviderKey { id, .. } => {
            tx.prepare_cached("UPDATE provider_keys SET sealed = ?2 WHERE id = ?1")?.execute(params![id, sealed])?;
        }
        SealedPlace::Channel { id, .. } => {
            tx.prepare_cached("UPDATE channels SET sealed = ?2 WHERE id = ?1")?.execute(params![id, sealed])?;
        }
        SealedPlace::Answer { key } => {
            tx.prepare_cached("UPDATE idempotency SET answer = ?2 WHERE key = ?1")?.execute(params![key, sealed])?;
        }
    }
    text.tenant.map_or(Ok(()), |tenant| tenant::touch(tx, tenant))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::provider_key::SealedKey;
    use crate::scene::{HERE, Scene, operator};
    use crate::{Answered, Idempotency, StoredAnswer};

    fn turn() -> Turn {
        Arc::new(|_, sealed: &[u8]| sealed.strip_prefix(b"old").map(|text| [b"new", text].concat()))
    }

    #[tokio::test]
    async fn every_text_is_sealed_anew_once_some_at_a_time() {
        let scene = Scene::new();
        let (tenant, _, plain) = scene.tenant("acme");
        for number in 0..5 {
            let sealed = if number == 3 { b"lost".to_vec() } else { format!("old{number}").into_bytes() };
            let key = SealedKey { id: format!("pk_{number}"), upstream: format!("u{number}"), sealed };
            scene.store.put_provider_key(&operator(), &tenant.id, key).await.unwrap();
            let once = Idempotency::new(&format!("key-{number}"), [0; 32], |_: &Value| {
                Ok(StoredAnswer { status: 201, sealed: b"old answer".to_vec() })
            });
            assert!(matches!(
                scene.store.keep_answer(json!(number)).once(Some(once.unwrap())).await,
                Ok(Answered::Now(_))
            ));
        }
        let (mut after, mut sealed, mut unreadable, mut steps) = (None, 0, 0, 0);
        loop {
            let done = scene.store.reseal(b"new".to_vec(), turn(), after, 2).await.unwrap();
            (sealed, unreadable, steps) = (sealed + done.sealed, unreadable + done.unreadable, steps + 1);
            match done.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!((sealed, unreadable), (9, 1));
        assert!(steps >= 6, "never all in one commit: {steps}");
        let keys = scene.store.authenticate(plain.expose(), HERE).unwrap().provider_keys.clone();
        let texts: Vec<&[u8]> = keys.iter().map(|key| &*key.sealed).collect();
        assert_eq!(texts, [&b"new0"[..], b"new1", b"new2", b"lost", b"new4"], "the next request has them");
        let again = scene.store.reseal(b"new".to_vec(), turn(), None, 100).await.unwrap();
        assert_eq!((again.sealed, again.unreadable), (0, 1));
    }
}
