//! What a client carries for the gateway between two requests: sealed with the master key, for one tenant.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openclawmu_control::MasterKey;
use openclawmu_store::TenantId;

use crate::refusal::Refusal;

/// Marks what was sealed here; no provider's own begins like that.
const PREFIX: &str = "ocm1.";

/// Seals and opens.
#[derive(Clone, Debug)]
pub(crate) struct Seals {
    master: Arc<MasterKey>,
}

impl Seals {
    pub(crate) fn new(master: Arc<MasterKey>) -> Self {
        Self { master }
    }

    /// A text that only this tenant can send back.
    ///
    /// # Errors
    /// [`Refusal::Store`] where nothing can be sealed.
    pub(crate) fn seal(&self, tenant: &TenantId, text: &str) -> Result<String, Refusal> {
        let sealed = self.master.seal_compaction(tenant, text).map_err(|err| {
            tracing::error!(err, "a compaction can't be sealed");
            Refusal::Store
        })?;
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// The texts of those that were sealed for this tenant, by what they were sealed as.
    pub(crate) fn open(&self, tenant: &TenantId, sealed: &[String]) -> HashMap<String, String> {
        let opened = |sealed: &String| {
            let bytes = URL_SAFE_NO_PAD.decode(sealed.strip_prefix(PREFIX)?).ok()?;
            Some((sealed.clone(), self.master.open_compaction(tenant, &bytes)?))
        };
        sealed.iter().filter_map(opened).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_for_its_tenant_alone_and_only_unaltered() {
        let dir = tempfile::tempdir().unwrap();
        let seals = Seals::new(Arc::new(MasterKey::load_or_create(dir.path()).unwrap()));
        let (acme, other): (TenantId, TenantId) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let sealed = seals.seal(&acme, "what was said").unwrap();
        assert!(!sealed.contains("said"));
        let list = [sealed.clone(), "gAAAA".to_owned(), String::new(), format!("{sealed}A")];
        let opened = seals.open(&acme, &list);
        assert_eq!(opened, HashMap::from([(sealed, "what was said".to_owned())]));
        assert!(seals.open(&other, &list).is_empty());
    }
}
