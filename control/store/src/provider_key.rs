//! Tenants' own keys at providers. They come here sealed and leave sealed: this crate never sees one.

use rusqlite::{Connection, params};
use serde::Serialize;
use serde_json::json;

use crate::audit::{self, Actor, Entry};
use crate::change::Change;
use crate::clock::{UnixMs, rfc3339};
use crate::error::{Result, StoreError};
use crate::id::{TenantId, TenantKey};
use crate::store::Store;
use crate::tenant;

/// The most keys of one tenant.
const MAX_KEYS: i64 = 100;

/// A key, sealed for its tenant and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKey {
    /// Another one for every key that is set.
    pub id: String,
    /// The upstream that it is for.
    pub upstream: String,
    /// What only the master key opens.
    pub sealed: Vec<u8>,
}

/// What may be told of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ProviderKey {
    /// Its id.
    pub id: String,
    /// The upstream that it is for.
    pub upstream: String,
    /// When it was set.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub created_at: UnixMs,
}

impl Store {
    /// Sets a tenant's key at an upstream; the next request uses it.
    ///
    /// Fails with [`StoreError::NotFound`], or [`StoreError::Conflict`] past 100 keys.
    pub fn put_provider_key(&self, actor: &Actor, id: &TenantId, key: SealedKey) -> Change<ProviderKey> {
        let (actor, id) = (actor.clone(), id.clone());
        Change::new(self, move |tx, now| {
            let tenant = tenant::key_of(tx, &id)?;
            let others: i64 = tx.query_row(
                "SELECT count(*) FROM provider_keys WHERE tenant = ?1 AND upstream <> ?2",
                params![tenant.0, key.upstream],
                |row| row.get(0),
            )?;
            if others >= MAX_KEYS {
                return Err(StoreError::Conflict(format!("a tenant has at most {MAX_KEYS} provider keys")));
            }
            tx.execute(
                "INSERT INTO provider_keys (tenant, upstream, id, sealed, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (tenant, upstream) DO UPDATE SET id = excluded.id, sealed = excluded.sealed, created_at_ms = excluded.created_at_ms",
                params![tenant.0, key.upstream, key.id, key.sealed, now.0],
            )?;
            tenant::touch(tx, tenant)?;
            let detail = json!({"upstream": key.upstream});
            let entry = Entry { action: "provider_key.put", tenant: Some(&id), target: Some(&key.id), detail };
            audit::record(tx, now, &actor, &entry)?;
            Ok(ProviderKey { id: key.id, upstream: key.upstream, created_at: now })
        })
    }

    /// Takes a tenant's key at an upstream away; the next request uses the operator's.
    ///
    /// Fails with [`StoreError::NotFound`] where there is none.
    pub fn delete_provider_key(&self, actor: &Actor, id: &TenantId, upstream: &str) -> Change<()> {
        let (actor, id, upstream) = (actor.clone(), id.clone(), upstream.to_owned());
        Change::new(self, move |tx, now| {
            let tenant = tenant::key_of(tx, &id)?;
            let sql = "DELETE FROM provider_keys WHERE tenant = ?1 AND upstream = ?2";
            if tx.execute(sql, params![tenant.0, upstream])? == 0 {
                return Err(StoreError::NotFound("provider key"));
            }
            tenant::touch(tx, tenant)?;
            let detail = json!({"upstream": upstream});
            audit::record(
                tx,
                now,
                &actor,
                &Entry { action: "provider_key.delete", tenant: Some(&id), target: None, detail },
            )
        })
    }

    /// A tenant's keys, by upstream.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such tenant.
    pub fn provider_keys(&self, id: &TenantId) -> Result<Vec<ProviderKey>> {
        self.inner.reader.with(|conn| {
            let tenant = tenant::key_of(conn, id)?;
            let sql = "SELECT id, upstream, created_at_ms FROM provider_keys WHERE tenant = ?1 ORDER BY upstream";
            let mut statement = conn.prepare_cached(sql)?;
            let keys = statement.query_map([tenant.0], |row| {
                Ok(ProviderKey { id: row.get(0)?, upstream: row.get(1)?, created_at: UnixMs(row.get(2)?) })
            })?;
            Ok(keys.collect::<rusqlite::Result<_>>()?)
        })
    }
}

/// The sealed keys of a tenant, for its policy.
pub(crate) fn sealed(conn: &Connection, tenant: TenantKey) -> Result<Vec<SealedKey>> {
    let mut statement = conn.prepare_cached("SELECT id, upstream, sealed FROM provider_keys WHERE tenant = ?1")?;
    let keys = statement
        .query_map([tenant.0], |row| Ok(SealedKey { id: row.get(0)?, upstream: row.get(1)?, sealed: row.get(2)? }))?;
    Ok(keys.collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{HERE, Scene, operator};

    fn key(upstream: &str, id: &str) -> SealedKey {
        SealedKey { id: id.to_owned(), upstream: upstream.to_owned(), sealed: vec![1, 2, 3] }
    }

    #[test]
    fn a_key_acts_on_the_next_request_and_is_gone_with_the_one_after_its_end() {
        let scene = Scene::new();
        let (tenant, _, plain) = scene.tenant("acme");
        let keys = || scene.store.authenticate(plain.expose(), HERE).unwrap().provider_keys.clone();
        assert_eq!(keys(), []);
        scene.store.put_provider_key(&operator(), &tenant.id, key("openai", "a")).wait().unwrap();
        assert_eq!(keys(), [key("openai", "a")]);
        scene.store.put_provider_key(&operator(), &tenant.id, key("openai", "b")).wait().unwrap();
        assert_eq!(keys(), [key("openai", "b")], "another key takes its place");
        scene.store.delete_provider_key(&operator(), &tenant.id, "openai").wait().unwrap();
        assert_eq!(keys(), []);
        let again = scene.store.delete_provider_key(&operator(), &tenant.id, "openai").wait();
        assert!(matches!(again, Err(StoreError::NotFound("provider key"))));
        let actions: Vec<String> = scene.audit().into_iter().map(|row| row.0).collect();
        assert_eq!(actions, ["tenant.create", "provider_key.put", "provider_key.put", "provider_key.delete"]);
    }

    #[test]
    fn a_tenant_sees_only_its_own() {
        let scene = Scene::new();
        let (a, ..) = scene.tenant("a");
        let (b, _, plain) = scene.tenant("b");
        scene.store.put_provider_key(&operator(), &a.id, key("openai", "x")).wait().unwrap();
        assert_eq!(scene.store.provider_keys(&b.id).unwrap(), []);
        assert_eq!(scene.store.authenticate(plain.expose(), HERE).unwrap().provider_keys, []);
        assert_eq!(scene.store.provider_keys(&a.id).unwrap().len(), 1);
    }
}
