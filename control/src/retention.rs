//! Moves request detail that is older than the operator wants to keep in the database, month by month. What it can't move
//! now it tries again an hour later; it never removes what no file holds.

use std::time::Duration;

use openclawmu_store::{Actor, Store, StoreError};

/// Pause between two looks for a month that is old enough.
const EVERY: Duration = Duration::from_secs(3_600);
/// How long after a start the first look waits, so that a start is quick.
const FIRST: Duration = Duration::from_secs(60);

/// Keeps the detail of the `months` newest months, the present one included, until `stop` resolves.
pub async fn run(store: Store, months: u32, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    let mut pause = FIRST;
    loop {
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = EVERY;
        let store = store.clone();
        // A month that is being moved when the process ends is taken up by the next one.
        match tokio::task::spawn_blocking(move || move_old(&store, months)).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => tracing::error!(%err, "old request detail can't be archived now; trying again in an hour"),
            Err(err) => tracing::error!(%err, "archiving broke off; trying again in an hour"),
        }
    }
}

fn move_old(store: &Store, months: u32) -> Result<(), StoreError> {
    for month in store.archivable(months)? {
        match store.archive(&Actor::system(), month) {
            Ok(Some(archive)) => {
                tracing::info!(%month, rows = archive.rows, file = archive.file, "request detail archived")
            }
            Ok(None) => {}
            Err(StoreError::Conflict(reason)) => tracing::info!(%month, reason, "not archived yet"),
            Err(err) => return Err(err),
        }
    }
    Ok(())
}
