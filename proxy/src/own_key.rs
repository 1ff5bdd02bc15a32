//! Tenants' own keys at providers: opened when they are first used, kept as long as they are the ones in force.
//!
//! A key goes to the upstream that it was set for and nowhere else.

use std::sync::Arc;

use http::HeaderValue;
use http::header::HeaderName;
use openclawmu_control::MasterKey;
use openclawmu_store::{Policy, SealedKey, TenantId};
use quick_cache::sync::Cache;

use crate::refusal::Refusal;
use crate::upstream::{Backend, Upstream};

/// Keys kept open.
const KEPT: usize = 10_000;

/// The headers that carry a key.
pub(crate) type KeyHeaders = Arc<Vec<(HeaderName, HeaderValue)>>;

/// The keys, by their ids: another key has another id.
pub(crate) struct OwnKeys {
    master: Arc<MasterKey>,
    open: Cache<String, KeyHeaders>,
}

impl OwnKeys {
    pub(crate) fn new(master: Arc<MasterKey>) -> Self {
        Self { master, open: Cache::new(KEPT) }
    }

    /// What they are sealed with.
    pub(crate) fn master(&self) -> &Arc<MasterKey> {
        &self.master
    }

    /// The headers of the tenant's own key at an upstream; `None` where it has none and the operator's is used.
    ///
    /// # Errors
    /// A refusal where there is one and it can't be opened: the operator's key is no substitute for it.
    pub(crate) fn of(&self, policy: &Policy, upstream: &Upstream) -> Result<Option<KeyHeaders>, Refusal> {
        let Some(sealed) = policy.provider_keys.iter().find(|key| *key.upstream == *upstream.name) else {
            return Ok(None);
        };
        self.opened(&policy.tenant, upstream, sealed).map(Some)
    }

    /// The headers of a tenant's own key.
    ///
    /// # Errors
    /// A refusal where it can't be opened.
    pub(crate) fn opened(
        &self,
        tenant: &TenantId,
        upstream: &Upstream,
        sealed: &SealedKey,
    ) -> Result<KeyHeaders, Refusal> {
        if let Some(open) = self.open.get(&sealed.id) {
            return Ok(open);
        }
        let headers = self.open(tenant, upstream, sealed).map_err(|reason| {
            tracing::error!(%tenant, upstream = %upstream.name, key = sealed.id, reason, "a tenant's own provider key can't be used");
            let message = "This account's own provider key cannot be used. Ask the operator to set it again.".to_owned();
            Refusal::Upstream { code: "upstream_auth", message }
        })?;
        self.open.insert(sealed.id.clone(), Arc::clone(&headers));
        Ok(headers)
    }

    fn open(&self, tenant: &TenantId, upstream: &Upstream, sealed: &SealedKey) -> Result<KeyHeaders, String> {
        let key = self.master.open_provider_key(tenant, sealed);
        let key = key.ok_or("it was sealed with another master key, or altered")?;
        match &upstream.backend {
            Backend::Http(provider, _) => provider.key_headers(Some(&key)).map(Arc::new),
            Backend::Echo => Err("the built-in upstream takes no key".to_owned()),
        }
    }
}
