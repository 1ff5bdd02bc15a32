//! What goes on beside the listeners: refused attempts become lines, lines that another process left are written, and a log
//! that could not be written is tried until it can.

use std::sync::Arc;
use std::time::Duration;

use openclawmu_store::{Store, StoreError};

use crate::audit::denial::Denials;

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Runs until `stop` resolves; then tells what is left.
pub async fn run(store: Store, denials: Arc<Denials>, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    loop {
        let ended = tokio::select! {
            () = &mut stop => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        if let Err(err) = look(&store, &denials, ended).await {
            tracing::debug!(%err, "the audit log is tried again");
        }
        if ended {
            return;
        }
    }
}

/// One look.
pub(crate) async fn look(store: &Store, denials: &Denials, all: bool) -> Result<(), StoreError> {
    // While the database can't be written every try would leave a line whose transaction is not committed.
    if !store.healthy() {
        return Ok(());
    }
    store.audit_tick().await?;
    let taken = denials.take(store.clock().as_ref(), all);
    if taken.is_empty() {
        return Ok(());
    }
    let notes = taken.iter().map(|(_, told, _)| told.clone()).collect();
    let written = store.audit_all(notes).await;
    if written.is_err() {
        denials.give_back(store.clock().as_ref(), taken);
    }
    written
}
