//! What has expired goes, and of a tenant that keeps too many the oldest go. Work in pages, off the request path.

use std::ffi::OsString;
use std::time::Duration;

use openclawmu_sandbox::{PathError, RelPath, Root};
use openclawmu_store::TenantId;

use super::shelf::{Shelf, directory};

/// Pause between two sweeps.
const EVERY: Duration = Duration::from_secs(600);
/// Names of one page.
const PAGE: usize = 1_000;

/// Sweeps until `stop` resolves.
pub(crate) async fn run(shelf: Shelf, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        match sweep(&shelf).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "kept responses that were too old are gone"),
            Err(err) => tracing::error!(%err, "kept responses can't be swept now"),
        }
    }
}

/// One sweep; how many are gone.
async fn sweep(shelf: &Shelf) -> Result<usize, PathError> {
    let (now_ms, config) = (shelf.now_ms(), shelf.config);
    let oldest_ms = now_ms.saturating_sub(i64::from(config.ttl_days).saturating_mul(86_400_000));
    let most = config.max_per_tenant;
    shelf
        .blocking(move |tenants| {
            let mut removed = 0;
            let mut after: Option<OsString> = None;
            loop {
                let page = tenants.list(None, after.as_deref(), PAGE)?;
                for entry in &page.entries {
                    let tenant: Option<TenantId> = entry.name.to_str().and_then(|name| name.parse().ok());
                    let Some(dir) = tenant.and_then(|tenant| directory(&tenant).ok()) else { continue };
                    removed += sweep_tenant(tenants, &dir, (oldest_ms, most))?;
                }
                let Some(next) = page.next else { return Ok(removed) };
                after = Some(next);
            }
        })
        .await
}

/// Removes what was written before `oldest_ms`, and the oldest of what is left above `most`.
fn sweep_tenant(tenants: &Root, dir: &RelPath, (oldest_ms, most): (i64, usize)) -> Result<usize, PathError> {
    let (mut young, mut old) = (Vec::new(), Vec::new());
    let mut after: Option<OsString> = None;
    loop {
        let page = match tenants.list(Some(dir), after.as_deref(), PAGE) {
            Err(PathError::NotFound) => return Ok(0),
            listed => listed?,
        };
        for entry in page.entries {
            let (at_ms, path) = (entry.metadata.modified_at_ms, dir.join(&entry.name)?);
            if at_ms <= oldest_ms { old.push(path) } else { young.push((at_ms, path)) }
        }
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    young.sort();
    let too_many = young.len().saturating_sub(most);
    old.extend(young.into_iter().take(too_many).map(|(_, path)| path));
    for path in &old {
        match tenants.remove_file(path) {
            Ok(()) | Err(PathError::NotFound) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(old.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openclawmu_store::{Clock, ManualClock, SystemClock};
    use serde_json::json;

    use super::*;
    use crate::config::ResponsesConfig;
    use crate::dialect::responses::state::Kept;

    #[tokio::test]
    async fn what_is_too_old_or_too_much_goes() {
        let dir = tempfile::tempdir().unwrap();
        // A file's age is the system's: the clock begins there.
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let config = ResponsesConfig { ttl_days: 30, max_per_tenant: 3 };
        let shelf = Shelf::open(dir.path(), config, (clock.clone(), Arc::new(|_: &_| false))).unwrap();
        let (acme, other): (TenantId, TenantId) = ("acme".parse().unwrap(), "other".parse().unwrap());
        for count in 0..5 {
            let kept = Kept::new(json!({"id": format!("resp_{count}"), "output": []}), Vec::new());
            shelf.keep(&acme, kept, None).await.unwrap();
        }
        shelf.keep(&other, Kept::new(json!({"id": "resp_o", "output": []}), Vec::new()), None).await.unwrap();
        assert_eq!(sweep(&shelf).await.unwrap(), 2);
        assert_eq!(sweep(&shelf).await.unwrap(), 0);
        assert!(shelf.get(&other, "resp_o").await.unwrap().is_some());
        clock.set(clock.now().plus_ms(31 * 86_400_000));
        assert_eq!(sweep(&shelf).await.unwrap(), 4);
        assert_eq!(std::fs::read_dir(dir.path().join("tenants/acme/responses")).unwrap().count(), 0);
    }
}
