//! What tenants' files take of the disk, on its way to the store: when they are walked anyway, and all of them every hour.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openclawmu_sandbox::DiskUsage;
use openclawmu_store::{Clock, StorageLook, Store, StoreError, TenantKey, UnixMs};
use tokio::sync::mpsc;

use crate::context::Shared;

/// Between two looks at all tenants' files, by the wall clock.
const EVERY_MS: i64 = 3_600_000;
/// How soon it is seen that an hour has gone by, and what was found meanwhile is written.
const STEP: Duration = Duration::from_secs(1);
/// Tenants that are looked at before what was found is written.
const BATCH: u32 = 200;

/// What was found, until it is written.
pub(crate) struct Meter {
    clock: Arc<dyn Clock>,
    sender: mpsc::UnboundedSender<StorageLook>,
    inbox: tokio::sync::Mutex<mpsc::UnboundedReceiver<StorageLook>>,
}

impl Meter {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let (sender, inbox) = mpsc::unbounded_channel();
        Self { clock, sender, inbox: tokio::sync::Mutex::new(inbox) }
    }

    /// A tenant's files were walked, and take this much now. What can't be written any more the next look makes up for.
    pub(crate) fn saw(&self, tenant: TenantKey, bytes: u64) {
        let _ended = self.sender.send(StorageLook { tenant, bytes, at: self.clock.now() });
    }
}

/// Looks at all tenants' files now and every hour, and writes what others have found, until `stop`.
pub(crate) async fn run(shared: Arc<Shared>, stop: impl Future<Output = ()>) {
    let mut inbox = shared.meter.inbox.lock().await;
    let mut stop = std::pin::pin!(stop);
    let mut step = tokio::time::interval(STEP);
    let (mut looked, mut looking): (Option<UnixMs>, Option<tokio::task::JoinHandle<()>>) = (None, None);
    let ends = Arc::new(AtomicBool::new(false));
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = step.tick() => {}
        }
        let now = shared.meter.clock.now();
        let due = looked.is_none_or(|at| (now.0 - at.0).abs() >= EVERY_MS);
        if due && looking.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            looked = Some(now);
            let (shared, ends) = (Arc::clone(&shared), Arc::clone(&ends));
            looking = Some(tokio::task::spawn_blocking(move || look_at_all(&shared, &ends)));
        }
        write(&shared.store, &mut inbox).await;
    }
    ends.store(true, Ordering::Relaxed);
    write(&shared.store, &mut inbox).await;
}

/// Writes what is there; of each tenant's looks all, in their order.
async fn write(store: &Store, inbox: &mut mpsc::UnboundedReceiver<StorageLook>) {
    let mut looks = Vec::new();
    while let Ok(look) = inbox.try_recv() {
        looks.push(look);
    }
    if looks.is_empty() {
        return;
    }
    if let Err(err) = store.note_storage(looks).await {
        tracing::warn!(%err, "what tenants' files take can't be written now; the next look makes up for it");
    }
}

/// Looks at every tenant's files, one after the other. It blocks on the disk.
fn look_at_all(shared: &Shared, ends: &AtomicBool) {
    let mut after = None;
    loop {
        let tenants = match shared.store.tenants(after.as_ref(), BATCH) {
            Ok(tenants) => tenants,
            Err(err) => return tracing::warn!(%err, "tenants' files can't be looked at; trying again in an hour"),
        };
        for tenant in &tenants {
            if ends.load(Ordering::Relaxed) {
                return;
            }
            let looked = shared.rooms.stored(&tenant.id, DiskUsage::MAX);
            match (looked, shared.store.tenant_policy(&tenant.id)) {
                (Ok(usage), Ok(policy)) => shared.meter.saw(policy.key, usage.bytes),
                // It was deleted meanwhile.
                (_, Err(StoreError::NotFound(_))) => {}
                (_, Err(err)) => tracing::warn!(%err, tenant = %tenant.id, "a tenant can't be read"),
                (Err(err), Ok(_)) => tracing::warn!(%err, tenant = %tenant.id, "a tenant's files can't be looked at"),
            }
        }
        match tenants.into_iter().last() {
            Some(last) => after = Some(last.id),
            None => return,
        }
    }
}
