//! Where responses are kept: `<data>/tenants/<tenant>/responses/<id>.json`, each written whole. Another tenant's is not there.
//!
//! A response names the one that it continues; where that one is deleted or has expired, it can no longer be continued.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use openclawmu_control::removal;
use openclawmu_sandbox::{PathError, RelPath, Root};
use openclawmu_store::{Clock, TenantId};
use serde::{Deserialize, Serialize};

use crate::config::ResponsesConfig;
use crate::dialect::responses::state::Kept;
use crate::refusal::Refusal;

/// The most responses that one conversation is made of.
const MAX_CHAIN: usize = 1_000;
/// The most bytes of a conversation.
const MAX_CHAIN_BYTES: u64 = 64 << 20;
/// What every id begins with.
const PREFIX: &str = "resp_";
/// The longest rest of an id.
const MAX_ID: usize = 128;

/// A response on the disk. Fields may be added, none renamed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// In milliseconds since 1970.
    pub(super) expires_at_ms: i64,
    #[serde(flatten)]
    pub(super) kept: Kept,
}

/// Whether a tenant is deleted.
pub(crate) type IsDeleted = dyn Fn(&TenantId) -> bool + Send + Sync;

/// The shelf of all tenants.
#[derive(Clone)]
pub(crate) struct Shelf {
    tenants: Arc<Root>,
    clock: Arc<dyn Clock>,
    is_deleted: Arc<IsDeleted>,
    pub(super) config: ResponsesConfig,
}

impl Shelf {
    /// The shelf in a data directory.
    ///
    /// # Errors
    /// When the directory can't be made or opened.
    pub(crate) fn open(
        data: &Path,
        config: ResponsesConfig,
        (clock, is_deleted): (Arc<dyn Clock>, Arc<IsDeleted>),
    ) -> Result<Self, PathError> {
        let dir = data.join("tenants");
        let tenants = match Root::open(&dir) {
            Err(PathError::NotFound) => Root::create(&dir)?,
            opened => opened?,
        };
        Ok(Self { tenants: Arc::new(tenants), clock, is_deleted, config })
    }

    /// Whether anything is kept.
    pub(crate) fn keeps(&self) -> bool {
        self.config.ttl_days > 0
    }

    /// Keeps a response for the operator's days, or the tenant's own where those are fewer; it is there when this returns. Of a
    /// tenant that was deleted meanwhile nothing is kept.
    ///
    /// # Errors
    /// [`Refusal::Store`] when it can't be written.
    pub(crate) async fn keep(&self, tenant: &TenantId, kept: Kept, own_days: Option<u32>) -> Result<(), Refusal> {
        let days = own_days.map_or(self.config.ttl_days, |own| own.min(self.config.ttl_days));
        let ttl_ms = i64::from(days).saturating_mul(86_400_000);
        let record = Record { expires_at_ms: self.clock.now().plus_ms(ttl_ms).0, kept };
        let id = record.kept.id().to_owned();
        let (dir, path) = (directory(tenant), path(tenant, &id));
        let (tenant, is_deleted) = (tenant.clone(), Arc::clone(&self.is_deleted));
        self.blocking(move |tenants| {
            let (dir, path) = (dir?, path?);
            let content = serde_json::to_vec(&record).map_err(|err| PathError::Io(err.into()))?;
            match tenants.replace(&path, &content) {
                Err(PathError::NotFound) => {
                    tenants.create_dir_all(&dir)?;
                    tenants.replace(&path, &content)
                }
                replaced => replaced,
            }?;
            // A deletion is on record before the directory goes: whoever wrote after that finds it here.
            if is_deleted(&tenant) { removal::remove_from(tenants, &tenant) } else { Ok(()) }
        })
        .await
        .map_err(|err| unavailable(&err))
    }

    /// A response of this tenant that has not expired; `None` where there is none.
    ///
    /// # Errors
    /// [`Refusal::Store`] when it can't be read.
    pub(crate) async fn get(&self, tenant: &TenantId, id: &str) -> Result<Option<Kept>, Refusal> {
        if !is_id(id) {
            return Ok(None);
        }
        let (path, now) = (path(tenant, id), self.clock.now());
        let record = self.blocking(move |tenants| read(tenants, &path?)).await.map_err(|err| unavailable(&err))?;
        Ok(record.filter(|record| record.expires_at_ms > now.0).map(|record| record.kept))
    }

    /// Removes a response; false where there was none.
    ///
    /// # Errors
    /// [`Refusal::Store`] when it can't be removed.
    pub(crate) async fn remove(&self, tenant: &TenantId, id: &str) -> Result<bool, Refusal> {
        if self.get(tenant, id).await?.is_none() {
            return Ok(false);
        }
        let path = path(tenant, id);
        let removed = self.blocking(move |tenants| tenants.remove_file(&path?)).await;
        match removed {
            Ok(()) => Ok(true),
            Err(PathError::NotFound) => Ok(false),
            Err(err) => Err(unavailable(&err)),
        }
    }

    /// The conversation that ends in the response `id`, its first response first; the id of the one that is missing where one
    /// is.
    ///
    /// # Errors
    /// [`Refusal::Store`] when it can't be read; 400 when it is too long.
    pub(crate) async fn chain(&self, tenant: &TenantId, id: &str) -> Result<Result<Vec<Kept>, String>, Refusal> {
        let (mut chain, mut next, mut bytes) = (Vec::new(), Some(id.to_owned()), 0_u64);
        while let Some(id) = next {
            let Some(kept) = self.get(tenant, &id).await? else { return Ok(Err(id)) };
            bytes = bytes.saturating_add(kept.bytes());
            if chain.len() >= MAX_CHAIN || bytes > MAX_CHAIN_BYTES {
                let message = "The conversation is too long to be continued; compact it or begin another.";
                return Err(Refusal::bad("previous_response_id", message));
            }
            next = kept.previous().map(str::to_owned);
            chain.push(kept);
        }
        chain.reverse();
        Ok(Ok(chain))
    }

    /// Runs file work where it may block.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T, PathError> + Send + 'static,
    ) -> Result<T, PathError> {
        let tenants = Arc::clone(&self.tenants);
        let done = tokio::task::spawn_blocking(move || work(&tenants)).await;
        done.map_err(|err| PathError::Io(std::io::Error::other(err)))?
    }

    /// The clock that says what has expired.
    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now().0
    }
}

fn read(tenants: &Root, path: &RelPath) -> Result<Option<Record>, PathError> {
    let mut file = match tenants.read(path) {
        Err(PathError::NotFound) => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(PathError::Io)?;
    serde_json::from_slice(&bytes).map(Some).map_err(|err| PathError::Io(err.into()))
}

/// Whether a text can be an id: nothing else ever becomes a part of a path.
fn is_id(id: &str) -> bool {
    let rest = id.strip_prefix(PREFIX).unwrap_or_default();
    (1..=MAX_ID).contains(&rest.len())
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

pub(super) fn directory(tenant: &TenantId) -> Result<RelPath, PathError> {
    RelPath::parse(format!("{tenant}/responses").as_bytes())
}

fn path(tenant: &TenantId, id: &str) -> Result<RelPath, PathError> {
    if !is_id(id) {
        return Err(PathError::Forbidden);
    }
    RelPath::parse(format!("{tenant}/responses/{id}.json").as_bytes())
}

fn unavailable(err: &PathError) -> Refusal {
    tracing::error!(%err, "kept responses can't be read or written");
    Refusal::Store
}

#[cfg(test)]
mod tests {
    use openclawmu_store::{ManualClock, UnixMs};
    use serde_json::json;

    use super::*;

    fn kept(id: &str, previous: Option<&str>) -> Kept {
        Kept::new(json!({"id": id, "previous_response_id": previous, "output": []}), Vec::new())
    }

    fn shelf(dir: &Path) -> (Shelf, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(UnixMs(1_000)));
        let config = ResponsesConfig { ttl_days: 30, max_per_tenant: 3 };
        let is_deleted = |tenant: &TenantId| tenant.as_str() == "deleted";
        (Shelf::open(dir, config, (clock.clone(), Arc::new(is_deleted))).unwrap(), clock)
    }

    #[tokio::test]
    async fn a_response_is_its_tenants_alone_and_ends_by_the_clock() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, clock) = shelf(dir.path());
        let (acme, other): (TenantId, TenantId) = ("acme".parse().unwrap(), "other".parse().unwrap());
        shelf.keep(&acme, kept("resp_a", None), None).await.unwrap();
        assert!(shelf.get(&acme, "resp_a").await.unwrap().is_some());
        assert!(shelf.get(&other, "resp_a").await.unwrap().is_none());
        assert!(!shelf.remove(&other, "resp_a").await.unwrap());
        let month_ms = 30 * 86_400_000;
        clock.set(UnixMs(1_000 + month_ms - 1));
        assert!(shelf.get(&acme, "resp_a").await.unwrap().is_some());
        clock.set(UnixMs(1_000 + month_ms));
        assert!(shelf.get(&acme, "resp_a").await.unwrap().is_none());
        clock.set(UnixMs(1_000));
        assert!(shelf.remove(&acme, "resp_a").await.unwrap());
        assert!(!shelf.remove(&acme, "resp_a").await.unwrap());
    }

    #[tokio::test]
    async fn i_06_nothing_is_kept_of_a_tenant_that_was_deleted_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, _) = shelf(dir.path());
        let (gone, other): (TenantId, TenantId) = ("deleted".parse().unwrap(), "other".parse().unwrap());
        for tenant in [&gone, &other] {
            shelf.keep(tenant, kept("resp_a", None), None).await.unwrap();
        }
        assert!(!dir.path().join("tenants/deleted").exists());
        assert!(shelf.get(&other, "resp_a").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_chain_is_whole_or_says_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, _) = shelf(dir.path());
        let acme: TenantId = "acme".parse().unwrap();
        for (id, previous) in [("resp_a", None), ("resp_b", Some("resp_a")), ("resp_c", Some("resp_b"))] {
            shelf.keep(&acme, kept(id, previous), None).await.unwrap();
        }
        let ids = |chain: Vec<Kept>| chain.iter().map(|kept| kept.id().to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(shelf.chain(&acme, "resp_c").await.unwrap().unwrap()), ["resp_a", "resp_b", "resp_c"]);
        shelf.remove(&acme, "resp_a").await.unwrap();
        assert_eq!(shelf.chain(&acme, "resp_c").await.unwrap().unwrap_err(), "resp_a");
        // A response that continues itself, which no request can make, ends at a bound.
        shelf.keep(&acme, kept("resp_x", Some("resp_x")), None).await.unwrap();
        assert!(matches!(shelf.chain(&acme, "resp_x").await, Err(Refusal::Bad { .. })));
    }

    #[tokio::test]
    async fn p_01_no_id_leads_anywhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, _) = shelf(dir.path());
        let acme: TenantId = "acme".parse().unwrap();
        std::fs::write(dir.path().join("tenants/secret.json"), "{}").unwrap();
        for id in ["../../secret", "resp_../../../secret", "resp_", "resp_a/b", "resp_%2e", "resp_a.json", "secret", ""]
        {
            assert!(shelf.get(&acme, id).await.unwrap().is_none(), "{id}");
            assert!(!shelf.remove(&acme, id).await.unwrap(), "{id}");
        }
        assert!(shelf.get(&acme, &format!("resp_{}", "a".repeat(129))).await.unwrap().is_none());
    }
}
