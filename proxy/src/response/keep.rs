//! Keeping an answer before its client hears that it can be continued: what can't be kept is not told as if it were.

use openclawmu_store::Policy;

use super::shelf::Shelf;
use crate::dialect::Dialect;
use crate::dialect::responses::state::Kept;
use crate::read::Call;
use crate::relay::{Ending, Relayed};

/// Keeps a response that is to be kept; where that fails, the client is told so instead of its end.
pub(crate) async fn keep(shelf: &Shelf, (call, policy): (&Call, &Policy), relayed: &mut Relayed) {
    let Some(asked) = call.asked.as_ref().filter(|asked| asked.store) else { return };
    let response = match &relayed.ending {
        Ending::Whole { body, .. } => serde_json::from_slice(body).ok(),
        Ending::Event(_) => relayed.response.take(),
        Ending::Refusal(_) | Ending::Nothing | Ending::Cut => None,
    };
    let kept = response.map(|response| Kept::new(response, asked.input.clone())).filter(Kept::is_complete);
    let Some(kept) = kept else { return };
    if let Err(refusal) = shelf.keep(&policy.tenant, kept, policy.overlay.response_ttl_days).await {
        relayed.ending = match &relayed.ending {
            Ending::Event(_) => {
                let event = Dialect::Responses.refusal_event(&refusal.told(), call.request_id);
                Ending::Event(event.into())
            }
            Ending::Whole { .. } | Ending::Refusal(_) | Ending::Nothing | Ending::Cut => Ending::Refusal(refusal),
        };
    }
}
