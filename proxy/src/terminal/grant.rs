//! [`Grant`]: who may do what in which terminal, and on whose word; looked up anew as often as it matters.

use std::net::IpAddr;

use openclawmu_control::terminal::TerminalRole;
use openclawmu_store::{Actor, Scope, StoreError, TenantId, TenantPolicy, TokenKey};
use secrecy::{ExposeSecret, SecretString};

use super::ticket::Leads;
use crate::authenticate;
use crate::context::Shared;
use crate::refusal::Refusal;
use crate::sandbox::{Owner, owner};

/// On whose word.
#[derive(Clone, Debug)]
pub(super) enum Word {
    /// A tenant's token, as it was presented.
    Token(SecretString),
    /// Staff's, for this reason.
    Staff(String),
}

/// What somebody may do in one terminal.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// In whose sandbox, on whose quota, and who asks.
    pub(super) owner: Owner,
    pub(super) word: Word,
    pub(super) role: TerminalRole,
    /// The terminal's name.
    pub(super) session: String,
    /// The size of the terminal, which this opens; `None` where it must be open already.
    pub(super) opens: Option<(u16, u16)>,
}

impl Leads for Grant {
    fn tenant(&self) -> &TenantId {
        &self.owner.tenant
    }

    fn session(&self) -> &str {
        &self.session
    }
}

impl Grant {
    /// Why, where staff said so.
    pub(super) fn reason(&self) -> Option<&str> {
        match &self.word {
            Word::Token(_) => None,
            Word::Staff(reason) => Some(reason),
        }
    }

    /// The same as it stands now, used from `peer`: with the tenant's quota of this moment.
    ///
    /// # Errors
    /// Why it is good for nothing any more: its token is revoked, its tenant deleted.
    pub(super) fn renewed(&self, shared: &Shared, peer: IpAddr) -> Result<Owner, Refusal> {
        match &self.word {
            Word::Token(token) => {
                let owner = of_token(shared, token, peer)?;
                Ok(Owner { actor: self.owner.actor.clone(), ..owner })
            }
            Word::Staff(_) => of_staff(shared, self.tenant(), self.owner.actor.clone()),
        }
    }
}

/// Whom a token belongs to, where it may open terminals.
///
/// # Errors
/// 401 and 403 where it may not.
pub(super) fn of_token(shared: &Shared, token: &SecretString, peer: IpAddr) -> Result<Owner, Refusal> {
    let caller = authenticate::check(&shared.store, token.expose_secret(), peer)?;
    let policy = &caller.policy;
    if policy.secret.is_some() {
        let message = "A client secret may only call models. Use a tenant token, or a ticket made with one.".to_owned();
        return Err(Refusal::Forbidden { code: "not_for_client_secrets", message });
    }
    if !policy.allows(Scope::Terminal) {
        return Err(Refusal::scope_missing(Scope::Terminal));
    }
    Ok(owner(&caller, peer, None))
}

/// Staff in a tenant's sandbox: on its quota, on a row that names no token.
///
/// # Errors
/// 404 where there is no such tenant.
pub(super) fn of_staff(shared: &Shared, tenant: &TenantId, actor: Actor) -> Result<Owner, Refusal> {
    let policy = shared.store.tenant_policy(tenant).map_err(|err| {
        if matches!(err, StoreError::NotFound(_)) {
            return Refusal::NotFound { code: "not_found", message: "no such tenant".to_owned() };
        }
        tracing::error!(%err, "a tenant can't be read");
        Refusal::Store
    })?;
    let TenantPolicy { key, quota, zone, markup } = policy;
    Ok(Owner { tenant: tenant.clone(), key, token: TokenKey::NONE, quota, zone, markup, cap: None, actor })
}
