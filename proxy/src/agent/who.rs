//! On whose word a turn is taken. It is looked up anew before each step, so that what was revoked or lowered counts from then on.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use openclawmu_store::{Actor, ActorKind, AuthError, RequestId, TenantId};

use crate::authenticate::Caller;
use crate::context::Shared;
use crate::refusal::Refusal;
use crate::sandbox::{self, Owner};
use crate::socket::Guard;

/// Pause between two looks at whether the tenant is still there.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// On whose word.
pub(super) enum Who {
    /// A token's holder, at the edge.
    Token(Guard),
    /// The tenant itself, as something brings it that has been told to.
    Tenant {
        /// What every request needs.
        shared: Arc<Shared>,
        /// Whose agent.
        tenant: TenantId,
        /// What brings it.
        by: String,
    },
}

impl Who {
    /// Who asks, as it is now.
    ///
    /// # Errors
    /// Why it may no longer.
    pub(super) fn caller(&self) -> Result<Caller, Refusal> {
        let (shared, tenant) = match self {
            Self::Token(guard) => return guard.caller(),
            Self::Tenant { shared, tenant, .. } => (shared, tenant),
        };
        match shared.store.tenant_itself(tenant) {
            Ok(policy) => Ok(Caller { policy }),
            Err(AuthError::TenantSuspended { .. }) => Err(Refusal::Forbidden {
                code: "tenant_suspended",
                message: "This account is suspended. Ask its operator.".to_owned(),
            }),
            Err(AuthError::Rejected { .. } | AuthError::IpNotAllowed { .. }) => {
                Err(Refusal::NotFound { code: "not_found", message: "There is no such account.".to_owned() })
            }
            Err(AuthError::Unavailable(err)) => {
                tracing::error!(err, "a tenant can't be read");
                Err(Refusal::Store)
            }
        }
    }

    /// For whom something is run.
    pub(super) fn owner(&self, caller: &Caller, request_id: RequestId) -> Owner {
        match self {
            Self::Token(guard) => sandbox::owner(caller, guard.peer, Some(request_id)),
            Self::Tenant { by, .. } => {
                let owner = sandbox::owner(caller, IpAddr::V4(Ipv4Addr::UNSPECIFIED), None);
                let request_id = Some(request_id.to_string());
                Owner { actor: Actor { kind: ActorKind::Tenant, id: by.clone(), ip: None, request_id }, ..owner }
            }
        }
    }

    /// Who brings it, where that is no client of the edge.
    pub(super) fn by(&self) -> Option<&str> {
        match self {
            Self::Token(_) => None,
            Self::Tenant { by, .. } => Some(by),
        }
    }

    /// Resolves when it may no longer be served: within half a second after a token is revoked, or a tenant deleted.
    pub(super) async fn forbidden(&self) -> Refusal {
        if let Self::Token(guard) = self {
            return guard.forbidden().await;
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.caller() {
                Ok(_) | Err(Refusal::Store) => {}
                Err(refusal) => return refusal,
            }
        }
    }
}
