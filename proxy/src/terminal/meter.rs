//! [`Meter`]: a terminal's seconds, on its tenant's quota of sandbox seconds, as a run's are.
//!
//! A terminal may live for hours, and a quota rarely covers the longest. So its time is reserved slice by slice, each a row of the
//! ledger; a slice that can't be reserved any more ends the terminal, when the one before is over. The last slices before a quota is
//! spent are short, so that nothing of it is left unused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openclawmu_store::{Label, Refused};

use crate::context::Shared;
use crate::refusal::Refusal;
use crate::sandbox::{Open, Owner, admit};

/// What is tried to be reserved, in seconds: the first that the quota covers.
const SLICES: [u32; 5] = [300, 60, 15, 4, 1];
/// How long before its end a slice is followed by the next: what refuses for a moment has that long.
const AHEAD: Duration = Duration::from_secs(10);
/// Pause between two notes of what was used.
const NOTE: Duration = Duration::from_secs(1);

/// A terminal's seconds.
pub(super) struct Meter {
    /// What runs.
    slice: Option<Open>,
    /// What follows it: its time begins when that of the one before is over, so that no second is on two rows.
    next: Option<Open>,
    noted: Instant,
}

impl Meter {
    /// Reserves the first slice.
    ///
    /// # Errors
    /// 429 where the quota is spent; 503 where it can't be proved.
    pub(super) async fn reserve(shared: &Arc<Shared>, owner: &Owner) -> Result<Self, Refusal> {
        Ok(Self { slice: Some(reserve(shared, owner).await?), next: None, noted: Instant::now() })
    }

    /// The terminal is open: its time begins.
    pub(super) fn begin(&mut self) {
        self.slice.iter_mut().for_each(Open::begin);
    }

    /// Looks: notes what was used, and reserves what follows.
    ///
    /// # Errors
    /// Why the terminal must end: its time is over, and no more can be reserved.
    pub(super) async fn look(&mut self, shared: &Arc<Shared>, owner: &Owner) -> Result<(), Refusal> {
        let left = self.slice.as_ref().map_or(Duration::ZERO, Open::left);
        if left > Duration::ZERO {
            if self.noted.elapsed() >= NOTE {
                self.noted = Instant::now();
                self.slice.iter().for_each(Open::note);
            }
            if left <= AHEAD && self.next.is_none() {
                // What is reserved still runs: a refusal counts when it is over.
                self.next = reserve(shared, owner).await.ok();
            }
            return Ok(());
        }
        // Given back first: it may be what the next one needs, a tenant's only request at once.
        if let Some(over) = self.slice.take() {
            over.over();
        }
        let mut next = match self.next.take() {
            Some(next) => next,
            None => reserve(shared, owner).await?,
        };
        next.begin();
        self.slice = Some(next);
        Ok(())
    }

    /// The terminal is gone.
    pub(super) fn over(self) {
        if let Some(slice) = self.slice {
            slice.over();
        }
        if let Some(next) = self.next {
            next.unused();
        }
    }

    /// Nothing was opened.
    pub(super) fn refused(self, refusal: &Refusal) {
        if let Some(slice) = self.slice {
            slice.refused(refusal);
        }
    }
}

async fn reserve(shared: &Arc<Shared>, owner: &Owner) -> Result<Open, Refusal> {
    let mut refused = Refusal::Store;
    for seconds in SLICES {
        match admit(shared, owner, (shared.next_id(), true), &Label::default(), seconds).await {
            Ok(ticket) => return Ok(Open::of(ticket, seconds)),
            Err(refusal) => {
                let is_budget = matches!(&refusal, Refusal::Quota { refused: Refused::Budget { .. }, .. });
                refused = refusal;
                if !is_budget {
                    break;
                }
            }
        }
    }
    Err(refused)
}
