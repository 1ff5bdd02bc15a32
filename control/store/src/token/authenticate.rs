//! From what a caller presents to what it may do.
//!
//! A change acts on the next request: a row that was read once is used again only while the registry's generation, which
//! every committed change moves on before it is acknowledged, is still the same. The owner of the data directory is the
//! only one that changes the registry. The parsed policy is kept under the row's versions.
//! An unknown id costs what a wrong secret costs, and both are refused in the same words.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use quick_cache::sync::Cache;
use rusqlite::{Connection, OptionalExtension};

use crate::client_secret::{Origins, SecretRow, is_client_secret};
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::{TenantId, TenantKey, TokenId, TokenKey};
use crate::money::Markup;
use crate::overlay::Overlay;
use crate::provider_key;
use crate::quota::Quota;
use crate::store::Store;
use crate::tenant;
use crate::token::pepper::Pepper;
use crate::token::plain::ParsedToken;
use crate::token::policy::{Policy, parse_ips};
use crate::window::Zone;

/// The most policies kept.
const CACHED_POLICIES: usize = 100_000;
/// How often a row that changes between two looks is looked at again.
pub(crate) const LOOKS: usize = 8;

/// Why a caller was not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No valid credential: 401, the same for every reason.
    #[error("the credential was rejected: {reason:?}")]
    Rejected {
        /// For the log only.
        reason: Rejection,
        /// For the log only: the id that was presented.
        token: Option<TokenId>,
    },
    /// The token is right, the address is not: 403.
    #[error("token {token} is not allowed from this address")]
    IpNotAllowed {
        /// The token.
        token: TokenId,
    },
    /// The token is right, its tenant is suspended: 403.
    #[error("the tenant of token {token} is suspended")]
    TenantSuspended {
        /// The token.
        token: TokenId,
    },
    /// The store can't tell now: 503.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

/// Why a credential was rejected. Never told to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Not a token, or its CRC is wrong; the store was not asked.
    Malformed,
    /// No such id.
    UnknownToken,
    /// The id exists, the secret is another.
    WrongSecret,
    /// It was hashed with a key that the pepper file does not hold.
    UnknownPepper,
    /// The token is of another tenant than it says.
    OtherTenant,
    /// It was revoked, or its tenant is gone.
    Revoked,
    /// It has expired.
    Expired,
}

/// The state of authentication.
pub(crate) struct Auth {
    pepper: Arc<ArcSwap<Pepper>>,
    /// By token, its version, its tenant's version.
    policies: Cache<(i64, i64, i64), Arc<Policy>>,
    /// By token id: rows that were right, as of a generation of the registry.
    rows: Cache<Box<str>, Arc<Row>>,
    /// By signature: client secrets that were right.
    pub(crate) secrets: Cache<[u8; 32], Arc<SecretRow>>,
    origins: Arc<Origins>,
    pub(crate) reads: AtomicU64,
}

/// A row that was right when it was read, and what it may do.
struct Row {
    generation: u64,
    found: Found,
    policy: Arc<Policy>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    pub(crate) fn new(pepper: Pepper, origins: Origins) -> Self {
        let (policies, rows) = (Cache::new(CACHED_POLICIES), Cache::new(CACHED_POLICIES));
        let (secrets, origins) = (Cache::new(CACHED_POLICIES), Arc::new(origins));
        Self {
            pepper: Arc::new(ArcSwap::from_pointee(pepper)),
            policies,
            rows,
            secrets,
            origins,
            reads: AtomicU64::new(0),
        }
    }

    /// The origins that live client secrets are bound to.
    pub(crate) fn origins(&self) -> &Arc<Origins> {
        &self.origins
    }

    pub(crate) fn pepper(&self) -> Arc<Pepper> {
        self.pepper.load_full()
    }

    /// Where the pepper is, to put another in its place.
    pub(crate) fn pepper_cell(&self) -> Arc<ArcSwap<Pepper>> {
        Arc::clone(&self.pepper)
    }
}

/// A token's row, without what a cached policy holds.
struct Found {
    token_key: i64,
    token_version: i64,
    tenant_version: i64,
    pepper: Option<usize>,
    hash: [u8; 32],
    tenant: Box<str>,
    revoked: bool,
    expires_at: Option<UnixMs>,
    suspended: bool,
}

const FIND: &str = "
    SELECT t.row_id, t.version, n.version, t.kid, t.hash, n.id, t.revoked_at_ms IS NOT NULL OR n.status = 'deleted',
        t.expires_at_ms, n.status = 'suspended'
    FROM tokens t JOIN tenants n ON n.row_id = t.tenant WHERE t.id = ?1";

const FIND_TENANT: &str = "
    SELECT row_id, version, status = 'deleted', status = 'suspended' FROM tenants WHERE id = ?1";

const LOAD_TENANT: &str = "
    SELECT n.id, n.row_id, '000000000000', n.quota, n.timezone, '[\"inference\"]', n.models, NULL, NULL, n.markup_ppm, n.aliases, n.overlay
    FROM tenants n WHERE n.row_id = ?1 AND n.version = ?2";

const LOAD: &str = "
    SELECT n.id, n.row_id, t.id, n.quota, n.timezone, t.scopes, n.models, t.models, t.allowed_ips, n.markup_ppm, n.aliases, n.overlay
    FROM tokens t JOIN tenants n ON n.row_id = t.tenant WHERE t.row_id = ?1 AND t.version = ?2 AND n.version = ?3";

impl Store {
    /// Lets in who presents a valid token from an allowed address, or a live client secret.
    ///
    /// Expiry goes by the clock as it is now, so a clock set wrong and then right harms nobody for long; a revoked token
    /// is revoked whatever the clock says.
    ///
    /// # Errors
    /// Why not; see [`AuthError`] for what the caller may be told.
    pub fn authenticate(&self, presented: &str, peer: IpAddr) -> Result<Arc<Policy>, AuthError> {
        if is_client_secret(presented) {
            return self.authenticate_client_secret(presented, peer);
        }
        let parsed = ParsedToken::parse(presented)
            .map_err(|_| AuthError::Rejected { reason: Rejection::Malformed, token: None })?;
        let now = self.inner.clock.now();
        self.inner.auth.reads.fetch_add(1, Ordering::Relaxed);
        let policy = match self.known(&parsed, now) {
            Some(policy) => policy,
            None => self.read_policy(&parsed, now)?,
        };
        if policy.allows_ip(peer) { Ok(policy) } else { Err(AuthError::IpNotAllowed { token: policy.token.clone() }) }
    }

    /// The policy of a token that is right by a row that was read since the registry last changed. Whoever is wrong goes the
    /// long way, so that a known id costs him what an unknown one does.
    fn known(&self, parsed: &ParsedToken<'_>, now: UnixMs) -> Option<Arc<Policy>> {
        let auth = &self.inner.auth;
        let row = auth.rows.get(parsed.id())?;
        let current = row.generation == self.inner.writer().generation();
        let right = current && verdict(Some(&row.found), &auth.pepper.load(), parsed, now).is_ok();
        right.then(|| Arc::clone(&row.policy))
    }

    fn read_policy(&self, parsed: &ParsedToken<'_>, now: UnixMs) -> Result<Arc<Policy>, AuthError> {
        for _ in 0..LOOKS {
            let read = self.inner.reader.with(|conn| Ok(self.policy(conn, parsed, now)));
            if let Some(policy) = read.map_err(|err| unavailable(&err))?? {
                return Ok(policy);
            }
        }
        Err(AuthError::Unavailable("the token changes too often to be read".to_owned()))
    }

    /// How often a token was looked up, in memory or in the database.
    #[must_use]
    pub fn token_reads(&self) -> u64 {
        self.inner.auth.reads.load(Ordering::Relaxed)
    }

    /// The policy of a token that is right; `None` when its row changed between two looks.
    fn policy(
        &self,
        conn: &Connection,
        parsed: &ParsedToken<'_>,
        now: UnixMs,
    ) -> Result<Option<Arc<Policy>>, AuthError> {
        let auth = &self.inner.auth;
        // Taken before the read: a change that comes after it makes what is kept here useless.
        let generation = self.inner.writer().generation();
        // One pepper for both: a place in it means nothing in another.
        let pepper = auth.pepper.load();
        let found = find(conn, &pepper, parsed.id()).map_err(|err| unavailable(&err))?;
        verdict(found.as_ref(), &pepper, parsed, now)?;
        let Some(found) = found else { return Ok(None) };
        let versions = (found.token_key, found.token_version, found.tenant_version);
        let policy = match auth.policies.get(&versions) {
            Some(policy) => policy,
            None => match load(conn, &found).map_err(|err| unavailable(&err))? {
                Some(policy) => Arc::new(policy),
                None => return Ok(None),
            },
        };
        auth.policies.insert(versions, Arc::clone(&policy));
        auth.rows.insert(parsed.id().into(), Arc::new(Row { generation, found, policy: Arc::clone(&policy) }));
        Ok(Some(policy))
    }
}

/// Hashes once whatever was found, then says what is wrong, if anything.
fn verdict(found: Option<&Found>, pepper: &Pepper, parsed: &ParsedToken<'_>, now: UnixMs) -> Result<(), AuthError> {
    let (position, hash) = found.map_or((None, &[0; 32]), |found| (found.pepper, &found.hash));
    let genuine = pepper.verify(position, hash, parsed.id(), parsed.secret());
    let rejected = |reason| Err(AuthError::Rejected { reason, token: parsed.token_id() });
    let Some(found) = found else { return rejected(Rejection::UnknownToken) };
    if found.pepper.is_none() {
        return rejected(Rejection::UnknownPepper);
    }
    if !genuine {
        return rejected(Rejection::WrongSecret);
    }
    if *found.tenant != *parsed.tenant() {
        return rejected(Rejection::OtherTenant);
    }
    if found.revoked {
        return rejected(Rejection::Revoked);
    }
    if found.expires_at.is_some_and(|at| at <= now) {
        return rejected(Rejection::Expired);
    }
    match (found.suspended, parsed.token_id()) {
        (true, Some(token)) => Err(AuthError::TenantSuspended { token }),
        _ => Ok(()),
    }
}

fn find(conn: &Connection, pepper: &Pepper, id: &str) -> Result<Option<Found>> {
    let mut statement = conn.prepare_cached(FIND)?;
    let found = statement.query_row([id], |row| {
        Ok(Found {
            token_key: row.get(0)?,
            token_version: row.get(1)?,
            tenant_version: row.get(2)?,
            pepper: row.get_ref(3)?.as_str().ok().and_then(|kid| pepper.position(kid)),
            hash: row.get(4)?,
            tenant: row.get(5)?,
            revoked: row.get(6)?,
            expires_at: row.get::<_, Option<i64>>(7)?.map(UnixMs),
            suspended: row.get(8)?,
        })
    });
    Ok(found.optional()?)
}

fn load(conn: &Connection, found: &Found) -> Result<Option<Policy>> {
    let mut statement = conn.prepare_cached(LOAD)?;
    let mut rows = statement.query([found.token_key, found.token_version, found.tenant_version])?;
    let versions = (TokenKey(found.token_key), found.tenant_version);
    rows.next()?.map(|row| read(conn, row, versions, found.expires_at)).transpose()
}

fn read(
    conn: &Connection,
    row: &rusqlite::Row<'_>,
    (token_key, tenant_version): (TokenKey, i64),
    expires_at: Option<UnixMs>,
) -> Result<Policy> {
    let text = |column: usize| -> Result<String> { Ok(row.get(column)?) };
    let list = |column: usize| -> Result<Option<Vec<String>>> {
        let json: Option<String> = row.get(column)?;
        Ok(json.map(|json| serde_json::from_str(&json)).transpose()?)
    };
    let overlay = Overlay::read(row.get(11)?)?;
    let mut quota: Quota = serde_json::from_str(&text(3)?)?;
    quota.on_tight_budget = overlay.on_tight_budget.unwrap_or(quota.on_tight_budget);
    let allowed_ips = parse_ips(list(8)?.as_deref()).map_err(|err| StoreError::Corrupt(err.to_string()))?;
    Ok(Policy {
        tenant: text(0)?.parse().map_err(|err| StoreError::Corrupt(format!("{err}")))?,
        tenant_key: TenantKey(row.get(1)?),
        tenant_version,
        token: text(2)?.parse().map_err(|err| StoreError::Corrupt(format!("{err}")))?,
        token_key,
        quota,
        zone: Zone::parse(&text(4)?).map_err(StoreError::Corrupt)?,
        markup: Markup::from_ppm(row.get(9)?),
        aliases: tenant::read_aliases(row.get(10)?)?,
        overlay,
        provider_keys: provider_key::sealed(conn, TenantKey(row.get(1)?))?,
        scopes: serde_json::from_str(&text(5)?)?,
        expires_at,
        tenant_models: list(6)?,
        token_models: list(7)?,
        allowed_ips,
        secret: None,
    })
}

/// What made a client secret, as it is now: a token, or the operator for a tenant.
pub(crate) struct Parent {
    /// The token's key and version; `None`: the operator.
    token: Option<(i64, i64)>,
    tenant: (i64, i64),
    pub(crate) revoked: bool,
    pub(crate) expires_at: Option<UnixMs>,
    pub(crate) suspended: bool,
}

/// The token `id` as what made a client secret; `None` when there is none.
pub(crate) fn parent_of_token(conn: &Connection, id: &TokenId) -> Result<Option<Parent>> {
    const FIND_PARENT: &str = "
        SELECT t.row_id, t.version, n.row_id, n.version, t.revoked_at_ms IS NOT NULL OR n.status = 'deleted', t.expires_at_ms,
            n.status = 'suspended'
        FROM tokens t JOIN tenants n ON n.row_id = t.tenant WHERE t.id = ?1";
    let found = conn.prepare_cached(FIND_PARENT)?.query_row([id.as_str()], |row| {
        Ok(Parent {
            token: Some((row.get(0)?, row.get(1)?)),
            tenant: (row.get(2)?, row.get(3)?),
            revoked: row.get(4)?,
            expires_at: row.get::<_, Option<i64>>(5)?.map(UnixMs),
            suspended: row.get(6)?,
        })
    });
    Ok(found.optional()?)
}

/// The operator as what made a client secret of tenant `id`; `None` when there never was such a tenant.
pub(crate) fn parent_of_tenant(conn: &Connection, id: &TenantId) -> Result<Option<Parent>> {
    let found = conn.prepare_cached(FIND_TENANT)?.query_row([id.as_str()], |row| {
        Ok(Parent {
            token: None,
            tenant: (row.get(0)?, row.get(1)?),
            revoked: row.get(2)?,
            expires_at: None,
            suspended: row.get(3)?,
        })
    });
    Ok(found.optional()?)
}

impl Parent {
    /// What it may do; `None` when it has changed since.
    pub(crate) fn policy(&self, conn: &Connection) -> Result<Option<Policy>> {
        let (tenant, tenant_version) = self.tenant;
        let Some((token, token_version)) = self.token else {
            let mut statement = conn.prepare_cached(LOAD_TENANT)?;
            let mut rows = statement.query([tenant, tenant_version])?;
            return rows.next()?.map(|row| read(conn, row, (TokenKey(0), tenant_version), None)).transpose();
        };
        let mut statement = conn.prepare_cached(LOAD)?;
        let mut rows = statement.query([token, token_version, tenant_version])?;
        rows.next()?.map(|row| read(conn, row, (TokenKey(token), tenant_version), self.expires_at)).transpose()
    }
}

pub(crate) fn unavailable(err: &StoreError) -> AuthError {
    AuthError::Unavailable(err.to_string())
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;
    use crate::scene::{Scene, operator};

    #[test]
    fn the_lookup_is_prepared_once_whatever_is_presented() {
        let scene = Scene::new();
        let plains = ["a", "b", "c"].map(|id| scene.tenant(id).2);
        scene
            .store
            .inner
            .reader
            .with(|conn| {
                for plain in plains.iter().chain(&plains) {
                    let parsed = ParsedToken::parse(plain.expose()).unwrap();
                    find(conn, &scene.store.inner.auth.pepper(), parsed.id())?.unwrap();
                }
                let statement = conn.prepare_cached(FIND)?;
                assert_eq!(
                    (statement.get_status(StatementStatus::Run), statement.get_status(StatementStatus::RePrepare)),
                    (6, 0)
                );
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_policy_is_not_taken_from_a_row_that_changed_since_it_was_looked_at() {
        let scene = Scene::new();
        let (tenant, token, plain) = scene.tenant("acme");
        let parsed = ParsedToken::parse(plain.expose()).unwrap();
        let conn = scene.sql();
        let look = || find(&conn, &scene.store.inner.auth.pepper(), parsed.id()).unwrap().unwrap();
        let found = look();
        assert!(load(&conn, &found).unwrap().is_some());
        let patch = serde_json::from_str(r#"{"name":"new"}"#).unwrap();
        scene.store.update_tenant(&operator(), &tenant.id, patch).wait().unwrap();
        assert!(load(&conn, &found).unwrap().is_none());
        let found = look();
        scene.store.revoke_token(&operator(), &tenant.id, &token.id).wait().unwrap();
        assert!(load(&conn, &found).unwrap().is_none());
    }
}
