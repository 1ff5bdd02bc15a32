//! Tokens: what a tenant's programs present. The database keeps a keyed hash of the secret and never the secret.
//!
//! - `plain`: a token as text
//! - `pepper`: the keys of the hashes
//! - `policy`: what a token may do
//! - `authenticate`: from the one to the other
//! - `itself`: a tenant, where nobody presents one

mod authenticate;
mod itself;
mod pepper;
mod plain;
mod policy;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{Connection, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::audit::{self, Actor, Entry};
use crate::change::Change;
use crate::clock::{UnixMs, rfc3339, rfc3339_option};
use crate::error::{Result, StoreError};
use crate::id::{TenantId, TenantKey, TokenId};
use crate::model;
use crate::store::Store;
use crate::tenant;

pub(crate) use authenticate::{Auth, LOOKS, Parent, parent_of_tenant, parent_of_token, unavailable};
pub use authenticate::{AuthError, Rejection};
pub(crate) use pepper::Pepper;
pub(crate) use plain::random_base62;
pub use plain::{MalformedToken, ParsedToken, PlainToken};
pub use policy::Policy;

/// The file of the pepper in the data directory.
pub(crate) const PEPPER_FILE: &str = "pepper.key";
/// The longest that a rotated token may go on, in seconds.
const MAX_GRACE_SECONDS: u32 = 30 * 24 * 60 * 60;
/// The most entries in a token's list of addresses.
const MAX_IPS: usize = 100;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Calling models.
    Inference,
    /// Reading usage and quota.
    Usage,
    /// Running code.
    Sandbox,
    /// Reading and writing files.
    Workspace,
    /// Opening terminals.
    Terminal,
    /// Agents, their sessions and memory.
    Agents,
    /// Channels.
    Channels,
    /// Making client secrets, which work from anywhere.
    #[serde(rename = "client_secrets")]
    ClientSecrets,
}

impl Scope {
    /// Every scope: what a token gets when none is named.
    pub const ALL: [Self; 8] = [
        Self::Inference,
        Self::Usage,
        Self::Sandbox,
        Self::Workspace,
        Self::Terminal,
        Self::Agents,
        Self::Channels,
        Self::ClientSecrets,
    ];

    /// The name in a token.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Usage => "usage",
            Self::Sandbox => "sandbox",
            Self::Workspace => "workspace",
            Self::Terminal => "terminal",
            Self::Agents => "agents",
            Self::Channels => "channels",
            Self::ClientSecrets => "client_secrets",
        }
    }
}

/// A token, as the admin API shows it: everything but the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Its tenant.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub scopes: Vec<Scope>,
    /// The models that it may call, of those that its tenant may; `None` is all.
    pub models: Option<Vec<String>>,
    /// From where it may be used; `None` is anywhere.
    pub allowed_ips: Option<Vec<String>>,
    /// When it was created.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub created_at: UnixMs,
    /// From when on it is refused.
    #[serde(serialize_with = "rfc3339_option::serialize")]
    pub expires_at: Option<UnixMs>,
    /// When it was revoked.
    #[serde(serialize_with = "rfc3339_option::serialize")]
    pub revoked_at: Option<UnixMs>,
    /// The token that it replaces.
    pub rotated_from: Option<TokenId>,
}

/// A token to create. What is absent: no name, every scope, every model of the tenant, no end, from anywhere.
#[derive(Clone, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What people call it.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is for; absent: everything.
    #[serde(default)]
    pub scopes: Option<Vec<Scope>>,
    /// The models that it may call, of those that its tenant may; absent: all of them.
    #[serde(default)]
    pub models: Option<Vec<String>>,
    /// From when on it is refused; absent: never.
    #[serde(default, deserialize_with = "rfc3339_option::deserialize")]
    pub expires_at: Option<UnixMs>,
    /// From where it may be used: IP addresses or networks such as 10.0.0.0/8; absent: from anywhere.
    #[serde(default)]
    pub allowed_ips: Option<Vec<String>>,
}

impl Store {
    /// The ids of the keys that tokens are hashed with: the one for new tokens first.
    #[must_use]
    pub fn pepper_kids(&self) -> Vec<String> {
        self.inner.auth.pepper().kids()
    }

    /// Hashes new tokens with a new key; old ones go on as they are. Keys that no live token needs leave the file. Gives the new
    /// key's id and theirs.
    pub fn rotate_pepper(&self, actor: &Actor) -> Change<(String, Vec<String>)> {
        let (actor, cell, path) = (actor.clone(), self.inner.auth.pepper_cell(), self.inner.dir.join(PEPPER_FILE));
        Change::new(self, move |tx, now| {
            let live = "SELECT DISTINCT kid FROM tokens WHERE revoked_at_ms IS NULL AND (expires_at_ms IS NULL OR expires_at_ms > ?1)";
            let mut statement = tx.prepare(live)?;
            let live = statement.query_map([now.0], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
            // A key of the file that is not used is no harm, where what follows can't be committed.
            let (pepper, gone) = Pepper::rotate(&path, &live)?;
            let kids = pepper.kids();
            cell.store(Arc::new(pepper));
            let detail = json!({"kids": kids, "retired": gone});
            audit::record(
                tx,
                now,
                &actor,
                &Entry { action: "keys.rotate_pepper", tenant: None, target: None, detail },
            )?;
            Ok((kids.into_iter().next().unwrap_or_default(), gone))
        })
    }

    /// Creates a token of `tenant`. The secret is shown once.
    ///
    /// Fails with [`StoreError::NotFound`] without such a tenant, [`StoreError::Invalid`] on a bad field.
    pub fn create_token(&self, actor: &Actor, tenant: &TenantId, new: NewToken) -> Change<(Token, PlainToken)> {
        let (actor, tenant, pepper) = (actor.clone(), tenant.clone(), self.inner.auth.pepper());
        Change::new(self, move |tx, now| {
            let key = tenant::key_of(tx, &tenant)?;
            let (token, plain) = insert(tx, now, &pepper, (key, &tenant), new)?;
            let detail = json!({"name": token.name, "scopes": token.scopes, "models": token.models, "allowed_ips": token.allowed_ips,
                "expires_at": token.expires_at.map(UnixMs::rfc3339)});
            audit::record(
                tx,
                now,
                &actor,
                &Entry { action: "token.create", tenant: Some(&tenant), target: Some(token.id.as_str()), detail },
            )?;
            Ok((token, plain))
        })
    }

    /// At most `limit` tokens of `tenant`, oldest first, those after `after`; revoked and expired ones too.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without such a tenant.
    pub fn tokens(&self, tenant: &TenantId, after: Option<&TokenId>, limit: u32) -> Result<Vec<Token>> {
        self.inner.reader.with(|conn| {
            let key = tenant::key_of(conn, tenant)?;
            let mut statement = conn.prepare_cached(
                "SELECT row_id, id, name, scopes, models, allowed_ips, created_at_ms, expires_at_ms, revoked_at_ms, rotated_from FROM tokens
                 WHERE tenant = ?1 AND (?2 IS NULL OR row_id > (SELECT row_id FROM tokens WHERE id = ?2)) ORDER BY row_id LIMIT ?3",
            )?;
            let mut rows = statement.query(params![key.0, after.map(TokenId::as_str), limit])?;
            let mut tokens = Vec::new();
            while let Some(row) = rows.next()? {
                tokens.push(read(row, tenant)?.1);
            }
            Ok(tokens)
        })
    }

    /// The token `id` of `tenant`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such token.
    pub fn token(&self, tenant: &TenantId, id: &TokenId) -> Result<Token> {
        self.inner.reader.with(|conn| find(conn, tenant, id).map(|(_, token)| token))
    }

    /// Replaces a token by a new one that may do the same and ends at the same time. The old one goes on for
    /// `grace_seconds`, but never past its own end; without a grace it is revoked.
    ///
    /// Fails with [`StoreError::NotFound`], with [`StoreError::Conflict`] when the token is revoked or expired, with
    /// [`StoreError::Invalid`] when the grace is above 30 days.
    pub fn rotate_token(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: &TokenId,
        grace_seconds: Option<u32>,
    ) -> Change<(Token, PlainToken)> {
        let (actor, tenant, id, pepper) = (actor.clone(), tenant.clone(), id.clone(), self.inner.auth.pepper());
        let grace = grace_seconds.unwrap_or(0);
        Change::new(self, move |tx, now| {
            if grace > MAX_GRACE_SECONDS {
                return Err(StoreError::invalid(
                    "grace_seconds",
                    format!("must be at most {MAX_GRACE_SECONDS}, which is 30 days"),
                ));
            }
            let (key, old) = find(tx, &tenant, &id)?;
            if old.revoked_at.is_some() || old.expires_at.is_some_and(|at| at <= now) {
                return Err(StoreError::Conflict(format!("token {id} is revoked or expired; create a new one")));
            }
            let (token, plain) = replace(tx, now, &pepper, (tenant::key_of(tx, &tenant)?, old))?;
            let ends_at = now.plus_ms(i64::from(grace) * 1000);
            tx.execute(
                "UPDATE tokens SET version = version + 1, revoked_at_ms = iif(?3, ?2, NULL), expires_at_ms = min(coalesce(expires_at_ms, ?2), ?2)
                 WHERE row_id = ?1",
                params![key, ends_at.0, grace == 0],
            )?;
            let detail = json!({"from": id, "grace_seconds": grace});
            audit::record(
                tx,
                now,
                &actor,
                &Entry { action: "token.rotate", tenant: Some(&tenant), target: Some(token.id.as_str()), detail },
            )?;
            Ok((token, plain))
        })
    }

    /// Revokes a token: the next request that presents it fails. Once revoked it stays so; to revoke it again changes nothing.
    ///
    /// Fails with [`StoreError::NotFound`] when the tenant has no such token.
    pub fn revoke_token(&self, actor: &Actor, tenant: &TenantId, id: &TokenId) -> Change<Token> {
        let (actor, tenant, id) = (actor.clone(), tenant.clone(), id.clone());
        Change::new(self, move |tx, now| {
            let (key, mut token) = find(tx, &tenant, &id)?;
            if token.revoked_at.is_none() {
                tx.execute(
                    "UPDATE tokens SET version = version + 1, revoked_at_ms = ?2 WHERE row_id = ?1",
                    params![key, now.0],
                )?;
                token.revoked_at = Some(now);
                let entry = Entry {
                    action: "token.revoke",
                    tenant: Some(&tenant),
                    target: Some(id.as_str()),
                    detail: json!({}),
                };
                audit::record(tx, now, &actor, &entry)?;
            }
            Ok(token)
        })
    }
}

/// Makes a token from what a caller asked for.
pub(crate) fn insert(
    tx: &Transaction<'_>,
    now: UnixMs,
    pepper: &Arc<Pepper>,
    (key, tenant): (TenantKey, &TenantId),
    new: NewToken,
) -> Result<(Token, PlainToken)> {
    new.check(now)?;
    let plain = PlainToken::generate(tenant)?;
    let scopes: BTreeSet<Scope> = new.scopes.map_or_else(|| Scope::ALL.into(), |scopes| scopes.into_iter().collect());
    let token = Token {
        id: id_of(&plain)?,
        tenant: tenant.clone(),
        name: new.name.unwrap_or_default(),
        scopes: scopes.into_iter().collect(),
        models: new.models,
        allowed_ips: new.allowed_ips,
        created_at: now,
        expires_at: new.expires_at,
        revoked_at: None,
        rotated_from: None,
    };
    write(tx, key, pepper, &token, &plain)?;
    Ok((token, plain))
}

/// Makes the successor of `old`.
fn replace(
    tx: &Transaction<'_>,
    now: UnixMs,
    pepper: &Pepper,
    (key, old): (TenantKey, Token),
) -> Result<(Token, PlainToken)> {
    let plain = PlainToken::generate(&old.tenant)?;
    let token = Token { id: id_of(&plain)?, created_at: now, rotated_from: Some(old.id.clone()), ..old };
    write(tx, key, pepper, &token, &plain)?;
    Ok((token, plain))
}

fn write(tx: &Transaction<'_>, key: TenantKey, pepper: &Pepper, token: &Token, plain: &PlainToken) -> Result<()> {
    let parsed = ParsedToken::parse(plain.expose()).map_err(|err| StoreError::Corrupt(err.to_string()))?;
    let hashed = pepper.hash(parsed.id(), parsed.secret());
    tx.execute(
        "INSERT INTO tokens (id, tenant, name, kid, hash, scopes, models, allowed_ips, version, created_at_ms, expires_at_ms, rotated_from)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1, ?9, ?10, ?11)",
        params![
            token.id.as_str(),
            key.0,
            token.name,
            hashed.kid,
            hashed.hash,
            serde_json::to_string(&token.scopes)?,
            token.models.as_ref().map(serde_json::to_string).transpose()?,
            token.allowed_ips.as_ref().map(serde_json::to_string).transpose()?,
            token.created_at.0,
            token.expires_at.map(|at| at.0),
            token.rotated_from.as_ref().map(TokenId::as_str),
        ],
    )?;
    Ok(())
}

impl NewToken {
    fn check(&self, now: UnixMs) -> Result<()> {
        model::check_name("name", self.name.as_deref().unwrap_or_default())?;
        model::check_patterns("models", self.models.as_deref())?;
        if self.scopes.as_ref().is_some_and(Vec::is_empty) {
            return Err(StoreError::invalid("scopes", "must name at least one; leave it out for all"));
        }
        if self.expires_at.is_some_and(|at| at <= now) {
            return Err(StoreError::invalid("expires_at", "must be in the future"));
        }
        if self.allowed_ips.as_ref().is_some_and(|ips| ips.is_empty() || ips.len() > MAX_IPS) {
            return Err(StoreError::invalid(
                "allowed_ips",
                format!("must have 1 to {MAX_IPS} entries; leave it out to allow any address"),
            ));
        }
        policy::parse_ips(self.allowed_ips.as_deref()).map(drop)
    }
}

fn id_of(plain: &PlainToken) -> Result<TokenId> {
    let id = ParsedToken::parse(plain.expose()).ok().and_then(|parsed| parsed.token_id());
    id.ok_or_else(|| StoreError::Corrupt("a new token can't be parsed".to_owned()))
}

/// The token `id` of the live tenant `tenant`, with its row.
pub(crate) fn find(conn: &Connection, tenant: &TenantId, id: &TokenId) -> Result<(i64, Token)> {
    let key = tenant::key_of(conn, tenant)?;
    let mut statement = conn.prepare_cached(
        "SELECT row_id, id, name, scopes, models, allowed_ips, created_at_ms, expires_at_ms, revoked_at_ms, rotated_from
         FROM tokens WHERE id = ?1 AND tenant = ?2",
    )?;
    let mut rows = statement.query(params![id.as_str(), key.0])?;
    rows.next()?.map_or(Err(StoreError::NotFound("token")), |row| read(row, tenant))
}

fn read(row: &Row<'_>, tenant: &TenantId) -> Result<(i64, Token)> {
    let list = |column: usize| -> Result<Option<Vec<String>>> {
        let json: Option<String> = row.get(column)?;
        Ok(json.map(|json| serde_json::from_str(&json)).transpose()?)
    };
    let id = |text: String| -> Result<TokenId> { text.parse().map_err(|err| StoreError::Corrupt(format!("{err}"))) };
    let token = Token {
        id: id(row.get(1)?)?,
        tenant: tenant.clone(),
        name: row.get(2)?,
        scopes: serde_json::from_str(&row.get::<_, String>(3)?)?,
        models: list(4)?,
        allowed_ips: list(5)?,
        created_at: UnixMs(row.get(6)?),
        expires_at: row.get::<_, Option<i64>>(7)?.map(UnixMs),
        revoked_at: row.get::<_, Option<i64>>(8)?.map(UnixMs),
        rotated_from: row.get::<_, Option<String>>(9)?.map(id).transpose()?,
    };
    Ok((row.get(0)?, token))
}
