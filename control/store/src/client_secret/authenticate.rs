//! From a client secret to what its bearer may do: the signature first, then its time, then whether what made it still lives.
//!
//! What was read of the token and the tenant is used again while the registry's generation is the same, as for tokens.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension};

use super::sealed::{self, Claims, Opened};
use super::terms::{SecretCap, SecretTerms};
use crate::clock::UnixMs;
use crate::error::Result;
use crate::id::{SecretKey, TenantId, TokenId};
use crate::money::NanoUsd;
use crate::store::Store;
use crate::token::{
    AuthError, LOOKS, Parent, Policy, Rejection, Scope, parent_of_tenant, parent_of_token, unavailable,
};

/// A secret that was right, as of a generation of the registry.
pub(crate) struct SecretRow {
    generation: u64,
    parent: Parent,
    policy: Arc<Policy>,
}

/// Whether a credential calls itself a client secret.
pub(crate) fn is_client_secret(presented: &str) -> bool {
    presented.starts_with(sealed::PREFIX)
}

impl Store {
    /// Lets in who presents a live client secret, from wherever: the address that its maker is bound to is not its bearer's.
    pub(crate) fn authenticate_client_secret(&self, presented: &str, _peer: IpAddr) -> Result<Arc<Policy>, AuthError> {
        let auth = &self.inner.auth;
        let malformed = || AuthError::Rejected { reason: Rejection::Malformed, token: None };
        let opened = sealed::open(&auth.pepper(), presented).ok_or_else(malformed)?;
        let now = self.inner.clock.now();
        auth.reads.fetch_add(1, Ordering::Relaxed);
        let current = |row: &Arc<SecretRow>| row.generation == self.inner.writer().generation();
        let row = match auth.secrets.get(&opened.signature).filter(current) {
            Some(row) => row,
            None => self.read_secret(&opened, now)?,
        };
        verdict(&row, now)?;
        Ok(Arc::clone(&row.policy))
    }

    fn read_secret(&self, opened: &Opened<'_>, now: UnixMs) -> Result<Arc<SecretRow>, AuthError> {
        let rejected = |reason, token| AuthError::Rejected { reason, token };
        let claims = opened.claims().ok_or_else(|| rejected(Rejection::Malformed, None))?;
        let tenant: TenantId = opened.tenant.parse().map_err(|_| rejected(Rejection::Malformed, None))?;
        for _ in 0..LOOKS {
            // Taken before the read: a change that comes after it makes what is kept here useless.
            let generation = self.inner.writer().generation();
            let read = self.inner.reader.with(|conn| parent(conn, &tenant, &claims));
            let looked = read.map_err(|err| unavailable(&err))?;
            let Some(parent) = looked else {
                return Err(rejected(Rejection::UnknownToken, claims.parent.or(Some(claims.id))));
            };
            let Some(policy) = self.inner.reader.with(|conn| parent.policy(conn)).map_err(|err| unavailable(&err))?
            else {
                continue;
            };
            if policy.tenant != tenant {
                return Err(rejected(Rejection::OtherTenant, Some(claims.id)));
            }
            let row = Arc::new(SecretRow { generation, parent, policy: Arc::new(narrowed(policy, claims)) });
            verdict(&row, now)?;
            let terms = row.policy.secret.as_ref();
            if let Some((origin, end)) = terms.and_then(|terms| Some((terms.origin.as_deref()?, terms.expires_at))) {
                self.inner.auth.origins().note(origin, end, now);
            }
            self.inner.auth.secrets.insert(opened.signature, Arc::clone(&row));
            return Ok(row);
        }
        Err(AuthError::Unavailable("the client secret's token changes too often to be read".to_owned()))
    }
}

/// What made the secret; `None` when there is no such thing any more.
fn parent(conn: &Connection, tenant: &TenantId, claims: &Claims) -> Result<Option<Parent>> {
    if let Some(key) = claims.counted
        && !is_counted(conn, key, &claims.id)?
    {
        // Its use was forgotten, long after its end: what can't be proved is not spent again.
        return Ok(None);
    }
    match &claims.parent {
        Some(token) => parent_of_token(conn, token),
        None => parent_of_tenant(conn, tenant),
    }
}

fn is_counted(conn: &Connection, key: i64, id: &TokenId) -> Result<bool> {
    let mut statement = conn.prepare_cached("SELECT 1 FROM client_secrets WHERE key = ?1 AND id = ?2")?;
    Ok(statement.query_row(rusqlite::params![key, id.as_str()], |_| Ok(())).optional()?.is_some())
}

/// What is wrong at this moment, if anything.
fn verdict(row: &SecretRow, now: UnixMs) -> Result<(), AuthError> {
    let token = || row.policy.token.clone();
    let rejected = |reason| Err(AuthError::Rejected { reason, token: Some(token()) });
    if row.parent.revoked {
        return rejected(Rejection::Revoked);
    }
    let ends = [row.parent.expires_at, row.policy.secret.as_ref().map(|terms| terms.expires_at)];
    if ends.into_iter().flatten().any(|end| end <= now) {
        return rejected(Rejection::Expired);
    }
    if row.parent.suspended { Err(AuthError::TenantSuspended { token: token() }) } else { Ok(()) }
}

/// What the maker may do, cut down to what the secret says. Models and nothing else can be called with it.
fn narrowed(policy: Policy, claims: Claims) -> Policy {
    let Claims { id, expires_at_ms, models, counted, max_cost_nanos, max_requests, origin, user, .. } = claims;
    let expires_at = UnixMs(expires_at_ms);
    let cap = counted.map(|key| SecretCap {
        key: SecretKey(key),
        max_cost: max_cost_nanos.map(NanoUsd),
        max_requests,
        expires_at,
    });
    let scopes = policy.scopes.iter().copied().filter(|scope| *scope == Scope::Inference).collect();
    let token = if policy.token_key.0 == 0 { id.clone() } else { policy.token.clone() };
    let terms = SecretTerms { id, expires_at, origin, user, cap, models };
    let ends = policy.expires_at.map_or(expires_at, |end| end.min(expires_at));
    Policy { token, scopes, expires_at: Some(ends), allowed_ips: None, secret: Some(Arc::new(terms)), ..policy }
}
