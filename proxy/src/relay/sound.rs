//! Answers that are not JSON: each piece goes on as it comes, so that no more than two are held, and the last one is held back
//! until the attempt is settled.

use std::time::Instant;

use bytes::Bytes;
use openclawmu_store::Outcome;

use super::{Broken, Ending, NOTE_EVERY, Relay, Relayed, cut, fault_refusal};
use crate::forward::Reply;

/// What has been relayed.
#[derive(Default)]
struct Passed {
    /// The head has been written.
    begun: bool,
    /// The newest piece, which may be the last.
    held: Bytes,
}

impl Relay<'_, '_> {
    /// Relays sound.
    pub(super) async fn sound(&mut self, mut reply: Reply) -> Relayed {
        let first_byte_ms = self.ticket.elapsed_ms();
        let mut passed = Passed::default();
        let ended = match self.pieces(&mut reply, &mut passed).await {
            Ok(()) if passed.begun => Ok(()),
            Ok(()) => self.begin(&reply.content_type).await.map_err(|_| Broken::ClientGone),
            Err(broken) => Err(broken),
        };
        let (outcome, ending) = match ended {
            Ok(()) => {
                reply.release().await;
                (Outcome::Complete, Ending::Event(passed.held))
            }
            Err(broken) => {
                drop(reply); // closes its connection: the provider stops generating
                if !passed.begun {
                    return self.nothing_delivered(broken, first_byte_ms);
                }
                let ending = match broken {
                    Broken::ClientGone => Ending::Nothing,
                    Broken::Upstream(_) | Broken::TurnedAway(_) | Broken::Shutdown => Ending::Cut,
                };
                (Outcome::Partial, ending)
            }
        };
        let (usage, estimated) = (self.estimate(0, 0), self.is_estimate(None));
        let service_tier = self.unstated.service_tier;
        Relayed { outcome, usage, service_tier, estimated, first_byte_ms, ending, response: None }
    }

    /// Passes pieces on until the end; the last one is left to the caller.
    async fn pieces(&mut self, reply: &mut Reply, passed: &mut Passed) -> Result<(), Broken> {
        let mut noted = Instant::now();
        let mut watch = self.cut.clone();
        loop {
            let piece = tokio::select! {
                biased;
                piece = reply.piece() => piece.map_err(|fault| Broken::Upstream(fault_refusal(&fault)))?,
                () = self.client.gone() => return Err(Broken::ClientGone),
                () = cut(&mut watch) => return Err(Broken::Shutdown),
            };
            let Some(piece) = piece else { return Ok(()) };
            self.way.piece(&piece);
            let earlier = std::mem::replace(&mut passed.held, piece);
            if !earlier.is_empty() {
                if !passed.begun {
                    self.begin(&reply.content_type).await.map_err(|_| Broken::ClientGone)?;
                    passed.begun = true;
                }
                self.client.piece(earlier).await.map_err(|_| Broken::ClientGone)?;
            }
            if noted.elapsed() >= NOTE_EVERY {
                noted = Instant::now();
                self.ticket.progress(&self.estimate(0, 0));
            }
        }
    }
}
