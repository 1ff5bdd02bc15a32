//! What ends a terminal whoever is attached: its word is withdrawn, its quota is spent, the process ends. And its row, when it is
//! gone.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openclawmu_terminal::{Reason, Session};
use tokio::time::MissedTickBehavior;

use super::grant::Grant;
use super::meter::Meter;
use crate::context::{Active, Shared};
use crate::refusal::Refusal;

/// Pause between two looks: a terminal is gone within a second of what ends it.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// A terminal that is open, and what it may go on by.
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) session: Arc<Session>,
    pub(super) grant: Grant,
    pub(super) peer: IpAddr,
    pub(super) meter: Meter,
    /// The process does not end before its row is written.
    pub(super) _active: Active,
}

impl Keeper {
    /// Keeps it until it is gone.
    pub(super) async fn keep(mut self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let session = Arc::clone(&self.session);
        loop {
            tokio::select! {
                () = session.gone() => break,
                _ = look.tick() => {
                    if let Err(reason) = self.look().await {
                        session.end(reason);
                        session.gone().await;
                        break;
                    }
                }
            }
        }
        self.meter.over();
    }

    async fn look(&mut self) -> Result<(), Reason> {
        if self.shared.draining.load(Ordering::Relaxed) {
            return Err(Reason::Shutdown);
        }
        let owner = match self.grant.renewed(&self.shared, self.peer) {
            Ok(owner) => owner,
            // Whether it still may can't be told now; what was reserved goes on.
            Err(Refusal::Store) => return Ok(()),
            Err(refusal) => return Err(withdrawn(&refusal)),
        };
        self.meter.look(&self.shared, &owner).await.map_err(|refusal| {
            tracing::info!(tenant = %owner.tenant, session = self.session.id(), %refusal, "a terminal's time is over");
            Reason::Quota
        })
    }
}

/// Why somebody may no longer.
pub(super) fn withdrawn(refusal: &Refusal) -> Reason {
    // Of a tenant that is deleted no token is known.
    let is_tenants = matches!(refusal, Refusal::NotFound { .. } | Refusal::Forbidden { code: "tenant_suspended", .. });
    if is_tenants { Reason::TenantGone } else { Reason::Revoked }
}
