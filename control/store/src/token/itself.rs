//! What a tenant may do where nobody presents a token, such as a message that comes over one of its channels.

use std::sync::Arc;

use super::Scope;
use super::authenticate::{AuthError, LOOKS, Rejection, parent_of_tenant, unavailable};
use super::policy::Policy;
use crate::id::TenantId;
use crate::store::Store;

impl Store {
    /// The tenant `id` itself, with all that its operator lets it do; its rows name no token.
    ///
    /// # Errors
    /// [`AuthError`], as for a token: there is no such tenant any more, it is suspended, or the store can't be read.
    pub fn tenant_itself(&self, id: &TenantId) -> Result<Arc<Policy>, AuthError> {
        let reader = &self.inner.reader;
        for _ in 0..LOOKS {
            let parent = reader.with(|conn| parent_of_tenant(conn, id)).map_err(|err| unavailable(&err))?;
            let Some(parent) = parent.filter(|parent| !parent.revoked) else {
                return Err(AuthError::Rejected { reason: Rejection::OtherTenant, token: None });
            };
            // It may have changed between the two looks.
            let Some(policy) = reader.with(|conn| parent.policy(conn)).map_err(|err| unavailable(&err))? else {
                continue;
            };
            if parent.suspended {
                return Err(AuthError::TenantSuspended { token: policy.token });
            }
            return Ok(Arc::new(Policy { scopes: Scope::ALL.to_vec(), ..policy }));
        }
        Err(AuthError::Unavailable("the tenant changes too often to be read".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TokenKey;
    use crate::scene::{Scene, operator};

    /// I-06
    #[test]
    fn a_tenant_itself_may_all_that_it_may_until_it_is_suspended_or_gone() {
        let scene = Scene::new();
        let (tenant, _, _) = scene.tenant("acme");
        let patch = |json: &str| {
            let patch = serde_json::from_str(json).unwrap();
            scene.store.update_tenant(&operator(), &tenant.id, patch).wait().unwrap();
        };
        patch(r#"{"models":["alpha"],"quota":{"usd_per_day":"5"}}"#);
        let policy = scene.store.tenant_itself(&tenant.id).unwrap();
        assert_eq!((policy.token_key, policy.tenant.as_str()), (TokenKey::NONE, "acme"));
        assert!(policy.is_tenant_itself());
        assert!(Scope::ALL.iter().all(|scope| policy.allows(*scope)));
        assert!(policy.allows_model("alpha") && !policy.allows_model("beta") && policy.quota.usd_per_day.is_some());
        patch(r#"{"status":"suspended"}"#);
        assert!(matches!(scene.store.tenant_itself(&tenant.id), Err(AuthError::TenantSuspended { .. })));
        patch(r#"{"status":"active"}"#);
        assert!(scene.store.tenant_itself(&tenant.id).is_ok());
        scene.store.delete_tenant(&operator(), &tenant.id).wait().unwrap();
        assert!(matches!(scene.store.tenant_itself(&tenant.id), Err(AuthError::Rejected { .. })));
        assert!(scene.store.tenant_itself(&"nobody".parse().unwrap()).is_err());
    }
}
