//! Client secrets: what a page or an app in a user's hands presents instead of a token. Signed, short-lived, and never good for
//! more than what made it.
//!
//! Nothing of a secret is stored but what its caps have seen used, and the origin that its page may call from. It dies with
//! the token that made it, and with its tenant.
//!
//! - `sealed`: a secret as text, and what it says
//! - `terms`: what may be asked for
//! - `authenticate`: from the text to what its bearer may do
//! - `origins`: the origins that live secrets are bound to

mod authenticate;
mod origins;
mod sealed;
mod terms;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use rusqlite::{Transaction, params};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::audit::{self, Actor, Entry};
use crate::change::Change;
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::{SecretKey, TenantId, TenantKey, TokenId};
use crate::model;
use crate::money::NanoUsd;
use crate::store::Store;
use crate::tenant;
use crate::token::{self, Pepper, Policy, Scope, Token, random_base62};

pub(crate) use authenticate::{SecretRow, is_client_secret};
pub(crate) use origins::{Origins, load as load_origins};
pub use terms::{SecretCap, SecretTerms, is_origin};

use sealed::Claims;

/// The life of a secret that names none, in seconds.
const DEFAULT_TTL_SECONDS: u32 = 600;
/// How long what a dead secret has used is remembered, so that a clock set back revives no cap.
const REMEMBERED_MS: i64 = 24 * 60 * 60 * 1000;

/// A client secret to make. What is absent: ten minutes, every model of its maker, no caps, from anywhere, for nobody in
/// particular.
#[derive(Clone, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewClientSecret {
    /// Its life in seconds: 10 to 86,400.
    #[serde(default)]
    pub ttl_seconds: Option<u32>,
    /// The models that it may call, of those that its maker may.
    #[serde(default)]
    pub models: Option<Vec<String>>,
    /// The most that it may cost.
    #[serde(default)]
    pub max_cost_usd: Option<NanoUsd>,
    /// The most requests that it may make.
    #[serde(default)]
    pub max_requests: Option<u64>,
    /// The origin of the page that it is for.
    #[serde(default)]
    pub origin: Option<String>,
    /// Whom it is for, in every row.
    #[serde(default)]
    pub user: Option<String>,
}

/// A new client secret. It is in the answer that made it and in no other.
#[derive(Clone)]
pub struct ClientSecret {
    /// Its id, for logs and the audit.
    pub id: TokenId,
    /// From when on it is refused.
    pub expires_at: UnixMs,
    /// How long that is.
    pub ttl_seconds: u32,
    /// The origin that it is bound to.
    pub origin: Option<String>,
    value: Zeroizing<String>,
}

impl ClientSecret {
    /// The text, to hand to its owner.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSecret").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Who makes a secret.
#[derive(Clone, Debug)]
enum Maker {
    /// The operator: it lives as long as the tenant does.
    Operator,
    /// A token: it lives as long as that one does.
    Token(TokenId),
}

impl Store {
    /// Makes a client secret of `tenant` on the operator's word. The secret is shown once.
    ///
    /// Fails with [`StoreError::NotFound`] without such a tenant, [`StoreError::Invalid`] on a bad field.
    pub fn create_client_secret(&self, actor: &Actor, tenant: &TenantId, new: NewClientSecret) -> Change<ClientSecret> {
        self.make_client_secret(actor, (tenant, Maker::Operator), new)
    }

    /// Makes a client secret that is good for no more than the token of `policy`, and dies with it.
    ///
    /// Fails with [`StoreError::Invalid`] on a bad field, [`StoreError::Conflict`] where the token is not one that may do so.
    pub fn create_client_secret_of(
        &self,
        actor: &Actor,
        policy: &Policy,
        new: NewClientSecret,
    ) -> Change<ClientSecret> {
        self.make_client_secret(actor, (&policy.tenant, Maker::Token(policy.token.clone())), new)
    }

    fn make_client_secret(
        &self,
        actor: &Actor,
        (tenant, maker): (&TenantId, Maker),
        new: NewClientSecret,
    ) -> Change<ClientSecret> {
        let (actor, tenant, pepper) = (actor.clone(), tenant.clone(), self.inner.auth.pepper());
        let (origins, clock) = (Arc::clone(self.inner.auth.origins()), Arc::clone(self.clock()));
        let bound = new.origin.clone().map(|origin| (origin, new.ttl_ms()));
        let change = Change::new(self, move |tx, now| make(tx, now, &pepper, (&actor, &tenant, &maker), new));
        change.aside().on_commit(move || {
            if let Some((origin, ttl_ms)) = bound {
                let now = clock.now();
                origins.note(&origin, now.plus_ms(ttl_ms), now);
            }
        })
    }

    /// Whether a page of this origin may have a live client secret. For what can carry no credential: a preflight.
    #[must_use]
    pub fn is_client_origin(&self, origin: &str) -> bool {
        self.inner.auth.origins().is_live(origin, self.inner.clock.now())
    }
}

fn make(
    tx: &Transaction<'_>,
    now: UnixMs,
    pepper: &Pepper,
    (actor, tenant, maker): (&Actor, &TenantId, &Maker),
    new: NewClientSecret,
) -> Result<ClientSecret> {
    new.check()?;
    let (key, known) = tenant::find(tx, tenant)?;
    let parent = match maker {
        Maker::Operator => None,
        Maker::Token(id) => Some(live_parent(tx, now, (tenant, id))?),
    };
    check_reach(&new, &known, parent.as_ref())?;
    let asked = now.plus_ms(new.ttl_ms());
    let expires_at = parent.as_ref().and_then(|parent| parent.expires_at).map_or(asked, |end| end.min(asked));
    let id: TokenId =
        random_base62(12)?.as_str().parse().map_err(|err| StoreError::Corrupt(format!("a new id: {err}")))?;
    let capped = new.max_cost_usd.is_some() || new.max_requests.is_some();
    let counted = capped.then(|| remember(tx, now, (key, &id, expires_at))).transpose()?;
    if let Some(origin) = &new.origin {
        origins::store(tx, now, (origin, expires_at))?;
    }
    let NewClientSecret { models, max_cost_usd, max_requests, origin, user, .. } = new;
    let detail = json!({"token": parent.as_ref().map(|parent| &parent.id), "expires_at": expires_at.rfc3339(), "models": models,
        "max_cost_usd": max_cost_usd, "max_requests": max_requests, "origin": origin, "user": user});
    let claims = Claims {
        id: id.clone(),
        parent: parent.map(|parent| parent.id),
        expires_at_ms: expires_at.0,
        models,
        counted: counted.map(|key| key.0),
        max_cost_nanos: max_cost_usd.map(|usd| usd.0),
        max_requests,
        origin,
        user,
    };
    let value = sealed::seal(pepper, tenant, &claims)?;
    let entry = Entry { action: "client_secret.create", tenant: Some(tenant), target: Some(id.as_str()), detail };
    audit::record(tx, now, actor, &entry)?;
    let ttl_ms = expires_at.0.saturating_sub(now.0);
    let ttl_seconds = u32::try_from(ttl_ms / 1000).unwrap_or(0);
    Ok(ClientSecret { id, expires_at, ttl_seconds, origin: claims.origin, value })
}

/// The token that makes a secret: it must be one that may, at this moment.
fn live_parent(tx: &Transaction<'_>, now: UnixMs, (tenant, id): (&TenantId, &TokenId)) -> Result<Token> {
    let (_, parent) = token::find(tx, tenant, id)?;
    let dead = parent.revoked_at.is_some() || parent.expires_at.is_some_and(|at| at <= now);
    let may = parent.scopes.contains(&Scope::ClientSecrets) && parent.scopes.contains(&Scope::Inference);
    if dead || !may {
        return Err(StoreError::Conflict(format!("token {id} may make no client secrets")));
    }
    Ok(parent)
}

/// Refuses models that the tenant or the token may not call themselves.
fn check_reach(new: &NewClientSecret, tenant: &tenant::Tenant, parent: Option<&Token>) -> Result<()> {
    let lists = [tenant.models.as_deref(), parent.and_then(|parent| parent.models.as_deref())];
    // A pattern passes a list as a name does: one of its entries must cover all of it.
    let covered = |name: &str| lists.iter().all(|list| model::allows(*list, name));
    for model in new.models.iter().flatten() {
        if !covered(model) && !tenant.aliases.get(model).is_some_and(|meant| covered(meant)) {
            return Err(StoreError::invalid("models", format!("`{model}` is not what this account or token may call")));
        }
    }
    Ok(())
}

/// Makes the row that counts what a capped secret uses, and forgets those of secrets long dead.
fn remember(
    tx: &Transaction<'_>,
    now: UnixMs,
    (tenant, id, expires_at): (TenantKey, &TokenId, UnixMs),
) -> Result<SecretKey> {
    tx.prepare_cached("DELETE FROM client_secrets WHERE expires_at_ms <= ?1")?
        .execute([now.plus_ms(-REMEMBERED_MS).0])?;
    tx.prepare_cached("INSERT INTO client_secrets (id, tenant, expires_at_ms) VALUES (?1, ?2, ?3)")?
        .execute(params![id.as_str(), tenant.0, expires_at.0])?;
    Ok(SecretKey(tx.last_insert_rowid()))
}
