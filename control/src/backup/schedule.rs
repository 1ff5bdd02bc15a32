//! What runs by itself: the whole gateway every so often, and the segments in between. Only in the process that owns the
//! ledger; the old process of a hand-over leaves both to its successor.

use std::sync::Arc;
use std::time::Duration;

use openclawmu_backup::{Maker, Place, Scope, Shipper};
use openclawmu_store::Actor;

use crate::backup::Backups;

/// The first pause after a backup that failed; it doubles up to the interval itself.
const FIRST_RETRY: Duration = Duration::from_secs(60);
/// The longest pause between two tries to ship segments.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

impl Backups {
    /// Runs until `stop`. A backup that is being made then is cut: its place holds nothing of it that counts.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        if let Err(err) = self.origin.store.feed_ledger(self.config.segments_every.is_some()).await {
            tracing::error!(%err, "whether ledger rows are noted for the backup can't be set; the next start tries again");
        }
        let Some(place) = self.config.to.clone() else { return };
        tokio::select! {
            () = stop => {}
            () = async { tokio::join!(self.sets(&place), self.segments(&place)); } => {}
        }
    }

    async fn sets(&self, place: &Place) {
        let Some(every) = self.config.every else { return std::future::pending().await };
        let mut retry = FIRST_RETRY;
        loop {
            let pause = match self.due_in(place, every).await {
                Ok(pause) => pause,
                Err(err) => {
                    self.counts.failed();
                    tracing::error!(%err, "the backup's place can't be asked for its newest backup");
                    retry.min(every)
                }
            };
            if !pause.is_zero() {
                tokio::time::sleep(pause.min(every)).await;
                if pause == retry.min(every) {
                    retry = retry.saturating_mul(2);
                }
                continue;
            }
            match self.make(&Actor::system(), &Scope::Gateway, None).await {
                Ok(made) => {
                    tracing::info!(backup = made.listed.url, sent_bytes = made.sent_bytes, "the gateway was backed up");
                    retry = FIRST_RETRY;
                }
                Err(_) => {
                    tokio::time::sleep(retry.min(every)).await;
                    retry = retry.saturating_mul(2).min(every);
                }
            }
        }
    }

    /// How long until the next backup is due, by the newest one that is there, whoever made it.
    async fn due_in(&self, place: &Place, every: Duration) -> Result<Duration, openclawmu_backup::BackupError> {
        let Some(newest) = Maker::newest_at(place, &Scope::Gateway).await? else { return Ok(Duration::ZERO) };
        self.counts.newest(newest);
        let age = self.origin.store.clock().now().0.saturating_sub(newest.0);
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        Ok(every.saturating_sub(age))
    }

    async fn segments(&self, place: &Place) {
        let Some(every) = self.config.segments_every else { return std::future::pending().await };
        let mut shipper = match self.maker(place.clone()) {
            Ok(maker) => Shipper::new(maker),
            Err(err) => return tracing::error!(%err, "ledger and audit log are not shipped"),
        };
        let mut pause = every;
        let mut failing = false;
        loop {
            tokio::time::sleep(pause).await;
            if !self.origin.store.owns_ledger() {
                return;
            }
            let at = self.origin.store.clock().now();
            match shipper.ship().await {
                Ok(_) => {
                    self.counts.shipped(at);
                    if failing {
                        tracing::info!("ledger and audit log are shipped again");
                    }
                    (pause, failing) = (every, false);
                }
                Err(err) => {
                    self.counts.ship_failed();
                    tracing::error!(%err, "ledger and audit log can't be shipped now; nothing is lost as long as this machine lives");
                    if !failing {
                        self.tell(&err.to_string()).await;
                    }
                    (pause, failing) = (pause.saturating_mul(2).min(LONGEST_PAUSE.max(every)), true);
                }
            }
        }
    }

    /// Once for each time that shipping begins to fail.
    async fn tell(&self, why: &str) {
        let noted = self.origin.store.note_backup_failure(&Actor::system(), None, why, self.has_webhook).await;
        if let Err(err) = noted {
            tracing::error!(%err, "that nothing can be shipped can't be put on record");
        }
    }
}
